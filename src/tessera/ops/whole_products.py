"""Matrix products of integers, exact modulo the size of the type.

Formula:
    out[m, n] = alpha · Σ_k A[m, k] · B[k, n] + beta · bias[m, n]
Shapes: A [batch, M, K], B [batch, K, N], with any strides.
Types: int64 is summed in int64, shorter types in int32.
Source: the page of torch.mm, of integer types
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.launch import launch

BLOCK_ROWS = 8
BLOCK_COLS = 64


@triton.jit
def whole_tiled(
    a, b, bias, out, M, N, K, alpha, beta,
    a_batch, a_m, a_k, b_batch, b_k, b_n, bias_batch, bias_m, bias_n, ACC: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """One [BM, BN] tile of the output a program; grid: (cdiv(M, BM) · cdiv(N, BN), batch)."""
    tiles_n = tl.cdiv(N, BN)
    batch = tl.program_id(1).to(tl.int64)
    rows = (tl.program_id(0) // tiles_n).to(tl.int64) * BM + tl.arange(0, BM)
    cols = (tl.program_id(0) % tiles_n).to(tl.int64) * BN + tl.arange(0, BN)
    acc = tl.zeros([BM, BN], ACC)
    for k in range(K):
        x = tl.load(a + batch * a_batch + rows * a_m + k * a_k, mask=rows < M, other=0).to(ACC)
        y = tl.load(b + batch * b_batch + cols * b_n + k * b_k, mask=cols < N, other=0).to(ACC)
        acc += x[:, None] * y[None, :]
    mask = (rows < M)[:, None] & (cols < N)[None, :]
    acc = acc * tl.cast(alpha, ACC)
    if bias is not None:
        where = batch * bias_batch + (rows * bias_m)[:, None] + (cols * bias_n)[None, :]
        acc += tl.load(bias + where, mask=mask, other=0).to(ACC) * tl.cast(beta, ACC)
    tl.store(out + batch * M * N + (rows * N)[:, None] + cols[None, :], acc.to(out.dtype.element_ty), mask=mask)


def whole_product(
    a: torch.Tensor, b: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor, alpha: int, beta: int
) -> None:
    """Write alpha · a[B, M, K] @ b[B, K, N] + beta · bias[B, M, N] into a contiguous `out`."""
    batch, m, n = out.shape
    launch(
        whole_tiled, (tiles.parts(m, BLOCK_ROWS) * tiles.parts(n, BLOCK_COLS), batch), a, b, bias, out, m, n,
        a.shape[2], alpha, beta, *a.stride(), *b.stride(), *(bias.stride() if bias is not None else (0, 0, 0)),
        ACC=tl.int64 if a.dtype is torch.int64 else tl.int32, BM=BLOCK_ROWS, BN=BLOCK_COLS,
        num_warps=tiles.of(out.device).num_warps,
    )  # fmt: skip
