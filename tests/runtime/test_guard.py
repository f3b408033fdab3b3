"""Guarded launches: what a guard lets through, and that nothing runs where one does not hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from tessera.runtime.guard import ALIGNED, NOT_ONE, UNALIGNED, WIDE, Guard, make_guarded


@triton.jit
def put(out, value, BLOCK: tl.constexpr):
    tl.store(out + tl.program_id(0), value)


OUT = torch.zeros(4)
POINTER = Guard(kind="*fp32", object=torch.float32)
NUMBER = Guard(kind="i32", object=int, slot=1)
CONSTANT = Guard(kind="constexpr", object=1000)


def launch(*values: Any, guards: tuple[Guard, ...] = (POINTER, NUMBER, CONSTANT), hook: Any = None) -> bool:
    """Whether it ran; all programs write, or none."""
    compiled = put[(1,)](OUT, 3, 1000)
    OUT.zero_()
    ran = make_guarded(compiled.function, guards, 2)(4, 1, 1, hook, None, *values)
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
    assert make_guarded(compiled.function, guards, 2)(1, 1, 1, None, None, OUT, value) is passes


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


def test_other_counts_and_hooks_are_not_for_it() -> None:
    assert not launch(OUT, 7)
    assert not launch(OUT, 7, 1000, 5)
    assert not launch(OUT, 7, 1000, hook=print)
    assert launch(OUT, 7, 1000)


def test_values_in_another_order_than_the_kernels() -> None:
    compiled = put[(1,)](OUT, 3, 1000)
    run = make_guarded(compiled.function, (CONSTANT, NUMBER, POINTER), 2)
    assert run(4, 1, 1, None, None, 1000, 9, OUT) and OUT.tolist() == [9.0] * 4
    assert not run(0, 1, 1, None, None, 1000, 3, OUT) and OUT.tolist() == [9.0] * 4
