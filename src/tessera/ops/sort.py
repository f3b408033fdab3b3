"""Sorting along a dim: sort, the k largest or smallest, the kth smallest.

An element's key and its place make one integer, so that all integers differ and their order is that of a stable sort.
Runs are sorted by a bitonic network in a block, then merged in pairs: where a block of the result begins in both runs
is found by binary search, and what lies between two such places is one run up and one down, which a network of a few
steps sorts. Numbers of 64 bits are sorted by the lower halves of their keys, then by the upper ones.
The k first of a row are kept by the same network, which drops what comes later. Of a long row only those parts reach
it that hold something from the kth first of the firsts of many groups on, which are k elements of the row.

Formula:
    y[place[j]] = x[j],  place[j] = how many elements go before x[j], equal ones in their order
    key(x) = the bits of x as an integer, those below the sign turned over where x < 0; of -0 as of 0; NaN: the largest
Shapes: x of any shape, along any one dim; topk: k elements of it, kthvalue: one.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; places are int64. A NaN is the
largest number.
Limits: rows of less than 2^31 elements; sort is always stable, which is more than is asked for. topk gives the first
of equal elements, in order.
Source: Batcher, "Sorting Networks and Their Applications", AFIPS 1968; Green, McColl and Bader, "GPU Merge Path: A GPU
Merging Algorithm", ICS 2012; Shanbhag, Pirk and Madden, "Efficient Top-K Query Processing on GPUs", SIGMOD 2018; the
pages of torch.sort, torch.topk and torch.kthvalue
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

_LEAST_SPAN = 16
# So many of a short row are kept by a network that drops the others, and the most of a long row.
_FEW = (2, 8)
_MOST_KEPT = 256
# Groups of a long row whose firsts bound what is among the first.
_LEAST_GROUPS = 64

LOW, HIGH, ALL = (tl.constexpr(part) for part in range(3))
_LAST = tl.constexpr((1 << 63) - 1)


@triton.jit
def order_key(v, turn, PART: tl.constexpr):
    """An int32 in the order of v, or backwards where `turn` is -1; of 64 bits the lower or the upper half."""
    if v.dtype.is_floating():
        whole: tl.constexpr = tl.int64 if v.dtype == tl.float64 else tl.int32
        sign: tl.constexpr = v.dtype.primitive_bitwidth - 1
        rest: tl.constexpr = (1 << sign) - 1
        bits = tl.where(v == 0, 0.0, v).to(whole, bitcast=True)
        key = tl.where(v != v, rest, bits ^ ((bits >> sign) & rest))
    else:
        key = v
    if PART == HIGH:
        key = key >> 32
    elif PART == LOW:
        key = (key & 0xFFFFFFFF) - 0x80000000
    return key.to(tl.int32) ^ turn


@triton.jit
def with_place(key, place):
    """Key and place as one integer in the order of both."""
    return (key.to(tl.int64) << 32) | place.to(tl.int64)


@triton.jit
def write_order(found, to, kept, row, x, order, values, places, n):
    """Write what the integers `found` stand for: elements of rows of x, and where they stood."""
    place = found & 0x7FFFFFFF
    if order is not None:
        place = tl.load(order + row * n + place, mask=kept, other=0)
    tl.store(values + to, tl.load(x + row * n + place, mask=kept, other=0), mask=kept)
    tl.store(places + to, place, mask=kept)


@triton.jit
def sort_runs(
    x, order, packed, values, places, n, jobs, runs, skip, keep, turn, PART: tl.constexpr, COMPUTE: tl.constexpr,
    SPAN: tl.constexpr, K: tl.constexpr, JOBS: tl.constexpr,
):  # fmt: skip
    """Sort each `SPAN` elements of rows of n elements, in the order of an earlier sort; a job is a run.

    Grid: (cdiv(jobs, JOBS),). Of runs that are whole rows the elements skip to skip + keep <= K are written, others are
    `packed`.
    """
    job = (tl.program_id(0).to(tl.int64) * JOBS + tl.arange(0, JOBS))[:, None]
    i = tl.arange(0, SPAN)[None, :]
    row = job // runs
    at = (job % runs) * SPAN + i
    inside = (job < jobs) & (at < n)
    if order is not None:
        place = tl.load(order + row * n + at, mask=inside, other=0)
    else:
        place = at
    v = tl.load(x + row * n + place, mask=inside, other=0).to(COMPUTE)
    found = tl.where(inside, with_place(order_key(v, turn, PART), at), _LAST)
    if packed is not None:
        tl.store(packed + job * SPAN + i, tl.sort(found), mask=job < jobs)
    else:
        found = tl.sort(found) if K == SPAN else ~tl.topk(~found, K)
        i = tl.arange(0, K)[None, :] - skip
        kept = (job < jobs) & (i >= 0) & (i < keep)
        write_order(found, row * keep + i, kept, row, x, order, values, places, n)


@triton.jit
def taken_from_left(left, right, mine, theirs, num):
    """How many of the first `num` of two merged runs are of the left one."""
    low = tl.maximum(num - theirs, 0)
    high = tl.minimum(num, mine)
    while low < high:
        middle = (low + high) // 2
        if tl.load(left + middle) < tl.load(right + num - 1 - middle):
            low = middle + 1
        else:
            high = middle
    return low


@triton.jit
def merge(packed, out, size, pairs, span, BLOCK: tl.constexpr):
    """Merge runs 2p, 2p + 1 of `span` integers of rows of `size`; grid: (rows · pairs, cdiv(2 span, BLOCK))."""
    job = tl.program_id(0).to(tl.int64)
    first = (job % pairs) * 2 * span
    base = (job // pairs) * size + first
    left, right = packed + base, packed + base + span
    mine = tl.minimum(size - first, span)
    theirs = tl.minimum(tl.maximum(size - first - span, 0), span)
    start = tl.program_id(1).to(tl.int64) * BLOCK
    if start < mine + theirs:
        begin = taken_from_left(left, right, mine, theirs, start)
        end = taken_from_left(left, right, mine, theirs, start + BLOCK)
        i = tl.arange(0, BLOCK)
        up = i < end - begin
        # The right run's part backwards: it ends at the element start + BLOCK - end.
        rising = tl.load(left + begin + i, mask=up, other=0)
        falling = tl.load(right + (start + BLOCK - begin - 1) - i, mask=i >= end - begin, other=0)
        tl.store(out + base + start + i, tl.bitonic_merge(tl.where(up, rising, falling)))


@triton.jit
def write_sorted(packed, x, order, values, places, n, size, skip, keep, BLOCK: tl.constexpr):
    """Elements skip to skip + keep of each sorted row of `size` integers; grid: (rows, cdiv(keep, BLOCK))."""
    row = tl.program_id(0).to(tl.int64)
    i = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    found = tl.load(packed + row * size + skip + i, mask=i < keep, other=0)
    write_order(found, row * keep + i, i < keep, row, x, order, values, places, n)


@triton.jit
def first_of_rows(
    x, values, places, n, skip, keep, turn, COMPUTE: tl.constexpr, K: tl.constexpr, GROUPS: tl.constexpr,
    PART: tl.constexpr,
):  # fmt: skip
    """Elements skip to skip + keep <= K in the order of rows of n > GROUPS elements; grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS)
    firsts = tl.full([GROUPS], 0x7FFFFFFF, tl.int32)
    for start in range(0, n, GROUPS):
        inside = group < n - start
        v = tl.load(x + row * n + start + group, mask=inside, other=0).to(COMPUTE)
        firsts = tl.minimum(firsts, tl.where(inside, order_key(v, turn, ALL), 0x7FFFFFFF))
    # The firsts of K groups are K elements: no other comes among the first K that goes behind them all.
    bound = ~tl.min(tl.topk(~firsts, K), axis=0)
    best = tl.full([K], ~_LAST, tl.int64)
    worst = tl.min(~best, axis=0)
    i = tl.arange(0, PART)
    for start in range(0, n, PART):
        inside = i < n - start
        v = tl.load(x + row * n + start + i, mask=inside, other=0).to(COMPUTE)
        key = tl.where(inside, order_key(v, turn, ALL), 0x7FFFFFFF)
        first = tl.min(key, axis=0)
        if (first <= bound) & (with_place(first, start) < worst):
            packed = tl.where(inside, with_place(key, start + i), _LAST)
            # What rises, and what falls, and is the better of each two, needs only a merge.
            best = tl.bitonic_merge(tl.maximum(best, tl.flip(tl.topk(~packed, K), 0)), descending=True)
            worst = ~tl.min(best, axis=0)
    i = tl.arange(0, K) - skip
    write_order(~best, row * keep + i, (i >= 0) & (i < keep), row, x, None, values, places, n)


def sorted_rows(x: torch.Tensor, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Each sorted row of a contiguous x[…, n], and where its elements stood, as [rows, n]."""
    return _part_of_rows(x, 0, x.shape[-1], descending)


def _part_of_rows(x: torch.Tensor, skip: int, keep: int, descending: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Elements `skip` to skip + keep of each sorted row of a contiguous x[…, n], and where they stood: [rows, keep]."""
    if x.dtype in (torch.int64, torch.float64):
        _, order = _sorted_by(x, None, 0, x.shape[-1], descending, LOW.value)
        return _sorted_by(x, order, skip, keep, descending, HIGH.value)
    k = tiles.power_of_2(max(skip + keep, 2))
    groups = max(_LEAST_GROUPS, 4 * k)
    if 4 * groups >= x.shape[-1] or k > _MOST_KEPT:
        return _sorted_by(x, None, skip, keep, descending, ALL.value)
    values, places = _room(x, keep)
    row = tiles.of(x.device)
    launch(
        first_of_rows, (places.shape[0],), x, values, places, x.shape[-1], skip, keep, -int(descending),
        COMPUTE=compute_type(x.dtype), K=k, GROUPS=groups, PART=max(min(row.run, 4 * row.step), k),
        num_warps=row.num_warps,
    )  # fmt: skip
    return values, places


def _sorted_by(
    x: torch.Tensor, order: torch.Tensor | None, skip: int, keep: int, descending: bool, part: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_part_of_rows` by a part of the keys, of elements that stand in the order of an earlier sort."""
    n, row = x.shape[-1], tiles.of(x.device)
    values, places = _room(x, keep)
    num, span = places.shape[0], _span(n, row.run)
    runs = tiles.parts(n, span)
    size = runs * span
    packed = torch.empty((num * size,), dtype=torch.int64, device=x.device) if runs > 1 else None
    jobs = tiles.block(num * runs, row.run // span)
    launch(
        sort_runs, (tiles.parts(num * runs, jobs),), x, order, packed, values, places, n, num * runs, runs, skip, keep,
        -int(descending), PART=part, COMPUTE=compute_type(x.dtype), SPAN=span,
        K=next((k for k in _FEW if skip + keep <= k), span), JOBS=jobs, num_warps=row.num_warps,
    )  # fmt: skip
    if packed is not None:
        block = tiles.block(keep, row.row)
        launch(
            write_sorted, (num, tiles.parts(keep, block)), _merged(packed, num, span), x, order, values,
            places, n, size, skip, keep, BLOCK=block, num_warps=row.num_warps,
        )  # fmt: skip
    return values, places


def _merged(packed: torch.Tensor, num: int, span: int) -> torch.Tensor:
    """`num` rows of sorted runs of `span` integers, each row sorted."""
    size, row = packed.numel() // num, tiles.of(packed.device)
    out = torch.empty_like(packed)
    while span < size:
        pairs = tiles.parts(size, 2 * span)
        grid = (num * pairs, tiles.parts(2 * span, row.run))
        launch(merge, grid, packed, out, size, pairs, span, BLOCK=row.run, num_warps=row.num_warps)
        packed, out, span = out, packed, 2 * span
    return packed


def _span(n: int, most: int) -> int:
    """Elements of a run of rows of n, `most` at most: of a few sizes, each of which is a kernel of its own."""
    span = _LEAST_SPAN
    while span < min(n, most):
        span *= 4
    return min(span, most)


def _room(x: torch.Tensor, keep: int) -> tuple[torch.Tensor, torch.Tensor]:
    """New rows for `keep` elements of each row of x[…, n], and their places."""
    num = x.numel() // x.shape[-1] if x.numel() else 0
    values, places = (torch.empty((num, keep), dtype=dtype, device=x.device) for dtype in (x.dtype, torch.int64))
    return values, places


def _rows_along(self: torch.Tensor, dim: int) -> torch.Tensor:
    """Rows along `dim`, which becomes the last, contiguous."""
    rank = max(self.dim(), 1)
    if not -rank <= dim < rank:
        raise Declined("a dim that is not there")
    compute_type(self.dtype)
    rows = (self if self.dim() else self.view(1)).movedim(dim, -1)
    if rows.shape[-1] >= 1 << 31:
        raise Declined("a row of 2**31 elements or more")
    return rows.contiguous()


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
    rows = _rows_along(self, dim)
    found = sorted_rows(rows, descending) if rows.numel() else _room(rows, 0)
    values, places = (_in_layout(x.view(rows.shape), dim, self) for x in found)
    return values, places


def topk(
    self: torch.Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    """(the k largest or smallest elements along `dim`, where they stood), in order. Of equal elements the first."""
    rows = _rows_along(self, dim)
    if not 0 <= k <= rows.shape[-1]:
        raise Declined("more elements than there are")
    found = _part_of_rows(rows, 0, k, largest) if k and rows.numel() else _room(rows, 0)
    values, places = (x.view(*rows.shape[:-1], k) for x in found)
    if self.dim() == 0:
        return values.view(()) if k else values, places.view(()) if k else places
    return values.movedim(-1, dim).contiguous(), places.movedim(-1, dim).contiguous()


def kthvalue(self: torch.Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(the kth smallest element along `dim`, where it stood), k counting from 1."""
    rows = _rows_along(self, dim)
    if not 1 <= k <= rows.shape[-1] or rows.numel() == 0:
        raise Declined("more elements than there are")
    found = _part_of_rows(rows, k - 1, 1, False)
    if self.dim() == 0:
        values, places = (x.reshape(()) for x in found)
    else:
        values, places = (x.reshape(*rows.shape[:-1], 1).movedim(-1, dim) for x in found)
        values, places = (x if keepdim else x.squeeze(dim) for x in (values, places))
    return values.contiguous(), places.contiguous()
