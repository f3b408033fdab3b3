"""Inverses of erf, erfc and the normal distribution: a short formula, then Halley's steps on erf or erfc itself.

Source of the formula: S. Winitzki, "A handy approximation for the error function and its inverse", 2008.
"""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.error import erf, erfcx
from tessera.compiler.llvm.mathlib.exponential import exp
from tessera.compiler.llvm.mathlib.logarithm import log, log1p
from tessera.compiler.llvm.mathlib.number import Num, horner, in_double

_A = 0.147
_SLOPE = 2.0 / math.sqrt(math.pi)
# The series of erfinv(x)/x in x²; its rest is below 2^-14 for |x| ≤ ½.
_SERIES = (1.0, math.pi / 12, 7 * math.pi**2 / 480, 127 * math.pi**3 / 40320, 4369 * math.pi**4 / 5806080)
# Each step cubes the relative error, of 2^-14 at the centre and 2^-9 in the tail, where the first step helps less.
_STEPS_AT_CENTRE, _STEPS_IN_TAIL = 2, 4


def _halley(y: Num, newton: Num) -> Num:
    """Halley's step, from Newton's, to a zero of erf and a constant, or of erfc and one."""
    return y - newton / y.fma(newton, 1.0)


def _centre(x: Num) -> Num:
    """erfinv of |x| ≤ ½."""
    y = x * (0.5 * math.sqrt(math.pi)) * horner(x * x, _SERIES)
    for _ in range(_STEPS_AT_CENTRE):
        y = _halley(y, (erf(y) - x) / (_SLOPE * exp(-(y * y))))
    return y


def _tail(q: Num) -> Num:
    """erfcinv of 0 < q ≤ ½. Both sides are multiplied by e^(y²), so that nothing is denormal where q is."""
    of_q = log(q)
    logarithm = of_q + log1p(q * -0.5) + math.log(2.0)
    middle = logarithm.fma(0.5, 2.0 / (math.pi * _A))
    y = ((middle * middle - logarithm * (1.0 / _A)).call("sqrt") - middle).call("sqrt")
    for _ in range(_STEPS_IN_TAIL):
        y = _halley(y, (exp(y.fma(y, of_q)) - erfcx(y)) * (1.0 / _SLOPE))
    return y


@in_double
def erfinv(x: Num) -> Num:
    size = x.abs()
    tail = _tail((1.0 - size).at_most(0.5))
    result = (size > 0.5).pick(tail.with_sign_of(x), _centre(x))
    result = size.equals(1.0).pick(x.of(math.inf).with_sign_of(x), result)
    return (size > 1.0).pick(x.of(math.nan), result)


def _erfcinv(q: Num) -> Num:
    upper = 2.0 - q
    tail = _tail((q < upper).pick(q, upper).at_most(0.5))
    result = (q < 0.5).pick(tail, (q > 1.5).pick(-tail, _centre(1.0 - q)))
    result = q.equals(0.0).pick(q.of(math.inf), q.equals(2.0).pick(q.of(-math.inf), result))
    return ((q < 0.0) | (q > 2.0)).pick(q.of(math.nan), result)


@in_double
def erfcinv(q: Num) -> Num:
    return _erfcinv(q)


@in_double
def normcdfinv(p: Num) -> Num:
    """-√2·erfcinv(2p)."""
    return _erfcinv(p + p) * -math.sqrt(2.0)
