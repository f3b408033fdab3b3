"""pow, roots, hypot."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.exponential import LN2_HIGH, LN2_LOW, exp_of_sum
from tessera.compiler.llvm.mathlib.logarithm import split
from tessera.compiler.llvm.mathlib.number import Num, fast_two_sum, horner, in_double, product, two_sum

# log2(1 + f)/f, relative, on [√½ - 1, √2 - 1].
# 2^-40.6
LOG2_QUICK = (
    1.4426950408893517,
    -0.7213475204247431,
    0.4808983465901938,
    -0.3606737659643721,
    0.2885390700475014,
    -0.24044872178441298,
    0.20609529467466886,
    -0.18035061261575927,
    0.16042473083313086,
    -0.14412221535917932,
    0.12914685445909066,
    -0.11966239916671094,
    0.12613928980776234,
    -0.12338809954433344,
    0.06302565725222416,
)
# 2^r, relative, on [-½, ½].
# 2^-34.5
EXP2_QUICK = (
    0.9999999999617168,
    0.6931471807294177,
    0.24022651197963493,
    0.05550410350137187,
    0.009618027275919544,
    0.0013333925355346042,
    0.00015469284757538306,
    1.5201254850546974e-05,
)
TWO_THIRDS, TWO_THIRDS_LOW = float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55")
# (log((1 + s)/(1 - s))/s - 2 - ⅔s²)/s⁴ in s².
# 2^-73.5
LOG_TAIL_LONG = (
    0.3999999999999998,
    0.2857142857144381,
    0.22222222217801466,
    0.1818181884235417,
    0.1538455854577901,
    0.13336259942878587,
    0.11675872340288787,
    0.11981005492061438,
)
# ∛m, relative, on [1, 2].
# 2^-13.7
CBRT_START = (
    0.5528387530108066,
    0.5870790669438648,
    -0.16294317004530787,
    0.023098530559930313,
)


def _log2_of_float(x: Num) -> Num:
    """log2 of a float x ≥ 0 in double, relative error 2^-40."""
    wide = x.cast("fpext", "double")
    e, m = split(wide)
    f = m - 1.0
    finite = f.fma(horner(f, LOG2_QUICK), e)
    return wide.equals(0.0).pick(wide.of(-math.inf), (wide < math.inf).pick(finite, wide))


def _exp2_to_float(z: Num) -> Num:
    """2^z of a double, rounded once to float."""
    z = z.at_most(130.0).at_least(-160.0)
    magic = 1.5 * 2.0**52 + 1023
    shifted = z + magic
    r = z - (shifted - magic)
    return (horner(r, EXP2_QUICK) * (shifted.bits() << 52).as_float()).cast("fptrunc", "float")


def _log_long(x: Num) -> tuple[Num, Num]:
    """log of a double x > 0 as high + low, relative error 2^-67: 2·atanh(s), s = f/(2 + f), as sums of two doubles."""
    e, m = split(x)
    f = m - 1.0
    below, below_low = two_sum(f, f.of(2.0))
    s = f / below
    s_low = ((-s).fma(below, f) - s * below_low) / below
    z, z_low = product(s, s)
    z_low = (s + s).fma(s_low, z_low)
    third = z * horner(z, LOG_TAIL_LONG)
    c, c_low = fast_two_sum(f.of(TWO_THIRDS), third)
    p, p_low = product(c, z)
    p_low = c.fma(z_low, (c_low + TWO_THIRDS_LOW).fma(z, p_low))
    w, w_low = fast_two_sum(f.of(2.0), p)
    log, log_low = product(s, w)
    log_low = s.fma(w_low + p_low, s_low.fma(w, log_low))
    high, low = two_sum(e * LN2_HIGH, log)
    return fast_two_sum(high, low + e.fma(LN2_LOW, log_low))


def _pow_of_double(size: Num, y: Num) -> Num:
    """size^y for size ≥ 0."""
    log, log_low = _log_long(size)
    exponent, low = product(y, log)
    finite = exp_of_sum(exponent, (exponent.abs() < 1000.0).pick(y.fma(log_low, low), 0.0))
    # log is ∓inf at the ends; y = 0 is the caller's.
    end = size.equals(0.0) ^ (y > 0.0)
    at_end = end.pick(y.of(math.inf), 0.0)
    inside = (size > 0.0) & (size < math.inf)
    return inside.pick(finite, size.compare("uno", y).pick(size + y, at_end))


def pow(x: Num, y: Num) -> Num:
    """x^y with IEEE 754's special cases: 1^y = x^0 = 1 even beside NaN, a negative x needs a whole y."""
    size = x.abs()
    if x.scalar == "float":
        magnitude = _exp2_to_float(y.cast("fpext", "double") * _log2_of_float(size))
    else:
        magnitude = _pow_of_double(size, y)
    half = y * 0.5
    whole = y.call("trunc").equals(y)
    odd = whole & half.call("trunc").compare("one", half)
    signed = odd.pick(magnitude.with_sign_of(x), magnitude)
    real = whole | x.compare("uge", 0.0) | x.equals(-math.inf)
    unit = y.equals(0.0) | x.equals(1.0) | (x.equals(-1.0) & y.abs().equals(math.inf))
    return unit.pick(x.of(1.0), real.pick(signed, math.nan))


def powi(x: Num, n: Num) -> Num:
    """x^n for an i32 n."""
    wide = x.cast("fpext", "double")
    return pow(wide, n.cast("sitofp", "double")).cast("fptrunc", x.scalar)


def sqrt(x: Num) -> Num:
    return x.call("sqrt")


def rsqrt(x: Num) -> Num:
    return 1.0 / x.call("sqrt")


@in_double
def cbrt(x: Num) -> Num:
    """x = m·2^(3k + j): ∛m from a cubic, then two steps of Halley's and Newton's iteration."""
    size = x.abs()
    denormal = size < 2.0**-1022
    raw = denormal.pick(size * 2.0**54, size).bits()
    # Biased by 3·1024, so that the exponent stays positive; 21846/65536 is a third for what 12 bits hold.
    e = raw.logical_shift_right(52).to_int("i32") + (3 * 1024 - 1023)
    e = denormal.pick(e - 54, e)
    k = (e * 21846).logical_shift_right(16)
    j = e - k * 3
    m = ((raw & ((1 << 52) - 1)) | (1023 << 52)).as_float()
    root = horner(m, CBRT_START)
    factor = j.equals(0).pick(m.of(1.0), j.equals(1).pick(m.of(2.0), 4.0))
    start = j.equals(0).pick(root, root * j.equals(1).pick(m.of(2.0 ** (1 / 3)), 2.0 ** (2 / 3)))
    m = m * factor
    cube = start * start * start
    y = start - start * (cube - m) / (cube + cube + m)
    square, square_low = product(y, y)
    residue = square.fma(y, -m) + square_low * y
    y = y - residue / (3.0 * square)
    scaled = y * ((k - 1024 + 1023).to_int("i64") << 52).as_float()
    special = size.equals(0.0) | (size < math.inf).negated()
    return special.pick(x + x, scaled.with_sign_of(x))


@in_double
def rcbrt(x: Num) -> Num:
    return 1.0 / cbrt(x)


def _norm(*components: Num) -> Num:
    """√(Σ components²) of doubles, scaled by the largest's exponent against overflow and underflow."""
    sizes = [component.abs() for component in components]
    largest = sizes[0]
    for size in sizes[1:]:
        largest = (size > largest).pick(size, largest)
    # 2^(exponent) of the largest, kept where its inverse is a normal number too.
    exponent = (largest.bits() & (0x7FF << 52)).at_least_int(1 << 53).at_most_int(0x7FC << 52)
    scale, inverse = exponent.as_float(), ((0x7FE << 52) - exponent).as_float()
    total, lost = product(sizes[0] * inverse, sizes[0] * inverse)
    for size in sizes[1:]:
        square, square_low = product(size * inverse, size * inverse)
        total, error = two_sum(total, square)
        lost = lost + (error + square_low)
    root = total.call("sqrt")
    residue = (-root).fma(root, total) + lost
    root = total.equals(0.0).pick(root, root + residue / (root + root))
    infinite = largest.equals(math.inf)
    for size in sizes:
        infinite = infinite | size.equals(math.inf)
    return infinite.pick(root.of(math.inf), root * scale)


@in_double
def hypot(x: Num, y: Num) -> Num:
    """√(x² + y²); infinite if either is, even beside NaN."""
    return _norm(x, y)


@in_double
def rhypot(x: Num, y: Num) -> Num:
    return 1.0 / _norm(x, y)


@in_double
def norm3d(x: Num, y: Num, z: Num) -> Num:
    return _norm(x, y, z)


@in_double
def rnorm3d(x: Num, y: Num, z: Num) -> Num:
    return 1.0 / _norm(x, y, z)


@in_double
def norm4d(x: Num, y: Num, z: Num, w: Num) -> Num:
    return _norm(x, y, z, w)


@in_double
def rnorm4d(x: Num, y: Num, z: Num, w: Num) -> Num:
    return 1.0 / _norm(x, y, z, w)
