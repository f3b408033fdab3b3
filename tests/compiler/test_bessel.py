"""Bessel functions against arbitrary precision.

J and Y have infinitely many zeros, beside which an error in units in the last place says nothing: the error is taken in
units in the last place of the function's envelope, max(|f|, √(2/(πx))), and of 1 where that is larger.
"""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest

from .test_mathlib import Array, call

ORDER_AND_KIND = {
    "j0": (0, mpmath.besselj), "j1": (1, mpmath.besselj), "y0": (0, mpmath.bessely), "y1": (1, mpmath.bessely),
    "cyl_bessel_i0": (0, mpmath.besseli), "cyl_bessel_i1": (1, mpmath.besseli),
}  # fmt: skip
# Of the envelope: (float, double).
BOUNDS = {"j0": (0.6, 8), "j1": (0.6, 8), "y0": (0.6, 9), "y1": (0.6, 9), "cyl_bessel_i0": (0.6, 4),
          "cyl_bessel_i1": (0.6, 4)}  # fmt: skip


def samples(name: str, dtype: Any) -> Array:
    rng = np.random.default_rng(5)
    spread = [rng.uniform(0, scale, 80) for scale in (1e-3, 1.0, 8.0, 30.0, 600.0)]
    far = [] if "bessel" in name else [10.0 ** rng.uniform(2, 7, 60)]
    x = np.concatenate([*spread, *far, [7.999, 8.0, 8.001]]).astype(dtype)
    x = x if name[0] == "y" else np.concatenate([x, -x])
    return np.ascontiguousarray(x[np.abs(x) < 88] if dtype == np.float32 and "bessel" in name else x)


def error(name: str, x: float, got: float, bits: int) -> float:
    order, function = ORDER_AND_KIND[name]
    with mpmath.workprec(120):
        true = function(order, mpmath.mpf(x))
        size = abs(true) if "bessel" in name else max(abs(true), mpmath.sqrt(2 / (mpmath.pi * abs(mpmath.mpf(x)))))
        if name[0] in "jy":
            size = max(abs(true), min(size, 1))
        return float(abs(mpmath.mpf(got) - true) / (size * mpmath.mpf(2) ** (1 - bits)))


@pytest.mark.parametrize(("dtype", "bits"), [(np.float32, 24), (np.float64, 53)])
@pytest.mark.parametrize("name", BOUNDS)
def test_error_is_within_its_bound(name: str, dtype: Any, bits: int) -> None:
    x = samples(name, dtype)
    got = call(name, x)
    errors = [error(name, float(a), float(v), bits) for a, v in zip(x, got, strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS[name][bits == 53], f"{name}({x[worst]!r}) gave {got[worst]!r}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_first_zeros_keep_their_relative_accuracy(dtype: Any) -> None:
    for name, zero in (("j0", 2.404825557695773), ("j0", 5.520078110286311), ("j1", 3.8317059702075123)):
        x = np.array([zero, np.nextafter(dtype(zero), dtype(9))], dtype)
        order, function = ORDER_AND_KIND[name]
        true = np.array([float(function(order, mpmath.mpf(float(value)))) for value in x])
        np.testing.assert_allclose(call(name, x), true, rtol=4 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_borders(dtype: Any) -> None:
    inf, nan = math.inf, math.nan
    cases = {"j0": [(0.0, 1.0), (inf, 0.0), (nan, nan)], "j1": [(0.0, 0.0), (-0.0, -0.0), (inf, 0.0), (nan, nan)],
             "y0": [(0.0, -inf), (-1.0, nan), (inf, 0.0), (nan, nan)], "y1": [(0.0, -inf), (-1.0, nan), (inf, 0.0)],
             "cyl_bessel_i0": [(0.0, 1.0), (inf, inf), (-inf, inf), (nan, nan)],
             "cyl_bessel_i1": [(0.0, 0.0), (-0.0, -0.0), (inf, inf), (-inf, -inf), (nan, nan)]}  # fmt: skip
    for name, pairs in cases.items():
        x, expected = (np.array(column, dtype) for column in zip(*pairs, strict=True))
        got = call(name, x)
        np.testing.assert_allclose(got, expected, rtol=np.finfo(dtype).eps, atol=0, err_msg=name)
        np.testing.assert_array_equal(np.signbit(got) & (got == 0), np.signbit(expected) & (expected == 0))


def _of_order(name: str, dtype: Any) -> tuple[Array, Array]:
    rng = np.random.default_rng(6)
    n = rng.choice([0, 1, 2, 3, 5, 8, 17, 50, 128, 300], 240).astype(np.int32)
    x = np.concatenate([10.0 ** rng.uniform(-3, 3, 160), np.abs(n[160:200] + rng.normal(0, 1, 40)),
                        10.0 ** rng.uniform(-20, -3, 40)]).astype(dtype)  # fmt: skip
    return n, x if name == "yn" else (x * rng.choice([-1, 1], len(x))).astype(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 0.6), (np.float64, 64)])
@pytest.mark.parametrize(("name", "function"), [("jn", mpmath.besselj), ("yn", mpmath.bessely)])
def test_any_order(name: str, function: Any, dtype: Any, bound: float) -> None:
    n, x = _of_order(name, dtype)
    limits = np.finfo(dtype)
    for order, at, got in zip(n.tolist(), x.tolist(), call(name, n, x).tolist(), strict=True):
        with mpmath.workprec(200):
            true = function(order, mpmath.mpf(at))
            if abs(true) > limits.max:
                assert got == -math.inf
            elif abs(true) < limits.tiny:
                assert abs(got) <= limits.tiny
            else:
                envelope = min(1, mpmath.sqrt(2 / (mpmath.pi * abs(at)))) if abs(at) >= order else 0
                size = max(abs(true), envelope) * float(limits.eps)
                assert abs(got - true) <= bound * size, f"{name}({order}, {at!r}) gave {got!r}, not {float(true)!r}"


def test_borders_of_orders() -> None:
    inf, nan = math.inf, math.nan
    cases = {"jn": [(0, 0.0, 1.0), (2, 0.0, 0.0), (3, inf, 0.0), (3, nan, nan), (-1, 1.0, nan), (2, 1e-155, 1.25e-311)],
             "yn": [(0, 0.0, -inf), (5, 0.0, -inf), (3, inf, 0.0), (3, nan, nan), (-1, 1.0, nan), (3, -1.0, nan)]}
    for name, rows in cases.items():
        n, x, wanted = zip(*rows, strict=True)
        np.testing.assert_allclose(call(name, np.array(n, np.int32), np.array(x)), wanted, rtol=1e-12, err_msg=name)
