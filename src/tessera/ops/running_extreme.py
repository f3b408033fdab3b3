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

from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_
from tessera.ops.rows import row_starts, view


@triton.jit
def later_if_larger(a, a_place, b, b_place):
    later = (b != b) | ((a == a) & (b >= a))
    return tl.where(later, b, a), tl.where(later, b_place, a_place)


@triton.jit
def later_if_smaller(a, a_place, b, b_place):
    later = (b != b) | ((a == a) & (b <= a))
    return tl.where(later, b, a), tl.where(later, b_place, a_place)


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
    place = tl.zeros([ROWS, 1], tl.int64)
    for start in range(0, n, COLS):
        at = start + cols + tl.zeros([ROWS, 1], tl.int64)
        # Lanes beyond the row repeat its last element, which changes no extreme.
        inside = tl.minimum(at, n - 1)
        v = tl.load(x + starts + inside * inner, mask=in_rows, other=0).to(COMPUTE)
        if LARGEST:
            v, p = tl.associative_scan((v, inside), 1, later_if_larger)
            v, p = later_if_larger(best, place, v, p)
        else:
            v, p = tl.associative_scan((v, inside), 1, later_if_smaller)
            v, p = later_if_smaller(best, place, v, p)
        mask = in_rows & (at < n)
        tl.store(values + starts + at * inner, v.to(values.dtype.element_ty), mask=mask)
        tl.store(places + starts + at * inner, p, mask=mask)
        last = at == start + COLS - 1
        best = tl.sum(tl.where(last, v, 0), axis=1)[:, None].to(COMPUTE)
        place = tl.sum(tl.where(last, p, 0), axis=1)[:, None]


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
        compute, rows = compute_type(x.dtype), view(x, dim, longest=0)
        launch(
            running, rows.grid, x, values, indices, rows.num, rows.n, rows.inner, LARGEST=largest,
            COMPUTE=compute, ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
        )  # fmt: skip

    return entry


cummax = running_extreme(largest=True)
cummin = running_extreme(largest=False)
