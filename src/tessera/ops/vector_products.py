"""Products with vectors, as matrix products with one row or one column, and the product of vectors of 3 elements.

Formula:
    mv:    y[m] = Σ_k A[m, k] · v[k];   addmv: beta · y₀ + alpha · A v
    addr:  out[m, n] = beta · out₀[m, n] + alpha · u[m] · v[n]
    dot:   Σ_k u[k] · v[k];   vdot: Σ_k conj(u[k]) · v[k];   trace: Σ_i A[i, i]
    cross: y[i] = a[i + 1] · b[i + 2] - a[i + 2] · b[i + 1], places modulo 3
Shapes: A [M, K]; vectors [K], [M], [N]; what is added broadcasts to the result. cross: vectors of 3 elements along one
dim; the other dims broadcast.
Types: as `matmul.py`: float64, float32, float16, bfloat16 and integers, all operands of one type; trace as sums:
integers give int64.
Limits: operands of one type.
Source: the pages of torch.mv, torch.addmv, torch.dot, torch.addr, torch.trace and torch.linalg.cross
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import functions_math as f
from tessera.ops import matmul, reduce, tiles
from tessera.ops.arithmetic import addcmul
from tessera.ops.complex_numbers import conj_physical, resolved
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, run
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape

# Products that one program sums, of vectors that are longer than two programs' share.
SHARE = 1 << 17


@triton.jit
def dot_parts(x, y, parts, size, x_step, y_step, SHARE: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """parts[p] = Σ x · y over the elements from p · SHARE on; grid: (cdiv(size, SHARE),)."""
    begin = tl.program_id(0).to(tl.int64) * SHARE
    total = tl.zeros([BLOCK], COMPUTE)
    for start in range(begin, tl.minimum(begin + SHARE, size), BLOCK):
        at = start + tl.arange(0, BLOCK)
        a = tl.load(x + at * x_step, mask=at < size, other=0.0).to(COMPUTE)
        b = tl.load(y + at * y_step, mask=at < size, other=0.0).to(COMPUTE)
        total = tl.fma(a, b, total)
    tl.store(parts + tl.program_id(0), tl.sum(total, axis=0))


def _ranks(*wanted: tuple[torch.Tensor, int]) -> None:
    if any(x.dim() != rank for x, rank in wanted):
        raise Declined("operands that do not fit a matrix product")


def mv(self: torch.Tensor, vec: torch.Tensor) -> torch.Tensor:
    """self[M, K] @ vec[K]."""
    _ranks((self, 2), (vec, 1))
    return matmul.mm(self, vec.unsqueeze(1)).squeeze(1)


def addmv(
    self: torch.Tensor, mat: torch.Tensor, vec: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta · self + alpha · mat[M, K] @ vec[K]; self is broadcast."""
    _ranks((mat, 2), (vec, 1))
    if self.dim() > 1 or (self.dim() == 1 and self.shape[0] not in (1, mat.shape[0])):
        raise Declined("operands that do not fit a matrix product")
    column = self.expand(mat.shape[0]).unsqueeze(1)
    return matmul.addmm(column, mat, vec.unsqueeze(1), beta=beta, alpha=alpha).squeeze(1)


def addr(
    self: torch.Tensor, vec1: torch.Tensor, vec2: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta · self + alpha · vec1[M] vec2[N]ᵀ; self is broadcast."""
    _ranks((vec1, 1), (vec2, 1))
    if beta == 1 and self.dtype is vec1.dtype is vec2.dtype and self.is_floating_point():
        # A sum and a product for each element, which a matrix product makes much of.
        whole = matmul.broadcast(self, (vec1.shape[0], vec2.shape[0]))
        return addcmul(whole, vec1.unsqueeze(1), vec2.unsqueeze(0), value=alpha)
    return matmul.addmm(self, vec1.unsqueeze(1), vec2.unsqueeze(0), beta=beta, alpha=alpha)


def dot(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Σ self · other of two vectors."""
    _ranks((self, 1), (other, 1))
    if self.shape != other.shape:
        raise Declined("vectors of two lengths")
    if self.numel() >= 2 * SHARE and self.is_floating_point() and self.dtype is other.dtype:
        return _long_dot(self, other)
    return matmul.mm(self.unsqueeze(0), other.unsqueeze(1)).view(())


def _long_dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    row, size = tiles.of(x.device), x.numel()
    num = tiles.parts(size, SHARE)
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    parts = torch.empty((num,), dtype=wide, device=x.device)
    launch(
        dot_parts, (num,), x, y, parts, size, x.stride(0), y.stride(0),
        SHARE=SHARE, COMPUTE=compute_type(x.dtype), BLOCK=min(row.flat, 8 * row.step), num_warps=row.num_warps,
    )  # fmt: skip
    return reduce.sum_(parts, [0], dtype=x.dtype)


def vdot(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Σ conj(self) · other of two vectors."""
    return dot(conj_physical(resolved(self)) if self.is_complex() else self, other)


def cross(self: torch.Tensor, other: torch.Tensor, *, dim: int = -1) -> torch.Tensor:
    """The cross product of vectors of 3 elements along dim, of one type; the other dims are broadcast."""
    if self.dtype is not other.dtype or self.dim() != other.dim() or not -self.dim() <= dim < self.dim():
        raise Declined("vectors that do not fit each other")
    if self.shape[dim] != 3 or other.shape[dim] != 3 or self.dtype is torch.bool or self.is_complex():
        raise Declined("vectors that do not have 3 elements, or booleans")
    shape = broadcast_shape((tuple(self.shape), tuple(other.shape)))
    out = torch.empty(shape, dtype=self.dtype, device=self.device)
    a, b = (x.expand(shape) for x in (self, other))
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        parts = [x.select(dim, at) for x, at in ((a, j), (b, k), (a, k), (b, j))]
        run(f.difference_of_products, tuple(parts), compute_type(self.dtype), self.dtype, out.select(dim, i))
    return out


def trace(self: torch.Tensor) -> torch.Tensor:
    """The sum of the diagonal of a matrix."""
    _ranks((self, 2))
    return reduce.sum_(self.diagonal(), [0])
