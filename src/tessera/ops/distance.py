"""Distances between rows: of two matrices in every pair, with the gradient by the first.

cdist:    y[i, j] = (Σ_k |a[i, k] - b[j, k]|^p)^(1/p), its limits for p = 0 and ∞
backward: da[i, k] = Σ_j g[i, j] · sign(d) · (|d| / y[i, j])^(p - 1) with d = a[i, k] - b[j, k]; 0 where y is 0
Source: torch.cdist.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.functions import maximum
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import zero_

COUNT, ONE, TWO, MOST = (tl.constexpr(kind) for kind in range(4))
_KINDS: dict[float, int] = {0.0: COUNT.value, 1.0: ONE.value, 2.0: TWO.value, math.inf: MOST.value}


@triton.jit
def pair_distances(a, b, y, numel, m, n, width, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """a is [batch, m, width], b is [batch, n, width], y is [batch, m, n], contiguous; grid: (cdiv(numel, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    left = a + (at // n) * width
    right = b + ((at // n // m) * n + at % n) * width
    total = tl.zeros([BLOCK], COMPUTE)
    for k in range(width):
        d = tl.abs(tl.load(left + k, mask=mask, other=0).to(COMPUTE) - tl.load(right + k, mask=mask, other=0))
        if KIND == COUNT:
            total += (d != 0).to(COMPUTE)
        elif KIND == ONE:
            total += d
        elif KIND == TWO:
            total += d * d
        else:
            total = maximum(total, d)
    if KIND == TWO:
        total = tl.sqrt(total)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def pair_gradient(
    g, a, b, y, da, numel, m, n, width, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """da is [batch, m, width]; the others as in `pair_distances`. Grid: (cdiv(numel of da, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    row = at // width
    own = tl.load(a + at, mask=mask, other=0).to(COMPUTE)
    other = b + (row // m) * n * width + at % width
    total = tl.zeros([BLOCK], COMPUTE)
    for j in range(n):
        d = own - tl.load(other + j * width, mask=mask, other=0).to(COMPUTE)
        distance = tl.load(y + row * n + j, mask=mask, other=1).to(COMPUTE)
        grad = tl.load(g + row * n + j, mask=mask, other=0).to(COMPUTE)
        sign = (d > 0).to(COMPUTE) - (d < 0).to(COMPUTE)
        if KIND == ONE:
            part = sign
        elif KIND == TWO:
            part = tl.where(distance == 0, 0.0, d / distance)
        else:
            part = tl.where(tl.abs(d) == distance, sign, 0.0)
        total += grad * part
    tl.store(da + at, total.to(da.dtype.element_ty), mask=mask)


def _checked(x1: torch.Tensor, x2: torch.Tensor, p: float) -> int:
    if x1.dtype is not x2.dtype or x1.dtype not in (torch.float32, torch.float64):
        raise Declined("distances of this type")
    if min(x1.dim(), x2.dim()) < 2 or x1.shape[:-2] != x2.shape[:-2] or x1.shape[-1] != x2.shape[-1]:
        raise Declined("matrices that do not fit each other")
    if p not in _KINDS:
        raise Declined("a general power of this type")
    return _KINDS[p]


def cdist_forward(x1: torch.Tensor, x2: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """Distances [..., M, N] of the rows of x1[..., M, K] from those of x2[..., N, K]; each is computed directly."""
    kind = _checked(x1, x2, p)
    m, n, width = x1.shape[-2], x2.shape[-2], x1.shape[-1]
    y = torch.empty((*x1.shape[:-1], n), dtype=x1.dtype, device=x1.device)
    if y.numel() == 0 or width == 0:
        return zero_(y, out=y)
    row = tiles.of(y.device)
    block = tiles.block(y.numel(), row.row // 4)
    launch(
        pair_distances, (triton.cdiv(y.numel(), block),), x1.contiguous(), x2.contiguous(), y, y.numel(), m, n, width,
        KIND=kind, COMPUTE=compute_type(y.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return y


def cdist_backward(
    grad: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, p: float, cdist: torch.Tensor
) -> torch.Tensor:
    """The gradient of `cdist_forward` by x1."""
    kind = _checked(x1, x2, p)
    shape = (*x1.shape[:-1], x2.shape[-2])
    if tuple(grad.shape) != shape or tuple(cdist.shape) != shape or grad.dtype is not x1.dtype:
        raise Declined("a gradient of another shape")
    dx = torch.empty(x1.shape, dtype=x1.dtype, device=x1.device)
    if dx.numel() == 0 or grad.numel() == 0 or kind == COUNT.value:
        return zero_(dx, out=dx)
    row = tiles.of(dx.device)
    block = tiles.block(dx.numel(), row.row // 4)
    given = (grad.contiguous(), x1.contiguous(), x2.contiguous(), cdist.contiguous())
    launch(
        pair_gradient, (triton.cdiv(dx.numel(), block),), *given, dx, dx.numel(), *shape[-2:], x1.shape[-1],
        KIND=kind, COMPUTE=compute_type(dx.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return dx
