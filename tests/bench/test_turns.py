"""Rivals take turns: interleaved, in their contexts, with what is not timed before what is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tessera.bench import turns
from tessera.bench.turns import Effort, Side

EFFORT = Effort(seconds=0.004, rounds=4, settle_s=0.001)


def test_a_slower_rival_is_told_by_its_factor() -> None:
    timings = turns.compare({"slow": lambda: time.sleep(0.004), "fast": lambda: time.sleep(0.001)}, EFFORT)
    assert timings["fast"].speedup_over(timings["slow"]) > 1.5
    assert len(timings["slow"].rounds_s) == EFFORT.rounds


def test_the_order_turns_round_and_each_turn_is_in_its_context() -> None:
    inside: list[str] = []
    entered: list[str] = []

    @contextmanager
    def switch(name: str) -> Iterator[None]:
        entered.append(name)
        inside.append(name)
        yield
        inside.remove(name)

    def call(name: str) -> None:
        assert inside == [name]
        time.sleep(0.001)

    sides = {
        name: Side(calls={"work": lambda name=name: call(name)}, context=lambda name=name: switch(name))
        for name in ("a", "b")
    }
    turns.take_turns(sides, EFFORT)
    # Once each to judge how many calls make a turn, then four rounds.
    assert entered == ["a", "b", "a", "b", "b", "a", "a", "b", "b", "a"]


def test_calls_before_a_turn_are_not_timed() -> None:
    """A rival that is slow just after another has run, as beside threads that still spin, is not blamed for it."""
    last = ""
    since = 0.0

    def call(name: str) -> None:
        nonlocal last, since
        if name != last:
            last, since = name, time.perf_counter()
        time.sleep(0.02 if time.perf_counter() - since < 0.001 else 0.001)

    effort = Effort(seconds=0.008, rounds=4, settle_s=0.01)
    timings = turns.compare({"a": lambda: call("a"), "b": lambda: call("b")}, effort)
    assert max(timings["a"].median_s, timings["b"].median_s) < 0.01


def test_rounds_that_differ_are_followed_by_more() -> None:
    """What another program takes for some rounds is not what a call is said to take."""
    now, left = 0.0, 0

    def clock() -> float:
        return now

    def call() -> None:
        nonlocal now, left
        left -= 1
        now += 0.003 if left > 0 else 0.001

    effort = Effort(seconds=0.04, rounds=4, settle_s=0.0, most_rounds=12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turns.time, "perf_counter", clock)
        steady = turns.compare({"call": call}, effort)["call"]
        left = 18  # while calls are counted, and for two rounds
        disturbed = turns.compare({"call": call}, effort)["call"]
    assert len(steady.rounds_s) == 4
    assert len(disturbed.rounds_s) == 12
    assert disturbed.median_s == pytest.approx(steady.median_s)
