"""erf: for |x| < 1 an odd polynomial, above a polynomial centred in the range that is left."""

from __future__ import annotations

from tessera.compiler.llvm.mathlib.number import Num, horner

# erf(x)/x - 1 in x², minimax in error relative to erf(x)/x on 0 ≤ |x| ≤ 1.
ERF_SMALL = {
    # 2^-29
    "float": (
        0.12837916612625122,
        -0.3761262595653534,
        0.1128358244895935,
        -0.026853643357753754,
        0.005187962669879198,
        -0.0008006793214008212,
        7.842288323445246e-05,
    ),
}
# erf(x) in |x| - centre, minimax in absolute error on 1 ≤ |x| ≤ 2·centre - 1, where erf has become 1.
ERF_CENTRE = {"float": 2.46875}
ERF_LARGE = {
    # 2^-25.0
    "float": (
        0.999519407749176,
        0.002544066170230508,
        -0.006281965412199497,
        0.009491355158388615,
        -0.009611574001610279,
        0.0066431802697479725,
        -0.002933081239461899,
        0.0004883320652879775,
        0.0003664663527160883,
        -0.0002968603221233934,
        5.4504285799339414e-05,
        2.4428725737379864e-05,
        -9.19196736504091e-06,
    ),
}


def erf(x: Num) -> Num:
    size, centre = x.abs(), ERF_CENTRE[x.scalar]
    small = x.fma(horner(x * x, ERF_SMALL[x.scalar]), x)
    large = horner(size.at_most(2.0 * centre - 1.0) - centre, ERF_LARGE[x.scalar])
    return (size < 1.0).pick(small, large.with_sign_of(x))
