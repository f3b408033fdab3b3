"""sin, cos: x = n·π + r with r in [-π/2, π/2], and sin r from one odd polynomial."""

from __future__ import annotations

from tessera.compiler.llvm.mathlib.number import Num, horner, where_any

_hex = float.fromhex
# π in parts. With an n of at most 18 bits, n·first fits in what a fused operation cancels exactly.
PI_PARTS = {
    "float": (_hex("0x1.921fb6p+1"), _hex("-0x1.777a5cp-24"), _hex("-0x1.ee59dap-49")),
}
ONE_OVER_PI = 0.31830988618379067154
# Up to here the parts suffice; above, the angle is reduced with as many digits of π as its exponent asks for.
LARGEST_QUICK_ANGLE = {"float": 262144.0}
# (sin r - r)/r³ in r², minimax in error relative to sin r on [-1.01·π/2, 1.01·π/2].
SIN_TAIL = {
    # 2^-27.0
    "float": (-0.16666658222675323, 0.008333034813404083, -0.00019807401986327022, 2.601046162453713e-06),
}
# 1/(2π), 28 bits a chunk: the product with a float's 24 bits is exact in double.
_TURNS_28 = (0x28BE60D, 0xB939105, 0x4A7F09D, 0x5F47D4D, 0x377036D, 0x8A5664F, 0x10E4107)
_TWO_PI = 6.2831853071795864769


def two_sum(a: Num, b: Num) -> tuple[Num, Num]:
    """a + b as (rounded sum, what rounding lost), exact for any magnitudes."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def _turns_of_float(x: Num) -> tuple[Num, Num]:
    """x/(2π) modulo 1 as high + low in double, to some 2^-90, for any finite float x.

    Each product of x with a chunk is exact, and so is taking its integer part off.
    """
    wide = x.cast("fpext", "double")
    high, low = wide.of(0.0), wide.of(0.0)
    for i, chunk in enumerate(_TURNS_28):
        product = wide * (chunk * 2.0 ** (-28 * (i + 1)))
        high, lost = two_sum(high, product - product.rint())
        low = low + lost
    return high, low


def _reduce_large(x: Num, quarter: float) -> tuple[Num, Num]:
    """(r, n) of `_reduce`, after Payne and Hanek: digits of 1/(2π) that only give whole turns drop out."""
    high, low = _turns_of_float(x)
    n = (high * 2.0 - quarter).rint()
    r = ((high - (n + quarter) * 0.5) + low) * _TWO_PI
    return r.cast("fptrunc", x.scalar), n.cast("fptosi", f"i{x.type.bits}")


def _reduce(x: Num, quarter: float) -> tuple[Num, Num]:
    """x ≥ 0 as (n + quarter)·π + r, |r| ≤ π/2: r and an integer whose lowest bit is n's. `quarter`: 0 or ½."""
    magic = 1.5 * 2.0**x.significand_bits
    shifted = x.fma(ONE_OVER_PI, magic) if quarter == 0.0 else x.fma(ONE_OVER_PI, -quarter) + magic
    n = shifted - (magic - quarter) if quarter == 0.0 else (shifted - magic) + quarter
    r = x
    for part in PI_PARTS[x.scalar]:
        r = n.fma(-part, r)
    limit = LARGEST_QUICK_ANGLE[x.scalar]
    r, parity = where_any(x > limit, lambda: _reduce_large(x, quarter), (r, shifted.bits()))
    return r, parity


def _sin_reduced(r: Num) -> Num:
    square = r * r
    return (square * r).fma(horner(square, SIN_TAIL[r.scalar]), r)


def _flip(x: Num, odd: Num) -> Num:
    """-x where the lowest bit of `odd` is set."""
    return (x.bits() ^ (odd << (x.type.bits - 1))).as_float()


def sin(x: Num) -> Num:
    size = x.abs()
    r, n = _reduce(size, 0.0)
    sign = x.bits() ^ size.bits()
    return (_flip(_sin_reduced(r), n).bits() ^ sign).as_float()


def cos(x: Num) -> Num:
    """cos((n + ½)π + r) = (-1)^(n+1)·sin r."""
    r, n = _reduce(x.abs(), 0.5)
    return _flip(_sin_reduced(r), n + 1)
