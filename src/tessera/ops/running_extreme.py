"""Running extremes along a dim: cummax and cummin, with the places where they stand.

A part of a row that holds no new extreme, as most do, is filled with the one before; the others are scanned.

Formula:
    y[i] = max_{j≤i} x[j] (cummin: min),  place[i] = the last j ≤ i with x[j] = y[i]
Shapes: x of any shape; y and places like it.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; places are int64. Once a NaN is
met it stays.
Source: the pages of torch.cummax and torch.cummin
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_
from tessera.ops.rows import columns_at_once, columns_grid, view


@triton.jit
def larger(a, b):
    """The larger of two; a NaN is above all."""
    return tl.where((b > a) | (b != b), b, a)


@triton.jit
def smaller(a, b):
    """The smaller of two; a NaN is below all."""
    return tl.where((b < a) | (b != b), b, a)


@triton.jit
def further(best, v, LARGEST: tl.constexpr):
    """Whether v is the extreme of both; of equal ones the later is, and a NaN."""
    return ((v >= best) if LARGEST else (v <= best)) | (v != v)


@triton.jit
def running(
    x, values, places, n, LARGEST: tl.constexpr, COMPUTE: tl.constexpr, PLACE: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """Running extremes of contiguous rows of n; grid: (rows,)."""
    base = tl.program_id(0).to(tl.int64) * n
    cols = tl.arange(0, COLS)
    best = tl.load(x + base).to(COMPUTE)
    place = tl.zeros([], PLACE)
    for start in range(0, n, COLS):
        at = start + cols
        mask = at < n
        v = tl.load(x + base + at, mask=mask, other=0).to(COMPUTE)
        so_far = tl.zeros([COLS], COMPUTE) + best
        p = tl.zeros([COLS], PLACE) + place
        # Most parts of a long row hold no new extreme.
        if tl.max((mask & further(best, v, LARGEST)).to(tl.int32), axis=0) != 0:
            if LARGEST:
                so_far = larger(best, tl.associative_scan(v, 0, larger))
            else:
                so_far = smaller(best, tl.associative_scan(v, 0, smaller))
            # An extreme stands where it was met last: at the last place so far that holds it, or a NaN.
            met = tl.where((v == so_far) | (v != v), at.to(PLACE), place)
            p = tl.associative_scan(met, 0, larger)
            # Lanes beyond the row come behind all others, and this is the row's last part if there are any.
            best = tl.sum(tl.where(cols == COLS - 1, so_far, 0), axis=0).to(COMPUTE)
            place = tl.max(p, axis=0)
        tl.store(values + base + at, so_far.to(values.dtype.element_ty), mask=mask)
        tl.store(places + base + at, p.to(tl.int64), mask=mask)


@triton.jit
def running_columns(
    x, values, places, n, inner, LARGEST: tl.constexpr, COMPUTE: tl.constexpr, PLACE: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """The same of columns of [outer, n, inner], COLS side by side; grid: (cdiv(inner, COLS), outer)."""
    cols = tl.program_id(0) * COLS + tl.arange(0, COLS)
    mask = cols < inner
    base = tl.program_id(1).to(tl.int64) * n * inner
    best = tl.load(x + base + cols, mask=mask, other=0).to(COMPUTE)
    place = tl.zeros([COLS], PLACE)
    for i in range(n):
        at = base + tl.cast(i, tl.int64) * inner + cols
        v = tl.load(x + at, mask=mask, other=0).to(COMPUTE)
        new = further(best, v, LARGEST)
        best, place = tl.where(new, v, best), tl.where(new, tl.cast(i, PLACE), place)
        tl.store(values + at, best.to(values.dtype.element_ty), mask=mask)
        tl.store(places + at, place.to(tl.int64), mask=mask)


def running_extreme(largest: bool) -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor, int], None]:
    """The entry that writes running extremes and their places into two tensors."""

    def entry(self: torch.Tensor, values: torch.Tensor, indices: torch.Tensor, dim: int) -> None:
        if values.dtype is not self.dtype or indices.dtype is not torch.int64:
            raise Declined("the output has another type")
        if values.shape != self.shape or indices.shape != self.shape:
            raise Declined("the output has another shape")
        if self.numel() == 0:
            return
        if not values.is_contiguous() or not indices.is_contiguous():
            found = (torch.empty(self.shape, dtype=x.dtype, device=self.device) for x in (values, indices))
            dense, places = found
            entry(self, dense, places, dim)
            copy_(values, dense, out=values)
            copy_(indices, places, out=indices)
            return
        x = self.contiguous()
        rows = view(x, dim)
        row = tiles.of(x.device)
        kind = {
            "LARGEST": largest, "COMPUTE": compute_type(x.dtype), "PLACE": tl.int32 if rows.n < 1 << 31 else tl.int64,
            "num_warps": rows.num_warps,
        }  # fmt: skip
        if rows.inner > 1:
            cols = columns_at_once(rows)
            launch(
                running_columns, columns_grid(rows, cols), x, values, indices, rows.n, rows.inner, COLS=cols, **kind
            )  # fmt: skip
        else:
            cols = min(rows.block_cols, 4 * row.step, row.row)
            launch(running, (rows.num,), x, values, indices, rows.n, COLS=cols, **kind)

    return entry


cummax = running_extreme(largest=True)
cummin = running_extreme(largest=False)
