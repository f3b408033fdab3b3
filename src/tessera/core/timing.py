"""Fair timing of rivals on a noisy machine: all candidates are timed in every round, so that noise hits all alike.

A ratio of two candidates is the median of their ratios round by round, which a change of the machine's speed between
rounds does not move.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tessera.core.errors import UsageError

# More than this of the machine taken by others, and ratios on all of its cores are not to be trusted.
MOST_BUSY_PERCENT = 10.0


def busy_percent(seconds: float = 1.0) -> float:
    """How much of the machine's processors is taken now, in percent; looks on for some seconds and does nothing."""
    import psutil

    return float(psutil.cpu_percent(interval=seconds))


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What one candidate took: `rounds_s` holds, per round, the mean seconds of one call."""

    rounds_s: tuple[float, ...]
    calls_per_round: int

    @property
    def median_s(self) -> float:
        """Seconds of one call, the middle of all rounds."""
        return statistics.median(self.rounds_s)

    @property
    def best_s(self) -> float:
        """Seconds of one call in the fastest round."""
        return min(self.rounds_s)

    def speedup_over(self, other: Timing) -> float:
        """How many times as fast as `other`, which must come from the same `compare`: above 1 means faster."""
        if len(self.rounds_s) != len(other.rounds_s):
            raise UsageError(
                f"timings of {len(self.rounds_s)} and {len(other.rounds_s)} rounds do not pair; "
                "take both from one call of compare()"
            )
        return statistics.median(theirs / ours for ours, theirs in zip(self.rounds_s, other.rounds_s, strict=True))


def compare(
    functions: Mapping[str, Callable[[], object]],
    *,
    min_seconds: float = 0.5,
    rounds: int = 9,
    synchronize: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time every function, interleaved round by round; the order turns round every second round.

    Args:
        functions: candidates by name; each is called twice unmeasured first (compilation, caches, calibration).
        min_seconds: time that each candidate is measured for, all rounds together; each round has at least one call.
        rounds: number of rounds, at least 1.
        synchronize: waits for the device's pending work; called before a clock is read. None on the CPU.

    Returns: a `Timing` for each name, in the order given.
    """
    if not functions:
        raise UsageError("compare() got no functions; give at least one, for example {'ours': run_ours}")
    if rounds < 1 or min_seconds <= 0:
        raise UsageError(f"rounds is {rounds} and min_seconds is {min_seconds}; rounds must be >= 1, min_seconds > 0")
    wait = synchronize or _nothing_pending
    calls = {name: _calls_for(function, min_seconds / rounds, wait) for name, function in functions.items()}
    samples: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        for name in list(functions) if turn % 2 == 0 else reversed(list(functions)):
            samples[name].append(_seconds_per_call(functions[name], calls[name], wait))
    return {name: Timing(rounds_s=tuple(samples[name]), calls_per_round=calls[name]) for name in functions}


def _nothing_pending() -> None:
    """On the CPU a call's work is done when it returns."""


def _calls_for(function: Callable[[], object], seconds: float, wait: Callable[[], object]) -> int:
    """How many calls fill `seconds`, judged by the faster of two: the first may compile, either may be held up."""
    once = min(_seconds_per_call(function, 1, wait) for _ in range(2))
    return max(1, round(seconds / max(once, 1e-7)))


def _seconds_per_call(function: Callable[[], object], calls: int, wait: Callable[[], object]) -> float:
    wait()
    start = time.perf_counter()
    for _ in range(calls):
        function()
    wait()
    # A clock too coarse for one call must not give zero: ratios divide by it.
    return max(time.perf_counter() - start, 1e-9) / calls
