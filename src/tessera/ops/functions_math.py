"""Scalar functions of one or two numbers: powers, logarithms, circles, rounding, remainders.

In:  values of one compute type (float32 for the half types, or an integer where PyTorch defines the function for it).
Out: one value of that type, or a 1-bit integer from a question.
Sources: the formulas on PyTorch's operator pages; erfinv: the polynomials of
M. Giles, "Approximating the erfinv function", GPU Computing Gems, 2011, with Newton's method for float64, and fits of
that form for the others.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def acos(x):
    return libdevice.acos(x)


@triton.jit
def acosh(x):
    return libdevice.acosh(x)


@triton.jit
def asin(x):
    return libdevice.asin(x)


@triton.jit
def asinh(x):
    return libdevice.asinh(x)


@triton.jit
def atan(x):
    return libdevice.atan(x)


@triton.jit
def atanh(x):
    return libdevice.atanh(x)


@triton.jit
def tan(x):
    return libdevice.tan(x)


@triton.jit
def sinh(x):
    return libdevice.sinh(x)


@triton.jit
def cosh(x):
    return libdevice.cosh(x)


@triton.jit
def exp2(x):
    return tl.exp2(x)


@triton.jit
def expm1(x):
    """exp(x) - 1."""
    return libdevice.expm1(x)


@triton.jit
def log2(x):
    return tl.log2(x)


@triton.jit
def log10(x):
    return libdevice.log10(x)


@triton.jit
def log1p(x):
    """log(1 + x)."""
    return libdevice.log1p(x)


@triton.jit
def erfc(x):
    """1 - erf(x)."""
    return libdevice.erfc(x)


@triton.jit
def special_erfcx(x):
    """exp(x²) · erfc(x)."""
    return libdevice.erfcx(x)


@triton.jit
def lgamma(x):
    """log |Γ(x)|."""
    return libdevice.lgamma(x)


@triton.jit
def i0(x):
    """The modified Bessel function of order 0."""
    return libdevice.cyl_bessel_i0(x)


@triton.jit
def trunc(x):
    """Rounded towards 0."""
    return libdevice.trunc(x)


@triton.jit
def round_(x):
    """Rounded half to even."""
    return libdevice.rint(x)


@triton.jit
def frac(x):
    """x minus its whole part, with the sign of x."""
    return x - libdevice.trunc(x)


@triton.jit
def scaled_round(x, ten):
    return libdevice.rint(x * ten) / ten


@triton.jit
def coarse_round(x, ten):
    return libdevice.rint(x / ten) * ten


@triton.jit
def isinf(x):
    """Whether x is ∞ or -∞."""
    return tl.abs(x) == float("inf")


@triton.jit
def isposinf(x):
    """Whether x is ∞."""
    return x == float("inf")


@triton.jit
def isneginf(x):
    """Whether x is -∞."""
    return x == -float("inf")


@triton.jit
def signbit(x):
    """Whether the sign bit is set, of -0 as well."""
    return libdevice.signbit(x) != 0


@triton.jit
def is_negative(x):
    return x < 0


@triton.jit
def never(x):
    return x != x


@triton.jit
def sinc(x):
    """sin(πx) / (πx); 1 at 0."""
    product = 3.141592653589793 * x
    return tl.where(x == 0, 1.0, tl.sin(product) / tl.where(x == 0, 1.0, product)).to(x.dtype)


@triton.jit
def deg2rad(x):
    """x · π / 180."""
    return x * 0.017453292519943295


@triton.jit
def rad2deg(x):
    """x · 180 / π."""
    return x * 57.29577951308232


@triton.jit
def angle(x):
    # A choice between two plain numbers would be one in float32.
    turned = tl.where(x < 0, tl.full([], 3.141592653589793, x.dtype), 0.0)
    return tl.where(x != x, x, turned.to(x.dtype))


@triton.jit
def special_entr(x):
    """-x · log x; 0 at 0, -∞ below."""
    inside = -x * tl.log(tl.where(x > 0, x, 1.0))
    return tl.where(x != x, x, tl.where(x >= 0, inside, -float("inf"))).to(x.dtype)


@triton.jit
def special_log_ndtr(x):
    """log Φ(x), the area below x under the normal density."""
    t = x * 0.7071067811865476
    left = tl.log(libdevice.erfcx(-t) * 0.5) - t * t
    return tl.where(x < -1.0, left, libdevice.log1p(-0.5 * libdevice.erfc(t)))


@triton.jit
def _erf_less(y, size):
    """erf(y) - size of numbers that are not negative, without cancellation near 1."""
    return tl.where(size > 0.5, (1.0 - size) - libdevice.erfc(y), tl.erf(y) - size)


@triton.jit
def _erfinv_near(size):
    """erfinv to 2^-21 of what is neither negative nor 1: size · a polynomial in the logarithm of what is left to 1."""
    w = -tl.log((1.0 - size) * (1.0 + size))
    t = w - 2.5
    near = 2.81022636e-08 * t + 3.43273939e-07
    near = ((near * t - 3.5233877e-06) * t - 4.39150654e-06) * t + 0.00021858087
    near = ((near * t - 0.00125372503) * t - 0.00417768164) * t + 0.246640727
    near = near * t + 1.50140941
    t = tl.sqrt(w) - 3.0
    far = -0.000200214257 * t + 0.000100950558
    far = ((far * t + 0.00134934322) * t - 0.00367342844) * t + 0.00573950773
    far = ((far * t - 0.0076224613) * t + 0.00943887047) * t + 1.00167406
    far = far * t + 2.83297682
    return size * tl.where(w < 5.0, near, far)


@triton.jit
def _erfinv_single(size):
    """The same to 2^-26, for the roundings of float32: minimax fits in the logarithm up to 5, in its root beyond."""
    w = -tl.log((1.0 - size) * (1.0 + size))
    t = w - 2.5
    near = tl.fma(t, -8.94141383e-09, 2.32647999e-08)
    near = tl.fma(near, t, 4.68266961e-07)
    near = tl.fma(near, t, -3.46309298e-06)
    near = tl.fma(near, t, -4.97306974e-06)
    near = tl.fma(near, t, 0.000218345886)
    near = tl.fma(near, t, -0.00125272526)
    near = tl.fma(near, t, -0.00417738827)
    near = tl.fma(near, t, 0.24664028)
    near = tl.fma(near, t, 1.50140941)
    t = tl.sqrt(w) - 3.158034
    far = tl.fma(t, 0.000118187454, -0.00014473898)
    far = tl.fma(far, t, -0.000348592468)
    far = tl.fma(far, t, 0.00124382682)
    far = tl.fma(far, t, -0.00227568881)
    far = tl.fma(far, t, 0.00338095054)
    far = tl.fma(far, t, -0.00482693966)
    far = tl.fma(far, t, 0.00654827617)
    far = tl.fma(far, t, 1.00416756)
    far = tl.fma(far, t, 2.9914844)
    return size * tl.where(w < 5.0, near, far)


@triton.jit
def erfinv(x):
    """The y with erf(y) = x, for |x| < 1."""
    size = tl.abs(x)
    if x.dtype == tl.float64:
        y = _erfinv_near(size)
        for _ in tl.static_range(2):
            y = y - _erf_less(y, size) * 0.886226925452758 * tl.exp(y * y)
    else:
        y = _erfinv_single(size)
    y = tl.where(x < 0, -y, y)
    return tl.where(size < 1, y, tl.where(size == 1, x * float("inf"), float("nan"))).to(x.dtype)


@triton.jit
def logit(x):
    return tl.log(x / (1.0 - x))


@triton.jit
def logit_clamped(x, eps):
    low = tl.where(x < eps, eps, x)
    return logit(tl.where(low > 1.0 - eps, 1.0 - eps, low))


@triton.jit
def logit_backward(grad, x):
    inside = grad / (x * (1.0 - x))
    return tl.where((x < 0.0) | (x > 1.0), float("nan"), inside).to(x.dtype)


@triton.jit
def logit_clamped_backward(grad, x, eps):
    inside = grad / (x * (1.0 - x))
    return tl.where((x < eps) | (x > 1.0 - eps), 0.0, inside).to(x.dtype)


@triton.jit
def nan_to_num(x, nan, posinf, neginf):
    kept = tl.where(x == float("inf"), posinf, tl.where(x == -float("inf"), neginf, x))
    return tl.where(x != x, nan, kept).to(x.dtype)


@triton.jit
def power(x, y):
    return libdevice.pow(x, y)


@triton.jit
def atan2(x, y):
    """The angle of the point (y, x): first operand the ordinate."""
    return libdevice.atan2(x, y)


@triton.jit
def hypot(x, y):
    """sqrt(x² + y²)."""
    return libdevice.hypot(x, y)


@triton.jit
def copysign(x, y):
    return libdevice.copysign(x, y)


@triton.jit
def nextafter(x, y):
    return libdevice.nextafter(x, y)


@triton.jit
def fmod(x, y):
    """x minus a whole multiple of y, with the sign of x."""
    return libdevice.fmod(x, y)


@triton.jit
def remainder(x, y):
    """x - ⌊x / y⌋ · y, with the sign of y."""
    rest = libdevice.fmod(x, y)
    return tl.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


@triton.jit
def trunc_divide(x, y):
    return libdevice.trunc(x / y)


@triton.jit
def floor_divide(x, y):
    """⌊x / y⌋."""
    # (x - rest) / y is a whole number up to rounding, which x / y need not be.
    rest = libdevice.fmod(x, y)
    quotient = (x - rest) / y
    quotient = tl.where((rest != 0) & ((y < 0) != (rest < 0)), quotient - 1, quotient)
    whole = tl.floor(quotient)
    whole = tl.where(quotient - whole > 0.5, whole + 1, whole)
    result = tl.where(quotient != 0, whole, libdevice.copysign(tl.zeros_like(x), x / y))
    return tl.where(y == 0, x / y, result)


@triton.jit
def fmax(x, y):
    """The larger; where one is NaN the other."""
    return tl.where((x >= y) | (y != y), x, y)


@triton.jit
def fmin(x, y):
    """The smaller; where one is NaN the other."""
    return tl.where((x <= y) | (y != y), x, y)


@triton.jit
def _of_finite(x, y, total):
    """`total`, but for two equal infinities, which are their own, and for NaN."""
    return tl.where((x == y) & (tl.abs(x) == float("inf")), x, tl.where((x != x) | (y != y), x + y, total))


@triton.jit
def logaddexp(x, y):
    """log(exp x + exp y)."""
    top = tl.where(x > y, x, y)
    total = top + libdevice.log1p(tl.exp(-tl.abs(x - y)))
    return _of_finite(x, y, total)


@triton.jit
def logaddexp2(x, y):
    """log2(2^x + 2^y)."""
    top = tl.where(x > y, x, y)
    total = top + libdevice.log1p(tl.exp2(-tl.abs(x - y))) * 1.4426950408889634
    return _of_finite(x, y, total)


@triton.jit
def xlogy(x, y):
    """x · log y; 0 where x is 0."""
    return tl.where(y != y, y, tl.where(x == 0, 0.0, x * tl.log(y))).to(x.dtype)


@triton.jit
def special_xlog1py(x, y):
    """x · log(1 + y); 0 where x is 0."""
    return tl.where(y != y, y, tl.where(x == 0, 0.0, x * libdevice.log1p(y))).to(x.dtype)


@triton.jit
def heaviside(x, values):
    return tl.where(x == 0, values, (x > 0).to(x.dtype))


@triton.jit
def difference_of_products(a, b, c, d):
    return a * b - c * d


@triton.jit
def reversed_sub(x, y):
    return y - x


@triton.jit
def reversed_sub_scaled(x, y, alpha):
    return y - alpha * x


@triton.jit
def lerp(x, end, weight):
    """x + weight · (end - x), from whichever end is nearer."""
    step = end - x
    return tl.where(tl.abs(weight) < 0.5, x + weight * step, end - step * (1.0 - weight))


@triton.jit
def addcmul(x, first, second, value):
    return x + value * first * second


@triton.jit
def addcdiv(x, first, second, value):
    return x + value * first / second
