"""Activations and pointwise losses, forward and backward.

An activation takes tensors of one floating type, then numbers. A loss is computed in float32 for the half types and
reduced from there. Entries take ATen's arguments and `out`, the tensor to write to (None: a new one).

Formula:
    activation: y[i] = fn(x[i], numbers…),  dx[i] = g[i] · fn'(x[i]);  fn stands beside each operator
    loss:       l[i] = fn(x[i], t[i], …);   none: l,  mean: Σ l / n,  sum: Σ l
Shapes: tensors that broadcast, with any strides; glu halves one dim.
Types: float64, float32, float16 and bfloat16, the same for all tensors of a call; half types are computed in float32.
Limits: losses of integers are left to PyTorch; hardtanh and threshold take them. The gradient of elu and leaky_relu
by their result needs a factor that is not negative.
Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units
(ELUs)", 2015, arXiv:1511.07289; Barron, "Continuously Differentiable Exponential Linear Units", 2017, arXiv:1704.07483
(CELU); Howard and others, "Searching for MobileNetV3", 2019, arXiv:1905.02244 (hardswish); Misra, "Mish: A Self
Regularized Non-Monotonic Activation Function", 2019, arXiv:1908.08681; He, Zhang, Ren and Sun, "Delving Deep into
Rectifiers", 2015, arXiv:1502.01852 (PReLU); Dauphin, Fan, Auli and Grangier, "Language Modeling with Gated
Convolutional Networks", 2016, arXiv:1612.08083 (GLU); Girshick, "Fast R-CNN", 2015, arXiv:1504.08083 (smooth L1);
Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35(1), 1964; the pages of
torch.nn.functional.softplus, torch.nn.functional.binary_cross_entropy and the others in PyTorch's reference
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from tessera.ops import functions as f
from tessera.ops import functions_activation as a
from tessera.ops import reduce
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, compute_type, run

Entry = Callable[..., torch.Tensor]
Out = torch.Tensor | None
NONE, MEAN = 0, 1


def one_type(*given: torch.Tensor) -> torch.dtype:
    """The floating type that all tensors share; declines where there is none."""
    dtype = given[0].dtype
    if not dtype.is_floating_point or any(x.dtype is not dtype for x in given):
        raise Declined("defined for tensors of one floating type")
    return dtype


def activation(fn: Any) -> Entry:
    """`fn` of tensors of one floating type, followed by numbers."""

    def entry(*operands: Operand, out: Out = None) -> torch.Tensor:
        dtype = one_type(*(x for x in operands if isinstance(x, torch.Tensor)))
        if out is not None and out.dtype is not dtype:
            raise Declined("the output has another type")
        return run(fn, operands, compute_type(dtype), dtype, out)

    return entry


_elu = activation(a.elu)


def elu(
    self: torch.Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1, *, out: Out = None
) -> torch.Tensor:
    """scale · (x above 0, alpha · (exp(input_scale · x) - 1) below)."""
    return _elu(self, alpha, scale, input_scale, out=out)


def elu_backward(
    grad_output: torch.Tensor,
    alpha: float,
    scale: float,
    input_scale: float,
    is_result: bool,
    self_or_result: torch.Tensor,
    *,
    out: Out = None,
) -> torch.Tensor:
    """grad · scale above 0, grad · alpha · scale · input_scale · exp(input_scale · x) elsewhere."""
    if is_result and alpha < 0:
        raise Declined("a slope by the result with a negative factor")
    if scale == 1:
        fn = a.elu_backward_by_result if is_result else a.elu_backward
        factor = alpha if is_result else alpha * input_scale
        return activation(fn)(grad_output, self_or_result, factor, input_scale, out=out)
    if input_scale == 1:
        fn = a.scaled_elu_backward_by_result if is_result else a.scaled_elu_backward
        return activation(fn)(grad_output, self_or_result, alpha * scale, scale, out=out)
    raise Declined("a slope with two scales")


def _whole_parts(dtype: torch.dtype, *numbers: float) -> tuple[int, ...]:
    """The numbers as an integer type has them; declines booleans, and what the type cannot hold."""
    if dtype is torch.bool or dtype.is_complex:
        raise Declined("defined for numbers alone")
    limits = torch.iinfo(dtype)
    if any(not math.isfinite(x) or not limits.min <= int(x) <= limits.max for x in numbers):
        raise Declined("a number that the type cannot hold")
    return tuple(int(x) for x in numbers)


def hardtanh(self: torch.Tensor, min_val: Operand = -1, max_val: Operand = 1, *, out: Out = None) -> torch.Tensor:
    """x kept inside [min_val, max_val]; integers inside the bounds' whole parts."""
    if not self.is_floating_point() and isinstance(min_val, int | float) and isinstance(max_val, int | float):
        low, high = _whole_parts(self.dtype, min_val, max_val)
        if low > high:
            raise Declined("bounds of nothing")
        if out is not None and out.dtype is not self.dtype:
            raise Declined("the output has another type")
        return run(f.clamp, (self, low, high), compute_type(self.dtype), self.dtype, out)
    return activation(a.hardtanh)(self, min_val, max_val, out=out)


def leaky_relu(self: torch.Tensor, negative_slope: float = 0.01, *, out: Out = None) -> torch.Tensor:
    """x above 0, negative_slope · x elsewhere."""
    return activation(a.leaky_relu)(self, negative_slope, out=out)


def leaky_relu_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    negative_slope: float,
    self_is_result: bool,
    *,
    out: Out = None,
) -> torch.Tensor:
    """grad above 0, negative_slope · grad elsewhere."""
    if self_is_result and negative_slope < 0:
        raise Declined("a slope by the result with a negative factor")
    return activation(a.leaky_relu_backward)(grad_output, self, negative_slope, out=out)


def softplus(self: torch.Tensor, beta: float = 1, threshold: float = 20, *, out: Out = None) -> torch.Tensor:
    """log(1 + exp(beta · x)) / beta, and x where beta · x is above the threshold."""
    return activation(a.softplus)(self, beta, threshold, out=out)


def softshrink(self: torch.Tensor, lambd: float = 0.5, *, out: Out = None) -> torch.Tensor:
    """x moved by lambd towards 0; 0 where |x| is at most lambd."""
    if lambd < 0:
        raise Declined("a negative size")
    return activation(a.softshrink)(self, lambd, out=out)


def hardshrink(self: torch.Tensor, lambd: float = 0.5, *, out: Out = None) -> torch.Tensor:
    """x; 0 where |x| is at most lambd."""
    return activation(a.hardshrink)(self, lambd, out=out)


def log_sigmoid_forward(self: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(log σ(x), exp(-|x|) for the gradient), both in the order of the dims, as PyTorch lays them out."""
    value, buffer = (torch.empty(self.shape, dtype=self.dtype, device=self.device) for _ in range(2))
    return activation(a.log_sigmoid)(self, out=value), activation(a.log_sigmoid_buffer)(self, out=buffer)


def _halves(x: torch.Tensor, dim: int) -> tuple[torch.Tensor, torch.Tensor]:
    if x.dim() == 0 or not -x.dim() <= dim < x.dim() or x.shape[dim] % 2:
        raise Declined("a dim that cannot be halved")
    half = x.shape[dim] // 2
    return x.narrow(dim, 0, half), x.narrow(dim, half, half)


def glu(self: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """a · σ(b) of the halves a and b along dim."""
    first, gate = _halves(self, dim)
    return activation(a.glu)(first, gate)


def glu_backward(grad_output: torch.Tensor, self: torch.Tensor, dim: int) -> torch.Tensor:
    """The gradients of both halves: grad · σ(b) and grad · a · σ(b) · (1 - σ(b))."""
    one_type(grad_output, self)
    first, gate = _halves(self, dim)
    dx = torch.empty_like(self)
    d_first, d_gate = _halves(dx, dim)
    activation(a.glu)(grad_output, gate, out=d_first)
    activation(a.glu_gate_backward)(grad_output, first, gate, out=d_gate)
    return dx


def prelu_backward(
    grad_output: torch.Tensor, self: torch.Tensor, weight: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient by self, gradient by the weight before it is summed)."""
    return (
        activation(a.prelu_backward)(grad_output, self, weight),
        activation(a.prelu_weight_backward)(grad_output, self),
    )


def threshold(self: torch.Tensor, threshold: Operand, value: Operand, *, out: Out = None) -> torch.Tensor:
    """x above the threshold, value elsewhere; of integers by the whole parts of both."""
    if not self.is_floating_point() and isinstance(threshold, int | float) and isinstance(value, int | float):
        numbers = _whole_parts(self.dtype, threshold, value)
        if out is not None and out.dtype is not self.dtype:
            raise Declined("the output has another type")
        return run(a.threshold, (self, *numbers), compute_type(self.dtype), self.dtype, out)
    return activation(a.threshold)(self, threshold, value, out=out)


def _reduced(fn: Any, operands: tuple[Operand, ...], reduction: int) -> torch.Tensor:
    dtype = one_type(*(x for x in operands if isinstance(x, torch.Tensor)))
    if reduction == NONE:
        return run(fn, operands, compute_type(dtype), dtype)
    wide = torch.float64 if dtype is torch.float64 else torch.float32
    each = run(fn, operands, compute_type(dtype), wide)
    return reduce.mean(each, dtype=dtype) if reduction == MEAN else reduce.sum_(each, dtype=dtype)


def _slope(
    fn: Any, grad: torch.Tensor, tensors: tuple[torch.Tensor, ...], numbers: tuple[float, ...], reduction: int
) -> torch.Tensor:
    """`fn` of the gradient of one element's loss, the tensors and the numbers."""
    dtype = one_type(grad, *tensors)
    count = torch.broadcast_shapes(*(x.shape for x in tensors)).numel()
    if reduction == MEAN and count:
        wide = torch.float64 if dtype is torch.float64 else torch.float32
        grad = run(f.mul, (grad, 1.0 / count), compute_type(dtype), wide)
    return run(fn, (grad, *tensors, *numbers), compute_type(dtype), dtype)


def mse_loss(self: torch.Tensor, target: torch.Tensor, reduction: int = MEAN) -> torch.Tensor:
    """(x - t)²."""
    return _reduced(a.mse_loss, (self, target), reduction)


def mse_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int
) -> torch.Tensor:
    """2 (x - t) · grad."""
    return _slope(a.mse_loss_backward, grad_output, (self, target), (), reduction)


def smooth_l1_loss(
    self: torch.Tensor, target: torch.Tensor, reduction: int = MEAN, beta: float = 1.0
) -> torch.Tensor:
    """(x - t)² / (2 beta) below beta, |x - t| - beta / 2 above."""
    if beta <= 0:
        raise Declined("a width that is not positive")
    return _reduced(a.smooth_l1_loss, (self, target, beta), reduction)


def smooth_l1_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int, beta: float
) -> torch.Tensor:
    """grad · (x - t) / beta, kept inside [-grad, grad]."""
    if beta <= 0:
        raise Declined("a width that is not positive")
    return _slope(a.smooth_l1_loss_backward, grad_output, (self, target), (beta,), reduction)


def huber_loss(self: torch.Tensor, target: torch.Tensor, reduction: int = MEAN, delta: float = 1.0) -> torch.Tensor:
    """(x - t)² / 2 up to delta, delta · (|x - t| - delta / 2) above."""
    if delta <= 0:
        raise Declined("a width that is not positive")
    return _reduced(a.huber_loss, (self, target, delta), reduction)


def huber_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int, delta: float
) -> torch.Tensor:
    """grad · (x - t), x - t kept inside [-delta, delta]."""
    return _slope(a.huber_loss_backward, grad_output, (self, target), (delta,), reduction)


def soft_margin_loss(self: torch.Tensor, target: torch.Tensor, reduction: int = MEAN) -> torch.Tensor:
    """log(1 + exp(-t · x))."""
    return _reduced(a.soft_margin_loss, (self, target), reduction)


def soft_margin_loss_backward(
    grad_output: torch.Tensor, self: torch.Tensor, target: torch.Tensor, reduction: int
) -> torch.Tensor:
    """-t · grad · z / (1 + z) with z = exp(-t · x)."""
    return _slope(a.soft_margin_loss_backward, grad_output, (self, target), (), reduction)


def _probabilities(x: torch.Tensor, target: torch.Tensor) -> None:
    """PyTorch raises for what is no probability; the vendor words the error."""
    one_type(x, target)
    if x.shape != target.shape or (x.numel() and not bool(((x >= 0) & (x <= 1)).all())):
        raise Declined("numbers that are no probabilities")


def binary_cross_entropy(
    self: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None, reduction: int = MEAN
) -> torch.Tensor:
    """-(t · log x + (1 - t) · log(1 - x)) · w, logarithms at least -100."""
    _probabilities(self, target)
    if weight is None:
        return _reduced(a.binary_cross_entropy, (self, target), reduction)
    return _reduced(a.weighted_binary_cross_entropy, (self, target, weight), reduction)


def binary_cross_entropy_backward(
    grad_output: torch.Tensor,
    self: torch.Tensor,
    target: torch.Tensor,
    weight: torch.Tensor | None = None,
    reduction: int = MEAN,
) -> torch.Tensor:
    """grad · w · (x - t) / ((1 - x) · x), the divisor at least 1e-12."""
    if weight is None:
        return _slope(a.binary_cross_entropy_backward, grad_output, (self, target), (), reduction)
    return _slope(a.weighted_binary_cross_entropy_backward, grad_output, (self, target, weight), (), reduction)


def celu(self: torch.Tensor, alpha: float = 1.0, *, out: Out = None) -> torch.Tensor:
    """x above 0, alpha · (exp(x / alpha) - 1) below."""
    if alpha == 0:
        raise Declined("a width of 0")
    return elu(self, alpha, 1, 1.0 / alpha, out=out)


def native_dropout_backward(grad_output: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    """grad · mask · scale; of integers in the default floating type, because the scale has a point."""
    if grad_output.is_complex() or mask.dtype is not torch.bool:
        raise Declined("defined for tensors of one floating type")
    result = grad_output.dtype if grad_output.is_floating_point() else torch.get_default_dtype()
    return run(a.scaled_mask, (grad_output, mask, scale), compute_type(result), result)
