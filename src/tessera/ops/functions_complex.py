"""Scalar functions of complex numbers, given as real and imaginary parts: one function for each part of the result.

In:  the parts of one or two numbers, in order: a + bi, c + di, in float32 or float64.
Out: the real part, the imaginary part, or a 1-bit integer from a question.
Quotients are computed in float64, and there scaled by the larger part of the divisor, whose square may overflow.
Sources: the formulas on PyTorch's operator pages; R. L. Smith, Algorithm 116: Complex division, 1962.
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
    s = scale_of(a, b)
    a, b = a * s, b * s
    return s * a / (a * a + b * b)


@triton.jit
def reciprocal_imaginary(a, b):
    s = scale_of(a, b)
    a, b = a * s, b * s
    return -s * b / (a * a + b * b)


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
    return tl.where(b == 0, tl.exp(a), tl.exp(a) * tl.cos(b))


@triton.jit
def exp_imaginary(a, b):
    return tl.where(b == 0, b, tl.exp(a) * tl.sin(b))


@triton.jit
def log_real(a, b):
    return tl.log(libdevice.hypot(a, b))


@triton.jit
def sin_real(a, b):
    return tl.sin(a) * libdevice.cosh(b)


@triton.jit
def sin_imaginary(a, b):
    return tl.cos(a) * libdevice.sinh(b)


@triton.jit
def cos_real(a, b):
    return tl.cos(a) * libdevice.cosh(b)


@triton.jit
def cos_imaginary(a, b):
    return -tl.sin(a) * libdevice.sinh(b)


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
