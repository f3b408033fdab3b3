"""Normalisation by channel: batch norm (and instance norm, which is made of it) and group norm, with their gradients.

Batch norm takes the mean and variance of a channel over the batch and all places, group norm those of a group of
channels in one sample. Each step is a pointwise kernel or a reduction.

Formula:
    y = (x - mean) · rstd · weight + bias,  rstd = 1 / sqrt(variance + eps)
    dx = c · dy - rstd · Σ(weight · dy) / n - (x - mean) · rstd³ · Σ(weight · dy · (x - mean)) / n
    with c = rstd · weight, and n elements that share a mean
    dweight = Σ dy · (x - mean) · rstd,  dbias = Σ dy
    running ← (1 - momentum) · running + momentum · statistic
Shapes: x [N, C, …] with any layout, which the result keeps; weight, bias and running statistics [C]; mean and rstd [C]
of batch norm, [N, groups] of group norm.
Types: float64, float32, float16 and bfloat16; parameters of the same type, or in float32 beside a half type.
Statistics are computed in float32 for the half types.
Limits: in evaluation the running statistics must be given; no empty input.
Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate
Shift", 2015, arXiv:1502.03167; Wu and He, "Group Normalization", 2018, arXiv:1803.08494; Ulyanov, Vedaldi and
Lempitsky, "Instance Normalization: The Missing Ingredient for Fast Stylization", 2016, arXiv:1607.08022
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import reduce
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, compute_type, run
from tessera.ops.layout import is_channels_last
from tessera.ops.moments import each, in_type, squared_difference, wide_type
from tessera.ops.pointwise import zero_

Three = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


@triton.jit
def inverse_deviation(total, count, eps):
    return (1.0 / tl.sqrt(total / count + eps)).to(total.dtype)


@triton.jit
def centred(x, mean, scale, shift):
    return (x - mean) * scale + shift


@triton.jit
def centred_product(x, mean, y):
    return (x - mean) * y


@triton.jit
def moved_towards(x, target, share):
    return (1.0 - share) * x + share * target


@triton.jit
def cubed_product(rstd, total, count):
    return -rstd * rstd * rstd * total / count


@triton.jit
def negative_mean_product(rstd, total, count):
    return -rstd * total / count


def _spread(x: torch.Tensor | None, rank: int) -> torch.Tensor | None:
    """A value a channel, so that it broadcasts over [batch, channels, places…]."""
    return None if x is None else x.view(1, -1, *(1,) * (rank - 2))


def _normalise(
    x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None,
    out: torch.Tensor,
) -> None:  # fmt: skip
    wide = wide_type(x.dtype)
    scale = rstd if weight is None else each(f.mul, (rstd, weight), wide)
    shift: Operand = 0.0 if bias is None else bias
    run(centred, (x, mean, scale, shift), compute_type(wide), out.dtype, out)


def _deviation(x: torch.Tensor, dims: list[int], eps: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
    """(mean, Σ (x - mean)², rstd) over `dims`, which are kept as 1, and how many elements share them."""
    if not x.is_floating_point() or x.numel() == 0:
        raise Declined("a norm of no elements, or of integers")
    wide = wide_type(x.dtype)
    mean = reduce.mean(x, dims, True, dtype=wide)
    total = reduce.sum_(each(squared_difference, (x, mean), wide), dims, True)
    count = x.numel() // mean.numel()
    return mean, total, each(inverse_deviation, (total, float(count), eps), wide), count


def _gradient(
    dy: torch.Tensor, x: torch.Tensor, mean: torch.Tensor, rstd: torch.Tensor, scale: torch.Tensor,
    sums: tuple[torch.Tensor, torch.Tensor], count: int,
) -> torch.Tensor:  # fmt: skip
    """dx, given the sums of weight · dy and of weight · dy · (x - mean)."""
    wide = wide_type(x.dtype)
    slope = each(cubed_product, (rstd, sums[1], float(count)), wide)
    shift = each(negative_mean_product, (rstd, sums[0], float(count)), wide)
    through_statistics = each(centred, (x, mean, slope, shift), wide)
    return run(f.add_product, (through_statistics, dy, scale), compute_type(wide), x.dtype)


def _checked(input: torch.Tensor, *parameters: torch.Tensor | None) -> torch.dtype:
    """The type of the parameters, and of the statistics that are returned."""
    given = [p.dtype for p in parameters if p is not None]
    if input.dim() < 2 or len(set(given)) > 1 or any(p is not None and p.dim() != 1 for p in parameters):
        raise Declined("a norm of this kind")
    if given and given[0] is not input.dtype and wide_type(input.dtype) is not given[0]:
        raise Declined("parameters of another type")
    return given[0] if given else input.dtype


def native_batch_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y, mean, rstd) of x[batch, channels, …]. Training: of this batch, and the running statistics move towards them.

    Otherwise by the running statistics; mean and rstd are then empty.
    """
    kind = _checked(input, weight, bias, running_mean, running_var)
    rank, out = input.dim(), torch.empty_like(input)
    if not training:
        if running_mean is None or running_var is None:
            raise Declined("a norm of this kind")
        rstd = each(inverse_deviation, (running_var, 1.0, eps), wide_type(input.dtype))
        by_mean, by_rstd = _all_spread(rank, running_mean, rstd)
        _normalise(input, by_mean, by_rstd, _spread(weight, rank), _spread(bias, rank), out)
        return out, _nothing(input, kind), _nothing(input, kind)
    mean, total, rstd, count = _deviation(input, [0, *range(2, rank)], eps)
    _normalise(input, mean, rstd, _spread(weight, rank), _spread(bias, rank), out)
    if running_mean is not None and running_var is not None:
        if count == 1:
            raise Declined("a variance of too few elements")
        variance = each(f.true_div, (total, float(count - 1)), total.dtype)
        for running, statistic in ((running_mean, mean), (running_var, variance)):
            run(moved_towards, (running, statistic.view(-1), momentum), compute_type(total.dtype), kind, running)
    return out, in_type(mean.view(-1), kind), in_type(rstd.view(-1), kind)


def _all_spread(rank: int, *values: torch.Tensor) -> list[torch.Tensor]:
    return [x.view(1, -1, *(1,) * (rank - 2)) for x in values]


def _nothing(like: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty((0,), dtype=dtype, device=like.device)


def without_running_statistics(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`native_batch_norm` by the statistics of the batch, which nothing keeps."""
    return native_batch_norm(input, weight, bias, None, None, training, momentum, eps)


def without_training(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """`native_batch_norm` by the running statistics."""
    return native_batch_norm(input, weight, bias, running_mean, running_var, False, momentum, eps)


def native_batch_norm_backward(
    grad_out: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    save_mean: torch.Tensor | None,
    save_invstd: torch.Tensor | None,
    train: bool,
    eps: float,
    output_mask: list[bool],
) -> Three:
    """The gradients by x, weight and bias, as far as `output_mask` asks for them."""
    kind = _checked(input, weight, running_mean, running_var)
    if input.numel() == 0 or not input.is_floating_point():
        raise Declined("a norm of no elements, or of integers")
    rank, wide, dims = input.dim(), wide_type(input.dtype), [0, *range(2, input.dim())]
    if train and save_mean is not None and save_invstd is not None:
        mean, rstd = _all_spread(rank, save_mean, save_invstd)
    elif not train and running_mean is not None and running_var is not None:
        of_running = each(inverse_deviation, (running_var, 1.0, eps), wide)
        mean, rstd = _all_spread(rank, running_mean, of_running)
    else:
        raise Declined("a norm of this kind")
    total = reduce.sum_(grad_out, dims, True, dtype=wide)
    product = reduce.sum_(each(centred_product, (input, mean, grad_out), wide), dims, True)
    spread = _spread(weight, rank)
    scale = rstd if spread is None else each(f.mul, (rstd, spread), wide)
    dx = None
    if output_mask[0] and train:
        sums = (total, product) if spread is None else tuple(each(f.mul, (x, spread), wide) for x in (total, product))
        dx = _gradient(grad_out, input, mean, rstd, scale, (sums[0], sums[1]), input.numel() // total.numel())
    elif output_mask[0]:
        dx = run(f.mul, (grad_out, scale), compute_type(wide), input.dtype)
    by_weight = run(f.mul, (product, rstd), compute_type(wide), kind).view(-1) if output_mask[1] else None
    return dx, by_weight, in_type(total.view(-1), kind) if output_mask[2] else None


def _in_groups(x: torch.Tensor, group: int) -> torch.Tensor:
    apart: torch.Tensor = torch.unflatten(x, 1, (group, -1))
    return apart


def _of_channels(x: torch.Tensor | None, group: int, rank: int) -> torch.Tensor | None:
    """A value a channel, so that it broadcasts over [batch, groups, channels of a group, places…]."""
    return None if x is None else x.view(1, group, -1, *(1,) * (rank - 3))


def native_group_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y, mean, rstd) of x[N, C, …], mean and rstd of [N, group]."""
    kind = _checked(input, weight, bias)
    if not input.is_floating_point() or HxW == 0 or C == 0 or C % group or input.shape[:2] != (N, C):
        raise Declined("a norm of no elements, or of this kind")
    layout = torch.channels_last if input.dim() == 4 and is_channels_last(input) else torch.contiguous_format
    if not input.is_contiguous(memory_format=layout):
        raise Declined("neither order of memory that this operator takes")
    out = torch.empty(input.shape, dtype=input.dtype, device=input.device, memory_format=layout)
    if N == 0:
        mean, rstd = (torch.empty((N, group), dtype=kind, device=input.device) for _ in range(2))
        return out, mean, rstd
    x = _in_groups(input, group)
    mean, _, rstd, _ = _deviation(x, list(range(2, x.dim())), eps)
    scale, shift = (_of_channels(p, group, x.dim()) for p in (weight, bias))
    _normalise(x, mean, rstd, scale, shift, _in_groups(out, group))
    return out, in_type(mean.view(N, group), kind), in_type(rstd.view(N, group), kind)


def native_group_norm_backward(
    grad_out: torch.Tensor,
    input: torch.Tensor,
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    N: int,
    C: int,
    HxW: int,
    group: int,
    output_mask: list[bool],
) -> Three:
    """The gradients by x, weight and bias, as far as `output_mask` asks for them."""
    kind = _checked(input, weight)
    if HxW == 0 or C == 0 or input.shape[:2] != (N, C) or grad_out.shape != input.shape:
        raise Declined("a norm of no elements, or of this kind")
    if N == 0:
        empty = [torch.empty(shape, dtype=kind, device=input.device) for shape in (input.shape, (C,), (C,))]
        found = [zero_(x, out=x) if wanted else None for x, wanted in zip(empty, output_mask, strict=True)]
        return found[0], found[1], found[2]
    wide, x, dy = wide_type(input.dtype), _in_groups(input, group), _in_groups(grad_out, group)
    rank, places = x.dim(), list(range(3, x.dim()))
    centre, inverse = (s.view(N, group, *(1,) * (rank - 2)) for s in (mean, rstd))
    product = each(centred_product, (x, centre, dy), wide)
    per_channel = [reduce.sum_(s, places, True, dtype=wide) if places else each(f.identity, (s,), wide)
                   for s in (dy, product)]  # fmt: skip
    dx = None
    if output_mask[0]:
        spread = _of_channels(weight, group, rank)
        scale = inverse if spread is None else each(f.mul, (inverse, spread), wide)
        weighted = per_channel if spread is None else [each(f.mul, (s, spread), wide) for s in per_channel]
        sums = tuple(reduce.sum_(s, [2], True) for s in weighted)
        dx = _gradient(dy, x, centre, inverse, scale, (sums[0], sums[1]), C // group * HxW).flatten(1, 2)
    by_weight = in_type(reduce.sum_(each(f.mul, (per_channel[1], inverse), wide), [0]).view(C), kind)
    by_bias = in_type(reduce.sum_(per_channel[0], [0]).view(C), kind)
    return dx, by_weight if output_mask[1] else None, by_bias if output_mask[2] else None
