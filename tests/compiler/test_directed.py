"""Directed rounding, bit by bit against the chip's own, which `fesetround` switches for a whole thread."""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from .test_mathlib import Array, call

# As <fenv.h> has them.
MODES = {
    "x86_64": {"rd": 0x400, "ru": 0x800, "rz": 0xC00},
    "aarch64": {"rd": 0x800000, "ru": 0x400000, "rz": 0xC00000},
}.get(platform.machine(), {})
LIBM = ctypes.CDLL(ctypes.util.find_library("m"))
DIRECTIONS = ["rd", "ru", "rz"]

pytestmark = [
    pytest.mark.skipif(not MODES, reason=f"modes of rounding on {platform.machine()} are not known here"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


@contextmanager
def rounding(direction: str) -> Iterator[None]:
    assert LIBM.fesetround(MODES[direction]) == 0
    try:
        yield
    finally:
        LIBM.fesetround(0)


def fma(x: Array, y: Array, z: Array) -> Array:
    function, type = (LIBM.fma, ctypes.c_double) if x.dtype == np.float64 else (LIBM.fmaf, ctypes.c_float)
    function.argtypes, function.restype = [type] * 3, type
    return np.array([function(*three) for three in zip(x.tolist(), y.tolist(), z.tolist(), strict=True)], x.dtype)


ARITHMETIC: dict[str, tuple[int, Callable[..., Array]]] = {
    "add": (2, np.add), "sub": (2, np.subtract), "mul": (2, np.multiply), "div": (2, np.divide), "sqrt": (1, np.sqrt),
    "rcp": (1, lambda x: np.divide(x.dtype.type(1), x)), "fma": (3, fma),
}  # fmt: skip
BORDERS = [0.0, 1.0, 2.0, 3.0, np.inf]


def numbers(dtype: Any, count: int, seed: int) -> Array:
    """Of every magnitude, near 1, with few bits, denormal, at the borders; of both signs."""
    rng = np.random.default_rng(seed)
    limits, integer = np.finfo(dtype), np.uint32 if dtype == np.float32 else np.uint64
    any_bits = rng.integers(0, np.iinfo(integer).max, count, integer).view(dtype)
    near = rng.uniform(0.5, 2, count).astype(dtype)
    short = (rng.integers(1, 64, count) * 2.0 ** rng.integers(-30, 30, count)).astype(dtype)
    small = limits.smallest_subnormal * rng.integers(0, 1 << 20, count).astype(dtype)
    borders = np.array([*BORDERS, limits.max, limits.tiny, limits.smallest_subnormal, 1 + limits.eps, np.nan], dtype)
    kinds = np.stack([any_bits, near, near * 2 ** (limits.nmant + 1), short, small, rng.choice(borders, count)])
    picked = kinds[rng.integers(0, len(kinds), count), np.arange(count)]
    return np.copysign(picked, rng.choice([-1, 1], count)).astype(dtype)


def assert_same_bits(found: Array, wanted: Array, *operands: Array) -> None:
    integer = np.uint32 if wanted.dtype == np.float32 else np.uint64
    differ = (found.view(integer) != wanted.view(integer)) & ~(np.isnan(found) & np.isnan(wanted))
    first = np.flatnonzero(differ)[:3]
    assert not first.size, [(*(x[i].item() for x in operands), found[i].item(), wanted[i].item()) for i in first]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic(name: str, direction: str, dtype: Any) -> None:
    arity, function = ARITHMETIC[name]
    operands = [numbers(dtype, 20_000, seed) for seed in range(arity)]
    if arity > 1:
        # Sums that cancel in part, or whole; for fused ones the term is beside the product.
        near = -operands[0] if arity == 2 else -(operands[0] * operands[1])
        operands[-1][::3] = (near * (1 + np.finfo(dtype).eps * (np.arange(len(near)) % 4)))[::3]
    with rounding(direction):
        wanted = function(*operands)
    assert_same_bits(call(f"{name}_{direction}", *operands), wanted, *operands)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_narrowing(direction: str) -> None:
    x = np.concatenate([numbers(np.float64, 5_000, 1), numbers(np.float32, 5_000, 2).astype(np.float64) * (1 + 1e-12)])
    x = np.concatenate([x, 1e-44 * np.arange(3_000.0), 2.0**128 - 2.0 ** np.arange(60, 110)])
    with rounding(direction):
        wanted = x.astype(np.float32)
    assert_same_bits(call(f"double2float_{direction}", x), wanted, x)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "float") for name in ("int", "uint", "ll", "ull")), ("ll", "double"), ("ull", "double")]
)
def test_from_integers(name: str, direction: str, kind: str) -> None:
    dtype = {"int": np.int32, "uint": np.uint32, "ll": np.int64, "ull": np.uint64}[name]
    limits, rng = np.iinfo(dtype), np.random.default_rng(3)
    x = rng.integers(limits.min, limits.max, 4_000, dtype, endpoint=True)
    x = x >> rng.integers(0, limits.bits, len(x)).astype(dtype)
    x = np.concatenate([x, np.array([0, 1, limits.min, limits.max, limits.max - 1, limits.max // 2 + 1], dtype)])
    with rounding(direction):
        wanted = x.astype(np.float32 if kind == "float" else np.float64)
    signed = x.view(np.int32 if limits.bits == 32 else np.int64)
    assert_same_bits(call(f"{name}2{kind}_{direction}", signed), wanted, x)


def test_the_quick_reciprocal_has_the_upper_half_of_the_bits() -> None:
    x = numbers(np.float64, 2_000, 4)
    found = call("rcp64h", x)
    assert not (found.view(np.uint64) & np.uint64(0xFFFFFFFF))[np.isfinite(found)].any()
    usual = (np.abs(x) > 1e-300) & (np.abs(x) < 1e300)
    np.testing.assert_allclose(found[usual], 1 / x[usual], rtol=2.0**-20)
    assert (np.isinf(found) == (np.abs(x) < np.finfo(x.dtype).tiny))[~np.isnan(x)].all()
