"""Scalar functions of neural networks: activations, losses, and the slopes of both.

In:  values of one compute type (float32 for the half types); `grad` is the gradient of the result.
Out: one value. Source: the pages of torch.nn, formula by formula.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops.functions import tanh


@triton.jit
def elu(x, alpha, scale, input_scale):
    return tl.where(x <= 0, libdevice.expm1(x * input_scale) * alpha * scale, x * scale)


@triton.jit
def elu_backward(grad, x, slope, input_scale):
    return tl.where(x <= 0, grad * slope * tl.exp(x * input_scale), grad)


@triton.jit
def elu_backward_by_result(grad, y, alpha, input_scale):
    return tl.where(y <= 0, grad * input_scale * (y + alpha), grad)


@triton.jit
def scaled_elu_backward(grad, x, slope, scale):
    return tl.where(x <= 0, grad * slope * tl.exp(x), grad * scale)


@triton.jit
def scaled_elu_backward_by_result(grad, y, slope, scale):
    return tl.where(y <= 0, grad * (y + slope), grad * scale)


@triton.jit
def hardsigmoid(x):
    """min(max(x + 3, 0), 6) / 6; a NaN stays."""
    return tl.where(x != x, x, tl.minimum(tl.maximum(x + 3.0, 0.0), 6.0) / 6.0)


@triton.jit
def hardsigmoid_backward(grad, x):
    """grad / 6 where |x| < 3, else 0."""
    return tl.where((x > -3.0) & (x < 3.0), grad / 6.0, 0.0).to(x.dtype)


@triton.jit
def hardswish(x):
    """x · min(max(x + 3, 0), 6) / 6; a NaN stays."""
    return tl.where(x != x, x, x * tl.minimum(tl.maximum(x + 3.0, 0.0), 6.0) / 6.0)


@triton.jit
def hardswish_backward(grad, x):
    """0 up to -3, grad · (x / 3 + 1/2) below 3, grad from there."""
    inside = grad * (x / 3.0 + 0.5)
    return tl.where(x <= -3.0, 0.0, tl.where(x < 3.0, inside, grad)).to(x.dtype)


@triton.jit
def hardtanh(x, low, high):
    return tl.where(x < low, low, tl.where(x > high, high, x)).to(x.dtype)


@triton.jit
def hardtanh_backward(grad, x, low, high):
    """grad where x is between the bounds, else 0."""
    return tl.where((x <= low) | (x >= high), 0.0, grad).to(x.dtype)


@triton.jit
def leaky_relu(x, slope):
    return tl.where(x > 0, x, x * slope)


@triton.jit
def leaky_relu_backward(grad, x, slope):
    return tl.where(x > 0, grad, grad * slope)


@triton.jit
def softplus(x, beta, threshold):
    return tl.where(x * beta > threshold, x, libdevice.log1p(tl.exp(x * beta)) / beta)


@triton.jit
def softplus_backward(grad, x, beta, threshold):
    """grad · σ(beta · x); grad where beta · x is above the threshold."""
    z = tl.exp(x * beta)
    return tl.where(x * beta > threshold, grad, grad * z / (z + 1.0))


@triton.jit
def softshrink(x, size):
    return tl.where(x > size, x - size, tl.where(x < -size, x + size, x * 0.0))


@triton.jit
def shrink_backward(grad, x, size):
    """grad where |x| is above the size, else 0."""
    return tl.where(tl.abs(x) <= size, 0.0, grad).to(x.dtype)


@triton.jit
def hardshrink(x, size):
    return tl.where(tl.abs(x) <= size, 0.0, x).to(x.dtype)


@triton.jit
def mish(x):
    """x · tanh(log(1 + exp x))."""
    return x * tanh(tl.where(x > 20.0, x, libdevice.log1p(tl.exp(x))))


@triton.jit
def mish_backward(grad, x):
    """grad · (t + x · σ(x) · (1 - t²)) with t = tanh(log(1 + exp x))."""
    t = tanh(tl.where(x > 20.0, x, libdevice.log1p(tl.exp(x))))
    s = 1.0 / (1.0 + tl.exp(-x))
    return grad * (t + x * s * (1.0 - t * t))


@triton.jit
def threshold(x, limit, value):
    return tl.where(x <= limit, value, x).to(x.dtype)


@triton.jit
def log_sigmoid_buffer(x):
    return tl.exp(-tl.abs(x))


@triton.jit
def log_sigmoid(x):
    return tl.where(x < 0, x, 0.0).to(x.dtype) - libdevice.log1p(tl.exp(-tl.abs(x)))


@triton.jit
def log_sigmoid_backward(grad, x, buffer):
    """grad · (1 - σ(x)), from forward's exp(-|x|)."""
    part = buffer / (1.0 + buffer)
    return grad * tl.where(x < 0, 1.0 - part, part)


@triton.jit
def glu(a, b):
    return a / (1.0 + tl.exp(-b))


@triton.jit
def glu_gate_backward(grad, a, b):
    s = 1.0 / (1.0 + tl.exp(-b))
    return grad * a * s * (1.0 - s)


@triton.jit
def prelu(x, weight):
    """x above 0, weight · x elsewhere."""
    return tl.where(x > 0, x, weight * x)


@triton.jit
def prelu_backward(grad, x, weight):
    return tl.where(x > 0, grad, weight * grad)


@triton.jit
def prelu_weight_backward(grad, x):
    return tl.where(x > 0, 0.0, x * grad).to(x.dtype)


@triton.jit
def mse_loss(x, target):
    return (x - target) * (x - target)


@triton.jit
def mse_loss_backward(grad, x, target):
    return 2.0 * (x - target) * grad


@triton.jit
def smooth_l1_loss(x, target, beta):
    z = tl.abs(x - target)
    return tl.where(z < beta, 0.5 * z * z / beta, z - 0.5 * beta)


@triton.jit
def smooth_l1_loss_backward(grad, x, target, beta):
    z = x - target
    return tl.where(z <= -beta, -grad, tl.where(z >= beta, grad, grad * z / beta))


@triton.jit
def huber_loss(x, target, delta):
    z = tl.abs(x - target)
    return tl.where(z <= delta, 0.5 * z * z, delta * (z - 0.5 * delta))


@triton.jit
def huber_loss_backward(grad, x, target, delta):
    z = x - target
    return tl.where(z <= -delta, -grad * delta, tl.where(z >= delta, grad * delta, grad * z))


@triton.jit
def soft_margin_loss(x, target):
    return libdevice.log1p(tl.exp(-x * target))


@triton.jit
def soft_margin_loss_backward(grad, x, target):
    z = tl.exp(-target * x)
    return -target * grad * z / (1.0 + z)


@triton.jit
def binary_cross_entropy(x, target):
    first = tl.maximum(libdevice.log1p(-x), -100.0)
    second = tl.maximum(tl.log(x), -100.0)
    return (target - 1.0) * first - target * second


@triton.jit
def weighted_binary_cross_entropy(x, target, weight):
    return binary_cross_entropy(x, target) * weight


@triton.jit
def binary_cross_entropy_backward(grad, x, target):
    return grad * (x - target) / tl.maximum((1.0 - x) * x, 1e-12)


@triton.jit
def weighted_binary_cross_entropy_backward(grad, x, target, weight):
    return binary_cross_entropy_backward(grad, x, target) * weight


@triton.jit
def scaled_mask(x, mask, scale):
    return tl.where(mask != 0, x * scale, 0.0).to(x.dtype)
