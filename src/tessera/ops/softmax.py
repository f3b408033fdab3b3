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

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.rows import Rows, row_starts, view

# Columns that a program walks side by side, and from how many on it does; fewer are done as rows of distant elements.
_COLUMNS = 64
_BESIDE = 16


@triton.jit
def further(top, total, v, AXIS: tl.constexpr):
    """(maximum, Σ exp(x - maximum)) of what was seen so far and of the block `v`."""
    higher = tl.maximum(top, tl.max(v, axis=AXIS, keep_dims=True))
    # What is all -inf so far has no maximum to subtract: its exponentials are 0.
    base = tl.where(higher == -float("inf"), 0.0, higher)
    return higher, total * tl.exp(top - base) + tl.sum(tl.exp(v - base), axis=AXIS, keep_dims=True)


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
            top, total = further(top, total, v, 1)
        for start in range(0, n, COLS):
            mask = in_rows & (cols < n - start)
            at = starts + (start + cols).to(tl.int64) * inner
            v = tl.load(x + at, mask=mask, other=-float("inf")).to(COMPUTE) - top
            result = v - tl.log(total) if LOG else tl.exp(v) / total
            tl.store(y + at, result.to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)


@triton.jit
def forward_columns(
    x, y, n, inner,
    LOG: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """COLS columns of [outer, n, inner] a program, ROWS of n at a time; grid: (cdiv(inner, COLS), outer)."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)[None, :]
    rows = tl.arange(0, ROWS)[:, None]
    base = tl.program_id(1).to(tl.int64) * n * inner
    top = tl.full([1, COLS], -float("inf"), COMPUTE)
    total = tl.zeros([1, COLS], COMPUTE)
    for start in range(0, n, ROWS):
        mask = (cols < inner) & (rows < n - start)
        at = base + (start + rows).to(tl.int64) * inner + cols
        top, total = further(top, total, tl.load(x + at, mask=mask, other=-float("inf")).to(COMPUTE), 0)
    rest = tl.log(total) if LOG else 1.0 / total
    for start in range(0, n, ROWS):
        mask = (cols < inner) & (rows < n - start)
        at = base + (start + rows).to(tl.int64) * inner + cols
        v = tl.load(x + at, mask=mask, other=-float("inf")).to(COMPUTE) - top
        result = v - rest if LOG else tl.exp(v) * rest
        tl.store(y + at, result.to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)


@triton.jit
def backward(
    g, y, dx, num, n, inner,
    LOG: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr,
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


@triton.jit
def backward_columns(
    g, y, dx, n, inner,
    LOG: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """As `forward_columns`."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)[None, :]
    rows = tl.arange(0, ROWS)[:, None]
    base = tl.program_id(1).to(tl.int64) * n * inner
    total = tl.zeros([1, COLS], COMPUTE)
    for start in range(0, n, ROWS):
        mask = (cols < inner) & (rows < n - start)
        at = base + (start + rows).to(tl.int64) * inner + cols
        part = tl.load(g + at, mask=mask, other=0.0).to(COMPUTE)
        if not LOG:
            part *= tl.load(y + at, mask=mask, other=0.0).to(COMPUTE)
        total += tl.sum(part, axis=0, keep_dims=True)
    for start in range(0, n, ROWS):
        mask = (cols < inner) & (rows < n - start)
        at = base + (start + rows).to(tl.int64) * inner + cols
        gv = tl.load(g + at, mask=mask, other=0.0).to(COMPUTE)
        yv = tl.load(y + at, mask=mask, other=0.0).to(COMPUTE)
        result = gv - tl.exp(yv) * total if LOG else (gv - total) * yv
        tl.store(dx + at, result.to(dx.dtype.element_ty), mask=mask, cache_modifier=STORE)


def _over_columns(kernel: Any, rows: Rows, given: tuple[torch.Tensor, ...], out: torch.Tensor, log: bool) -> None:
    """Launch a kernel whose rows are the columns of [outer, n, inner], with neighbours beside each other."""
    row = tiles.of(out.device)
    cols = tiles.block(rows.inner, _COLUMNS)
    launch(
        kernel, (tiles.parts(rows.inner, cols), rows.num // rows.inner), *given, out, rows.n, rows.inner,
        LOG=log, COMPUTE=compute_type(out.dtype), STORE=tiles.store_modifier(out),
        ROWS=tiles.block(rows.n, max(1, row.row // cols)), COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip


def _forward(x: torch.Tensor, dim: int, half_to_float: bool, log: bool) -> torch.Tensor:
    if half_to_float or not x.is_floating_point():
        raise Declined("softmax with a change of type")
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if y.numel() == 0:
        return y
    rows = view(x, dim)
    if rows.inner >= _BESIDE:
        _over_columns(forward_columns, rows, (x.contiguous(),), y, log)
        return y
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
    if rows.inner >= _BESIDE:
        _over_columns(backward_columns, rows, (g.contiguous(), y.contiguous()), dx, log)
        return dx
    launch(
        backward, rows.grid, g.contiguous(), y.contiguous(), dx, rows.num, rows.n, rows.inner,
        LOG=log, COMPUTE=compute_type(y.dtype), STORE=tiles.store_modifier(dx),
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
