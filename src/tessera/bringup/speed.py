"""Speed of whole forward calls, PyTorch's kernels and ours in turns.

Switching kernels takes milliseconds, so it happens outside the clock, once a round and side; one call that is not
timed follows it. Otherwise this is `core.timing.compare`: noise of the machine hits both sides alike, and the ratio is
the median of the rounds' ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter

from tessera.bringup.kernels import Kernels, switched_on
from tessera.bringup.models.subject import Subject
from tessera.bringup.result import Speed
from tessera.core.timing import Timing

# How long all rounds of both sides may take together, and within what bounds of their number.
TIMING_SECONDS = 12.0
_ROUNDS = (3, 11)
# A round is at least this long, so that calls of microseconds are not lost in the clock.
_ROUND_SECONDS = 0.05

Side = Callable[[], AbstractContextManager[None]]


def measure_speed(subject: Subject, kernels: Kernels, *, first_s: float) -> Speed:
    """Time the subject's call on both sides. `first_s`: what our very first call took, to be shown beside it."""
    # Inputs that a call changes (a cache) are copied anew for each call, on both sides alike.
    stateful = subject.call.has_state

    def call() -> None:
        (subject.call.copy() if stateful else subject.call).run(subject.model)

    timings = take_turns(call, {"vendor": nullcontext, "ours": lambda: switched_on(kernels)})
    return Speed(
        vendor_ms=1e3 * timings["vendor"].median_s,
        ours_ms=1e3 * timings["ours"].median_s,
        ratio=timings["ours"].speedup_over(timings["vendor"]),
        first_ms=1e3 * first_s,
        rounds=len(timings["ours"].rounds_s),
    )


def take_turns(call: Callable[[], None], sides: Mapping[str, Side]) -> dict[str, Timing]:
    """Time `call` within the context of each side, round by round; the order turns round every second round."""
    once = {name: _round(call, side, 1) for name, side in sides.items()}
    calls = max(1, round(_ROUND_SECONDS / min(once.values())))
    # Each round has one more call than it times.
    rounds = int(TIMING_SECONDS / ((calls + 1) * sum(once.values())))
    rounds = max(_ROUNDS[0], min(_ROUNDS[1], rounds))
    samples: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in sides if turn % 2 == 0 else reversed(list(sides)):
            samples[name].append(_round(call, sides[name], calls))
    return {name: Timing(rounds_s=tuple(samples[name]), calls_per_round=calls) for name in sides}


def _round(call: Callable[[], None], side: Side, calls: int) -> float:
    """Seconds of one call, the mean of `calls` after one that is not timed."""
    with side():
        call()
        start = perf_counter()
        for _ in range(calls):
            call()
        # A clock too coarse for the calls must not give zero: ratios divide by it.
        return max(perf_counter() - start, 1e-9) / calls
