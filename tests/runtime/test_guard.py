"""Guarded launches: what a guard lets through, and that nothing runs where one does not hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from tessera.runtime.guard import ALIGNED, NOT_ONE, UNALIGNED, WIDE, Form, Guard, Known, ShortLaunch, Watch


@triton.jit
def put(out, value, BLOCK: tl.constexpr):
    tl.store(out + tl.program_id(0), value)


OUT = torch.zeros(4)
POINTER = Guard(kind="*fp32", object=torch.float32)
NUMBER = Guard(kind="i32", object=int, slot=1)
CONSTANT = Guard(kind="constexpr", object=1000)


def make_guarded(compiled: Any, guards: Sequence[Guard], watches: Sequence[Watch] = ()) -> Callable[..., bool]:
    """A launch of one kernel, which takes two packed arguments, that says whether it ran."""
    kept = {"key": compiled}
    known = Known(kept, "key", compiled, address=compiled.function, guards=guards, slots=2)
    names = ("out", "value", "BLOCK")[: len(guards)]
    short = ShortLaunch(lambda grid, /, *args, **named: None)
    short.know(watches, [Form(len(guards), (), names, {}, (known,))])

    def run(grid: Any, *values: Any) -> bool:
        ran = short.launch(grid, *values)
        assert ran in (compiled, None)
        return ran is compiled

    return run


def launch(*values: Any, guards: tuple[Guard, ...] = (POINTER, NUMBER, CONSTANT), watches: Any = ()) -> bool:
    """Whether it ran; all programs write, or none."""
    compiled = put[(1,)](OUT, 3, 1000)
    OUT.zero_()
    ran = make_guarded(compiled, guards, watches)((4,), *values)
    assert OUT.tolist() == ([float(values[1])] * 4 if ran else [0.0] * 4)
    return ran


@pytest.mark.parametrize(
    ("value", "flags", "passes"),
    [
        (5, 0, True), (5, ALIGNED, False), (32, ALIGNED, True), (0, ALIGNED, True), (-16, ALIGNED, True),
        (32, UNALIGNED, False), (5, UNALIGNED, True), (1, NOT_ONE, False), (2, NOT_ONE, True), (True, 0, False),
        (5.0, 0, False), (1 << 31, 0, False), (-(1 << 31), 0, True), (None, 0, False),
    ],
)  # fmt: skip
def test_guards_of_a_number(value: Any, flags: int, passes: bool) -> None:
    number = Guard(kind="i32", object=int, slot=1, flags=flags)
    assert launch(OUT, value, 1000, guards=(POINTER, number, CONSTANT)) is passes


@pytest.mark.parametrize(("value", "passes"), [(5, False), (1 << 31, True), (-(1 << 31) - 1, True), (1 << 63, False)])
def test_a_number_that_needs_64_bits(value: int, passes: bool) -> None:
    @triton.jit
    def put_wide(out, value):
        tl.store(out, value)

    compiled = put_wide[(1,)](OUT, 1 << 40)
    guards = (POINTER, Guard(kind="i64", object=int, slot=1, flags=WIDE))
    assert make_guarded(compiled, guards)((1,), OUT, value) is passes


@pytest.mark.parametrize(
    ("constant", "passes"), [(int("1000"), True), (1000.0, False), (1001, False), ("1000", False), (None, False)]
)
def test_guards_of_a_constant(constant: Any, passes: bool) -> None:
    assert launch(OUT, 7, constant) is passes


def test_guards_of_a_tensor() -> None:
    assert not launch(OUT.double(), 7, 1000)
    assert not launch(OUT.data_ptr(), 7, 1000)
    assert not launch(torch.zeros(4, device="meta"), 7, 1000)
    apart = torch.zeros(5)[1:]
    aligned = Guard(kind="*fp32", object=torch.float32, flags=ALIGNED)
    assert launch(OUT, 7, 1000, guards=(aligned, NUMBER, CONSTANT))
    assert not launch(apart, 7, 1000, guards=(aligned, NUMBER, CONSTANT))


def test_other_counts_are_not_for_it() -> None:
    assert not launch(OUT, 7)
    assert not launch(OUT, 7, 1000, 5)
    assert launch(OUT, 7, 1000)


def test_what_is_watched() -> None:
    seen: dict[str, Any] = {"same": OUT, "equal": [1]}
    assert launch(OUT, 7, 1000, watches=[(seen, "same", OUT), (seen, "equal", [1]), (seen, "absent")])
    assert not launch(OUT, 7, 1000, watches=[(seen, "equal", [2])])
    assert not launch(OUT, 7, 1000, watches=[(seen, "absent", None)])
    assert not launch(OUT, 7, 1000, watches=[(seen, "equal")])
    assert not launch(OUT, 7, 1000, watches=[(seen, "same", torch.zeros(4))])  # an equality that raises is none


def test_values_in_another_order_than_the_kernels() -> None:
    compiled = put[(1,)](OUT, 3, 1000)
    run = make_guarded(compiled, (CONSTANT, NUMBER, POINTER))
    assert run((4,), 1000, 9, OUT) and OUT.tolist() == [9.0] * 4
    assert not run((0,), 1000, 3, OUT) and OUT.tolist() == [9.0] * 4
