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
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.functions import maximum
from tessera.ops.generate import compute_type, run
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.pointwise import zero_

COUNT, ONE, TWO, MOST, OTHER = (tl.constexpr(kind) for kind in range(5))
_KINDS: dict[float, int] = {0.0: COUNT.value, 1.0: ONE.value, 2.0: TWO.value, math.inf: MOST.value}

# The part of all pairs that a program holds: rows of the one matrix, at the least, and columns, at the most.
_ROWS, _COLUMNS = 4, 64


@triton.jit
def with_difference(total, d, p, KIND: tl.constexpr):
    """`total` with one more difference d of two elements."""
    if KIND == COUNT:
        total += (d != 0).to(total.dtype)
    elif KIND == ONE:
        total += tl.abs(d)
    elif KIND == TWO:
        total = tl.fma(d, d, total)
    elif KIND == MOST:
        total = maximum(total, tl.abs(d))
    else:
        total += libdevice.pow(tl.abs(d).to(tl.float64), p).to(total.dtype)
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
def share(grad, distance):
    """What a difference is multiplied by in the gradient of its root of squares."""
    return tl.where(distance == 0, 0.0, grad / distance).to(grad.dtype)


@triton.jit
def slope(d, distance, p, KIND: tl.constexpr):
    """The derivative of a distance by an element that is larger by d than another; TWO: without `share`."""
    sign = (d > 0).to(d.dtype) - (d < 0).to(d.dtype)
    if KIND == ONE:
        part = sign
    elif KIND == TWO:
        part = d
    elif KIND == MOST:
        part = tl.where(tl.abs(d) == distance, sign, 0.0)
    else:
        ratio = tl.abs(d).to(tl.float64) / distance.to(tl.float64)
        zero = (distance == 0) | ((d == 0) & (p < 1.0))
        part = tl.where(zero, 0.0, sign * libdevice.pow(ratio, p - 1.0)).to(d.dtype)
    return part


@triton.jit
def pairs_begin(i, n):
    """Where the pair (i, j) of n rows is, less j, for j > i."""
    i = tl.cast(i, tl.int64)
    return i * n - ((i * (i + 1)) >> 1) - i - 1


@triton.jit
def pair_distances(
    a, b, y, m, n, width, row_blocks, bits,
    KIND: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """a is [batch, m, width], b is [batch, width, n], y is [batch, m, n], contiguous; `bits` are those of p in float64.

    Grid: (batch · row_blocks, cdiv(n, COLS)), ROWS of m a program.
    """
    batch = (tl.program_id(0) // row_blocks).to(tl.int64)
    i = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)[:, None]
    j = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    left = a + batch * m * width + i.to(tl.int64) * width
    right = b + batch * width * n + j
    total = tl.zeros([ROWS, COLS], COMPUTE)
    for k in range(width):
        mine = tl.load(left + k, mask=i < m, other=0).to(COMPUTE)
        theirs = tl.load(right + tl.cast(k, tl.int64) * n, mask=j < n, other=0)
        total = with_difference(total, mine - theirs, p, KIND)
    at = y + (batch * m + i) * n + j
    tl.store(at, rooted(total, p, KIND).to(y.dtype.element_ty), mask=(i < m) & (j < n))


@triton.jit
def pair_gradient(
    g, a, b, y, da, m, n, width, row_blocks, bits,
    KIND: tl.constexpr, OWN: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """a and da are [batch, m, width], b is [batch, n, width], g and y are [batch, m, n]; TWO: g is the `share`.

    OWN: b is a, g and y are as y in `own_distances`. Grid: (batch · row_blocks, cdiv(width, COLS)).
    """
    batch = (tl.program_id(0) // row_blocks).to(tl.int64)
    i = (tl.program_id(0) % row_blocks) * ROWS + tl.arange(0, ROWS)[:, None]
    k = tl.program_id(1) * COLS + tl.arange(0, COLS)[None, :]
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    at = (batch * m + i) * width + k
    mask = (i < m) & (k < width)
    own = tl.load(a + at, mask=mask, other=0).to(COMPUTE)
    other = b + batch * n * width + k
    total = tl.zeros([ROWS, COLS], COMPUTE)
    for j in range(n):
        d = own - tl.load(other + tl.cast(j, tl.int64) * width, mask=k < width, other=0).to(COMPUTE)
        if OWN:
            pair, valid = tl.where(i < j, pairs_begin(i, n) + j, pairs_begin(j, n) + i), (i < m) & (i != j)
        else:
            pair, valid = (batch * m + i) * n + j, i < m
        grad = tl.load(g + pair, mask=valid, other=0).to(COMPUTE)
        distance = tl.load(y + pair, mask=valid, other=1).to(COMPUTE)
        total += grad * slope(d, distance, p, KIND)
    tl.store(da + at, total.to(da.dtype.element_ty), mask=mask)


@triton.jit
def own_distances(a, b, y, n, width, bits, KIND: tl.constexpr, COMPUTE: tl.constexpr, COLS: tl.constexpr):
    """a is [n, width], b is [width, n] of the same, y is [n · (n - 1) / 2], contiguous; grid: (n - 1,)."""
    i = tl.program_id(0).to(tl.int64)
    p = tl.cast(bits, tl.int64).to(tl.float64, bitcast=True)
    first = pairs_begin(i, n)
    for start in range(i + 1, n, COLS):
        j = start + tl.arange(0, COLS)
        total = tl.zeros([COLS], COMPUTE)
        for k in range(width):
            theirs = tl.load(b + tl.cast(k, tl.int64) * n + j, mask=j < n, other=0)
            total = with_difference(total, tl.load(a + i * width + k).to(COMPUTE) - theirs, p, KIND)
        tl.store(y + first + j, rooted(total, p, KIND).to(y.dtype.element_ty), mask=j < n)


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
    _over_pairs(pair_distances, (x1, x2.mT.contiguous(), y), (m, n, width), p, across=n, KIND=kind)
    return y


def _over_pairs(
    kernel: Any, given: tuple[torch.Tensor, ...], sizes: tuple[int, int, int], p: float, *, across: int, **kind: Any
) -> None:
    """Launch a kernel of which a program has some of the m rows of the first matrix, and columns of `across`."""
    last, row = given[-1], tiles.of(given[-1].device)
    rows, cols = max(_ROWS, row.min_dot), min(_COLUMNS, max(16, tiles.power_of_2(across)))
    blocks = tiles.parts(sizes[0], rows)
    batch = last.numel() // (sizes[0] * across)
    launch(
        kernel, (batch * blocks, tiles.parts(across, cols)), *given, *sizes, blocks, _bits(p), **kind,
        COMPUTE=compute_type(last.dtype), ROWS=rows, COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip


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
    grad, cdist = _weighted(grad, cdist, kind), cdist.contiguous()
    sizes = (*shape[-2:], x1.shape[-1])
    _over_pairs(pair_gradient, (grad, x1, x2, cdist, dx), sizes, p, across=sizes[2], KIND=kind, OWN=False)
    return dx


def _weighted(grad: torch.Tensor, distance: torch.Tensor, kind: int) -> torch.Tensor:
    """What the slopes are multiplied by."""
    if kind != TWO.value:
        return grad.contiguous()
    return run(share, (grad, distance), compute_type(grad.dtype), grad.dtype).contiguous()


def pdist_forward(self: torch.Tensor, p: float = 2.0) -> torch.Tensor:
    """Distances [N · (N - 1) / 2] of each two rows of self[N, K]: (0, 1), (0, 2), …, (1, 2), …; p >= 0."""
    kind = _kind(p, self)
    if self.dim() != 2:
        raise Declined("rows that are no matrix")
    n, width = self.shape
    y = torch.empty((max(0, n * (n - 1) // 2),), dtype=self.dtype, device=self.device)
    if y.numel() == 0 or width == 0:
        return zero_(y, out=y)
    x = self.contiguous()
    launch(
        own_distances, (n - 1,), x, x.mT.contiguous(), y, n, width, _bits(p), KIND=kind,
        COMPUTE=compute_type(y.dtype), COLS=min(_COLUMNS, max(16, tiles.power_of_2(n))),
        num_warps=tiles.of(y.device).num_warps,
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
    x, width = self.contiguous(), self.shape[1]
    given = (_weighted(grad, pdist, kind), x, x, pdist.contiguous(), dx)
    _over_pairs(pair_gradient, given, (n, n, width), p, across=width, KIND=kind, OWN=True)
    return dx
