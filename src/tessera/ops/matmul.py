"""Matrix products: out = alpha · A @ B + beta · bias, over a batch, with any strides.

A transposed weight needs no copy: strides are passed as they are. One row times a matrix whose columns or rows are
contiguous (a decode step's Linear, a product with a vector) has kernels of its own, bound by the reading of B. Integers
go through `whole_products.py`.

Formula:
    out[m, n] = alpha · Σ_k A[m, k] · B[k, n] + beta · bias[m, n]
Shapes: A [M, K], B [K, N] or [batch, M, K], [batch, K, N]; the bias broadcasts to the result; out is contiguous.
Types: float64, float32, float16 and bfloat16, summed in float32 (float64 for float64) and rounded once; int64, int32,
int16, int8 and uint8, exact modulo the size of the type.
Complex numbers are products of real matrices twice as wide: of [Re A, Im A] and [[Re B, Im B], [-Im B, Re B]], with
the parts of a number next to each other.
Limits: operands of one type; factors of integers must be whole.
Source: the pages of torch.mm, torch.addmm, torch.bmm and torch.baddbmm; Goto and van de Geijn, "Anatomy of
High-Performance Matrix Multiplication", ACM Transactions on Mathematical Software 34(3), 2008, for tiles and packing
on CPUs
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import tiles
from tessera.ops.complex_numbers import resolved
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, Promotion, apply, compute_type, run
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_, zero_
from tessera.ops.whole_products import whole_product

_TYPES = (
    torch.float32, torch.bfloat16, torch.float16, torch.float64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.complex64, torch.complex128,
)  # fmt: skip
# Of one row across a matrix: columns whose sums stay in registers, and products that are summed one after the other
# before their sum is added to others, which keeps rounding errors small.
_ACROSS = 256
_CHAIN = 64


@triton.jit
def epilogue(acc, bias, where, mask, alpha, beta, BIAS: tl.constexpr, SCALED: tl.constexpr):
    """acc · alpha + bias · beta; `where` are the offsets into bias."""
    if SCALED:
        acc = acc * tl.cast(alpha, acc.dtype)
    if BIAS:
        added = tl.load(bias + where, mask=mask, other=0.0).to(acc.dtype)
        if SCALED:
            added = added * tl.cast(beta, acc.dtype)
        acc = acc + added
    return acc


@triton.jit
def tiled(
    a, b, bias, out, M, N, K, alpha: tl.float64, beta: tl.float64,
    a_batch, a_m, a_k, b_batch, b_k, b_n, bias_batch, bias_m, bias_n,
    BIAS: tl.constexpr, SCALED: tl.constexpr, ACC: tl.constexpr, EVEN_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """One [BM, BN] tile of the output a program; grid: (cdiv(M, BM) · cdiv(N, BN), batch)."""
    tiles_n = tl.cdiv(N, BN)
    batch = tl.program_id(1).to(tl.int64)
    rows = (tl.program_id(0) // tiles_n).to(tl.int64) * BM + tl.arange(0, BM)
    cols = (tl.program_id(0) % tiles_n).to(tl.int64) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    in_rows = (rows < M)[:, None]
    in_cols = (cols < N)[None, :]
    a_at = a + batch * a_batch + (rows * a_m)[:, None] + (depth * a_k)[None, :]
    b_at = b + batch * b_batch + (depth * b_k)[:, None] + (cols * b_n)[None, :]
    acc = tl.zeros([BM, BN], ACC)
    for k in range(0, K, BK):
        if EVEN_K:
            x = tl.load(a_at, mask=in_rows, other=0.0)
            y = tl.load(b_at, mask=in_cols, other=0.0)
        else:
            x = tl.load(a_at, mask=in_rows & (depth < K - k)[None, :], other=0.0)
            y = tl.load(b_at, mask=in_cols & (depth < K - k)[:, None], other=0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee", out_dtype=ACC)
        a_at += BK * a_k
        b_at += BK * b_k
    mask = in_rows & in_cols
    where = batch * bias_batch + (rows * bias_m)[:, None] + (cols * bias_n)[None, :]
    acc = epilogue(acc, bias, where, mask, alpha, beta, BIAS, SCALED)
    tl.store(out + batch * M * N + (rows * N)[:, None] + cols[None, :], acc.to(out.dtype.element_ty), mask=mask)


@triton.jit
def one_row(
    a, b, bias, out, N, K, alpha: tl.float64, beta: tl.float64, a_batch, a_k, b_batch, b_n, bias_batch, bias_n,
    BIAS: tl.constexpr, SCALED: tl.constexpr, ACC: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[n] = Σ_k a[k] · b[k, n] where b[:, n] is contiguous; grid: (cdiv(N, BN), batch)."""
    batch = tl.program_id(1).to(tl.int64)
    cols = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    in_cols = cols < N
    b_at = b + batch * b_batch + (cols * b_n)[:, None] + depth[None, :]
    a_at = a + batch * a_batch + depth * a_k
    total = tl.zeros([BN], ACC)
    for k in range(0, K, BK):
        in_depth = depth < K - k
        x = tl.load(a_at + k * a_k, mask=in_depth, other=0.0).to(ACC)
        y = tl.load(b_at + k, mask=in_cols[:, None] & in_depth[None, :], other=0.0).to(ACC)
        total += tl.sum(y * x[None, :], axis=1)
    total = epilogue(total, bias, batch * bias_batch + cols * bias_n, in_cols, alpha, beta, BIAS, SCALED)
    tl.store(out + batch * N + cols, total.to(out.dtype.element_ty), mask=in_cols)


@triton.jit
def one_row_across(
    a, b, bias, out, N, K, alpha: tl.float64, beta: tl.float64, a_batch, a_k, b_batch, b_k, bias_batch, bias_n,
    BIAS: tl.constexpr, SCALED: tl.constexpr, ACC: tl.constexpr, BN: tl.constexpr, CHAIN: tl.constexpr,
):  # fmt: skip
    """out[n] = Σ_k a[k] · b[k, n] where b[k, :] is contiguous; CHAIN products are summed one after the other.

    grid: (cdiv(N, BN), batch).
    """
    batch = tl.program_id(1).to(tl.int64)
    cols = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    in_cols = cols < N
    a_at = a + batch * a_batch
    b_at = b + batch * b_batch + cols
    total = tl.zeros([BN], ACC)
    for first in range(0, K, CHAIN):
        part = tl.zeros([BN], ACC)
        for k in range(first, tl.minimum(first + CHAIN, K)):
            x = tl.load(a_at + tl.cast(k, tl.int64) * a_k).to(ACC)
            part += x * tl.load(b_at + tl.cast(k, tl.int64) * b_k, mask=in_cols, other=0.0).to(ACC)
        total += part
    total = epilogue(total, bias, batch * bias_batch + cols * bias_n, in_cols, alpha, beta, BIAS, SCALED)
    tl.store(out + batch * N + cols, total.to(out.dtype.element_ty), mask=in_cols)


def _product(
    a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None = None, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """alpha · a[B, M, K] @ b[B, K, N] + beta · bias[B, M, N], bias with stride 0 where it is broadcast."""
    batch, m, k = a.shape
    n = b.shape[2]
    if beta == 0:
        bias = None
    if a.is_complex():
        return _complex_product(a, b, bias, beta, alpha)
    if n == 1 < m:
        # One column is one row of the transposed product.
        across = None if bias is None else bias.transpose(1, 2)
        return _product(b.transpose(1, 2), a.transpose(1, 2), across, beta, alpha).view(batch, m, 1)
    out = torch.empty((batch, m, n), dtype=a.dtype, device=a.device)
    if out.numel() == 0:
        return out
    if k == 0 and bias is None:
        return zero_(out, out=out)
    if not a.dtype.is_floating_point:
        if int(alpha) != alpha or int(beta) != beta:
            raise Declined("a fractional number for an integer result")
        whole_product(a, b, bias, out, int(alpha), int(beta))
        return out
    scaled = not (alpha == 1 and (beta == 1 or bias is None))
    one_row_fits = m == 1 and k > 1 and 1 in (b.stride(1), b.stride(2))
    start = _launch_one_row if one_row_fits else _launch_tiled
    start(a, b, bias, out, float(alpha), float(beta), scaled)
    return out


def _complex_product(
    a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None, beta: Operand, alpha: Operand
) -> torch.Tensor:
    """`_product` of complex numbers: one product of real matrices, and what is added to it, element by element."""
    a, b = resolved(a), resolved(b)
    batch, m, k = a.shape
    n = b.shape[2]
    given = torch.view_as_real(a.contiguous()).view(batch, m, 2 * k)
    wide = torch.empty((batch, k, 2, n, 2), dtype=given.dtype, device=b.device)
    pairs = torch.view_as_real(b)
    copy_(wide[:, :, 0], pairs, out=wide[:, :, 0])
    copy_(wide[:, :, 1, :, 1], pairs[..., 0], out=wide[:, :, 1, :, 1])
    run(f.neg, (pairs[..., 1],), compute_type(given.dtype), given.dtype, wide[:, :, 1, :, 0])
    found = torch.view_as_complex(_product(given, wide.view(batch, 2 * k, 2 * n)).view(batch, m, n, 2))
    if alpha != 1:
        found = apply(f.mul, (found, alpha), Promotion.SAME)
    if bias is None:
        return found
    added = resolved(bias) if beta == 1 else apply(f.mul, (resolved(bias), beta), Promotion.SAME)
    total = torch.empty((batch, m, n), dtype=a.dtype, device=a.device)
    return apply(f.add, (found, added), Promotion.SAME, total)


def _sums_in(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype is torch.float64 else tl.float32


def _launch_tiled(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    alpha: float,
    beta: float,
    scaled: bool,
) -> None:
    batch, m, n = out.shape
    k = a.shape[2]
    row = tiles.of(out.device)
    bm, bn, bk = tiles.matmul(out.device, batch, m, n, k)
    grid = (tiles.parts(m, bm) * tiles.parts(n, bn), batch)
    launch(
        tiled, grid, a, b, bias, out, m, n, k, alpha, beta, *a.stride(), *b.stride(),
        *(bias.stride() if bias is not None else (0, 0, 0)),
        BIAS=bias is not None, SCALED=scaled, ACC=_sums_in(a.dtype), EVEN_K=k % bk == 0,
        BM=bm, BN=bn, BK=bk, num_warps=row.num_warps,
    )  # fmt: skip


def _launch_one_row(
    a: torch.Tensor,
    b: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    alpha: float,
    beta: float,
    scaled: bool,
) -> None:
    """One row times a matrix whose columns are contiguous, or whose rows are."""
    batch, _, n = out.shape
    k, row = a.shape[2], tiles.of(out.device)
    down = b.stride(1) == 1
    # Whole columns of B where they fit: memory is then read in order.
    bk = min(tiles.power_of_2(k), row.longest_row // 8)
    bn = min(tiles.power_of_2(n), max(1, 4 * row.row // bk) if down else _ACROSS)
    sizes = {"BK": bk} if down else {"CHAIN": _CHAIN}
    bias_batch, _, bias_n = bias.stride() if bias is not None else (0, 0, 0)
    launch(
        one_row if down else one_row_across, (tiles.parts(n, bn), batch), a, b, bias, out, n, k, alpha, beta,
        a.stride(0), a.stride(2), b.stride(0), b.stride(2 if down else 1), bias_batch, bias_n,
        BIAS=bias is not None, SCALED=scaled, ACC=_sums_in(a.dtype), BN=bn, **sizes, num_warps=row.num_warps,
    )  # fmt: skip


def _check(a: torch.Tensor, b: torch.Tensor, rank: int) -> None:
    """Decline what is not a product of two matrices of one type; the vendor words the error."""
    if a.dtype not in _TYPES:
        raise Declined("matrix products of this type")
    if a.dtype is not b.dtype or a.dim() != rank or b.dim() != rank or a.shape[-1] != b.shape[-2]:
        raise Declined("operands that do not fit a matrix product")
    if rank == 3 and a.shape[0] != b.shape[0]:
        raise Declined("operands that do not fit a matrix product")


def _bias(self: torch.Tensor, a: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if self.dtype is not a.dtype:
        raise Declined("operands that do not fit a matrix product")
    return broadcast(self, shape)


def broadcast(self: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """What is added to a product, as a view of the product's shape."""
    try:
        return self.expand(shape)
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error


def mm(self: torch.Tensor, mat2: torch.Tensor) -> torch.Tensor:
    """self[M, K] @ mat2[K, N]."""
    _check(self, mat2, 2)
    return _product(self.unsqueeze(0), mat2.unsqueeze(0)).squeeze(0)


def addmm(
    self: torch.Tensor, mat1: torch.Tensor, mat2: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta · self + alpha · mat1[M, K] @ mat2[K, N]; self is broadcast."""
    _check(mat1, mat2, 2)
    bias = _bias(self, mat1, (mat1.shape[0], mat2.shape[1])).unsqueeze(0)
    return _product(mat1.unsqueeze(0), mat2.unsqueeze(0), bias, beta, alpha).squeeze(0)


def bmm(self: torch.Tensor, mat2: torch.Tensor) -> torch.Tensor:
    """self[B, M, K] @ mat2[B, K, N]."""
    _check(self, mat2, 3)
    return _product(self, mat2)


def baddbmm(
    self: torch.Tensor, batch1: torch.Tensor, batch2: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta · self + alpha · batch1[B, M, K] @ batch2[B, K, N]; self is broadcast."""
    _check(batch1, batch2, 3)
    bias = _bias(self, batch1, (batch1.shape[0], batch1.shape[1], batch2.shape[2]))
    return _product(batch1, batch2, bias, beta, alpha)


def addbmm(
    self: torch.Tensor, batch1: torch.Tensor, batch2: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    """beta · self + alpha · Σ_b batch1[b, M, K] @ batch2[b, K, N], as one product over batch and K."""
    _check(batch1, batch2, 3)
    batch, m, k = batch1.shape
    beside = torch.empty((m, batch, k), dtype=batch1.dtype, device=batch1.device)
    copy_(beside, resolved(batch1).movedim(0, 1), out=beside)
    below = resolved(batch2).contiguous().view(batch * k, batch2.shape[2])
    return addmm(self, beside.view(m, batch * k), below, beta=beta, alpha=alpha)
