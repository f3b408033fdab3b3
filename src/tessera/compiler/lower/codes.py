"""Float functions of four bits: sixteen numbers in a register, however many operations it takes to write them.

    float(packed & 15) - 8        (packed >> 4).to(float) * 0.5        float((packed << 4) >> 4)   of int8

Weights of 4 bits are unpacked so. Where a processor picks among the floats of a register by the low bits of an index,
that is one instruction in place of a mask, a conversion, and whatever follows.
"""

from __future__ import annotations

import ctypes
import functools
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I32, int_const
from tessera.compiler.llvm.mathlib.lookup import ENTRIES, looked_up
from tessera.compiler.llvm.mathlib.number import Num
from tessera.compiler.lower.lanes import Lanes, Ramp, Uniform, Vector, to_vector
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of

if TYPE_CHECKING:
    from tessera.compiler.lower.evaluate import Evaluator
    from tessera.compiler.lower.lanes import Index

_BITS = ENTRIES.bit_length() - 1
# More operations than these are not looked through.
_MOST_STEPS = 16
_ARITHMETIC: dict[str, Callable[..., float]] = {
    "addi": operator.add, "subi": operator.sub, "muli": operator.mul,
    "addf": operator.add, "subf": operator.sub, "mulf": operator.mul,
}  # fmt: skip
_CASTS = frozenset({"extui", "extsi", "trunci", "uitofp", "sitofp"})


@dataclass(frozen=True)
class Coded:
    """A block whose elements are `row[four bits of source, from bit number shift on]`; `inner` are the blocks that need
    not be computed."""

    source: Value
    row: tuple[float, ...]
    inner: tuple[Value, ...] = ()
    shift: int = 0


def find(ev: Evaluator, value: Value) -> Coded | None:
    """What a block of floats is looked up by, if the processor can and nothing between is kept."""
    if not ev.b.permute or ev.width < ENTRIES or not _is_single(value):
        return None
    found = _coded(value)
    kept = found is not None and any(one in ev.buffers or one in ev.storing for one in found.inner)
    return None if kept else found


def look_up(ev: Evaluator, coded: Coded, index: Index) -> Lanes | None:
    """The numbers at an index; None where they are the same in all lanes."""
    codes = ev.evaluate(coded.source, index)
    if isinstance(codes, (Uniform, Ramp)):
        return None
    to = I32.with_lanes(ev.width)
    bits = to_vector(ev.b, codes, ev.width)
    # Moved down as words: both halves of a byte are then read from the same ones.
    wide = ev.b.cast("zext", bits, to) if bits.type.bits < to.bits else bits
    if coded.shift:
        wide = ev.b.binary("lshr", wide, int_const(coded.shift, wide.type))
    return Vector(looked_up(coded.row, Num(ev.b, ev.b.cast("trunc", wide, to))).v)


def _is_single(value: Value) -> bool:
    element = element_of(value.type)
    return isinstance(value.type, BlockType) and isinstance(element, ScalarType) and element.name == "f32"


@functools.lru_cache(maxsize=4096)
def _coded(value: Value) -> Coded | None:
    """Walked down to the four bits without recursion, and not far: chains of operations may be thousands long."""
    steps: list[tuple[Op, Value]] = []
    while len(steps) < _MOST_STEPS:
        op = value.owner
        if not isinstance(op, Op) or not isinstance(value.type, BlockType):
            return None
        found = _begun(op)
        if found is not None:
            for step, operand in reversed(steps):
                found = found and _mapped(step, operand, found)
            return found
        varying = _varying(op)
        if varying is None:
            return None
        steps.append((op, varying))
        value = varying
    return None


def _begun(op: Op) -> Coded | None:
    """Four bits of a number, as an integer."""
    if op.name == "andi":
        for source, mask in (op.operands, op.operands[::-1]):
            if _number(mask) == ENTRIES - 1:
                return Coded(source, tuple(range(ENTRIES)))
    signed = tuple(range(ENTRIES // 2)) + tuple(range(-ENTRIES // 2, 0))
    if op.name in ("shrui", "shrsi") and _number(op.operands[1]) == _width(op.result) - _BITS:
        # The upper four bits come down; those of a number that was moved up before are its lower four.
        row, before = signed if op.name == "shrsi" else tuple(range(ENTRIES)), op.operands[0].owner
        if isinstance(before, Op) and before.name == "shli" and _number(before.operands[1]) == _number(op.operands[1]):
            return Coded(before.operands[0], row, (before.result,))
        return Coded(op.operands[0], row, shift=_width(op.result) - _BITS)
    return None


def _varying(op: Op) -> Value | None:
    """What a conversion converts, or an operation with a constant takes beside it."""
    if op.name in _CASTS:
        return op.operands[0]
    if op.name not in _ARITHMETIC:
        return None
    left, right = op.operands
    return left if _number(right) is not None else right if _number(left) is not None else None


def _mapped(op: Op, operand: Value, inner: Coded) -> Coded | None:
    """What an operation makes of a function of four bits, its `operand`."""
    element = element_of(op.result.type)
    if not isinstance(element, ScalarType) or (element.is_float and element.name != "f32"):
        return None
    row = tuple(_rounded(element, _applied(op, operand, x)) for x in inner.row)
    return replace(inner, row=row, inner=(*inner.inner, operand))


def _applied(op: Op, operand: Value, x: float) -> float:
    if op.name in _CASTS:
        return _cast(op, x)
    return _ARITHMETIC[op.name](*(x if one is operand else _number(one) for one in op.operands))


def _cast(op: Op, x: float) -> float:
    """An integer as the conversion takes it: without a sign, or with one."""
    bits = _width(op.operands[0])
    return x % (1 << bits) if op.name in ("extui", "uitofp") else x


def _rounded(element: ScalarType, x: float) -> float:
    """In a type: to float, or modulo its size with a sign."""
    if element.is_float:
        return ctypes.c_float(x).value
    half = 1 << (element.bits - 1)
    return (int(x) + half) % (2 * half) - half


def _number(value: Value) -> float | None:
    """The constant that every element is, as its type holds it."""
    owner, element = value.owner, element_of(value.type)
    if isinstance(owner, Op) and owner.name == "splat":
        return _number(owner.operands[0])
    if not isinstance(owner, Op) or owner.name != "constant" or not isinstance(element, ScalarType):
        return None
    number = owner.attrs["value"]
    return _rounded(element, number) if isinstance(number, (int, float)) else None


def _width(value: Value) -> int:
    element = element_of(value.type)
    return element.bits if isinstance(element, ScalarType) else 0
