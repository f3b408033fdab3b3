"""log, log2, log10, log1p: x = 2^e·(1 + f) with 1 + f in [√½, √2], and log(1 + f) = f + a small rest."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import LN2, LOG10_2
from tessera.compiler.llvm.mathlib.number import Num, horner

SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
SMALLEST_NORMAL = {"float": 2.0**-126, "double": 2.0**-1022}
# (log(1 + f) - f + f²/2)/f³, relative to log(1 + f) on [√½ - 1, √2 - 1].
# 2^-27.3
LOG_TAIL = (
    0.3333333134651184,
    -0.250008225440979,
    0.2000122368335724,
    -0.16623294353485107,
    0.14202147722244263,
    -0.13161401450634003,
    0.1275806427001953,
    -0.07625771313905716,
)
# (log((1 + s)/(1 - s))/s - 2)/s² in s², with s = f/(2 + f), for the same f.
# 2^-60.5
LOG_TAIL_DOUBLE = (
    0.6666666666666734,
    0.39999999999416846,
    0.2857142874197542,
    0.22222198610293226,
    0.18183562603710177,
    0.15314090379634956,
    0.1479558659825058,
)
# log_base e in two parts.
LOG2_E = {
    "float": (1.44269502162933349609375, 1.925963033500e-08),
    "double": (1.4426950408889633870, 2.0355273740931033e-17),
}
LOG10_E = {
    "float": (0.4342944920063018798828125, -1.01030499522e-08),
    "double": (0.43429448190325181667, 1.0983196502167651e-17),
}
_EXACT = {"float": (1.0, 0.0), "double": (1.0, 0.0)}


def split(x: Num) -> tuple[Num, Num]:
    """(e, 1 + f) of a positive finite x; denormals are scaled up first."""
    denormal, bits = x < SMALLEST_NORMAL[x.scalar], x.significand_bits
    x = denormal.pick(x * 2.0**bits, x)
    raw = x.bits() - SQRT_HALF_BITS[x.scalar]
    # Truncated to 32 bits, since few machines convert 64-bit integers in vectors.
    e = (raw >> bits).to_int("i32").cast("sitofp", x.scalar)
    m = ((raw & ((1 << bits) - 1)) + SQRT_HALF_BITS[x.scalar]).as_float()
    return denormal.pick(e - float(bits), e), m


def _rest(f: Num) -> Num:
    """log(1 + f) - f. In double a division is cheaper than the twenty terms that would replace it."""
    square = f * f
    if f.scalar == "float":
        return square.fma(-0.5, f * square * horner(f, LOG_TAIL))
    s = f / (f + 2.0)
    z = s * s
    return s * (z * horner(z, LOG_TAIL_DOUBLE) - f)


def _combine(e: Num, f: Num, of_two: tuple[float, float], of_e: tuple[float, float]) -> Num:
    """e·log 2 + log(1 + f), the large parts added last."""
    (two, two_low), (natural, natural_low) = of_two, of_e
    rest = _rest(f)
    if natural != 1.0:
        rest = f.fma(natural_low, rest * natural)
    if two_low and f.scalar == "double":
        rest = e.fma(two_low, rest)
    return e.fma(two, f.fma(natural, rest) if natural != 1.0 else f + rest)


def _at_the_border(x: Num, result: Num) -> Num:
    """0 gives -inf, negatives NaN; inf and NaN pass."""
    zero_or_less = x.equals(0.0).pick(x.of(-math.inf), math.nan)
    return (x > 0.0).pick((x < math.inf).pick(result, x), zero_or_less)


def log(x: Num) -> Num:
    e, m = split(x)
    return _at_the_border(x, _combine(e, m - 1.0, LN2[x.scalar], _EXACT[x.scalar]))


def log2(x: Num) -> Num:
    """Exact where x is a power of two."""
    e, m = split(x)
    return _at_the_border(x, _combine(e, m - 1.0, _EXACT[x.scalar], LOG2_E[x.scalar]))


def log10(x: Num) -> Num:
    e, m = split(x)
    return _at_the_border(x, _combine(e, m - 1.0, LOG10_2[x.scalar], LOG10_E[x.scalar]))


def log1p(x: Num) -> Num:
    """log(1 + x): e is that of the rounded sum, f = x·2^-e + (2^-e - 1) is taken from x itself."""
    total = x + 1.0
    e, m = split(total)
    shrink = (float(x.bias) - e).cast("fptosi", "i32").to_int(f"i{x.type.bits}") << x.significand_bits
    scale = shrink.as_float()
    large = x > 4.0 * 2.0**x.significand_bits
    f = large.pick(m - 1.0, x.fma(scale, scale - 1.0))
    result = _combine(e, f, LN2[x.scalar], _EXACT[x.scalar])
    return _at_the_border(total, result.with_sign_of(x))
