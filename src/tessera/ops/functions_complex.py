"""Scalar functions of complex numbers, given as real and imaginary parts: one function for each part of the result.

In:  the parts of one or two numbers, in order: a + bi, c + di, in float32 or float64.
Out: the real part, the imaginary part, or a 1-bit integer from a question.
All but sums and single products is computed in float64, because parts cancel; quotients are scaled there by the larger
part of the divisor, whose square may overflow.
Sources: the formulas on PyTorch's operator pages; R. L. Smith, Algorithm 116: Complex division, 1962; W. Kahan, Branch
Cuts for Complex Elementary Functions, 1987.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def product_real(a, b, c, d):
    return a * c - b * d


@triton.jit
def product_imaginary(a, b, c, d):
    return a * d + b * c


@triton.jit
def square_real(a, b):
    return a * a - b * b


@triton.jit
def square_imaginary(a, b):
    return a * b + b * a


@triton.jit
def scale_of(c, d):
    c, d = tl.abs(c), tl.abs(d)
    return 1.0 / tl.where(c > d, c, d)


@triton.jit
def quotient_real(a, b, c, d):
    if a.dtype == tl.float64:
        s = scale_of(c, d)
        c, d = c * s, d * s
        result = (a * s * c + b * s * d) / (c * c + d * d)
    else:
        a, b, c, d = a.to(tl.float64), b.to(tl.float64), c.to(tl.float64), d.to(tl.float64)
        result = ((a * c + b * d) / (c * c + d * d)).to(tl.float32)
    return result


@triton.jit
def quotient_imaginary(a, b, c, d):
    return quotient_real(b, -a, c, d)


@triton.jit
def reciprocal_real(a, b):
    x, y = a.to(tl.float64), b.to(tl.float64)
    s = scale_of(x, y)
    x, y = x * s, y * s
    return (s * x / (x * x + y * y)).to(a.dtype)


@triton.jit
def reciprocal_imaginary(a, b):
    x, y = a.to(tl.float64), b.to(tl.float64)
    s = scale_of(x, y)
    x, y = x * s, y * s
    return (-s * y / (x * x + y * y)).to(a.dtype)


@triton.jit
def size(a, b):
    return libdevice.hypot(a, b)


@triton.jit
def angle(a, b):
    return libdevice.atan2(b, a)


@triton.jit
def sign_real(a, b):
    length = size(a, b)
    return tl.where(length == 0, 0.0, a / length).to(a.dtype)


@triton.jit
def sign_imaginary(a, b):
    return sign_real(b, a)


@triton.jit
def exp_real(a, b):
    length = tl.exp(a.to(tl.float64))
    return tl.where(b == 0, length, length * tl.cos(b.to(tl.float64))).to(a.dtype)


@triton.jit
def exp_imaginary(a, b):
    return tl.where(b == 0, b, tl.exp(a.to(tl.float64)) * tl.sin(b.to(tl.float64))).to(a.dtype)


@triton.jit
def log_real(a, b):
    return tl.log(libdevice.hypot(a.to(tl.float64), b.to(tl.float64))).to(a.dtype)


@triton.jit
def sin_real(a, b):
    return (tl.sin(a.to(tl.float64)) * libdevice.cosh(b.to(tl.float64))).to(a.dtype)


@triton.jit
def sin_imaginary(a, b):
    return (tl.cos(a.to(tl.float64)) * libdevice.sinh(b.to(tl.float64))).to(a.dtype)


@triton.jit
def cos_real(a, b):
    return (tl.cos(a.to(tl.float64)) * libdevice.cosh(b.to(tl.float64))).to(a.dtype)


@triton.jit
def cos_imaginary(a, b):
    return (-tl.sin(a.to(tl.float64)) * libdevice.sinh(b.to(tl.float64))).to(a.dtype)


@triton.jit
def polar_real(length, turn):
    return length * tl.cos(turn)


@triton.jit
def polar_imaginary(length, turn):
    return length * tl.sin(turn)


@triton.jit
def equal(a, b, c, d):
    return (a == c) & (b == d)


@triton.jit
def different(a, b, c, d):
    return (a != c) | (b != d)


@triton.jit
def is_nan(a, b):
    return (a != a) | (b != b)


@triton.jit
def is_zero(a, b):
    return (a == 0) & (b == 0)


@triton.jit
def is_infinite(a, b):
    return (tl.abs(a) == float("inf")) | (tl.abs(b) == float("inf"))


@triton.jit
def both(a, b, c, d):
    return ((a != 0) | (b != 0)) & ((c != 0) | (d != 0))


@triton.jit
def either(a, b, c, d):
    return (a != 0) | (b != 0) | (c != 0) | (d != 0)


@triton.jit
def one_of_two(a, b, c, d):
    return ((a != 0) | (b != 0)) != ((c != 0) | (d != 0))


@triton.jit
def exp2_real(a, b):
    return exp_real(a.to(tl.float64) * 0.6931471805599453, b.to(tl.float64) * 0.6931471805599453).to(a.dtype)


@triton.jit
def exp2_imaginary(a, b):
    return exp_imaginary(a.to(tl.float64) * 0.6931471805599453, b.to(tl.float64) * 0.6931471805599453).to(a.dtype)


@triton.jit
def expm1_real(a, b):
    """(e^a - 1) cos b - 2 sin² (b / 2)."""
    x, y = a.to(tl.float64), b.to(tl.float64)
    half = tl.sin(y * 0.5)
    return (libdevice.expm1(x) * tl.cos(y) - 2.0 * half * half).to(a.dtype)


@triton.jit
def expm1_imaginary(a, b):
    return exp_imaginary(a, b)


@triton.jit
def log2_real(a, b):
    return (log_real(a.to(tl.float64), b.to(tl.float64)) * 1.4426950408889634).to(a.dtype)


@triton.jit
def log2_imaginary(a, b):
    return (angle(a.to(tl.float64), b.to(tl.float64)) * 1.4426950408889634).to(a.dtype)


@triton.jit
def log10_real(a, b):
    return (log_real(a.to(tl.float64), b.to(tl.float64)) * 0.4342944819032518).to(a.dtype)


@triton.jit
def log10_imaginary(a, b):
    return (angle(a.to(tl.float64), b.to(tl.float64)) * 0.4342944819032518).to(a.dtype)


@triton.jit
def log1p_real(a, b):
    """log |1 + z|; near 0 half of log1p(a (2 + a) + b²)."""
    x, y = a.to(tl.float64), b.to(tl.float64)
    small = (tl.abs(x) < 0.5) & (tl.abs(y) < 0.5)
    near = 0.5 * libdevice.log1p(tl.where(small, x * (2.0 + x) + y * y, 0.0))
    return tl.where(small, near, log_real(1.0 + x, y)).to(a.dtype)


@triton.jit
def log1p_imaginary(a, b):
    return angle(1.0 + a.to(tl.float64), b.to(tl.float64)).to(a.dtype)


@triton.jit
def sinh_real(a, b):
    return (libdevice.sinh(a.to(tl.float64)) * tl.cos(b.to(tl.float64))).to(a.dtype)


@triton.jit
def sinh_imaginary(a, b):
    return (libdevice.cosh(a.to(tl.float64)) * tl.sin(b.to(tl.float64))).to(a.dtype)


@triton.jit
def cosh_real(a, b):
    return (libdevice.cosh(a.to(tl.float64)) * tl.cos(b.to(tl.float64))).to(a.dtype)


@triton.jit
def cosh_imaginary(a, b):
    return (libdevice.sinh(a.to(tl.float64)) * tl.sin(b.to(tl.float64))).to(a.dtype)


@triton.jit
def tanh_terms(a, b):
    """(sinh a, tan b) in float64; from 300 on a changes no part, and its square would overflow."""
    return libdevice.sinh(tl.minimum(tl.maximum(a.to(tl.float64), -300.0), 300.0)), libdevice.tan(b.to(tl.float64))


@triton.jit
def tanh_real(a, b):
    """(1 + t²) s sqrt(1 + s²) / (1 + (1 + t²) s²) of s = sinh a, t = tan b."""
    s, t = tanh_terms(a, b)
    scale = 1.0 + t * t
    return (scale * s * tl.sqrt(1.0 + s * s) / (1.0 + scale * s * s)).to(a.dtype)


@triton.jit
def tanh_imaginary(a, b):
    """t / (1 + (1 + t²) s²)."""
    s, t = tanh_terms(a, b)
    return (t / (1.0 + (1.0 + t * t) * s * s)).to(a.dtype)


@triton.jit
def tan_real(a, b):
    """tan z = -i tanh iz."""
    return tanh_imaginary(-b, a)


@triton.jit
def tan_imaginary(a, b):
    return tanh_real(b, a)


@triton.jit
def tanh_backward_real(a, b, c, d):
    """g · conj(1 - y²) of g = a + bi, y = c + di."""
    return a * (1.0 - c * c + d * d) - b * (2.0 * c * d)


@triton.jit
def tanh_backward_imaginary(a, b, c, d):
    return a * (2.0 * c * d) + b * (1.0 - c * c + d * d)


@triton.jit
def sigmoid_terms(a, b):
    """e^-|a| · (cos b, sin b) and |1 + that|², in float64."""
    small = tl.exp(-tl.abs(a.to(tl.float64)))
    x, y = small * tl.cos(b.to(tl.float64)), small * tl.sin(b.to(tl.float64))
    return small, x, y, (1.0 + x) * (1.0 + x) + y * y


@triton.jit
def sigmoid_real(a, b):
    small, x, _, size_squared = sigmoid_terms(a, b)
    return (tl.where(a >= 0, 1.0 + x, x + small * small) / size_squared).to(a.dtype)


@triton.jit
def sigmoid_imaginary(a, b):
    _, _, y, size_squared = sigmoid_terms(a, b)
    return (y / size_squared).to(a.dtype)


@triton.jit
def sigmoid_backward_real(a, b, c, d):
    """g · conj(y - y²) of g = a + bi, y = c + di."""
    return a * (c - c * c + d * d) - b * (2.0 * c * d - d)


@triton.jit
def sigmoid_backward_imaginary(a, b, c, d):
    return a * (2.0 * c * d - d) + b * (c - c * c + d * d)


@triton.jit
def root(a, b):
    """Both parts of the root, in float64: sqrt((|z| + |a|) / 2), and |b| through twice that."""
    a, b = a.to(tl.float64), b.to(tl.float64)
    large = tl.sqrt(libdevice.hypot(a, b) * 0.5 + tl.abs(a) * 0.5)
    small = tl.where(large == 0, 0.0, tl.abs(b) * 0.5 / large)
    endless = tl.abs(b) == float("inf")
    real = tl.where(endless, float("inf"), tl.where(a >= 0, large, small))
    imaginary = tl.where(endless, float("inf"), tl.where(a >= 0, small, large))
    return tl.where(a != a, a, real), libdevice.copysign(imaginary, b)


@triton.jit
def sqrt_real(a, b):
    real, _ = root(a, b)
    return real.to(a.dtype)


@triton.jit
def sqrt_imaginary(a, b):
    _, imaginary = root(a, b)
    return imaginary.to(a.dtype)


@triton.jit
def rsqrt_real(a, b):
    real, _ = root(a, b)
    return (real / libdevice.hypot(a.to(tl.float64), b.to(tl.float64))).to(a.dtype)


@triton.jit
def rsqrt_imaginary(a, b):
    _, imaginary = root(a, b)
    return (-imaginary / libdevice.hypot(a.to(tl.float64), b.to(tl.float64))).to(a.dtype)


@triton.jit
def asin_real(a, b):
    """atan2(a, Re(sqrt(1 - z) · sqrt(1 + z)))."""
    p, q = root(1.0 - a.to(tl.float64), -b)
    r, s = root(1.0 + a.to(tl.float64), b)
    return libdevice.atan2(a.to(tl.float64), p * r - q * s).to(a.dtype)


@triton.jit
def asin_imaginary(a, b):
    """asinh(Im(conj sqrt(1 - z) · sqrt(1 + z)))."""
    p, q = root(1.0 - a.to(tl.float64), -b)
    r, s = root(1.0 + a.to(tl.float64), b)
    return libdevice.asinh(p * s - q * r).to(a.dtype)


@triton.jit
def acos_real(a, b):
    """2 atan2(Re sqrt(1 - z), Re sqrt(1 + z))."""
    p, _ = root(1.0 - a.to(tl.float64), -b)
    r, _ = root(1.0 + a.to(tl.float64), b)
    return (2.0 * libdevice.atan2(p, r)).to(a.dtype)


@triton.jit
def acos_imaginary(a, b):
    return -asin_imaginary(a, b)


@triton.jit
def acosh_real(a, b):
    """asinh(Re(conj sqrt(z - 1) · sqrt(z + 1)))."""
    p, q = root(a.to(tl.float64) - 1.0, b)
    r, s = root(a.to(tl.float64) + 1.0, b)
    return libdevice.asinh(p * r + q * s).to(a.dtype)


@triton.jit
def acosh_imaginary(a, b):
    """2 atan2(Im sqrt(z - 1), Re sqrt(z + 1))."""
    _, q = root(a.to(tl.float64) - 1.0, b)
    r, _ = root(a.to(tl.float64) + 1.0, b)
    return (2.0 * libdevice.atan2(q, r)).to(a.dtype)


@triton.jit
def asinh_real(a, b):
    """asinh z = -i asin iz."""
    return asin_imaginary(-b, a)


@triton.jit
def asinh_imaginary(a, b):
    return -asin_real(-b, a)


@triton.jit
def atanh_real(a, b):
    """log1p(4 a / ((1 - a)² + b²)) / 4, which is odd in a."""
    x, y = tl.abs(a.to(tl.float64)), b.to(tl.float64)
    found = 0.25 * libdevice.log1p(4.0 * x / ((1.0 - x) * (1.0 - x) + y * y))
    return libdevice.copysign(found, a.to(tl.float64)).to(a.dtype)


@triton.jit
def atanh_imaginary(a, b):
    """atan2(2 b, (1 - a) (1 + a) - b²) / 2."""
    x, y = a.to(tl.float64), b.to(tl.float64)
    return (0.5 * libdevice.atan2(2.0 * y, (1.0 - x) * (1.0 + x) - y * y)).to(a.dtype)


@triton.jit
def atan_real(a, b):
    """atan z = -i atanh iz."""
    return atanh_imaginary(-b, a)


@triton.jit
def atan_imaginary(a, b):
    return -atanh_real(-b, a)


@triton.jit
def power_terms(a, b, c, d):
    """Length and angle of z^w = e^(w log z), in float64; of 0 the length is 0 where w has a positive real part."""
    a, b, c, d = a.to(tl.float64), b.to(tl.float64), c.to(tl.float64), d.to(tl.float64)
    nothing = (a == 0) & (b == 0)
    length, turn = tl.log(tl.where(nothing, 1.0, libdevice.hypot(a, b))), libdevice.atan2(b, a)
    power = tl.exp(c * length - d * turn)
    of_zero = tl.where(c > 0, 0.0, tl.where((c == 0) & (d == 0), 1.0, float("nan")))
    return tl.where(nothing, of_zero, power), d * length + c * turn


@triton.jit
def power_real(a, b, c, d):
    length, turn = power_terms(a, b, c, d)
    return (length * tl.cos(turn)).to(a.dtype)


@triton.jit
def power_imaginary(a, b, c, d):
    length, turn = power_terms(a, b, c, d)
    return (length * tl.sin(turn)).to(a.dtype)
