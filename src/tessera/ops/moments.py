"""Reductions made of a pointwise function, a sum or an extreme, and another: variance, norms, counts.

Formula:
    var:  Σ (x - mean)² / max(0, n - correction),  std: sqrt(var)
    norm: (Σ |x|^p)^(1/p);  p = 0: how many are not 0,  p = ∞: max |x|,  p = -∞: min |x|
Shapes: x of any shape, reduced over any dims, which may stay as 1.
Types: float64, float32, float16 and bfloat16, computed in float32 for the half types; prod, nansum, count_nonzero and
aminmax also integers, whose sums and products are int64.
Limits: of complex numbers the norms and products alone; no norm of no elements for p below 0.
Source: the pages of torch.var, torch.linalg.vector_norm, torch.nansum, torch.count_nonzero and torch.aminmax
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import reduce
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, Promotion, apply, compute_type, run


@triton.jit
def squared_difference(x, y):
    return (x - y) * (x - y)


@triton.jit
def unless_nan(x):
    return tl.where(x != x, 0.0, x).to(x.dtype)


def wide_type(dtype: torch.dtype) -> torch.dtype:
    """The type in which elements of `dtype` are summed."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def each(fn: Any, operands: tuple[Operand, ...], dtype: torch.dtype) -> torch.Tensor:
    """`fn` in `dtype`, a floating type that is wide enough to sum in."""
    return run(fn, operands, compute_type(dtype), dtype)


def _variance(
    self: torch.Tensor, dim: Any, correction: float | None, keepdim: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """(variance, mean) in the type that sums are kept in."""
    if not self.is_floating_point():
        raise Declined("defined for floating types only")
    wide = wide_type(self.dtype)
    mean = reduce.mean(self, dim, True, dtype=wide)
    total = reduce.sum_(each(squared_difference, (self, mean), wide), dim, keepdim)
    count = self.numel() // max(1, mean.numel()) if self.numel() else 0
    free = max(0.0, count - (1 if correction is None else correction))
    if self.numel() == 0 or free == 0:
        raise Declined("a variance of too few elements")
    return each(f.true_div, (total, float(free)), wide), mean if keepdim else mean.view(total.shape)


def in_type(x: torch.Tensor, dtype: torch.dtype, fn: Any = f.identity) -> torch.Tensor:
    """`fn` of a wide `x`, rounded to `dtype`."""
    return run(fn, (x,), compute_type(x.dtype), dtype)


def var(
    self: torch.Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> torch.Tensor:
    """Σ (x - mean)² / max(0, n - correction) over dims."""
    return in_type(_variance(self, dim, correction, keepdim)[0], self.dtype)


def std(
    self: torch.Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> torch.Tensor:
    """The square root of `var`."""
    return in_type(_variance(self, dim, correction, keepdim)[0], self.dtype, f.sqrt)


def var_mean(
    self: torch.Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(`var`, mean)."""
    variance, mean = _variance(self, dim, correction, keepdim)
    return in_type(variance, self.dtype), in_type(mean, self.dtype)


def std_mean(
    self: torch.Tensor, dim: Any = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(`std`, mean)."""
    variance, mean = _variance(self, dim, correction, keepdim)
    return in_type(variance, self.dtype, f.sqrt), in_type(mean, self.dtype)


def vector_norm(
    self: torch.Tensor,
    ord: float = 2,
    dim: Any = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """(Σ |x|^ord)^(1/ord) over dims."""
    result = dtype or self.dtype
    if self.is_complex() and dtype is None:
        return vector_norm(apply(f.abs_, (self,), Promotion.SAME), ord, dim, keepdim)
    if not self.is_floating_point() or not result.is_floating_point or isinstance(ord, complex):
        raise Declined("defined for floating types only")
    if not torch.can_cast(self.dtype, result):
        raise Declined("a norm in a type that is no wider")
    if self.numel() == 0 and ord < 0:
        raise Declined("a norm of no elements")
    wide = wide_type(torch.promote_types(self.dtype, result))
    if ord != 0 and reduce.row_size(self, dim) == 1:
        # |x| itself: a power and a root would round twice, and gradients through x / |x| would not cancel.
        return reduce.best_of(f.abs_, self, dim, keepdim, result, wide, True)
    if ord == 2:
        return reduce.sum_of(f.square, self, dim, keepdim, result, wide, f.sqrt)
    if ord == 1:
        return reduce.sum_of(f.abs_, self, dim, keepdim, result, wide)
    if ord == 0:
        return reduce.count_of(self, dim, keepdim, result, wide)
    if math.isinf(ord) and self.numel():
        return reduce.best_of(f.abs_, self, dim, keepdim, result, wide, ord > 0)
    size = each(f.abs_, (self,), wide)
    if math.isinf(ord):
        raise Declined("a norm of no elements")
    total = reduce.sum_(each(f.power, (size, float(ord)), wide), dim, keepdim)
    return in_type(each(f.power, (total, 1.0 / ord), wide), result)


def norm(
    self: torch.Tensor,
    p: float | None,
    dim: Any,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """`vector_norm`; p is 2 where none is given."""
    return vector_norm(self, 2 if p is None else p, dim, keepdim, dtype=dtype)


def nansum(
    self: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Σ over dims of what is not NaN."""
    if not self.is_floating_point():
        return reduce.sum_(self, dim, keepdim, dtype=dtype)
    result = dtype or self.dtype
    if not result.is_floating_point:
        raise Declined("sums of this type")
    wide = wide_type(torch.promote_types(self.dtype, result))
    return reduce.sum_of(unless_nan, self, dim, keepdim, result, wide)


def count_nonzero(self: torch.Tensor, dim: Any) -> torch.Tensor:
    """How many elements are not 0."""
    if self.is_complex():
        return reduce.sum_(apply(f.ne, (self, 0), Promotion.BOOL), dim)
    return reduce.count_of(self, dim, False, torch.int64, torch.int64)


def aminmax(self: torch.Tensor, *, dim: int | None = None, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(smallest, largest)."""
    return reduce.amin(self, dim, keepdim), reduce.amax(self, dim, keepdim)


def prod(self: torch.Tensor, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Π over all elements; integers give int64."""
    return reduce.prod(self, None, False, dtype=dtype)
