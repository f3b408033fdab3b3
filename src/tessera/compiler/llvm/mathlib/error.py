"""erf, erfc and the normal distribution."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import exp_of_sum, exp_single
from tessera.compiler.llvm.mathlib.lookup import is_zeroth, looked_up, near_multiple, polynomial_at
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
# erf(x) on 0 ≤ x ≤ 3.98 by a polynomial around each multiple of a step: a row holds one coefficient of all sixteen.
# The step is one for which the constant terms lie close to floats; the first polynomial, around 0, is erf(x) - x.
# 0.38 units in the last place
ERF_STEP, ERF_END = 0.2570979595184326, 3.98
ERF_TABLE = (
    (
        0.0, 0.28383687138557434, 0.5328860282897949, 0.7246277928352356,
        0.8541550636291504, 0.9309293031692505, 0.9708571434020996, 0.9890766143798828,
        0.9963710308074951, 0.9989333152770996, 0.9997230172157288, 0.9999365210533142,
        0.9999871850013733, 0.9999977350234985, 0.9999996423721313, 0.9999999403953552,
    ),
    (
        0.12837916612625122, 1.0562056303024292, 0.866221010684967, 0.6224375367164612,
        0.3918769061565399, 0.21616747975349426, 0.10447632521390915, 0.04424174502491951,
        0.016414718702435493, 0.005336069036275148, 0.0015198346227407455, 0.00037927835364826024,
        8.292904385598376e-05, 1.588701161381323e-05, 2.6666418762033572e-06, 3.921698805697815e-07,
    ),
    (
        2.268140377736927e-07, -0.2715419828891754, -0.4453997313976288, -0.4800785481929779,
        -0.40300413966178894, -0.27788445353507996, -0.16116663813591003, -0.0796223059296608,
        -0.03376141935586929, -0.012346560135483742, -0.003907079808413982, -0.0010724248131737113,
        -0.0002557684201747179, -5.307210813043639e-05, -9.591134585207328e-06, -1.510807805971126e-06,
    ),
    (
        -0.37613990902900696, -0.3055231273174286, -0.13605691492557526, 0.03937429189682007,
        0.1456688791513443, 0.16608606278896332, 0.13091503083705902, 0.08078242838382721,
        0.04082227498292923, 0.017267726361751556, 0.006190628744661808, 0.0018958026776090264,
        0.0004985394771210849, 0.00011299976176815107, 2.2137266569188796e-05, 3.756203568627825e-06,
    ),
    (
        0.00026586774038150907, 0.1287713646888733, 0.18222759664058685, 0.14424511790275574,
        0.05961471423506737, -0.013581178151071072, -0.04681152105331421, -0.045978397130966187,
        -0.030744705349206924, -0.015938449651002884, -0.00671752542257309, -0.0023561441339552402,
        -0.0006970635149627924, -0.0001754487311700359, -3.779059261432849e-05, -6.995255262154387e-06,
    ),
    (
        0.1110437735915184, 0.07792425900697708, 0.003246093401685357, -0.0560360848903656,
        -0.067801833152771, -0.042511947453022, -0.010252129286527634, 0.008847075514495373,
        0.012966782785952091, 0.009495357051491737, 0.005003360565751791, 0.0020737508311867714,
        0.0007018474861979485, 0.00019785187032539397, 4.701937723439187e-05, 9.495368431089446e-06,
    ),
)
# (1 + 2x)·e^(x²)·erfc(x) in t = (x - 4)/(x + 4), relative, for all x ≥ 0.
# 2^-28.7, to be evaluated in double for a result that is a float
ERFCX_SINGLE = (
    1.2329951166781645,
    -0.1396210908228844,
    0.01537982639082861,
    0.0680962635063917,
    -0.10104163737577661,
    0.09373970293188885,
    -0.06631599565082859,
    0.03714161783698141,
    -0.01623638520176866,
    0.005081102680090704,
    -0.0007037246368019784,
    -0.00024801022777957944,
    0.00011238348610402166,
)
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
# From here on erfc rounds to 0, in double and in float.
ERFC_ZERO, ERFC_ZERO_SINGLE = 28.0, 10.5


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


def _erf_looked_up(x: Num) -> Num:
    size = x.abs().at_most(ERF_END)
    index, rest = near_multiple(size, ERF_STEP)
    constants, *slopes = ERF_TABLE
    start = is_zeroth(index).pick(rest, looked_up(constants, index))
    return rest.fma(polynomial_at(index, rest, slopes), start).with_sign_of(x)


def erf(x: Num) -> Num:
    """For |x| < 1 an odd polynomial, above one in |x| (float) or 1 - erfc (double); by a table where a register is one.
    """
    if x.scalar == "float" and x.b.permute:
        return _erf_looked_up(x)
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


def _erfc_single(x: Num) -> Num:
    """erfc(x) of a double to what a float needs: the same by shorter polynomials, and one division instead of two."""
    size = x.abs().at_most(ERFC_ZERO_SINGLE)
    above, below = size + 4.0, size.fma(2.0, 1.0)
    inverse = 1.0 / (above * below)
    scaled = horner(1.0 - 8.0 * below * inverse, ERFCX_SINGLE) * (above * inverse)
    tail = exp_single(-(size * size)) * scaled
    near = 1.0 - x.fma(horner(x * x, ERF_SMALL["float"]), x)
    return (size < 0.5).pick(near, (x < 0.0).pick(2.0 - tail, tail))


def erfc(x: Num) -> Num:
    """1 - erf(x)."""
    if x.scalar == "double":
        return _erfc(x)
    return _erfc_single(x.cast("fpext", "double")).cast("fptrunc", "float")


@in_double
def erfcx(x: Num) -> Num:
    """e^(x²)·erfc(x)."""
    size = x.abs()
    positive = _scaled_erfc(size)
    bounded = size.at_most(ERFC_ZERO)
    square = bounded * bounded
    negative = 2.0 * exp_of_sum(square, bounded.fma(bounded, -square)) - positive
    return (x < 0.0).pick(negative, positive)


def normcdf(x: Num) -> Num:
    """Φ(x) = erfc(-x/√2)/2."""
    if x.scalar == "float":
        return (0.5 * _erfc_single(x.cast("fpext", "double") * -math.sqrt(0.5))).cast("fptrunc", "float")
    root_half, root_half_low = math.sqrt(0.5), -4.8336466567264567e-17
    size = x.abs().at_most(2.0 * ERFC_ZERO)
    scaled = size * root_half
    low = size.fma(root_half, -scaled) + size * root_half_low
    return 0.5 * _erfc((-scaled).with_sign_of(-x), low)
