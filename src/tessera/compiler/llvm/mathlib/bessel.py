"""Bessel functions of orders 0 and 1: of the first and second kind, and modified ones of the first kind.

    x ≤ 8:  polynomials; J is divided by its zeros, Y by what is singular at 0
    x ≥ 8:  J, Y = √(2/(πx))·(P·cos χ ∓ (8/x)·Q·sin χ), …  with χ = x − π/4 or x − 3π/4 (Hankel)

Sources: Abramowitz and Stegun, "Handbook of Mathematical Functions", 9.1, 9.2, 9.6 and 9.7.
"""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib import bessel_tables as tables
from tessera.compiler.llvm.mathlib.exponential import exp
from tessera.compiler.llvm.mathlib.logarithm import log
from tessera.compiler.llvm.mathlib.number import Num, horner, in_double
from tessera.compiler.llvm.mathlib.trigonometry import cos, sin

_BORDER = 8.0
_NEAR = ((tables.J0_ZEROS, tables.J0_NEAR, tables.Y0_NEAR), (tables.J1_ZEROS, tables.J1_NEAR, tables.Y1_NEAR))
_FAR = ((tables.P0_FAR, tables.Q0_FAR), (tables.P1_FAR, tables.Q1_FAR))


def _first_near(order: int, size: Num) -> Num:
    """J for 0 ≤ size ≤ 8."""
    zeros, coefficients, _ = _NEAR[order]
    result = horner((size * size).fma(1 / 32, -1.0), coefficients)
    for zero, rest in zeros:
        result = result * (((size - zero) - rest) * (size + zero))
    return result * size if order else result


def _second_near(order: int, size: Num) -> Num:
    """Y for 0 < size ≤ 8."""
    rest = horner((size * size).fma(1 / 32, -1.0), _NEAR[order][2])
    singular = log(size) * _first_near(order, size)
    if order:
        return (2 / math.pi) * (singular - 1.0 / size) + rest * size
    return (2 / math.pi) * singular + rest


def _far(order: int, size: Num) -> tuple[Num, Num]:
    """J and Y for size ≥ 8. √2·cos χ and √2·sin χ are sums of sin x and cos x; the root takes the √2 in."""
    z = _BORDER / size
    p, q = (horner((z * z).fma(2.0, -1.0), coefficients) for coefficients in _FAR[order])
    sine, cosine = sin(size), cos(size)
    total, difference = sine + cosine, sine - cosine
    of_cosine, of_sine = (difference, -total) if order else (total, difference)
    scale = (1.0 / (math.pi * size)).call("sqrt")
    first = scale * (p * of_cosine - z * q * of_sine)
    second = scale * (p * of_sine + z * q * of_cosine)
    infinite = size.equals(math.inf)
    return infinite.pick(size.of(0.0), first), infinite.pick(size.of(0.0), second)


def _first(order: int, x: Num) -> Num:
    size = x.abs()
    value = (size < _BORDER).pick(_first_near(order, size), _far(order, size)[0])
    return value * x.of(1.0).with_sign_of(x) if order else value


def _second(order: int, x: Num) -> Num:
    value = (x < _BORDER).pick(_second_near(order, x), _far(order, x)[1])
    value = x.equals(0.0).pick(x.of(-math.inf), value)
    return (x < 0.0).pick(x.of(math.nan), value)


@in_double
def j0(x: Num) -> Num:
    return _first(0, x)


@in_double
def j1(x: Num) -> Num:
    return _first(1, x)


@in_double
def y0(x: Num) -> Num:
    return _second(0, x)


@in_double
def y1(x: Num) -> Num:
    return _second(1, x)


def _modified(size: Num, near: tuple[float, ...], far: tuple[float, ...], order: int) -> Num:
    """I of a size. The exponential comes in two halves, as it is infinite a little before I is."""
    half = exp(size * 0.5)
    small = horner(size.fma(0.25, -1.0), near)
    large = horner((16.0 / size) - 1.0, far) / size.call("sqrt")
    value = (size < _BORDER).pick(small * size if order else small, large)
    return size.equals(math.inf).pick(size, value * half * half)


@in_double
def cyl_bessel_i0(x: Num) -> Num:
    return _modified(x.abs(), tables.I0_NEAR, tables.I0_FAR, 0)


@in_double
def cyl_bessel_i1(x: Num) -> Num:
    return _modified(x.abs(), tables.I1_NEAR, tables.I1_FAR, 1).with_sign_of(x)
