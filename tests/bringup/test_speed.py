"""Both sides take turns, and switching is not timed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tessera.bringup import speed


def test_switching_is_outside_the_clock_and_sides_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMING_SECONDS", 0.4)
    # A clock that only calls and switches move, for sleeping takes as long as the machine likes.
    now = 0.0
    monkeypatch.setattr(speed, "perf_counter", lambda: now)
    entered: list[str] = []
    slow = False

    @contextmanager
    def ours() -> Iterator[None]:
        nonlocal slow, now
        entered.append("ours")
        now += 0.05
        slow = True
        yield
        slow = False

    @contextmanager
    def vendor() -> Iterator[None]:
        entered.append("vendor")
        with nullcontext():
            yield

    def call() -> None:
        nonlocal now
        now += 0.008 if slow else 0.004

    timings = speed.take_turns(call, {"vendor": vendor, "ours": ours})
    assert entered[2:8] == ["vendor", "ours", "ours", "vendor", "vendor", "ours"]
    assert timings["vendor"].calls_per_round == timings["ours"].calls_per_round > 5
    assert timings["ours"].median_s == pytest.approx(0.008)
    assert timings["ours"].speedup_over(timings["vendor"]) == pytest.approx(0.5)
