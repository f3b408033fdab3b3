"""Scalar functions of integers: division and remainder in each rounding, shifts.

In:  two values of one integer type; the entries decline a divisor of 0, which PyTorch rejects.
Out: one value of that type. A block's lanes beyond the tensor may hold any divisor, hence `safe`.
Source: the pages of torch.div, torch.remainder, torch.fmod and torch.bitwise_left_shift.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def safe(y):
    """A divisor that no chip traps on: -1 overflows with the smallest number, and its quotient is -x anyway."""
    if y.dtype.is_int_signed():
        result = tl.where((y == 0) | (y == -1), 1, y)
    else:
        result = tl.where(y == 0, 1, y)
    return result.to(y.dtype)


@triton.jit
def trunc_divide(x, y):
    quotient = x // safe(y)
    if y.dtype.is_int_signed():
        quotient = tl.where(y == -1, -x, quotient)
    return quotient.to(x.dtype)


@triton.jit
def fmod(x, y):
    rest = x % safe(y)
    if y.dtype.is_int_signed():
        rest = tl.where(y == -1, 0, rest)
    return rest.to(x.dtype)


@triton.jit
def remainder(x, y):
    rest = fmod(x, y)
    return tl.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest).to(x.dtype)


@triton.jit
def floor_divide(x, y):
    rest = fmod(x, y)
    quotient = trunc_divide(x, y)
    return tl.where((rest != 0) & ((y < 0) != (rest < 0)), quotient - 1, quotient).to(x.dtype)


@triton.jit
def power(x, y):
    """x^y of whole numbers, with the overflow of multiplication; 0 where y < 0, but for x of 1 and -1."""
    result = tl.zeros_like(x) + 1
    factor, left = x, y
    for _ in range(y.dtype.primitive_bitwidth):
        result = tl.where((left & 1) != 0, result * factor, result).to(x.dtype)
        factor = (factor * factor).to(x.dtype)
        left = (left >> 1).to(y.dtype)
    if y.dtype.is_int_signed():
        below = tl.where(x == 1, 1, tl.where(x == -1, tl.where((y & 1) != 0, -1, 1), 0))
        result = tl.where(y < 0, below, result)
    return result.to(x.dtype)


@triton.jit
def left_shift(x, y):
    """x moved y bits to the left; 0 where y is outside the type."""
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    moved = x << tl.where(inside, y, 0).to(x.dtype)
    return tl.where(inside, moved, 0).to(x.dtype)


@triton.jit
def right_shift(x, y):
    """x moved y bits to the right; 0, or -1 of a negative x, where y is outside the type."""
    inside = (y >= 0) & (y < x.dtype.primitive_bitwidth)
    moved = x >> tl.where(inside, y, 0).to(x.dtype)
    beyond = tl.where(x < 0, -1, 0).to(x.dtype)
    return tl.where(inside, moved, beyond).to(x.dtype)
