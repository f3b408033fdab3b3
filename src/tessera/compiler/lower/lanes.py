"""What the elements of a block look like to one trip of a loop: equal in all lanes, evenly spaced, or one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from tessera.compiler.llvm.builder import I64, PTR, Builder, LType, V, int_const
from tessera.ir.types import ElementType, PointerType


@dataclass(frozen=True)
class Uniform:
    """The same scalar in every lane."""

    value: V


@dataclass(frozen=True)
class Ramp:
    """base + lane · step: an integer of base's type, or a pointer whose step is an i64 count of bytes."""

    base: V
    step: V


@dataclass(frozen=True)
class Vector:
    """One element a lane."""

    value: V


Lanes = Union[Uniform, Ramp, Vector]  # noqa: UP007

_SCALARS = {"index": "i64", "f16": "half", "bf16": "bfloat", "f32": "float", "f64": "double"}


def ltype(type: ElementType) -> LType:
    """The LLVM type of one element; 8-bit floats are carried as their bits."""
    if isinstance(type, PointerType):
        return PTR
    if type.name.startswith("f8"):
        return LType("i8")
    return LType(_SCALARS.get(type.name, type.name))


def size_bytes(type: LType) -> int:
    """Bytes of one element in memory."""
    return max(type.bits, 8) // 8


def element(lanes: Lanes) -> LType:
    """The LLVM type of one element."""
    value = lanes.base if isinstance(lanes, Ramp) else lanes.value
    return value.type.with_lanes(0)


def to_vector(b: Builder, lanes: Lanes, width: int) -> V:
    """All lanes as one LLVM vector of `width`; with width 0 there is one lane, a scalar."""
    if isinstance(lanes, Vector):
        return lanes.value
    if isinstance(lanes, Uniform):
        return b.splat(lanes.value, width)
    if not width:
        return lanes.base
    if lanes.base.type.scalar == "ptr":
        offsets = b.mul(b.iota(I64.with_lanes(width)), b.splat(lanes.step, width))
        return b.emit(PTR.with_lanes(width), f"getelementptr i8, {lanes.base}, {offsets}")
    counted = b.iota(lanes.base.type.with_lanes(width))
    if lanes.step.const != 1:
        counted = b.mul(counted, b.splat(lanes.step, width))
    return b.add(b.splat(lanes.base, width), counted)


def add(b: Builder, x: Lanes, y: Lanes, width: int) -> Lanes:
    """Integer sum, kept a ramp where both are evenly spaced."""
    if isinstance(x, Vector) or isinstance(y, Vector):
        return Vector(b.add(to_vector(b, x, width), to_vector(b, y, width)))
    return _ramp(b, b.add(first(x), first(y)), b.add(step(x), step(y)))


def sub(b: Builder, x: Lanes, y: Lanes, width: int) -> Lanes:
    """Integer difference, kept a ramp where both are evenly spaced."""
    if isinstance(x, Vector) or isinstance(y, Vector):
        return Vector(b.sub(to_vector(b, x, width), to_vector(b, y, width)))
    return _ramp(b, b.sub(first(x), first(y)), b.sub(step(x), step(y)))


def mul(b: Builder, x: Lanes, y: Lanes, width: int) -> Lanes:
    """Integer product, kept a ramp where one factor is the same in all lanes."""
    if isinstance(x, Uniform) and isinstance(y, (Uniform, Ramp)):
        return _ramp(b, b.mul(x.value, first(y)), b.mul(x.value, step(y)))
    if isinstance(y, Uniform) and isinstance(x, Ramp):
        return mul(b, y, x, width)
    return Vector(b.mul(to_vector(b, x, width), to_vector(b, y, width)))


def add_pointer(b: Builder, pointer: Lanes, index: Lanes, scale_bytes: int, width: int) -> Lanes:
    """pointer + index · scale_bytes."""
    if isinstance(pointer, Vector) or isinstance(index, Vector):
        return Vector(b.offset(to_vector(b, pointer, width), to_vector(b, index, width), scale_bytes))
    moved = b.offset(first(pointer), first(index), scale_bytes)
    wide = b.cast("sext", step(index), I64)
    bytes_ = b.add(step(pointer), b.mul(wide, int_const(scale_bytes, I64)))
    return _ramp(b, moved, bytes_)


def first(lanes: Uniform | Ramp) -> V:
    return lanes.base if isinstance(lanes, Ramp) else lanes.value


def step(lanes: Uniform | Ramp) -> V:
    if isinstance(lanes, Ramp):
        return lanes.step
    type = lanes.value.type
    return int_const(0, I64 if type.scalar == "ptr" else type)


def _ramp(b: Builder, base: V, spacing: V) -> Lanes:
    return Uniform(base) if spacing.const == 0 else Ramp(base, spacing)
