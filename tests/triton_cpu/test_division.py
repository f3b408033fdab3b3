"""Integer division of blocks against Python's integers, over the whole range of each type."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl

TYPES = [f"{sign}int{bits}" for bits in (8, 16, 32, 64) for sign in ("", "u")]


@triton.jit
def divide(x, y, quotient, remainder, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + at, at < n), tl.load(y + at, at < n)
    tl.store(quotient + at, a // b, at < n)
    tl.store(remainder + at, a % b, at < n)


@triton.jit
def divide_by_one_number(x, divisor, quotient, remainder, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    a, b = tl.load(x + at, at < n), tl.load(divisor)
    tl.store(quotient + at, a // b, at < n)
    tl.store(remainder + at, a % b, at < n)


def drawn(draw: random.Random, low: int, high: int) -> int:
    """A number of any length, often at an end of what so many bits hold."""
    bits = draw.randint(1, high.bit_length())
    found = draw.choice([draw.getrandbits(bits), (1 << bits) - draw.randint(1, 3), 1 << (bits - 1)])
    return max(low, min(high, found if low == 0 or draw.random() < 0.6 else -found))


def pairs(draw: random.Random, low: int, high: int, count: int) -> Iterator[tuple[int, int]]:
    """Dividends and divisors; half of the dividends are next to a multiple of the divisor."""
    for _ in range(count):
        d = drawn(draw, low, high) or 1
        near = d * draw.randint(0, max(high // abs(d), 1)) + draw.choice([-1, 0, 1])
        a = near if draw.random() < 0.5 and low <= near <= high else drawn(draw, low, high)
        if (a, d) != (low, -1):
            yield a, d


def truncated(a: int, d: int) -> tuple[int, int]:
    """The quotient rounded to zero, and what is left, as C has them."""
    quotient = abs(a) // abs(d) * (1 if (a < 0) == (d < 0) else -1)
    return quotient, a - quotient * d


@pytest.mark.parametrize("name", TYPES)
def test_quotients_and_remainders_are_exact(name: str) -> None:
    dtype = getattr(torch, name)
    info = torch.iinfo(dtype)
    draw = random.Random(name)
    given = [*pairs(draw, info.min, info.max, 20_000), (info.min, info.min or 1), (info.min, 1), (info.max, 1)]
    a, d = (torch.tensor(column, dtype=dtype) for column in zip(*given, strict=True))
    quotient, remainder = torch.empty_like(a), torch.empty_like(a)
    divide[(triton.cdiv(len(given), 256),)](a, d, quotient, remainder, len(given), BLOCK=256)
    expected = [truncated(*pair) for pair in given]
    assert list(zip(quotient.tolist(), remainder.tolist(), strict=True)) == expected


@pytest.mark.parametrize("name", TYPES)
def test_a_number_that_divides_a_whole_block(name: str) -> None:
    dtype = getattr(torch, name)
    info = torch.iinfo(dtype)
    draw = random.Random(name)
    for divisor in {drawn(draw, info.min, info.max) or 1 for _ in range(24)} | {1, 2, 3, 7, info.max}:
        column = [drawn(draw, info.min + (divisor == -1), info.max) for _ in range(200)]
        a, d = torch.tensor(column, dtype=dtype), torch.tensor([divisor], dtype=dtype)
        quotient, remainder = torch.empty_like(a), torch.empty_like(a)
        divide_by_one_number[(1,)](a, d, quotient, remainder, len(column), BLOCK=256)
        expected = [truncated(value, divisor) for value in column]
        assert list(zip(quotient.tolist(), remainder.tolist(), strict=True)) == expected
