"""Polynomials that differ from interval to interval, their coefficients kept in registers.

Where a processor picks among the floats of a register by an index in every lane (`Builder.permute`), sixteen short
polynomials cost less than one or two long ones: a permutation a coefficient, and no memory is read.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessera.compiler.llvm.builder import F32, Builder, V, float_const
from tessera.compiler.llvm.mathlib.number import Num

ENTRIES = 16
# Added to a float, it leaves the nearest integer in the low bits.
_TO_INTEGER, _TO_INTEGER_BITS = 1.5 * 2.0**23, 0x4B400000


def near_multiple(x: Num, step: float) -> tuple[Num, Num]:
    """(n, x - n·step) for floats 0 ≤ x < 2²²·step and the whole n nearest to x/step, in the low bits of an integer."""
    shifted = x.fma(1.0 / step, _TO_INTEGER)
    return shifted.bits(), (shifted - _TO_INTEGER).fma(-step, x)


def is_zeroth(index: Num) -> Num:
    """Whether the multiple of `near_multiple` was 0."""
    return index.equals(index.of(_TO_INTEGER_BITS))


def polynomial_at(index: Num, x: Num, rows: Sequence[Sequence[float]]) -> Num:
    """The polynomial in x whose coefficient of power k is rows[k][index mod 16]."""
    result, *rest = (looked_up(row, index) for row in reversed(rows))
    for coefficient in rest:
        result = result.fma(x, coefficient)
    return result


def looked_up(row: Sequence[float], index: Num) -> Num:
    """row[index mod 16] in each lane, for an i32 index of any number of lanes (a power of two)."""
    b, lanes = index.b, index.type.lanes
    table = V(F32.with_lanes(ENTRIES), "<" + ", ".join(str(float_const(value, F32)) for value in row) + ">")
    if not lanes:
        return Num(b, b.extract(_permuted(b, table, b.splat(index.v, ENTRIES)), 0))
    if lanes < ENTRIES:
        widened = b.shuffle(index.v, None, [lane % lanes for lane in range(ENTRIES)])
        return Num(b, b.shuffle(_permuted(b, table, widened), None, range(lanes)))
    return Num(b, _whole(b, table, index.v))


def _whole(b: Builder, table: V, index: V) -> V:
    """The lanes of one register by a permutation, those of several half by half."""
    lanes = index.type.lanes
    if lanes == ENTRIES:
        return _permuted(b, table, index)
    halves = (range(lanes // 2), range(lanes // 2, lanes))
    low, high = (_whole(b, table, b.shuffle(index, None, half)) for half in halves)
    return b.shuffle(low, high, range(lanes))


def _permuted(b: Builder, table: V, index: V) -> V:
    return b.call(b.permute, table.type, [table, index])
