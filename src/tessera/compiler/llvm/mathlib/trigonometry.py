"""sin, cos, tan: x = n·π + r, and sin r or tan r from one odd polynomial.

Reducing modulo π instead of π/2 needs one polynomial for sin and cos instead of two and a choice.
"""

from __future__ import annotations

from tessera.compiler.llvm.builder import F64, const
from tessera.compiler.llvm.mathlib.number import Num, fast_two_sum, horner, product, two_sum, where_any

_hex = float.fromhex
# π in parts. With an n of at most 18 (double: 33) bits, n·first fits in what a fused operation cancels exactly.
PI_PARTS = {
    "float": (_hex("0x1.921fb6p+1"), _hex("-0x1.777a5cp-24"), _hex("-0x1.ee59dap-49")),
    "double": (_hex("0x1.921fb54442d18p+1"), _hex("0x1.1a62633145c07p-53"), _hex("-0x1.f1976b7ed8fbcp-109")),
}
ONE_OVER_PI = 0.31830988618379067154
TWO_PI, TWO_PI_LOW = _hex("0x1.921fb54442d18p+2"), _hex("0x1.1a62633145c07p-52")
# Up to here the parts suffice; above, the angle is reduced with as many digits of π as its exponent asks for.
LARGEST_QUICK_ANGLE = {"float": 262144.0, "double": 2.0**32}
# (sin r - r)/r³ in r², relative to sin r on [-1.01·π/2, 1.01·π/2].
SIN_TAIL = {
    # 2^-27.0
    "float": (
        -0.16666658222675323,
        0.008333034813404083,
        -0.00019807401986327022,
        2.6010459350800375e-06,
    ),
    # 2^-61.3
    "double": (
        -0.16666666666666666,
        0.008333333333333201,
        -0.0001984126984120944,
        2.7557319210911604e-06,
        -2.5052106834821626e-08,
        1.6058937135093584e-10,
        -7.642910961252939e-13,
        2.720210108169201e-15,
    ),
}
# (tan r - r)/r³ in r², relative to tan r on [-1.005·π/4, 1.005·π/4].
TAN_TAIL = {
    # 2^-29.3
    "float": (
        0.3333335220813751,
        0.13332587480545044,
        0.05406796559691429,
        0.021242206916213036,
        0.010937193408608437,
        -3.7541405617957935e-05,
        0.004438687115907669,
    ),
    # 2^-59.7
    "double": (
        0.33333333333333387,
        0.13333333333324487,
        0.0539682539733657,
        0.02186948838667671,
        0.00886323812677766,
        0.0035920987466741966,
        0.0014560607232587672,
        0.0005887887074540248,
        0.0002440224665790403,
        8.286166362171814e-05,
        6.849764960171464e-05,
        -2.7255422840870217e-05,
        4.999650032035077e-05,
        -2.4951217412649223e-05,
        9.950509119296351e-06,
    ),
}
# 1/(2π), 28 bits a chunk: the product with a float's 24 bits is exact in double.
_TURNS_28 = (0x28BE60D, 0xB939105, 0x4A7F09D, 0x5F47D4D, 0x377036D, 0x8A5664F, 0x10E4107)
# The first 1274 bits of 1/(2π).
_TURNS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921c"
    "fe1deb1cb129a73ee88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980f"
    "ef2f118b5a0a6d1f6d367ecf27cb09b74f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d08"
    "56033046fc7b6babf0cfbc209af436",
    16,
)
_TURNS_BITS = 1274
# In double: 26 bits a chunk, so that products with either half of a double are exact; this many chunks a reduction.
_CHUNK_BITS, _NUM_CHUNKS = 26, 10


def _add_fraction(total: tuple[Num, Num], turns: Num) -> tuple[Num, Num]:
    """total + turns modulo 1. The turns are exact, and so is taking whole ones off."""
    high, lost = two_sum(total[0], turns - turns.rint())
    return high, total[1] + lost


def _turns_of_float(x: Num) -> tuple[Num, Num]:
    """x/(2π) modulo 1 as high + low in double, to some 2^-90, for any finite float x."""
    wide = x.cast("fpext", "double")
    total = wide.of(0.0), wide.of(0.0)
    for i, chunk in enumerate(_TURNS_28):
        total = _add_fraction(total, wide * (chunk * 2.0 ** (-28 * (i + 1))))
    return total


def _turns_of_double(x: Num) -> tuple[Num, Num]:
    """x/(2π) modulo 1 as high + low, to some 2^-140, for any finite double x ≥ 2^26.

    Chunks so high that their product with the last bit of x is a whole number of turns are left out; where to begin
    is looked up. Table and x are scaled against underflow.
    """
    scale = 2.0**400
    chunks = [
        ((_TURNS >> (_TURNS_BITS - _CHUNK_BITS * (i + 1))) & ((1 << _CHUNK_BITS) - 1))
        * 2.0 ** (400 - _CHUNK_BITS * (i + 1))
        for i in range(_TURNS_BITS // _CHUNK_BITS)
    ]
    table = x.b.constant_array("tessera.turns", F64, [const(chunk, F64) for chunk in chunks])
    exponent = (x.bits().logical_shift_right(52) & 0x7FF).to_int("i32") - (1023 + 52)
    # exponent // 26, for exponents under 1024.
    first = ((exponent.at_least_int(0)) * 1261).logical_shift_right(15)
    upper = (x.bits() & -(1 << 27)).as_float()
    parts = [upper * (1.0 / scale), (x - upper) * (1.0 / scale)]
    total = x.of(0.0), x.of(0.0)
    for i in range(_NUM_CHUNKS):
        chunk = x.gather(table, first + i)
        for part in parts:
            total = _add_fraction(total, part * chunk)
    return total


def _reduce_large(x: Num, quarter: float, period: float) -> tuple[Num, Num, Num]:
    """(r, low, parity) of x after Payne and Hanek: the digits of 1/(2π) that only give whole turns drop out."""
    high, low = _turns_of_float(x) if x.scalar == "float" else _turns_of_double(x)
    n = (high * (2.0 / period) - quarter).rint()
    high, low = fast_two_sum(high - (n + quarter) * (0.5 * period), low)
    r, lost = product(high, high.of(TWO_PI))
    low = high.fma(TWO_PI_LOW, low.fma(TWO_PI, lost))
    parity = n.cast("fptosi", "i32")
    if x.scalar == "double":
        return r + low, low - ((r + low) - r), parity.to_int("i64")
    single = (r + low).cast("fptrunc", "float")
    return single, (r - single.cast("fpext", "double") + low).cast("fptrunc", "float"), parity


def _nearest_multiple(x: Num, quarter: float, period: float) -> tuple[Num, Num]:
    """n + quarter, for the n that brings it nearest to x/(period·π), and an integer whose lowest bit is n's."""
    magic = 1.5 * 2.0**x.significand_bits
    turns = ONE_OVER_PI / period
    if quarter == 0.0:
        shifted = x.fma(turns, magic)
        return shifted - magic, shifted.bits()
    shifted = x.fma(turns, -quarter) + magic
    return (shifted - magic) + quarter, shifted.bits()


def _reduce(x: Num, quarter: float = 0.0) -> tuple[Num, Num]:
    """x ≥ 0 as (n + quarter)·π + r, |r| ≤ π/2: r, and an integer whose lowest bit is n's. `quarter` is 0 or ½."""
    n, parity = _nearest_multiple(x, quarter, 1.0)
    r = x
    for part in PI_PARTS[x.scalar]:
        r = n.fma(-part, r)
    too_large = x > LARGEST_QUICK_ANGLE[x.scalar]
    r, parity = where_any(too_large, lambda: _reduce_large(x, quarter, 1.0)[::2], (r, parity))
    return r, parity


def _reduce_long(x: Num) -> tuple[Num, Num, Num]:
    """x ≥ 0 as n·π/2 + r + low, |r| ≤ π/4: r, low, and an integer whose lowest bit is n's."""
    n, parity = _nearest_multiple(x, 0.0, 0.5)
    first, second, third = (-0.5 * part for part in PI_PARTS[x.scalar])
    step, step_low = product(n, n.of(second))
    r, low = two_sum(n.fma(first, x), step)
    r, low = two_sum(r, n.fma(third, low + step_low))
    too_large = x > LARGEST_QUICK_ANGLE[x.scalar]
    r, low, parity = where_any(too_large, lambda: _reduce_large(x, 0.0, 0.5), (r, low, parity))
    return r, low, parity


def _odd_polynomial(r: Num, tail: dict[str, tuple[float, ...]]) -> Num:
    square = r * r
    return (square * r).fma(horner(square, tail[r.scalar]), r)


def _sine(r: Num) -> Num:
    """sin r for |r| ≤ π/2. Rounding alone could carry it over 1, which √(1 - sin²) would not forgive."""
    return _odd_polynomial(r, SIN_TAIL).at_most(1.0).at_least(-1.0)


def _flip(x: Num, odd: Num) -> Num:
    """-x where the lowest bit of `odd` is set."""
    return (x.bits() ^ (odd << (x.type.bits - 1))).as_float()


def _copy_oddness(x: Num, size: Num, result: Num) -> Num:
    """`result` with its sign changed where x was negative; `size` is |x|."""
    return (result.bits() ^ (x.bits() ^ size.bits())).as_float()


def sin(x: Num) -> Num:
    size = x.abs()
    r, n = _reduce(size)
    return _copy_oddness(x, size, _flip(_sine(r), n))


def cos(x: Num) -> Num:
    """cos((n + ½)π + r) = (-1)^(n+1)·sin r."""
    r, n = _reduce(x.abs(), quarter=0.5)
    return _flip(_sine(r), n + 1)


def tan(x: Num) -> Num:
    """tan r, or -1/tan r in every second quarter. tan(r + low) = tan r + low·(1 + r²) to what counts.

    The quotient y = -1/t is mended by what rounding took from t and by its own rest: y·(1 + y·t + y·(tan r - t)).
    """
    size = x.abs()
    r, low, n = _reduce_long(size)
    square = r * r
    rest = (square * r).fma(horner(square, TAN_TAIL[r.scalar]), square.fma(low, low))
    tangent = rest + r
    lost = rest - (tangent - r)
    turned = -1.0 / tangent
    turned = turned.fma(turned.fma(tangent, 1.0) + turned * lost, turned)
    return _copy_oddness(x, size, (n & 1).equals(0).pick(tangent, turned))


def _reduce_half_turns(x: Num, quarter: float) -> tuple[Num, Num]:
    """π·x for finite x as a whole multiple n of π, and a rest; exact but for the last product."""
    x = (x * 0.5).rint().fma(-2.0, x)
    n = (x - quarter).rint()
    r = x - (n + quarter)
    first, second, _ = PI_PARTS[x.scalar]
    return r.fma(first, r * second), n.cast("fptosi", "i32").to_int(f"i{x.type.bits}")


def sinpi(x: Num) -> Num:
    """sin(πx); 0 with the sign of x for whole x."""
    r, n = _reduce_half_turns(x, 0.0)
    result = _flip(_sine(r), n)
    return result.equals(0.0).pick(x.of(0.0).with_sign_of(x), result)


def cospi(x: Num) -> Num:
    """cos(πx); +0 halfway between whole x."""
    r, n = _reduce_half_turns(x.abs(), 0.5)
    return _flip(_sine(r), n + 1) + 0.0
