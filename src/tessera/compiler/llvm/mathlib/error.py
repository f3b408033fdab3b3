"""erf, erfc and the normal distribution."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import exp_of_sum
from tessera.compiler.llvm.mathlib.number import Num, horner, in_double

# erf(x)/x - 1 in x², relative to erf(x)/x on 0 ≤ |x| ≤ 1.
ERF_SMALL = {
    # 2^-29.3
    "float": (
        0.12837916612625122,
        -0.3761262595653534,
        0.1128358244895935,
        -0.026853643357753754,
        0.005187962669879198,
        -0.0008006793214008212,
        7.842288323445246e-05,
    ),
    # 2^-56.5
    "double": (
        0.1283791670955126,
        -0.37612638903184037,
        0.11283791670966983,
        -0.026866170647154745,
        0.005223977643619076,
        -0.0008548327996061417,
        0.00012055366134904203,
        -1.4926395242169672e-05,
        1.6473245729106316e-06,
        -1.6474579215221955e-07,
        1.5461997297975916e-08,
        -1.4355779866802947e-09,
        1.082076913431064e-10,
    ),
}
# erf(x) in |x| - centre, absolute error on 1 ≤ |x| ≤ 3.93. It rounds to 1 where it is cut off, though not beyond.
ERF_CENTRE, ERF_ONE = 2.46875, 3.9
# 2^-25.0
ERF_LARGE = (
    0.999519407749176,
    0.002544068032875657,
    -0.006281962618231773,
    0.009491343051195145,
    -0.009611591696739197,
    0.006643205881118774,
    -0.0029330444522202015,
    0.0004883082583546638,
    0.0003664327959995717,
    -0.00029685022309422493,
    5.45182338100858e-05,
    2.4427126845694147e-05,
    -9.194131052936427e-06,
)
# (1 + 2x)·e^(x²)·erfc(x) in t = (x - 4)/(x + 4), relative, for all x ≥ 0.
# 2^-54.6
ERFCX = (
    1.2329951186255526,
    -0.13962111684056253,
    0.015379652102615037,
    0.06809705425468214,
    -0.10103906603616221,
    0.09373283499884003,
    -0.06633036581414066,
    0.03716751552903604,
    -0.016197734044288845,
    0.0050319700535743596,
    -0.0007577733377170148,
    -0.00019925709624095126,
    0.00015062173603464069,
    -2.4397864624298282e-05,
    -1.122182074689048e-05,
    5.706789131805235e-06,
    2.9275848934350855e-07,
    -8.212843996239303e-07,
    7.66976035467804e-08,
    1.0646309528310866e-07,
    -2.007426555509945e-08,
    -1.2393635951952094e-08,
    2.992297870905117e-09,
    9.388599900162863e-10,
    -2.375155303652976e-10,
)
# From here on erfc rounds to 0.
ERFC_ZERO = 28.0


def _scaled_erfc(x: Num) -> Num:
    """e^(x²)·erfc(x) of a double x ≥ 0. At infinity t is 1, whatever the quotient says."""
    t = 1.0 - 8.0 / (x + 4.0)
    return horner(t, ERFCX) / x.fma(2.0, 1.0)


def _erfc_positive(x: Num, low: Num | float = 0.0) -> Num:
    """erfc(x + low) of a double x ≥ 0; `low` is under a unit in the last place of x."""
    x = x.at_most(ERFC_ZERO)
    square = x * x
    lost = x.fma(x, -square) + (x + x) * low
    return exp_of_sum(-square, -lost) * _scaled_erfc(x)


def _erf_large(size: Num) -> Num:
    """erf of a float ≥ 1."""
    return horner(size.at_most(ERF_ONE) - ERF_CENTRE, ERF_LARGE)


def erf(x: Num) -> Num:
    """For |x| < 1 an odd polynomial, above one in |x| (float) or 1 - erfc (double)."""
    size = x.abs()
    small = x.fma(horner(x * x, ERF_SMALL[x.scalar]), x)
    large = _erf_large(size) if x.scalar == "float" else 1.0 - _erfc_positive(size)
    return (size < 1.0).pick(small, large.with_sign_of(x))


def _erfc(x: Num, low: Num | float = 0.0) -> Num:
    """erfc(x) of a double; `low` adds to |x|."""
    size = x.abs()
    tail = _erfc_positive(size, low)
    near = 1.0 - x.fma(horner(x * x, ERF_SMALL["double"]), x)
    return (size < 0.5).pick(near, (x < 0.0).pick(2.0 - tail, tail))


@in_double
def erfc(x: Num) -> Num:
    return _erfc(x)


@in_double
def erfcx(x: Num) -> Num:
    """e^(x²)·erfc(x)."""
    size = x.abs()
    positive = _scaled_erfc(size)
    bounded = size.at_most(ERFC_ZERO)
    square = bounded * bounded
    negative = 2.0 * exp_of_sum(square, bounded.fma(bounded, -square)) - positive
    return (x < 0.0).pick(negative, positive)


@in_double
def normcdf(x: Num) -> Num:
    """Φ(x) = erfc(-x/√2)/2."""
    root_half, root_half_low = math.sqrt(0.5), -4.8336466567264567e-17
    size = x.abs().at_most(2.0 * ERFC_ZERO)
    scaled = size * root_half
    low = size.fma(root_half, -scaled) + size * root_half_low
    return 0.5 * _erfc((-scaled).with_sign_of(-x), low)
