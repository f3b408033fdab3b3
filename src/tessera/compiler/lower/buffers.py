"""Scratch memory for blocks that were computed once: row-major, one allocation a block, reached by index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tessera.compiler.llvm.builder import I8, Builder, LType, V
from tessera.compiler.lower import lanes as ln
from tessera.compiler.lower import memory
from tessera.compiler.lower.lanes import Lanes, Uniform, Vector, size_bytes, to_vector


@dataclass(frozen=True)
class Buffer:
    """A block in memory. `element` is what reading gives; in memory an i1 takes a byte."""

    pointer: V
    element: LType
    shape: tuple[int, ...]

    @property
    def stored(self) -> LType:
        return I8 if self.element.bits == 1 else self.element


def allocate(b: Builder, element: LType, shape: tuple[int, ...]) -> Buffer:
    """Fresh scratch of a shape, uninitialised."""
    stored = I8 if element.bits == 1 else element
    return Buffer(b.alloca(stored, math.prod(shape)), element, shape)


def address(b: Builder, buffer: Buffer, index: Sequence[Lanes], width: int) -> Lanes:
    """The place of one element a lane."""
    linear = ln.position(b, index, buffer_strides(buffer.shape), width)
    return ln.add_pointer(b, Uniform(buffer.pointer), linear, size_bytes(buffer.stored), width)


def buffer_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Row-major strides in elements."""
    return tuple(math.prod(shape[dim + 1 :]) for dim in range(len(shape)))


def read(b: Builder, buffer: Buffer, index: Sequence[Lanes], width: int) -> Lanes:
    """The elements at an index."""
    value = memory.load(b, address(b, buffer, index, width), None, None, buffer.stored, width)
    if buffer.element.bits > 1:
        return value
    assert not isinstance(value, ln.Ramp)
    bit = b.cast("trunc", value.value, value.value.type.with_scalar("i1"))
    return Vector(bit) if bit.type.lanes else Uniform(bit)


def write(b: Builder, buffer: Buffer, index: Sequence[Lanes], value: Lanes, width: int) -> None:
    """Put elements at an index."""
    place = address(b, buffer, index, width)
    if buffer.element.bits == 1:
        bits = to_vector(b, value, width if isinstance(value, Vector) or not isinstance(place, Uniform) else 0)
        byte = b.cast("zext", bits, bits.type.with_scalar("i8"))
        value = Vector(byte) if byte.type.lanes else Uniform(byte)
    memory.store(b, value, place, None, width)
