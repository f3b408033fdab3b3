"""Sorting along a dim: sort, the k largest or smallest, the kth smallest.

Runs of 64 elements are sorted by counting, for each element, those that go before it; then runs are merged in pairs:
the place of an element is its place in its own run plus the number of elements of the other run that go before it,
found by binary search. Only the first `keep` elements of a run are kept, which is all that topk and kthvalue need.

Formula:
    y[place[j]] = x[j],  place[j] = how many elements go before x[j], equal ones in their order
Shapes: x of any shape, along any one dim; topk: k elements of it, kthvalue: one.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; places are int64. A NaN is the
largest number.
Limits: sort is always stable, which is more than is asked for. topk gives the first of equal elements, in order.
Source: Satish, Harris and Garland, "Designing Efficient Sorting Algorithms for Manycore GPUs", IPDPS 2009, for merging
by ranks; the pages of torch.sort, torch.topk and torch.kthvalue
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_

RUN = 64


@triton.jit
def goes_before(a, b, DESCENDING: tl.constexpr):
    if DESCENDING:
        result = (a > b) | ((a != a) & (b == b))
    else:
        result = (a < b) | ((b != b) & (a == a))
    return result


@triton.jit
def sort_runs(
    x, values, places, n, jobs, runs, keep,
    DESCENDING: tl.constexpr, COMPUTE: tl.constexpr, SPAN: tl.constexpr, JOBS: tl.constexpr,
):  # fmt: skip
    """Sort each `SPAN` elements of rows of n elements; a job is a run. Grid: (cdiv(jobs, JOBS),)."""
    job = tl.program_id(0).to(tl.int64) * JOBS + tl.arange(0, JOBS)
    first = (job % runs) * SPAN
    base = ((job // runs) * n + first)[:, None]
    left = tl.where(job < jobs, n - first, 0)[:, None]
    i = tl.arange(0, SPAN)[None, :]
    mine = tl.load(x + base + i, mask=i < left, other=0)
    a = mine.to(COMPUTE)[:, :, None]
    j = tl.arange(0, SPAN)[None, None, :]
    inside = j < left[:, :, None]
    b = tl.load(x + base[:, :, None] + j, mask=inside, other=0).to(COMPUTE)
    earlier = goes_before(b, a, DESCENDING) | ((goes_before(a, b, DESCENDING) == 0) & (j < i[:, :, None]))
    to = tl.sum((inside & earlier).to(tl.int32), axis=2)
    kept = (i < left) & (to < keep)
    at = job[:, None] * keep + to
    tl.store(values + at, mine, mask=kept)
    tl.store(places + at, first[:, None] + i, mask=kept)


@triton.jit
def merge(
    values, places, out_values, out_places, n, runs, span, width, out_width, bits,
    DESCENDING: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Merge runs 2r and 2r + 1 of each row, which cover `span` elements and of which `width` are kept.

    Grid: (rows · runs, cdiv(width, BLOCK)).
    """
    job = tl.program_id(0).to(tl.int64)
    row = job // runs
    run = job % runs
    other = run ^ 1
    mine = tl.minimum(tl.minimum(n - run * span, span), width)
    theirs = tl.maximum(tl.minimum(tl.minimum(n - other * span, span), width), 0)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = at < mine
    kept = tl.load(values + job * width + at, mask=mask, other=0)
    v = kept.to(COMPUTE)
    others = values + (row * runs + other) * width
    right = (run % 2) != 0
    before = tl.zeros([BLOCK], tl.int32)
    for bit in range(bits):
        probe = before + (1 << (bits - 1 - bit))
        inside = mask & (probe <= theirs)
        w = tl.load(others + probe - 1, mask=inside, other=0).to(COMPUTE)
        # Of equal elements those of the left run go first.
        first = tl.where(right, goes_before(v, w, DESCENDING) == 0, goes_before(w, v, DESCENDING))
        before = tl.where(inside & first, probe, before)
    to = at + before
    base = (row * ((runs + 1) // 2) + run // 2) * out_width
    mask = mask & (to < out_width)
    tl.store(out_values + base + to, kept, mask=mask)
    tl.store(out_places + base + to, tl.load(places + job * width + at, mask=mask, other=0), mask=mask)


def sorted_rows(x: torch.Tensor, keep: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The first `keep` of each sorted row of a contiguous x[…, n], and where they stood, as [rows, keep]."""
    compute = compute_type(x.dtype)
    n, row = x.shape[-1], tiles.of(x.device)
    num = x.numel() // n
    span = max(8, tiles.block(n, RUN))
    runs, width = triton.cdiv(n, span), min(span, keep)
    values, places = _room(x, num * runs * width)
    jobs = tiles.block(num * runs, max(1, row.flat // (span * span)))
    order = {"DESCENDING": descending, "COMPUTE": compute, "num_warps": row.num_warps}
    launch(sort_runs, (triton.cdiv(num * runs, jobs),), x, values, places, n, num * runs, runs, width,
           SPAN=span, JOBS=jobs, **order)  # fmt: skip
    while runs > 1:
        merged, out_width = triton.cdiv(runs, 2), min(2 * width, keep)
        out = _room(x, num * merged * out_width)
        block = tiles.block(width, row.row)
        launch(merge, (num * runs, triton.cdiv(width, block)), values, places, *out, n, runs, span, width, out_width,
               width.bit_length(), BLOCK=block, **order)  # fmt: skip
        (values, places), runs, span, width = out, merged, 2 * span, out_width
    return values.view(num, width), places.view(num, width)


def _room(x: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    values, places = (torch.empty((size,), dtype=dtype, device=x.device) for dtype in (x.dtype, torch.int64))
    return values, places


def _sorted_along(self: torch.Tensor, dim: int, keep: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(values, places) with `keep` elements along `dim`; the dim is the last of the result."""
    rank = max(self.dim(), 1)
    if not -rank <= dim < rank:
        raise Declined("a dim that is not there")
    compute_type(self.dtype)
    last = (self if self.dim() else self.view(1)).movedim(dim, -1)
    shape = (*last.shape[:-1], keep)
    if self.numel() == 0 or keep == 0:
        values, places = (x.view(shape) for x in _room(self, 0))
    else:
        values, places = (x.view(shape) for x in sorted_rows(last.contiguous(), keep, descending))
    return values, places


def _in_layout(found: torch.Tensor, dim: int, like: torch.Tensor) -> torch.Tensor:
    """`found`, whose last dim belongs at `dim`, in memory laid out as `like` is."""
    if like.dim() == 0:
        return found.view(())
    moved = found.movedim(-1, dim)
    out = torch.empty_like(like, dtype=found.dtype)
    if moved.stride() == out.stride() or found.numel() == 0:
        return moved if moved.stride() == out.stride() else out
    return copy_(out, moved, out=out)


def sort(self: torch.Tensor, dim: int = -1, descending: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(the elements along `dim` in order, where they stood)."""
    return sort_stable(self, stable=False, dim=dim, descending=descending)


def sort_stable(
    self: torch.Tensor, *, stable: bool | None, dim: int = -1, descending: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """`sort`, which is always stable."""
    n = self.shape[dim] if self.dim() and -self.dim() <= dim < self.dim() else 1
    values, places = _sorted_along(self, dim, n, descending)
    return _in_layout(values, dim, self), _in_layout(places, dim, self)


def topk(
    self: torch.Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the k largest or smallest elements along `dim`, where they stood), in order. Of equal elements the first."""
    n = self.shape[dim] if self.dim() and -self.dim() <= dim < self.dim() else 1
    if not 0 <= k <= n:
        raise Declined("more elements than there are")
    values, places = _sorted_along(self, dim, k, largest)
    if self.dim() == 0:
        return values.view(()) if k else values, places.view(()) if k else places
    return values.movedim(-1, dim).contiguous(), places.movedim(-1, dim).contiguous()


def kthvalue(self: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(the kth smallest element along `dim`, where it stood), k counting from 1."""
    n = self.shape[dim] if self.dim() and -self.dim() <= dim < self.dim() else 1
    if not 1 <= k <= n or self.numel() == 0:
        raise Declined("more elements than there are")
    found = _sorted_along(self, dim, k, False)
    if self.dim() == 0:
        values, places = (x.reshape(()) for x in found)
    else:
        values, places = (x[..., k - 1 :].movedim(-1, dim) for x in found)
        values, places = (x if keepdim else x.squeeze(dim) for x in (values, places))
    return values.clone(), places.clone()
