"""Timing: candidates take turns, ratios pair by round, and bad arguments are named."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tessera.core.errors import UsageError
from tessera.core.timing import Timing, compare


def test_candidates_take_turns_and_the_order_turns_round() -> None:
    order: list[str] = []

    def candidate(name: str, seconds: float) -> None:
        order.append(name)
        time.sleep(seconds)

    result = compare(
        {"a": lambda: candidate("a", 0.002), "b": lambda: candidate("b", 0.002)}, min_seconds=0.001, rounds=3
    )
    assert list(result) == ["a", "b"]
    assert order == ["a", "a", "b", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(timing.rounds_s) for timing in result.values()] == [3, 3]


class Clock:
    """Seconds that pass only when a candidate says so: what else the machine does cannot change the outcome."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def taking(self, *seconds: float) -> Callable[[], None]:
        """A candidate whose calls take these seconds one after the other, the last for ever."""
        left = list(seconds)

        def candidate() -> None:
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return candidate


def test_slower_candidate_is_seen_as_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    result = compare({"slow": clock.taking(0.02), "fast": clock.taking(0.002)}, min_seconds=0.02, rounds=3)
    assert result["fast"].median_s < result["slow"].median_s
    assert result["fast"].speedup_over(result["slow"]) > 2
    assert (result["fast"].calls_per_round, result["slow"].calls_per_round) == (3, 1)


@pytest.mark.parametrize("first", [(5.0, 0.002), (0.002, 5.0, 0.002)])
def test_one_held_up_call_does_not_empty_the_rounds(
    first: tuple[float, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    assert compare({"a": clock.taking(*first)}, min_seconds=0.05, rounds=1)["a"].calls_per_round == 25


def test_median_best_and_speedup_of_given_rounds() -> None:
    ours = Timing(rounds_s=(1.0, 4.0, 2.0), calls_per_round=1)
    vendor = Timing(rounds_s=(3.0, 12.0, 2.0), calls_per_round=1)
    assert ours.median_s == 2.0
    assert ours.best_s == 1.0
    assert ours.speedup_over(vendor) == 3.0


def test_device_work_is_waited_for_around_every_measurement() -> None:
    events: list[str] = []
    compare({"a": lambda: events.append("run")}, min_seconds=1e-9, rounds=1, synchronize=lambda: events.append("wait"))
    assert events == ["wait", "run", "wait"] * 3


def test_bad_arguments_are_named() -> None:
    with pytest.raises(UsageError, match="got no functions; give at least one"):
        compare({})
    with pytest.raises(UsageError, match=r"rounds is 0 and min_seconds is 0\.5; rounds must be >= 1"):
        compare({"a": int}, rounds=0)
    with pytest.raises(UsageError, match="timings of 1 and 2 rounds do not pair"):
        Timing(rounds_s=(1.0,), calls_per_round=1).speedup_over(Timing(rounds_s=(1.0, 2.0), calls_per_round=1))
