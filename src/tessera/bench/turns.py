"""Timing of rivals that must not disturb each other: as `tessera.core.timing.compare`, with pauses and with switches.

PyTorch's threads keep looking for work for milliseconds after a call, on the cores that ours would run on. So each turn
begins with calls that are not timed. A side may stand in a context, as the switch that puts our kernels under
PyTorch's operators, which takes milliseconds: it is entered once a turn and serves all calls of the side.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from tessera.bench.memory import keep_freed_memory, keep_room
from tessera.core.timing import Timing

Call = Callable[[], Any]
MOST_DIFFERENCE = 0.1
# A call that is new to its context is met, then planned, then run by its plan, however long each takes.
_LEAST_CALLS = 3


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How long to measure: seconds of each call on each side, in all rounds; a turn begins with `settle_s` more.

    Where the rounds of a call differ, as many are added until they agree or there are `most_rounds`: what another
    program took meanwhile is then no longer in the middle of them.
    """

    seconds: float = 0.2
    rounds: int = 7
    settle_s: float = 0.006
    most_rounds: int = 0


QUICK = Effort(seconds=0.006, rounds=3, settle_s=0.0)


@dataclass(frozen=True, kw_only=True)
class Side:
    """One rival: its calls by name, and what must be entered for them."""

    calls: Mapping[str, Call]
    context: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)


def take_turns(sides: Mapping[str, Side], effort: Effort) -> dict[str, dict[str, Timing]]:
    """Time every call of every side, by side and call; the order of sides turns round every second round. Freed memory
    stays with the process from now on."""
    keep_freed_memory()
    counts = {name: _counts(side, effort) for name, side in sides.items()}
    samples: dict[str, dict[str, list[float]]] = {name: {c: [] for c in side.calls} for name, side in sides.items()}
    turn = 0
    while turn < effort.rounds or (turn < effort.most_rounds and _differ(samples)):
        keep_room()
        for _ in range(effort.rounds):
            for name in list(sides) if turn % 2 == 0 else reversed(list(sides)):
                with sides[name].context():
                    for call_name, call in sides[name].calls.items():
                        _settle(call, effort.settle_s)
                        samples[name][call_name].append(_seconds_per_call(call, counts[name][call_name]))
            turn += 1
    return {
        name: {c: Timing(rounds_s=tuple(s), calls_per_round=counts[name][c]) for c, s in calls.items()}
        for name, calls in samples.items()
    }


def _differ(samples: Mapping[str, Mapping[str, list[float]]]) -> bool:
    """Whether the middle half of some call's rounds is wider than they may differ."""
    for times in (times for calls in samples.values() for times in calls.values() if len(times) > 2):
        low, middle, high = statistics.quantiles(times, n=4)
        if high - low > MOST_DIFFERENCE * middle:
            return True
    return False


def compare(calls: Mapping[str, Call], effort: Effort) -> dict[str, Timing]:
    """Time rivals of one call each, without contexts."""
    timings = take_turns({name: Side(calls={"": call}) for name, call in calls.items()}, effort)
    return {name: timing[""] for name, timing in timings.items()}


def _counts(side: Side, effort: Effort) -> dict[str, int]:
    """How many calls of each make a turn, judged by those after the first, which may compile."""
    counts = {}
    with side.context():
        for name, call in side.calls.items():
            call()
            _settle(call, effort.settle_s)
            once = _seconds_per_call(call, 1)
            if once < 1e-3:
                once = _seconds_per_call(call, 10)
            counts[name] = max(1, round(effort.seconds / effort.rounds / once))
    return counts


def _settle(call: Call, seconds: float) -> None:
    """As many calls as a context needs, and calls for `seconds`."""
    start = time.perf_counter()
    for _ in range(_LEAST_CALLS):
        call()
    while time.perf_counter() - start < seconds:
        call()


def _seconds_per_call(call: Call, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        call()
    # A clock too coarse for the calls must not give zero: ratios divide by it.
    return max(time.perf_counter() - start, 1e-9) / count
