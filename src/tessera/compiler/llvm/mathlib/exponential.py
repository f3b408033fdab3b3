"""exp, exp2, expm1 and their like: x = n·ln2 + r, a polynomial for e^r, and 2^n by writing exponent bits."""

from __future__ import annotations

from tessera.compiler.llvm.mathlib.number import Num, horner

LOG2_E = 1.4426950408889634
# ln2 in two parts; n·high is exact inside the fused operation, low is what high leaves out.
LN2 = {
    "float": (0.693147182464599609375, -1.904654323148236017e-09),
    "double": (0.6931471805599453094, 2.319046813846299616e-17),
}
# (e^r - 1 - r)/r², minimax in error relative to e^r on [-ln2, ln2].
EXP_TAIL = {
    # 2^-26.0
    "float": (
        0.5000003576278687,
        0.1666661649942398,
        0.041661202907562256,
        0.008335973136126995,
        0.001410533906891942,
        0.0001962859241757542,
    ),
}
# The same on [-ln2/2, ln2/2].
EXP_TAIL_SHORT = {
    # 2^-28.1
    "float": (
        0.4999999403953552,
        0.16666515171527863,
        0.04166823998093605,
        0.0083693852648139,
        0.0013824423076584935,
    ),
}
# (2^r - 1)/r, relative to 2^r on [-1, 1].
EXP2_TAIL = {
    # 2^-26.1
    "float": (
        0.6931472420692444,
        0.24022670090198517,
        0.05550362914800644,
        0.009616803377866745,
        0.001334250788204372,
        0.00015647942200303078,
        1.4867086974845733e-05,
    ),
}
# Where e^x has surely become 0 or inf.
EXP_RANGE = {"float": (-104.0, 89.0), "double": (-746.0, 710.0)}
EXP2_RANGE = {"float": (-151.0, 129.0), "double": (-1076.0, 1025.0)}


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


def exp(x: Num) -> Num:
    """e^x. n is even, so that 2^n = s·s with s = 2^(n/2) in range also where e^x is denormal or overflows."""
    low, high = EXP_RANGE[x.scalar]
    ln2, ln2_rest = LN2[x.scalar]
    x = x.at_most(high).at_least(low)
    half, biased = round_scaled(x, 0.5 * LOG2_E, x.bias)
    r = half.fma(-2.0 * ln2_rest, half.fma(-2.0 * ln2, x))
    s = power_of_two(biased, x)
    return horner(r, (1.0, 1.0, *EXP_TAIL[x.scalar])) * s * s


def exp2(x: Num) -> Num:
    """2^x; exact where x is an integer."""
    low, high = EXP2_RANGE[x.scalar]
    x = x.at_most(high).at_least(low)
    half, biased = round_scaled(x, 0.5, x.bias)
    r = half.fma(-2.0, x)
    s = power_of_two(biased, x)
    return horner(r, (1.0, *EXP2_TAIL[x.scalar])) * s * s


def exp_parts(x: Num, scale: float) -> tuple[Num, Num]:
    """(2^n, e^r) whose product is e^(scale·x). `scale` is a power of two and |scale·x| under 80 (double: 700)."""
    ln2, ln2_rest = LN2[x.scalar]
    n, biased = round_scaled(x, scale * LOG2_E, x.bias)
    r = n.fma(-ln2_rest, n.fma(-ln2, x * scale))
    return power_of_two(biased, x), horner(r, (1.0, 1.0, *EXP_TAIL_SHORT[x.scalar]))
