"""Running extremes along a dim: cummax and cummin, with the places where they stand.

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
from tessera.ops.rows import row_starts, view


@triton.jit
def larger(a, b):
    """The larger of two; a NaN is above all."""
    return tl.where((b > a) | (b != b), b, a)


@triton.jit
def smaller(a, b):
    """The smaller of two; a NaN is below all."""
    return tl.where((b < a) | (b != b), b, a)


@triton.jit
def running(
    x, values, places, num, n, inner,
    LARGEST: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Running extremes of rows; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = row_starts(rows, n, inner)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    in_rows = (rows < num)[:, None]
    best = tl.load(x + starts, mask=in_rows, other=0).to(COMPUTE)
    place = tl.zeros([ROWS, 1], tl.int32).to(n.dtype)
    for start in range(0, n, COLS):
        at = start + cols
        # Lanes beyond the row come behind all others, so that no extreme knows of them.
        mask = in_rows & (at < n)
        to = starts + at.to(tl.int64) * inner
        v = tl.load(x + to, mask=mask, other=0).to(COMPUTE)
        if LARGEST:
            so_far = larger(best, tl.associative_scan(v, 1, larger))
        else:
            so_far = smaller(best, tl.associative_scan(v, 1, smaller))
        # An extreme stands where it was met last: at the last place so far that holds it, or a NaN.
        met = tl.where((v == so_far) | (v != v), at, place)
        p = tl.associative_scan(met, 1, larger)
        tl.store(values + to, so_far.to(values.dtype.element_ty), mask=mask)
        tl.store(places + to, p.to(tl.int64), mask=mask)
        best = tl.sum(tl.where(cols == COLS - 1, so_far, 0), axis=1)[:, None].to(COMPUTE)
        place = tl.max(p, axis=1)[:, None]


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
        compute, rows = compute_type(x.dtype), view(x, dim, longest=tiles.of(x.device).row)
        launch(
            running, rows.grid, x, values, indices, rows.num, rows.n, rows.inner, LARGEST=largest,
            COMPUTE=compute, ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
        )  # fmt: skip

    return entry


cummax = running_extreme(largest=True)
cummin = running_extreme(largest=False)
