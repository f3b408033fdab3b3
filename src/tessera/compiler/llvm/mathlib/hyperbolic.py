"""Hyperbolic functions and their inverses: a polynomial where |x| is small, e^x or a logarithm elsewhere."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import exp_parts, half_exp
from tessera.compiler.llvm.mathlib.logarithm import log1p
from tessera.compiler.llvm.mathlib.number import Num, horner, in_double

# Below, tanh is the polynomial.
TANH_SPLIT = 0.55
# From here on tanh rounds to 1.
TANH_ONE = {"float": 9.1, "double": 19.1}
# (tanh(x)/x - 1)/x² in x², relative to tanh(x)/x.
TANH_SMALL = {
    # 2^-29.7
    "float": (
        -0.33333316445350647,
        0.13332554697990417,
        -0.05384942889213562,
        0.021061014384031296,
        -0.006260421592742205,
    ),
    # 2^-60.6
    "double": (
        -0.333333333333333,
        0.1333333333332658,
        -0.05396825396373821,
        0.021869488385241016,
        -0.008863232591681846,
        0.0035920919342929806,
        -0.0014555422395810707,
        0.0005884420381240079,
        -0.0002333754408830842,
        8.330780648329111e-05,
        -1.9489431824574744e-05,
    ),
}
# (sinh(x)/x - 1)/x² in x², relative to sinh(x)/x on [0, 1].
SINH_SMALL = {
    # 2^-31.6
    "float": (
        0.1666666716337204,
        0.008333311416208744,
        0.00019842620531562716,
        2.7840792427014094e-06,
    ),
    # 2^-61.7
    "double": (
        0.16666666666666669,
        0.008333333333332924,
        0.00019841269841579362,
        2.7557319112348403e-06,
        2.5052129986999106e-08,
        1.6056744538146542e-10,
        7.773871874084952e-13,
    ),
}
# Above, √(x² ± 1) is |x| in double; the square may overflow.
ROOT_IS_X = 2.0**28


def _odd_polynomial(x: Num, tail: dict[str, tuple[float, ...]]) -> Num:
    square = x * x
    return (square * x).fma(horner(square, tail[x.scalar]), x)


def tanh(x: Num) -> Num:
    """1 - 2/(e^2|x| + 1) with the sign of x, for |x| ≥ ½."""
    size = x.abs()
    s, power = exp_parts(size.at_most(TANH_ONE[x.scalar]), 2.0)
    large = 1.0 - 2.0 / power.fma(s, 1.0)
    return (size < TANH_SPLIT).pick(_odd_polynomial(x, TANH_SMALL), large).with_sign_of(x)


def sinh(x: Num) -> Num:
    """h - 1/(4h) with h = e^|x|/2, for |x| ≥ 1."""
    size = x.abs()
    half = half_exp(size)
    large = half - 0.25 / half
    return (size < 1.0).pick(_odd_polynomial(x, SINH_SMALL), large).with_sign_of(x)


def cosh(x: Num) -> Num:
    half = half_exp(x.abs())
    return half + 0.25 / half


@in_double
def asinh(x: Num) -> Num:
    """log(x + √(x² + 1)), as log(1 + t) of a t that keeps the digits of a small x."""
    size = x.abs()
    large = size > ROOT_IS_X
    square = size * size
    small = size + square / (1.0 + (square + 1.0).call("sqrt"))
    result = log1p(large.pick(size - 1.0, small))
    return large.pick(result + math.log(2.0), result).with_sign_of(x)


@in_double
def acosh(x: Num) -> Num:
    """log(x + √(x² - 1)), as log(1 + t) with t = (x - 1) + √((x - 1)(x + 1))."""
    large = x > ROOT_IS_X
    t = x - 1.0
    result = log1p(large.pick(t, t + t.fma(t, t + t).call("sqrt")))
    return (x >= 1.0).pick(large.pick(result + math.log(2.0), result), math.nan)


def atanh(x: Num) -> Num:
    """½·log((1 + x)/(1 - x)), as log(1 + t) with t = 2x/(1 - x).

    What roundings leave out of t changes the logarithm by as much divided by 1 + t.
    """
    size = x.abs()
    less, twice = 1.0 - size, size + size
    t = twice / less
    lost = (-t).fma((1.0 - less) - size, (-t).fma(less, twice)) / (1.0 + size)
    finite = size < 1.0
    return (0.5 * (log1p(t) + finite.pick(lost, 0.0))).with_sign_of(x)
