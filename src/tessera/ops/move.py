"""Making and moving: cat, ranges, running sums and products, membership.

Formula:
    cat:      rows of all parts one after the other; one strided copy a part where they lie otherwise in memory
    arange:   out[i] = start + i · step;  linspace: n numbers from start to end, counted from the nearer end
    cumsum:   y[i] = Σ_{j≤i} x[j];  cumprod: y[i] = Π_{j≤i} x[j], along a dim
    isin:     out[i] = any_j x[i] == t[j]
Shapes: cat: parts that are equal but for one dim; running sums: any shape; ranges: one dim, contiguous.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8 and uint8; cat and isin also bool; cat and cumsum
also complex numbers. Running sums and products are computed in float32 for the half types and give int64 for integers.
Limits: ranges between whole numbers of up to 2^53; isin among up to 64 elements of one type (PyTorch sorts beyond).
Source: the pages of torch.cat, torch.arange, torch.linspace, torch.cumsum and torch.isin
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops import functions as f
from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.foreach import table
from tessera.ops.generate import Operand, compute_type, run, storage_type
from tessera.ops.launch import Addresses, fixed, launch
from tessera.ops.pointwise import copy_
from tessera.ops.rows import columns_at_once, columns_grid, view

MOST_TESTED = 64
# Parts with shorter rows are not worth a walk along each.
LEAST_ROW_BYTES = 64
_WORDS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_TRITON = {torch.int8: tl.int8, torch.int16: tl.int16, torch.int32: tl.int32, torch.int64: tl.int64}
# Above it float64, in which a range reaches its kernel, skips integers.
LARGEST_WHOLE = 2**53


@triton.jit
def count(out, size, start: tl.float64, step: tl.float64, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = start + i · step, in COMPUTE; grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.cast(start, COMPUTE) + at.to(COMPUTE) * tl.cast(step, COMPUTE)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=at < size)


@triton.jit
def spread(out, steps, start: tl.float64, end: tl.float64, step: tl.float64, base: tl.float64,
           LOG: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """out[i]: `steps` numbers from start to end, counted from the nearer end; LOG: base to the power of that."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.where(at < steps // 2, start + at.to(tl.float64) * step, end - (steps - 1 - at).to(tl.float64) * step)
    if LOG:
        value = libdevice.pow(tl.zeros([BLOCK], tl.float64) + base, value)
    tl.store(out + at, value.to(out.dtype.element_ty), mask=at < steps)


@triton.jit
def cumulate(x, y, num, n, PRODUCT: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Running sums, or products, of contiguous rows of n; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = rows[:, None] * n
    cols = tl.arange(0, COLS)[None, :]
    in_rows = (rows < num)[:, None]
    before = tl.full([ROWS, 1], 1 if PRODUCT else 0, COMPUTE)
    for start in range(0, n, COLS):
        mask = in_rows & (cols < n - start)
        at = starts + start + cols
        if PRODUCT:
            v = tl.load(x + at, mask=mask, other=1).to(COMPUTE)
            v = tl.associative_scan(v, 1, f.mul) * before
            before = before * tl.reduce(tl.load(x + at, mask=mask, other=1).to(COMPUTE), 1, f.mul)[:, None]
        else:
            v = tl.load(x + at, mask=mask, other=0).to(COMPUTE)
            total = tl.sum(v, axis=1)[:, None].to(COMPUTE)
            v = tl.cumsum(v, axis=1) + before
            before += total
        tl.store(y + at, v.to(y.dtype.element_ty), mask=mask)


@triton.jit
def cumulate_columns(x, y, n, inner, PRODUCT: tl.constexpr, COMPUTE: tl.constexpr, COLS: tl.constexpr):
    """The same of columns of [outer, n, inner], COLS side by side; grid: (cdiv(inner, COLS), outer)."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    mask = cols < inner
    base = tl.program_id(1).to(tl.int64) * n * inner
    total = tl.full([COLS], 1 if PRODUCT else 0, COMPUTE)
    for i in range(n):
        at = base + tl.cast(i, tl.int64) * inner + cols
        v = tl.load(x + at, mask=mask, other=0).to(COMPUTE)
        total = total * v if PRODUCT else total + v
        tl.store(y + at, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def join(
    addresses, widths, starts, out, num, outer, width, per_program, WORD: tl.constexpr, STORE: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """Rows of `out` [outer, width], each the rows of `num` contiguous parts one after the other.

    A program writes whole rows, so that memory is written in its order. Grid: (cdiv(outer, per_program),).
    """
    first = tl.program_id(0).to(tl.int64) * per_program
    for row in range(first, tl.minimum(first + per_program, outer)):
        for part in range(num):
            n = tl.load(widths + part)
            x = tl.load(addresses + part).to(tl.pointer_type(WORD)) + row * n
            to = out + row * width + tl.load(starts + part)
            for begin in range(0, n, BLOCK):
                cols = begin + tl.arange(0, BLOCK)
                tl.store(to + cols, tl.load(x + cols, mask=cols < n), mask=cols < n, cache_modifier=STORE)


@triton.jit
def member(x, tested, out, size, num_tested, INVERT: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = x[i] is one of `tested`; grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    v = tl.load(x + at, mask=mask, other=0)
    found = tl.zeros([BLOCK], tl.int32)
    for j in range(num_tested):
        found = found | (v == tl.load(tested + j)).to(tl.int32)
    tl.store(out + at, (found == 0) if INVERT else (found != 0), mask=mask)


def cat(tensors: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    """The tensors one after the other along `dim`; 1-dim empty tensors are skipped, as PyTorch does."""
    parts = [t for t in tensors if not (t.dim() == 1 and t.shape[0] == 0)]
    if not parts or parts[0].dim() == 0:
        raise Declined("nothing to join")
    dtype = tensors[0].dtype
    for t in tensors[1:]:
        dtype = torch.promote_types(dtype, t.dtype)
    rank = parts[0].dim()
    if not -rank <= dim < rank:
        raise Declined("a dim that is not there")
    dim %= rank
    shape = list(parts[0].shape)
    if any(t.dim() != rank or t.shape[:dim] + t.shape[dim + 1 :] != (*shape[:dim], *shape[dim + 1 :]) for t in parts):
        raise Declined("shapes that do not join")
    shape[dim] = sum(t.shape[dim] for t in parts)
    out = _like(parts, shape, dtype)
    if _join(parts, dim, out):
        return out
    start = 0
    for t in parts:
        part = out.narrow(dim, start, t.shape[dim])
        if dtype.is_complex:
            copy_(part, t, out=part)
        else:
            run(f.identity, (t,), storage_type(t.dtype), dtype, part)
        start += t.shape[dim]
    return out


def _join(parts: list[torch.Tensor], dim: int, out: torch.Tensor) -> bool:
    """Join parts that lie in memory as the result does, in rows of some length, in one launch; whether they do."""
    if any(t.dtype is not out.dtype or t.is_conj() or t.is_neg() or not t.is_contiguous() for t in parts):
        return False
    word, row = _WORDS.get(out.element_size()), tiles.of(out.device)
    outer = math.prod(out.shape[:dim])
    if word is None or not out.is_contiguous() or out.numel() == 0 or (outer == 1 and out.numel() > row.flat):
        return False
    width = out.numel() // outer
    if width * out.element_size() < LEAST_ROW_BYTES * len(parts):
        return False
    widths, starts = _part_tables(tuple(t.numel() // outer for t in parts), out.device)
    per_program = max(1, row.flat // width)
    launch(
        join, (tiles.parts(outer, per_program),), Addresses(tuple(parts)), fixed(widths), fixed(starts),
        out.view(word), len(parts), outer, width, per_program, WORD=_TRITON[word], STORE=tiles.store_modifier(out),
        BLOCK=min(row.row, tiles.power_of_2(max(t.numel() // outer for t in parts))), num_warps=row.num_warps,
    )  # fmt: skip
    return True


@functools.lru_cache(maxsize=256)
def _part_tables(widths: tuple[int, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """How long each part's rows are, and where they begin in a row of the result."""
    ends = np.cumsum(np.array(widths, dtype=np.int64))
    return table(np.array(widths, dtype=np.int64), device), table(ends - widths, device)


def _like(parts: list[torch.Tensor], shape: list[int], dtype: torch.dtype) -> torch.Tensor:
    """A new tensor in the memory format that all parts share; contiguous where they share none."""
    for layout, rank in ((torch.channels_last, 4), (torch.channels_last_3d, 5)):
        if len(shape) == rank and all(t.is_contiguous(memory_format=layout) and not t.is_contiguous() for t in parts):
            return torch.empty(shape, dtype=dtype, device=parts[0].device, memory_format=layout)
    return torch.empty(shape, dtype=dtype, device=parts[0].device)


def arange(start: float, end: float, step: float = 1, *, out: torch.Tensor) -> torch.Tensor:
    """[start, end) in steps, into `out`, which is given its size; of whole numbers the parts after the point are cut
    off, for int64 before the size is computed."""
    if not all(math.isfinite(v) for v in (start, end, step)):
        raise Declined("a range that is not one")
    if out.dtype is torch.bool:
        raise Declined("a range of this type")
    if out.dtype is torch.int64:
        start, end, step = int(start), int(end), int(step)
    if step == 0 or (end - start) * step < 0:
        raise Declined("a range that is not one")
    if max(abs(start), abs(end)) > LARGEST_WHOLE:
        raise Declined("a range beyond 2**53")
    whole = all(isinstance(v, int) for v in (start, end, step))
    size = max(0, -((start - end) // step) if whole else math.ceil((end - start) / step))
    if not out.is_floating_point():
        start, step, whole = int(start), int(step), True
    if tuple(out.shape) != (size,):
        out.resize_((int(size),))
    if not out.is_contiguous():
        raise Declined("a range into a tensor with gaps")
    if size == 0:
        return out
    compute_type(out.dtype)
    row = tiles.of(out.device)
    block = tiles.block(int(size), row.flat)
    launch(
        count, (tiles.parts(int(size), block),), out, int(size), float(start), float(step),
        COMPUTE=tl.int64 if whole else tl.float64, BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return out


def cumsum(self: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Running sums along `dim`; integers give int64."""
    return _running(self, dim, dtype, product=False)


def cumprod(self: torch.Tensor, dim: int, *, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Running products along `dim`; integers give int64."""
    return _running(self, dim, dtype, product=True)


def _running(self: torch.Tensor, dim: int, dtype: torch.dtype | None, product: bool) -> torch.Tensor:
    if self.is_complex() and dtype in (None, self.dtype) and not product and -self.dim() <= dim < self.dim():
        return torch.view_as_complex(_running(torch.view_as_real(self), dim % self.dim(), None, product))
    result = dtype or (self.dtype if self.is_floating_point() else torch.int64)
    if self.is_complex() or result.is_complex or result is torch.bool:
        raise Declined("sums of this type")
    if self.is_floating_point() and not result.is_floating_point:
        raise Declined("sums of this type")
    if not -max(self.dim(), 1) <= dim < max(self.dim(), 1):
        raise Declined("a dim that is not there")
    y = torch.empty(self.shape, dtype=result, device=self.device)
    if y.numel() == 0:
        return y
    x = self.contiguous()
    storage_type(x.dtype)
    rows = view(x, dim)
    kind: dict[str, Any] = {"PRODUCT": product, "COMPUTE": compute_type(result), "num_warps": rows.num_warps}
    if rows.inner > 1:
        cols = columns_at_once(rows)
        launch(cumulate_columns, columns_grid(rows, cols), x, y, rows.n, rows.inner, COLS=cols, **kind)
    else:
        launch(cumulate, rows.grid, x, y, rows.num, rows.n, ROWS=rows.block_rows, COLS=rows.block_cols, **kind)
    return y


def _number(value: Operand) -> float:
    if isinstance(value, torch.Tensor):
        if value.dim():
            raise Declined("an end that is no number")
        value = value.item()
    if isinstance(value, complex) or abs(value) > LARGEST_WHOLE:
        raise Declined("a range of this type")
    return float(value)


def linspace(start: Operand, end: Operand, steps: int, *, out: torch.Tensor) -> torch.Tensor:
    """`steps` numbers from start to end, both included, into `out`, which is given its size."""
    return _spaced(_number(start), _number(end), steps, 1.0, False, out)


def logspace(start: Operand, end: Operand, steps: int, base: float = 10.0, *, out: torch.Tensor) -> torch.Tensor:
    """base to the power of `steps` numbers from start to end."""
    if base <= 0:
        raise Declined("powers of a base that is not positive")
    return _spaced(_number(start), _number(end), steps, base, True, out)


def _spaced(start: float, end: float, steps: int, base: float, log: bool, out: torch.Tensor) -> torch.Tensor:
    """Of whole numbers the ends are cut off before, and the results after."""
    if steps < 0 or out.dtype is torch.bool:
        raise Declined("a range of this type")
    compute_type(out.dtype)
    if not out.is_floating_point():
        start, end = float(math.trunc(start)), float(math.trunc(end))
    if out.numel() != steps:
        out.resize_((steps,))
    if not out.is_contiguous():
        raise Declined("a range into a tensor with gaps")
    if steps:
        row = tiles.of(out.device)
        block = tiles.block(steps, row.flat)
        if steps == 1:
            end = start
        step = (end - start) / (steps - 1) if steps > 1 else 0.0
        launch(
            spread, (tiles.parts(steps, block),), out, steps, start, end, step, base, LOG=log, BLOCK=block,
            num_warps=row.num_warps,
        )  # fmt: skip
    return out


def isin(
    elements: torch.Tensor, test_elements: torch.Tensor, *, assume_unique: bool = False, invert: bool = False
) -> torch.Tensor:
    """Whether each element is among `test_elements`; PyTorch sorts where there are many."""
    if test_elements.numel() > MOST_TESTED or elements.dtype is not test_elements.dtype:
        raise Declined(f"a search among more than {MOST_TESTED} elements, or of another type")
    storage_type(elements.dtype)
    x, tested = elements.contiguous(), test_elements.contiguous()
    out = torch.empty(elements.shape, dtype=torch.bool, device=elements.device)
    if out.numel():
        row = tiles.of(x.device)
        block = tiles.block(out.numel(), row.flat)
        launch(
            member, (tiles.parts(out.numel(), block),), x, tested, out, out.numel(), tested.numel(),
            INVERT=invert, BLOCK=block, num_warps=row.num_warps,
        )  # fmt: skip
    return out
