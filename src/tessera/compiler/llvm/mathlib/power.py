"""pow, rsqrt."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.number import Num, horner

# log2(1 + f)/f, relative error 2^-40.6 on [√½ - 1, √2 - 1].
_LOG2 = (
    1.4426950408893537,
    -0.7213475204248228,
    0.4808983465882383,
    -0.3606737659558005,
    0.2885390702549523,
    -0.2404487223818393,
    0.2060952861688811,
    -0.1803505877602153,
    0.16042488826806678,
    -0.14412275437175906,
    0.12914565283950144,
    -0.11965682692791396,
    0.1261401764167565,
    -0.12340981881526546,
    0.06304652016665223,
)
# 2^r, relative error 2^-34.5 on [-½, ½].
_EXP2 = (
    0.9999999999616852,
    0.6931471807290986,
    0.24022651198075723,
    0.055504103512608025,
    0.009618027263451952,
    0.0013333924489302592,
    0.0001546928811102052,
    1.5201441279735972e-05,
)
_SQRT_HALF_BITS = 0x3FE6A09E667F3BCD


def _log2_of_float(x: Num) -> Num:
    """log2 of a float x ≥ 0 in double, relative error 2^-40; every float is a normal number there."""
    wide = x.cast("fpext", "double")
    raw = wide.bits() - _SQRT_HALF_BITS
    e = (raw >> 52).cast("trunc", "i32").cast("sitofp", "double")
    f = ((raw & ((1 << 52) - 1)) + _SQRT_HALF_BITS).as_float() - 1.0
    finite = f.fma(horner(f, _LOG2), e)
    return wide.equals(0.0).pick(wide.of(-math.inf), (wide < math.inf).pick(finite, wide))


def _exp2_to_float(z: Num) -> Num:
    """2^z of a double, rounded once to float."""
    z = z.at_most(130.0).at_least(-160.0)
    shifted = z + (1.5 * 2.0**52 + 1023)
    r = z - (shifted - (1.5 * 2.0**52 + 1023))
    return (horner(r, _EXP2) * (shifted.bits() << 52).as_float()).cast("fptrunc", "float")


def pow(x: Num, y: Num) -> Num:
    """x^y with IEEE 754's special cases: 1^y = x^0 = 1 even beside NaN, a negative x needs a whole y."""
    size = x.abs()
    magnitude = _exp2_to_float(y.cast("fpext", "double") * _log2_of_float(size))
    half = y * 0.5
    whole = y.call("trunc").equals(y)
    odd = whole & half.call("trunc").compare("one", half)
    signed = odd.pick(magnitude.with_sign_of(x), magnitude)
    real = whole | x.compare("uge", 0.0) | x.equals(-math.inf)
    result = real.pick(signed, math.nan)
    unit = y.equals(0.0) | x.equals(1.0) | (x.equals(-1.0) & y.abs().equals(math.inf))
    return unit.pick(x.of(1.0), result)


def rsqrt(x: Num) -> Num:
    return 1.0 / x.call("sqrt")
