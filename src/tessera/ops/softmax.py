"""Softmax and its logarithm along one dim, forward and backward.

A row that does not fit one block is walked twice, with a running maximum.

Formula:
    forward:  y = exp(x - max) / Σ exp(x - max)      log: y = x - max - log Σ exp(x - max)
    backward: dx = (g - Σ g·y) · y                   log: dx = g - exp(y) · Σ g
Shapes: x of any shape, along any one dim; y, g and dx like it.
Types: float64, float32, float16 and bfloat16, computed in float32 (float64 for float64).
Limits: no change of type inside the operator, which PyTorch has on GPUs alone.
Source: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867; the pages of
torch.softmax and torch.log_softmax
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.rows import row_starts, view


@triton.jit
def forward(
    x, y, num, n, inner,
    LOG: tl.constexpr, WHOLE: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLS] of rows a program; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = row_starts(rows, n, inner)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    in_rows = (rows < num)[:, None]
    if WHOLE:
        mask = in_rows & (cols < n)
        at = starts + cols * inner
        v = tl.load(x + at, mask=mask, other=-float("inf")).to(COMPUTE)
        v = v - tl.max(v, axis=1)[:, None]
        e = tl.exp(v)
        total = tl.sum(e, axis=1)[:, None]
        result = v - tl.log(total) if LOG else e / total
        tl.store(y + at, result.to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)
    else:
        top = tl.full([ROWS, 1], -float("inf"), COMPUTE)
        total = tl.zeros([ROWS, 1], COMPUTE)
        for start in range(0, n, COLS):
            mask = in_rows & (cols < n - start)
            v = tl.load(x + starts + (start + cols).to(tl.int64) * inner, mask=mask, other=-float("inf")).to(COMPUTE)
            higher = tl.maximum(top, tl.max(v, axis=1)[:, None])
            # A row of -inf so far has no maximum to subtract: its exponentials are 0.
            base = tl.where(higher == -float("inf"), 0.0, higher)
            total = total * tl.exp(top - base) + tl.sum(tl.exp(v - base), axis=1)[:, None]
            top = higher
        for start in range(0, n, COLS):
            mask = in_rows & (cols < n - start)
            at = starts + (start + cols).to(tl.int64) * inner
            v = tl.load(x + at, mask=mask, other=-float("inf")).to(COMPUTE) - top
            result = v - tl.log(total) if LOG else tl.exp(v) / total
            tl.store(y + at, result.to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)


@triton.jit
def backward(
    g, y, dx, num, n, inner,
    LOG: tl.constexpr, WHOLE: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLS] of rows a program; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = row_starts(rows, n, inner)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    in_rows = (rows < num)[:, None]
    total = tl.zeros([ROWS, 1], COMPUTE)
    for start in range(0, n, COLS):
        mask = in_rows & (cols < n - start)
        at = starts + (start + cols).to(tl.int64) * inner
        part = tl.load(g + at, mask=mask, other=0.0).to(COMPUTE)
        if not LOG:
            part *= tl.load(y + at, mask=mask, other=0.0).to(COMPUTE)
        total += tl.sum(part, axis=1)[:, None]
    for start in range(0, n, COLS):
        mask = in_rows & (cols < n - start)
        at = starts + (start + cols).to(tl.int64) * inner
        gv = tl.load(g + at, mask=mask, other=0.0).to(COMPUTE)
        yv = tl.load(y + at, mask=mask, other=0.0).to(COMPUTE)
        result = gv - tl.exp(yv) * total if LOG else (gv - total) * yv
        tl.store(dx + at, result.to(dx.dtype.element_ty), mask=mask, cache_modifier=STORE)


def _forward(x: torch.Tensor, dim: int, half_to_float: bool, log: bool) -> torch.Tensor:
    if half_to_float or not x.is_floating_point():
        raise Declined("softmax with a change of type")
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel() == 0:
        return y
    rows = view(x, dim)
    launch(
        forward, rows.grid, x.contiguous(), y, rows.num, rows.n, rows.inner,
        LOG=log, WHOLE=rows.whole, COMPUTE=compute_type(x.dtype), STORE=tiles.store_modifier(y),
        ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
    )  # fmt: skip
    return y


def _backward(g: torch.Tensor, y: torch.Tensor, dim: int, input_dtype: torch.dtype, log: bool) -> torch.Tensor:
    if not (g.dtype is y.dtype is input_dtype) or not g.is_floating_point():
        raise Declined("softmax with a change of type")
    dx = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    if y.numel() == 0:
        return dx
    rows = view(y, dim)
    launch(
        backward, rows.grid, g.contiguous(), y.contiguous(), dx, rows.num, rows.n, rows.inner,
        LOG=log, WHOLE=rows.whole, COMPUTE=compute_type(y.dtype), STORE=tiles.store_modifier(dx),
        ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
    )  # fmt: skip
    return dx


def softmax(self: torch.Tensor, dim: int, half_to_float: bool) -> torch.Tensor:
    """exp(x) / Σ exp(x) along `dim`."""
    return _forward(self, dim, half_to_float, log=False)


def log_softmax(self: torch.Tensor, dim: int, half_to_float: bool) -> torch.Tensor:
    """x - log Σ exp(x) along `dim`."""
    return _forward(self, dim, half_to_float, log=True)


def softmax_backward(
    grad_output: torch.Tensor, output: torch.Tensor, dim: int, input_dtype: torch.dtype
) -> torch.Tensor:
    """(g - Σ g·y) · y along `dim`."""
    return _backward(grad_output, output, dim, input_dtype, log=False)


def log_softmax_backward(
    grad_output: torch.Tensor, output: torch.Tensor, dim: int, input_dtype: torch.dtype
) -> torch.Tensor:
    """g - exp(y) · Σ g along `dim`."""
    return _backward(grad_output, output, dim, input_dtype, log=True)
