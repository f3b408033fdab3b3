"""log, log2, log10, log1p: x = 2^e·(1 + f) with 1 + f in [√½, √2], a polynomial for log(1 + f)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tessera.compiler.llvm.mathlib.number import Num, horner

SQRT_HALF_BITS = {"float": 0x3F3504F3, "double": 0x3FE6A09E667F3BCD}
SMALLEST_NORMAL = {"float": 2.0**-126, "double": 2.0**-1022}
# (log(1 + f) - f + f²/2)/f³, minimax in error relative to log(1 + f) on [√½ - 1, √2 - 1].
LOG_TAIL = {
    # 2^-27.3
    "float": (
        0.3333333134651184,
        -0.250008225440979,
        0.20001232624053955,
        -0.166233092546463,
        0.14201809465885162,
        -0.1316080093383789,
        0.12760725617408752,
        -0.07631170749664307,
    ),
}


@dataclass(frozen=True)
class _Base:
    """A logarithm's base: log_base 2, and log_base e in two parts as (float, double)."""

    of_two: float
    of_e: dict[str, tuple[float, float]]


_E = _Base(math.log(2.0), {})
_TWO = _Base(1.0, {"float": (1.44269502162933349609375, 1.925963033500e-08)})
_TEN = _Base(0.30102999566398119521, {"float": (0.4342944920063018798828125, -1.0103050118e-08)})


def split(x: Num) -> tuple[Num, Num]:
    """(e, f) of a positive finite x; denormals are scaled up first."""
    denormal, bits = x < SMALLEST_NORMAL[x.scalar], x.significand_bits
    x = denormal.pick(x * 2.0**bits, x)
    raw = x.bits() - SQRT_HALF_BITS[x.scalar]
    e = (raw >> bits).cast("sitofp", x.scalar)
    m = ((raw & ((1 << bits) - 1)) + SQRT_HALF_BITS[x.scalar]).as_float()
    return denormal.pick(e - float(bits), e), m - 1.0


def _combine(e: Num, f: Num, base: _Base) -> Num:
    """e·log 2 + log(1 + f), the large parts added last."""
    square = f * f
    tail = f * square * horner(f, LOG_TAIL[f.scalar])
    if not base.of_e:
        return e.fma(base.of_two, square.fma(-0.5, tail) + f)
    high, low = base.of_e[f.scalar]
    rest = square.fma(-0.5, tail)
    rest = f.fma(low, rest * high)
    return e.fma(base.of_two, f.fma(high, rest))


def _at_the_border(x: Num, result: Num) -> Num:
    """0 gives -inf, negatives NaN; inf and NaN pass."""
    zero_or_less = x.equals(0.0).pick(x.of(-math.inf), math.nan)
    return (x > 0.0).pick((x < math.inf).pick(result, x), zero_or_less)


def log(x: Num) -> Num:
    return _at_the_border(x, _combine(*split(x), _E))


def log2(x: Num) -> Num:
    return _at_the_border(x, _combine(*split(x), _TWO))


def log10(x: Num) -> Num:
    return _at_the_border(x, _combine(*split(x), _TEN))
