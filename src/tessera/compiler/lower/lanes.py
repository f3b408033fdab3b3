"""What the elements of a block look like to one trip of a loop: equal in all lanes, evenly spaced, or one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Union

from tessera.compiler.llvm.builder import I64, PTR, Builder, LType, V, int_const
from tessera.ir.types import ElementType, PointerType


@dataclass(frozen=True)
class Digit:
    """Where one number of an index comes from: it is (linear // stride) % size of a row-major position below `count`.

    All digits of one position, put together again, are that position.
    """

    linear: Lanes
    stride: int
    size: int
    count: int


@dataclass(frozen=True)
class Uniform:
    """The same scalar in every lane."""

    value: V
    digit: Digit | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Ramp:
    """base + lane · step: an integer of base's type, or a pointer whose step is an i64 count of bytes."""

    base: V
    step: V
    digit: Digit | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Places:
    """What a vector of pointers is made of: base + index · scale_bytes, in the lanes' own integers.

    exact: whether the sums of the index fit its type in all lanes; None: there are none, or they do.
    """

    base: V
    index: V
    scale_bytes: int
    exact: V | None = None


@dataclass(frozen=True)
class Vector:
    """One element a lane; of pointers also how they came to be, where that is known."""

    value: V
    digit: Digit | None = field(default=None, compare=False)
    places: Places | None = field(default=None, compare=False)


Lanes = Union[Uniform, Ramp, Vector]  # noqa: UP007
# Where an element of a block is: one i64 number a dimension.
Index = tuple[Lanes, ...]

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


def position(b: Builder, index: Sequence[Lanes], strides: Sequence[int], width: int) -> Lanes:
    """Σ index · stride. Digits of one position that stand side by side are that position again."""
    places = [(lanes, stride) for lanes, stride in zip(index, strides, strict=True) if not _is_zero(lanes)]
    total: Lanes = Uniform(int_const(0, I64))
    while places:
        count = _whole(places)
        lanes, stride = places[max(count, 1) - 1]
        if count and lanes.digit is not None:
            lanes = lanes.digit.linear
        total = add(b, total, mul(b, lanes, Uniform(int_const(stride, I64)), width), width)
        places = places[max(count, 1) :]
    return total


def _is_zero(lanes: Lanes) -> bool:
    return isinstance(lanes, Uniform) and lanes.value.const == 0


def _whole(places: Sequence[tuple[Lanes, int]]) -> int:
    """How many of the first places are all the digits of one position, in order."""
    head, scale = places[0][0].digit, places[0][1]
    if head is None or head.stride * head.size != head.count or scale % head.stride:
        return 0
    scale, expected = scale // head.stride, head.count
    for number, (lanes, stride) in enumerate(places):
        found = lanes.digit
        if found is None or found.linear != head.linear or found.stride * found.size != expected:
            return 0
        if stride != found.stride * scale:
            return 0
        expected = found.stride
        if expected == 1:
            return number + 1
    return 0


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
        steps = to_vector(b, index, width)
        return Vector(
            b.offset(to_vector(b, pointer, width), steps, scale_bytes), places=_places(b, pointer, steps, scale_bytes)
        )
    moved = b.offset(first(pointer), first(index), scale_bytes)
    wide = b.cast("sext", step(index), I64)
    bytes_ = b.add(step(pointer), b.mul(wide, int_const(scale_bytes, I64)))
    return _ramp(b, moved, bytes_)


def _places(b: Builder, pointer: Lanes, steps: V, scale_bytes: int) -> Places | None:
    """What pointers are made of that lead `steps` on from others; None where their integers do not go together."""
    if isinstance(pointer, Uniform):
        return Places(pointer.value, steps, scale_bytes)
    before = pointer.places if isinstance(pointer, Vector) else None
    if before is None or before.scale_bytes != scale_bytes or before.index.type != steps.type:
        return None
    total = b.add(before.index, steps)
    # A sum is wrong where its sign is that of neither term.
    wrong = b.binary("and", b.binary("xor", total, before.index), b.binary("xor", total, steps))
    fits = b.icmp("sge", wrong, b.splat(int_const(0, steps.type.with_lanes(0)), steps.type.lanes))
    exact = fits if before.exact is None else b.binary("and", fits, before.exact)
    return Places(before.base, total, scale_bytes, exact)


def first(lanes: Uniform | Ramp) -> V:
    return lanes.base if isinstance(lanes, Ramp) else lanes.value


def step(lanes: Uniform | Ramp) -> V:
    if isinstance(lanes, Ramp):
        return lanes.step
    type = lanes.value.type
    return int_const(0, I64 if type.scalar == "ptr" else type)


def _ramp(b: Builder, base: V, spacing: V) -> Lanes:
    return Uniform(base) if spacing.const == 0 else Ramp(base, spacing)
