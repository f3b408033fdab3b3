"""Distances between rows: of two matrices in every pair, of one matrix in each pair once; with their gradients.

Each distance is computed directly, never from a product of the matrices, which would lose digits of rows that lie close
together.

Formula:
    cdist:    y[i, j] = (Σ_k |a[i, k] - b[j, k]|^p)^(1/p)
              p = 0: how many k differ,  p = ∞: max_k |a[i, k] - b[j, k]|
    pdist:    the same of a with itself, for i < j, one pair after the other
    backward: da[i, k] = Σ_j g[i, j] · sign(d) · (|d| / y[i, j])^(p - 1) with d = a[i, k] - b[j, k]; 0 where y is 0
Shapes: cdist: a [..., M, K], b [..., N, K], whose leading dims broadcast; y and g [..., M, N]. pdist: a [N, K]; y and g
[N · (N - 1) / 2].
Types: float64 and float32, the same for all.
Limits: p of 0 or more.
Source: the pages of torch.cdist and torch.nn.functional.pdist
"""

from __future__ import annotations

import math
import struct

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.functions import maximum
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.pointwise import zero_

COUNT, ONE, TWO, MOST, OTHER = (tl.constexpr(kind) for kind in range(5))
_KINDS: dict[float, int] = {0.0: COUNT.value, 1.0: ONE.value, 2.0: TWO.value, math.inf: MOST.value}


@triton.jit
def with_difference(total, d, p, KIND: tl.constexpr):
    """`total` with one more difference d >= 0 of two elements."""
    if KIND == COUNT:
        total += (d != 0).to(total.dtype)
    elif KIND == ONE:
        total += d
    elif KIND == TWO:
        total += d * d
    elif KIND == MOST:
        total = maximum(total, d)
    else:
        total += libdevice.pow(d.to(tl.float64), p).to(total.dtype)
    return total


@triton.jit
def rooted(total, p, KIND: tl.constexpr):
    """The distance whose differences sum up to `total`."""
    if KIND == TWO:
        total = tl.sqrt(total)
    elif KIND == OTHER:
        total = libdevice.pow(total.to(tl.float64), 1.0 / p).to(total.dtype)
    return total


@triton.jit
def slope(d, distance, p, KIND: tl.constexpr):
    """The derivative of a distance by an element that is larger by d than what it is compared with."""
    sign = (d > 0).to(d.dtype) - (d < 0).to(d.dtype)
    if KIND == ONE:
        part = sign
    elif KIND == TWO:
        part = tl.where(distance == 0, 0.0, d / distance)
    elif KIND == MOST:
        part = tl.where(tl.abs(d) == distance, sign, 0.0)
    else:
        ratio = tl.abs(d).to(tl.float64) / distance.to(tl.float64)
        zero = (distance == 0) | ((d == 0) & (p < 1.0))
        part = tl.where(zero, 0.0, sign * libdevice.pow(ratio, p - 1.0)).to(d.dtype)
    return part


@triton.jit
def pair_distances(a, b, y, numel, m, n, width, bits, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """a is [batch, m, width], b is [batch, n, width], y is [batch, m, n], contiguous; `bits` are those of p in float64.

    Grid: (cdiv(numel, BLOCK),).
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    left = a + (at // n) * width
    right = b + ((at // n // m) * n + at % n) * width
    total = tl.zeros([BLOCK], COMPUTE)
    for k in range(width):
        d = tl.abs(tl.load(left + k, mask=mask, other=0).to(COMPUTE) - tl.load(right + k, mask=mask, other=0))
        total = with_difference(total, d, p, KIND)
    tl.store(y + at, rooted(total, p, KIND).to(y.dtype.element_ty), mask=mask)


@triton.jit
def pair_gradient(
    g, a, b, y, da, numel, m, n, width, bits, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """da is [batch, m, width]; the others as in `pair_distances`. Grid: (cdiv(numel of da, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    row = at // width
    own = tl.load(a + at, mask=mask, other=0).to(COMPUTE)
    other = b + (row // m) * n * width + at % width
    total = tl.zeros([BLOCK], COMPUTE)
    for j in range(n):
        d = own - tl.load(other + j * width, mask=mask, other=0).to(COMPUTE)
        distance = tl.load(y + row * n + j, mask=mask, other=1).to(COMPUTE)
        grad = tl.load(g + row * n + j, mask=mask, other=0).to(COMPUTE)
        total += grad * slope(d, distance, p, KIND)
    tl.store(da + at, total.to(da.dtype.element_ty), mask=mask)


@triton.jit
def own_distances(a, y, n, width, bits, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """a is [n, width], y is [n · (n - 1) / 2], contiguous; grid: (cdiv(n - 1, BLOCK), n - 1): partners and rows."""
    i = tl.program_id(1).to(tl.int64)
    j = i + 1 + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = j < n
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    total = tl.zeros([BLOCK], COMPUTE)
    for k in range(width):
        d = tl.abs(tl.load(a + i * width + k).to(COMPUTE) - tl.load(a + j * width + k, mask=mask, other=0))
        total = with_difference(total, d, p, KIND)
    first = i * n - i * (i + 1) // 2 - i - 1
    tl.store(y + first + j, rooted(total, p, KIND).to(y.dtype.element_ty), mask=mask)


@triton.jit
def own_gradient(
    g, a, y, da, numel, n, width, bits, KIND: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """da is [n, width]; the others as in `own_distances`, g as y. Grid: (cdiv(numel of da, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    i = at // width
    own = tl.load(a + at, mask=at < numel, other=0).to(COMPUTE)
    total = tl.zeros([BLOCK], COMPUTE)
    for j in range(n):
        mask = (at < numel) & (i != j)
        low, high = tl.minimum(i, j), tl.maximum(i, j)
        pair = low * n - low * (low + 1) // 2 - low - 1 + high
        d = own - tl.load(a + j * width + at % width, mask=mask, other=0).to(COMPUTE)
        distance = tl.load(y + pair, mask=mask, other=1).to(COMPUTE)
        part = tl.load(g + pair, mask=mask, other=0).to(COMPUTE) * slope(d, distance, p, KIND)
        total += tl.where(mask, part, 0.0)
    tl.store(da + at, total.to(da.dtype.element_ty), mask=at < numel)


def _kind(p: float, *rows: torch.Tensor) -> int:
    if any(x.dtype not in (torch.float32, torch.float64) or x.dtype is not rows[0].dtype for x in rows):
        raise Declined("distances of this type")
    if not p >= 0:
        raise Declined("a negative power")
    kind: int = _KINDS.get(p, OTHER.value)
    return kind


def _bits(p: float) -> int:
    """p as an int64, because a Python float reaches a kernel as float32."""
    bits: int = struct.unpack("<q", struct.pack("<d", p))[0]
    return bits


def _together(x1: torch.Tensor, x2: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with the same batch dims, contiguous."""
    if min(x1.dim(), x2.dim()) < 2 or x1.shape[-1] != x2.shape[-1]:
        raise Declined("matrices that do not fit each other")
    batch = broadcast_shape((tuple(x1.shape[:-2]), tuple(x2.shape[:-2])))
    first, second = (x.expand(*batch, *x.shape[-2:]).contiguous() for x in (x1, x2))
    return first, second


def cdist_forward(x1: torch.Tensor, x2: torch.Tensor, p: float, compute_mode: int | None) -> torch.Tensor:
    """Distances [..., M, N] of the rows of x1[..., M, K] from those of x2[..., N, K]; each is computed directly.

    The batch dims are broadcast; float32 and float64, p >= 0.
    """
    kind = _kind(p, x1, x2)
    x1, x2 = _together(x1, x2)
    m, n, width = x1.shape[-2], x2.shape[-2], x1.shape[-1]
    y = torch.empty((*x1.shape[:-1], n), dtype=x1.dtype, device=x1.device)
    if y.numel() == 0 or width == 0:
        return zero_(y, out=y)
    row = tiles.of(y.device)
    block = tiles.block(y.numel(), row.row // 4)
    launch(
        pair_distances, (triton.cdiv(y.numel(), block),), x1, x2, y, y.numel(), m, n, width, _bits(p),
        KIND=kind, COMPUTE=compute_type(y.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return y


def cdist_backward(
    grad: torch.Tensor, x1: torch.Tensor, x2: torch.Tensor, p: float, cdist: torch.Tensor
) -> torch.Tensor:
    """The gradient of `cdist_forward` by x1 as it was broadcast, [..., M, K]."""
    kind = _kind(p, x1, x2, grad)
    x1, x2 = _together(x1, x2)
    shape = (*x1.shape[:-1], x2.shape[-2])
    if tuple(grad.shape) != shape or tuple(cdist.shape) != shape:
        raise Declined("a gradient of another shape")
    dx = torch.empty(x1.shape, dtype=x1.dtype, device=x1.device)
    if dx.numel() == 0 or grad.numel() == 0 or kind == COUNT.value:
        return zero_(dx, out=dx)
    row = tiles.of(dx.device)
    block = tiles.block(dx.numel(), row.row // 4)
    given = (grad.contiguous(), x1, x2, cdist.contiguous())
    launch(
        pair_gradient, (triton.cdiv(dx.numel(), block),), *given, dx, dx.numel(), *shape[-2:], x1.shape[-1], _bits(p),
        KIND=kind, COMPUTE=compute_type(dx.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return dx


def pdist_forward(self: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances [N · (N - 1) / 2] of each two rows of self[N, K]: (0, 1), (0, 2), …, (1, 2), …; p >= 0."""
    kind = _kind(p, self)
    if self.dim() != 2:
        raise Declined("rows that are no matrix")
    n, width = self.shape
    y = torch.empty((max(0, n * (n - 1) // 2),), dtype=self.dtype, device=self.device)
    if y.numel() == 0 or width == 0:
        return zero_(y, out=y)
    row = tiles.of(y.device)
    block = tiles.block(n - 1, row.row // 4)
    launch(
        own_distances, (triton.cdiv(n - 1, block), n - 1), self.contiguous(), y, n, width, _bits(p),
        KIND=kind, COMPUTE=compute_type(y.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return y


def pdist_backward(grad: torch.Tensor, self: torch.Tensor, p: float, pdist: torch.Tensor) -> torch.Tensor:
    """The gradient [N, K] of `pdist_forward`, whose result is `pdist`."""
    kind = _kind(p, self, grad, pdist)
    n = self.shape[0] if self.dim() == 2 else 0
    if self.dim() != 2 or grad.shape != pdist.shape or grad.numel() != n * (n - 1) // 2:
        raise Declined("a gradient of another shape")
    dx = torch.empty(self.shape, dtype=self.dtype, device=self.device)
    if dx.numel() == 0 or grad.numel() == 0 or kind == COUNT.value:
        return zero_(dx, out=dx)
    row = tiles.of(dx.device)
    block = tiles.block(dx.numel(), row.row // 4)
    given = (grad.contiguous(), self.contiguous(), pdist.contiguous())
    launch(
        own_gradient, (triton.cdiv(dx.numel(), block),), *given, dx, dx.numel(), *self.shape, _bits(p),
        KIND=kind, COMPUTE=compute_type(dx.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return dx
