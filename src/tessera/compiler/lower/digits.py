"""Indices as digits of a row-major position: blocks have sizes that are powers of two, so that a digit is some of its
bits."""

from __future__ import annotations

import math
from dataclasses import replace

from tessera.compiler.llvm.builder import I64, Builder, LType, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower import lanes as ln
from tessera.compiler.lower.lanes import Digit, Index, Lanes, Ramp, Uniform, Vector, to_vector

ZERO = Uniform(int_const(0, I64))


def narrow(b: Builder, index: Lanes, to: LType) -> Lanes:
    """An i64 index in a smaller integer type."""
    if isinstance(index, Ramp):
        return Ramp(b.cast("trunc", index.base, to), b.cast("trunc", index.step, to))
    if isinstance(index, Vector):
        return Vector(b.cast("trunc", index.value, to.with_lanes(index.value.type.lanes)))
    return Uniform(b.cast("trunc", index.value, to))


def linearise(b: Builder, index: Index, shape: tuple[int, ...], width: int) -> Lanes:
    """The row-major position of an index."""
    return ln.position(b, index, buffers.buffer_strides(shape), width)


def delinearise(b: Builder, linear: Lanes, shape: tuple[int, ...], width: int) -> Index:
    """The index of a row-major position. Sizes are powers of two."""
    count = math.prod(shape)
    found: list[Lanes] = []
    for stride, size in zip(buffers.buffer_strides(shape), shape, strict=True):
        part = digit(b, linear, stride, size, width)
        found.append(part if size == 1 else replace(part, digit=Digit(linear, stride, size, count)))
    return tuple(found)


def digit(b: Builder, linear: Lanes, stride: int, size: int, width: int) -> Lanes:
    """(linear // stride) % size, of vectors of `width` lanes."""
    if size == 1:
        return ZERO
    if isinstance(linear, Ramp):
        # A vector starts at a multiple of its width, so that it cannot straddle a multiple of something larger.
        if linear.step.const == 1 and stride % width == 0:
            return Uniform(_shift_and_mask(b, linear.base, stride, size))
        if linear.step.const == 1 and stride == 1 and size % width == 0:
            return Ramp(_shift_and_mask(b, linear.base, stride, size), linear.step)
        if linear.step.const == 1 and width % (stride * size) == 0:
            return Vector(b.constant_vector([lane // stride % size for lane in range(width)], I64))
        return Vector(_shift_and_mask(b, to_vector(b, linear, width), stride, size))
    digit = _shift_and_mask(b, linear.value, stride, size)
    return Vector(digit) if isinstance(linear, Vector) else Uniform(digit)


def _shift_and_mask(b: Builder, value: V, stride: int, size: int) -> V:
    type = value.type
    if value.const is not None:
        return int_const(value.const // stride % size, type)
    if stride > 1:
        value = b.binary("lshr", value, int_const(stride.bit_length() - 1, type))
    return b.binary("and", value, int_const(size - 1, type))
