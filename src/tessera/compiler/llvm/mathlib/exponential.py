"""exp, exp2, expm1 and their like: x = n·ln2 + r, a polynomial for e^r, and 2^n by writing exponent bits.

Coefficients are minimax fits, rounded one by one to the type while the rest is refitted; each states its error.
"""

from __future__ import annotations

from tessera.compiler.llvm.mathlib.number import Num, fast_two_sum, horner

LOG2_E = 1.4426950408889634
LOG2_TEN = 3.3219280948873623
# Constants in two parts; n·first is exact inside a fused operation, second is what first leaves out.
LN2 = {
    "float": (0.693147182464599609375, -1.904654323148236017e-09),
    "double": (0.6931471805599453094, 2.319046813846299616e-17),
}
# ln2 to 42 bits, so that its product with an exponent is exact, and the rest.
LN2_HIGH, LN2_LOW = float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45")
LOG10_2 = {
    "float": (0.301030009984970093, -1.4320988895e-08),
    "double": (0.30102999566398119802, -2.8037281277851701e-18),
}
LN10 = {
    "float": (2.302585124969482422, -3.1975436523e-08),
    "double": (2.302585092994045901, -2.1707562233822494e-16),
}
# (e^r - 1 - r)/r², relative to e^r on [-ln2, ln2].
EXP_TAIL = {
    # 2^-26.0
    "float": (
        0.5000003576278687,
        0.1666661649942398,
        0.041661202907562256,
        0.008335973136126995,
        0.001410533906891942,
        0.00019628637528512627,
    ),
    # 2^-56.5
    "double": (
        0.4999999999999993,
        0.16666666666666938,
        0.041666666666702094,
        0.008333333333269709,
        0.0013888888883578916,
        0.00019841269892953366,
        2.480159082813357e-05,
        2.755730057888576e-06,
        2.755615856656407e-07,
        2.5055047700815483e-08,
        2.1062282654133733e-09,
        1.593450644378998e-10,
    ),
}
# The same on [-ln2/2, ln2/2].
EXP_TAIL_SHORT = {
    # 2^-28.1
    "float": (
        0.4999999403953552,
        0.16666515171527863,
        0.04166823998093605,
        0.008369382470846176,
        0.0013824361376464367,
    ),
    # 2^-57.9
    "double": (
        0.5000000000000011,
        0.16666666666666452,
        0.04166666666652719,
        0.008333333333471082,
        0.0013888888944256863,
        0.0001984126955435409,
        2.480149255242345e-05,
        2.7557545580626542e-06,
        2.763041726781971e-07,
        2.501251198967501e-08,
    ),
}
# The same on [-ln2, ln2], relative to e^r - 1.
EXPM1_TAIL = {
    # 2^-29.2
    "float": (
        0.5,
        0.16666671633720398,
        0.04166664183139801,
        0.008332652971148491,
        0.0013889948604628444,
        0.0002009357267525047,
        2.481683077348862e-05,
    ),
    # 2^-60.4
    "double": (
        0.5,
        0.1666666666666666,
        0.041666666666666755,
        0.008333333333336163,
        0.0013888888888869057,
        0.00019841269837294934,
        2.4801587316952635e-05,
        2.7557321753234256e-06,
        2.7557314081982056e-07,
        2.5051301355201315e-08,
        2.0877432770376646e-09,
        1.6185031467697938e-10,
        1.1471057159934229e-11,
    ),
}
# (2^r - 1)/r, relative to 2^r on [-1, 1].
EXP2_TAIL = {
    # 2^-26.1
    "float": (
        0.6931472420692444,
        0.24022671580314636,
        0.05550362914800644,
        0.009616757743060589,
        0.0013342472957447171,
        0.00015651123248972,
        1.4871001440042164e-05,
    ),
    # 2^-56.5
    "double": (
        0.6931471805599453,
        0.24022650695910028,
        0.055504108664822784,
        0.009618129107637706,
        0.0013333558146314233,
        0.00015403530387057972,
        1.5252733845853963e-05,
        1.321548875039843e-06,
        1.01780790104257e-07,
        7.054607467932278e-09,
        4.4460560186161347e-10,
        2.5908917592061266e-11,
        1.3589400308524804e-12,
    ),
}
# Where e^x has surely become 0 or inf, and where half of it has.
EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
HALF_EXP_LIMIT = {"float": 90.0, "double": 711.0}
EXP2_RANGE = {"float": (-151.0, 129.0), "double": (-1076.0, 1025.0)}
EXP10_RANGE = {"float": (-46.0, 39.0), "double": (-324.0, 309.0)}
# From here down e^x - 1 rounds to -1.
EXPM1_LOW = {"float": -18.0, "double": -40.0}


def round_scaled(x: Num, scale: float, offset: int = 0) -> tuple[Num, Num]:
    """n = the integer nearest to x·scale as a float, and n + offset in the low bits of an integer.

    Adding 1.5·2^bits pushes the fraction out; |x·scale| must stay under 2^(bits - 2).
    """
    magic = 1.5 * 2.0**x.significand_bits + offset
    shifted = x.fma(scale, magic)
    return shifted - magic, shifted.bits()


def power_of_two(biased: Num, like: Num) -> Num:
    """2^(k - bias) from k in the low bits of an integer; what stands above the exponent field is shifted out."""
    return (biased << like.significand_bits).as_float()


def _split(x: Num) -> tuple[Num, Num]:
    """(s, r) with e^x = s²·e^r and |r| ≤ ln2.

    n is even, so that 2^n = s·s with s = 2^(n/2) in range also where e^x is denormal or overflows.
    """
    ln2, ln2_rest = LN2[x.scalar]
    half, biased = round_scaled(x, 0.5 * LOG2_E, x.bias)
    r = half.fma(-2.0 * ln2_rest, half.fma(-2.0 * ln2, x))
    return power_of_two(biased, x), r


def _clamp(x: Num, limits: dict[str, tuple[float, float]]) -> Num:
    low, high = limits[x.scalar]
    return x.at_most(high).at_least(low)


def exp(x: Num) -> Num:
    s, r = _split(_clamp(x, EXP_RANGE))
    return horner(r, (1.0, 1.0, *EXP_TAIL[x.scalar])) * s * s


def exp_single(x: Num) -> Num:
    """e^x to 2^-28 of a double with |x| ≤ 700: what a result that is a float needs."""
    whole, biased = round_scaled(x, LOG2_E, x.bias)
    r = whole.fma(-LN2["double"][0], x)
    return horner(r, (1.0, 1.0, *EXP_TAIL_SHORT["float"])) * power_of_two(biased, x)


def exp_of_sum(x: Num, low: Num) -> Num:
    """e^(x + low) of doubles to 0.8 units in the last place, for a `low` of at most some units of x's last place.

    What rounding takes from r and from 1 + r is carried along, so that a result that is a double comes out exactly.
    """
    x = _clamp(x, EXP_RANGE)
    half, biased = round_scaled(x, 0.5 * LOG2_E, x.bias)
    s = power_of_two(biased, x)
    r, r_low = fast_two_sum(half.fma(-2.0 * LN2_HIGH, x), half.fma(-2.0 * LN2_LOW, low))
    power, power_low = fast_two_sum(x.of(1.0), r)
    tail = (r * r).fma(horner(r, EXP_TAIL[x.scalar]), r_low.fma(r, r_low))
    return (power + (power_low + tail)) * s * s


def half_exp(x: Num) -> Num:
    """e^x/2 for x ≥ 0, which overflows later than e^x."""
    s, r = _split(x.at_most(HALF_EXP_LIMIT[x.scalar]))
    return horner(r, (1.0, 1.0, *EXP_TAIL[x.scalar])) * s * (s * 0.5)


def exp2(x: Num) -> Num:
    """2^x; exact where x is an integer."""
    x = _clamp(x, EXP2_RANGE)
    half, biased = round_scaled(x, 0.5, x.bias)
    r = half.fma(-2.0, x)
    s = power_of_two(biased, x)
    return horner(r, (1.0, *EXP2_TAIL[x.scalar])) * s * s


def exp10(x: Num) -> Num:
    """10^x = s²·e^(r·ln10), with 2·log10(2)·n taken off x in two parts."""
    x = _clamp(x, EXP10_RANGE)
    first, second = LOG10_2[x.scalar]
    ln10, ln10_rest = LN10[x.scalar]
    half, biased = round_scaled(x, 0.5 * LOG2_TEN, x.bias)
    part = half.fma(-2.0 * second, half.fma(-2.0 * first, x))
    r = part.fma(ln10, part * ln10_rest)
    s = power_of_two(biased, x)
    return horner(r, (1.0, 1.0, *EXP_TAIL[x.scalar])) * s * s


def expm1(x: Num) -> Num:
    """e^x - 1 = s·(e^r - 1) + (s - 1) with s = 2^n, whose difference is exact where it matters.

    n stays where s is finite: r grows from ln2/2 to ln2 before e^x overflows, and makes the result infinite beyond.
    """
    clamped = x.at_least(EXPM1_LOW[x.scalar])
    magic = 1.5 * 2.0**x.significand_bits + x.bias
    shifted = clamped.fma(LOG2_E, magic).at_most(magic + x.bias)
    ln2, ln2_rest = LN2[x.scalar]
    n = shifted - magic
    r = n.fma(-ln2_rest, n.fma(-ln2, clamped))
    part = (r * r).fma(horner(r, EXPM1_TAIL[x.scalar]), r)
    s = power_of_two(shifted.bits(), x)
    return part.fma(s, s - 1.0).with_sign_of(x)


def exp_parts(x: Num, scale: float) -> tuple[Num, Num]:
    """(2^n, e^r) whose product is e^(scale·x). `scale` is a power of two and |scale·x| under 80 (double: 700)."""
    ln2, ln2_rest = LN2[x.scalar]
    n, biased = round_scaled(x, scale * LOG2_E, x.bias)
    r = n.fma(-ln2_rest, n.fma(-ln2, x * scale))
    return power_of_two(biased, x), horner(r, (1.0, 1.0, *EXP_TAIL_SHORT[x.scalar]))
