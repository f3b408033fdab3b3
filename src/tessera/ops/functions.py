"""The scalar functions that the pointwise generator turns into operators: one formula each.

In:  1 to 4 values of one compute type (float32 for the half types; bool arrives as int32 0 or 1).
Out: one value; comparisons give a 1-bit integer. The generic kernels in `pointwise_kernels.py` load, cast and store.
Sources: the formulas in PyTorch's operator documentation; tanh near 0: the rational approximations of the Cephes
library.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def identity(x):
    return x


@triton.jit
def abs_(x):
    """|x|."""
    return tl.abs(x)


@triton.jit
def neg(x):
    return -x


@triton.jit
def exp(x):
    return tl.exp(x)


@triton.jit
def log(x):
    return tl.log(x)


@triton.jit
def sqrt(x):
    return tl.sqrt(x)


@triton.jit
def rsqrt(x):
    """1 / sqrt(x)."""
    return tl.rsqrt(x)


@triton.jit
def reciprocal(x):
    """1 / x."""
    return 1.0 / x


@triton.jit
def sin(x):
    return tl.sin(x)


@triton.jit
def cos(x):
    return tl.cos(x)


@triton.jit
def erf(x):
    """2/√π · ∫ exp(-t²) dt from 0 to x."""
    return tl.erf(x)


@triton.jit
def floor(x):
    """⌊x⌋."""
    return tl.floor(x)


@triton.jit
def ceil(x):
    """⌈x⌉."""
    return tl.ceil(x)


@triton.jit
def square(x):
    return x * x


@triton.jit
def cube(x):
    return x * x * x


@triton.jit
def reciprocal_square(x):
    return 1.0 / (x * x)


@triton.jit
def relu(x):
    """max(x, 0); a NaN stays."""
    return tl.where(x < 0, 0, x).to(x.dtype)


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def silu(x):
    """x · σ(x) with σ(x) = 1 / (1 + exp(-x))."""
    return x / (1.0 + tl.exp(-x))


@triton.jit
def sign(x):
    """-1, 0 or 1; 0 for NaN."""
    return (x > 0).to(x.dtype) - (x < 0).to(x.dtype)


@triton.jit
def sgn(x):
    """As `sign`; of complex numbers x / |x|."""
    return sign(x)


@triton.jit
def isnan(x):
    """Whether x is NaN."""
    return x != x


@triton.jit
def bitwise_not(x):
    return ~x


@triton.jit
def logical_not(x):
    return x == 0


@triton.jit
def add(x, y):
    return x + y


@triton.jit
def sub(x, y):
    return x - y


@triton.jit
def mul(x, y):
    return x * y


@triton.jit
def true_div(x, y):
    return x / y


@triton.jit
def add_scaled(x, y, alpha):
    return x + alpha * y


@triton.jit
def add_product(x, y, z):
    return x + y * z


@triton.jit
def sub_scaled(x, y, alpha):
    return x - alpha * y


@triton.jit
def maximum(x, y):
    """The larger; NaN where either is."""
    return tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(x, y):
    """The smaller; NaN where either is."""
    return tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def eq(x, y):
    return x == y


@triton.jit
def ne(x, y):
    return x != y


@triton.jit
def lt(x, y):
    return x < y


@triton.jit
def le(x, y):
    return x <= y


@triton.jit
def gt(x, y):
    return x > y


@triton.jit
def ge(x, y):
    return x >= y


@triton.jit
def bitwise_and(x, y):
    return x & y


@triton.jit
def bitwise_or(x, y):
    return x | y


@triton.jit
def bitwise_xor(x, y):
    return x ^ y


@triton.jit
def logical_and(x, y):
    return (x != 0) & (y != 0)


@triton.jit
def logical_or(x, y):
    return (x != 0) | (y != 0)


@triton.jit
def logical_xor(x, y):
    return (x != 0) ^ (y != 0)


@triton.jit
def where(condition, x, y):
    return tl.where(condition != 0, x, y)


@triton.jit
def masked_fill(x, mask, value):
    return tl.where(mask != 0, value, x)


@triton.jit
def clamp(x, low, high):
    return minimum(maximum(x, low), high)


@triton.jit
def threshold_backward(grad, x, threshold):
    """grad where x is above the threshold, else 0."""
    return tl.where(x <= threshold, 0, grad).to(grad.dtype)


@triton.jit
def sigmoid_backward(grad, y):
    """grad · (1 - y) · y, y being the result."""
    return grad * (1.0 - y) * y


@triton.jit
def tanh_backward(grad, y):
    """grad · (1 - y²), y being the result."""
    return grad * (1.0 - y * y)


@triton.jit
def silu_backward(grad, x):
    """grad · σ(x) · (1 + x · (1 - σ(x)))."""
    s = 1.0 / (1.0 + tl.exp(-x))
    return grad * s * (1.0 + x * (1.0 - s))


@triton.jit
def tanh(x):
    """(exp(2x) - 1) / (exp(2x) + 1)."""
    # 1 - 2/(exp(2|x|)+1) cancels near 0, where a rational function of x² takes over.
    z = x * x
    if x.dtype == tl.float64:
        p = (-9.64399179425052238628e-1 * z - 9.92877231001918586564e1) * z - 1.61468768441708447952e3
        q = ((z + 1.12811678491632931402e2) * z + 2.23548839060100448583e3) * z + 4.84406305325125486048e3
        near = x + x * z * (p / q)
    else:
        p = (-5.70498872745e-3 * z + 2.06390887954e-2) * z - 5.37397155531e-2
        near = x + x * z * ((p * z + 1.33314422036e-1) * z - 3.33332819422e-1)
    far = 1.0 - 2.0 / (tl.exp(2.0 * tl.abs(x)) + 1.0)
    return tl.where(tl.abs(x) < 0.625, near, tl.where(x < 0, -far, far))


@triton.jit
def gelu(x):
    """x · Φ(x) = x/2 · (1 + erf(x / √2))."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def gelu_backward(grad, x):
    cdf = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476))
    return grad * (cdf + x * 0.3989422804014327 * tl.exp(-0.5 * x * x))


@triton.jit
def gelu_tanh(x):
    """x/2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))."""
    return 0.5 * x * (1.0 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)))


@triton.jit
def gelu_tanh_backward(grad, x):
    t = tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))
    slope = 0.7978845608028654 * (1.0 + 0.134145 * x * x)
    return grad * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)


@triton.jit
def power(x, y):
    """|x|^y as exp2(y · log2 |x|), negative for a negative x and an odd y."""
    # In float64, because an error of y·log2(x) is multiplied by the result. |x|^y, then the sign that an odd y keeps.
    base = x.to(tl.float64)
    exponent = y.to(tl.float64)
    size = tl.exp2(exponent * tl.log2(tl.abs(base)))
    whole = tl.floor(exponent) == exponent
    odd = whole & (tl.floor(exponent * 0.5) * 2.0 != exponent)
    signed = tl.where((base < 0) & odd, -size, tl.where((base < 0) & (whole == 0), float("nan"), size))
    return tl.where((exponent == 0) | (base == 1), 1.0, signed).to(x.dtype)
