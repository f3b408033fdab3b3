"""Γ and log |Γ|, in double.

    x ≤ 7.5:  Γ(x) = Γ(2 + d)·P or Γ(2 + d)/Q with |d| ≤ ½, where P and Q are products of x + a whole number
    x > 7.5:  log Γ(x) = (x - ½)·log x - x + log √(2π) + Σ B₂ₖ/(2k(2k - 1)x^(2k - 1))  (Stirling)
    x < 0:    Γ(x)·Γ(-x) = -π/(x·sin πx)

Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 6.1.
"""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import exp
from tessera.compiler.llvm.mathlib.logarithm import log
from tessera.compiler.llvm.mathlib.number import Num, horner, in_double
from tessera.compiler.llvm.mathlib.power import pow
from tessera.compiler.llvm.mathlib.trigonometry import sinpi

# log Γ(2 + d)/d in d, relative, on |d| ≤ ½.
# 2^-57.4
NEAR = (
    0.42278433509846713,
    0.3224670334241132,
    -0.06735230105319563,
    0.02058080842778338,
    -0.007385551028935545,
    0.002890510330865901,
    -0.0011927539009983087,
    0.0005096695196526673,
    -0.00022315497746292723,
    9.945761692157133e-05,
    -4.4923727564247656e-05,
    2.050601970174762e-05,
    -9.45628851510172e-06,
    4.3828545383846665e-06,
    -1.9743106888421067e-06,
    9.242852225162277e-07,
    -5.811277768921246e-07,
    2.7475390051909663e-07,
)
# B₂ₖ/(2k(2k - 1)): the rest of Stirling's series is below 2^-59 from 7.5 on.
FAR = (
    0.08333333333333333,
    -0.002777777777777778,
    0.0007936507936507937,
    -0.0005952380952380953,
    0.0008417508417508417,
    -0.0019175269175269176,
    0.00641025641025641,
    -0.029550653594771242,
    0.17964437236883057,
    -1.3924322169059011,
)
_NEAR_END, _SHIFTS = 7.5, 5
_LOG_ROOT_TWO_PI, _ROOT_TWO_PI = 0.9189385332046728, 2.5066282746310002
# Γ of anything larger is infinite.
_LARGEST = 172.0
# Γ(x) = 1/x to the last bit of anything smaller.
_TINY = 2.0**-60


def _near(x: Num) -> tuple[Num, Num, Num]:
    """log Γ(2 + d), the product, and whether Γ(2 + d) is to be divided by it; for 0 < x ≤ 7.5.

    d is exact, also where x is next to 1 or 2 and all that counts.
    """
    whole = x.rint()
    shift, d = whole - 2.0, x - whole
    down = (shift < -1.5).pick(x * (x + 1.0), x)
    up = x.of(1.0)
    for step in range(1, _SHIFTS + 2):
        up = (shift > step - 0.5).pick(up * (x - float(step)), up)
    below = shift < -0.5
    return d * horner(d, NEAR), below.pick(down, up), below


def _stirling(x: Num) -> Num:
    """The sum at the end of the series, for x > 7.5."""
    inverse = 1.0 / x
    return inverse * horner(inverse * inverse, FAR)


def _log_gamma(x: Num) -> Num:
    """log Γ of x > 0."""
    logarithm, product, below = _near(x.at_most(_NEAR_END))
    change = log(product)
    near = below.pick(logarithm - change, logarithm + change)
    far = (x - 0.5).fma(log(x) - 1.0, (_LOG_ROOT_TWO_PI - 0.5) + _stirling(x))
    return (x > _NEAR_END).pick(x.equals(math.inf).pick(x, far), near)


@in_double
def lgamma(x: Num) -> Num:
    """log |Γ(x)|; infinite at 0 and at negative whole numbers."""
    size = x.abs()
    positive = _log_gamma(size)
    mirrored = math.log(math.pi) - log(size) - log(sinpi(size).abs()) - positive
    whole = (x < 0.0) & size.equals(size.call("floor"))
    result = (x < 0.0).pick(mirrored, positive)
    infinite = whole | x.equals(0.0) | size.equals(math.inf)
    return infinite.pick(x.of(math.inf), result)


def _far_root(x: Num) -> Num:
    """√(x^(x - ½)·e^-x) of x > 7.5: nothing overflows before Γ itself does."""
    return pow(x, (x - 0.5) * 0.5) * exp(x * -0.5)


@in_double
def tgamma(x: Num) -> Num:
    """Γ(x); NaN at negative whole numbers, infinite with the sign of x at 0."""
    size = x.abs()
    logarithm, product, below = _near(size.at_most(_NEAR_END))
    power = exp(logarithm)
    near = below.pick(power / product, power * product)
    bounded = size.at_least(_NEAR_END).at_most(_LARGEST + 12.0)
    root, rest = _far_root(bounded), exp(_stirling(bounded)) * _ROOT_TWO_PI
    far = root * rest * root
    positive = (size > _NEAR_END).pick((size > _LARGEST).pick(size.of(math.inf), far), near)
    # -π/(a·sin πa·Γ(a)), divided by one root after the other: Γ(a) is infinite where this is still denormal.
    sine = sinpi(size)
    far_mirrored = math.pi / rest / (size * sine) / root / root
    mirrored = -(size > _NEAR_END).pick(far_mirrored, math.pi / (sine * near) / size)
    whole = size.equals(size.call("floor"))
    result = (x < 0.0).pick(whole.pick(x.of(math.nan), mirrored), positive)
    return (size < _TINY).pick(1.0 / x, result)
