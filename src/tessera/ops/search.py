"""Places in sorted rows, by binary search: searchsorted and bucketize; and repeats, written in runs.

Formula:
    left:  y[r, i] = how many elements of row r are less than x[r, i]
    right: y[r, i] = how many elements of row r are not greater than x[r, i]
    repeat_interleave: y[j] = the i with Σ_{k<i} repeats[k] ≤ j < Σ_{k≤i} repeats[k]
Shapes: rows [..., length] or one row for all; x [..., n] (of one row: any shape); y like x. repeats [n]; y [their
sum].
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool, one for both; y is int64, or
int32 where asked for. A NaN is the largest number. Repeats are int64 or int32, and so are their places.
Limits: rows and values of one type.
Source: the pages of torch.searchsorted, torch.bucketize and torch.repeat_interleave
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, compute_type
from tessera.ops.index import flagged
from tessera.ops.launch import launch
from tessera.ops.move import cumsum
from tessera.ops.nonzero import BLOCK, FEW

# Places of one repeated element that are written at once; most are repeated a few times.
_REPEATED = 8


@triton.jit
def find(
    x, rows, order, out, num, n, length, bits, RIGHT: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):
    """out[r, i] = the place of x[r, i] in the sorted rows[r, :length]; grid: (rows, cdiv(n, BLOCK)).

    `num` is 1 where one row serves all. `order` are the places of a row's elements in order, where it is not sorted.
    """
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    v = tl.load(x + row * n + at, mask=mask, other=0).to(COMPUTE)
    base = tl.where(num == 1, 0, row) * length
    before = tl.zeros([BLOCK], tl.int64)
    for bit in range(bits):
        probe = before + (1 << (bits - 1 - bit))
        inside = mask & (probe <= length)
        place = probe - 1
        if order is not None:
            place = tl.load(order + base + place, mask=inside, other=0)
        w = tl.load(rows + base + place, mask=inside, other=0).to(COMPUTE)
        # A NaN is the largest number.
        less = ((w <= v) | (v != v)) if RIGHT else ((w < v) | ((v != v) & (w == w)))
        before = tl.where(inside & less, probe, before)
    tl.store(out + row * n + at, before.to(out.dtype.element_ty), mask=mask)


@triton.jit
def write_run(out, i, at, stop, BLOCK: tl.constexpr):
    """out[j] = i for j from `at` to before `stop`."""
    # The first ones without a branch: whether there are any is hard to predict.
    places = at + tl.arange(0, BLOCK)
    tl.store(out + places, i.to(out.dtype.element_ty), mask=places < stop)
    for further in range(at + BLOCK, stop, BLOCK):
        places = further + tl.arange(0, BLOCK)
        tl.store(out + places, i.to(out.dtype.element_ty), mask=places < stop)


@triton.jit
def write_repeats(ends, out, flag, num, total, EACH: tl.constexpr, BLOCK: tl.constexpr):
    """out[j] = i from ends[i - 1] to before ends[i], for `num` i, EACH of them a program; grid: (cdiv(num, EACH),).

    Ends that do not rise raise the flag; nothing is written outside of out's `total` elements.
    """
    first = tl.program_id(0).to(tl.int64) * EACH
    start = tl.load(ends + first - 1, mask=first > 0, other=0)
    rising = tl.full([], 1, tl.int32)
    for i in tl.range(first, tl.minimum(first + EACH, num)):
        end = tl.load(ends + i)
        rising &= (end >= start).to(tl.int32)
        write_run(out, i, tl.maximum(start, 0), tl.minimum(end, total), BLOCK)
        start = end
    tl.store(flag, 1, mask=rising == 0)


@triton.jit
def add_few(repeats, total, num, BLOCK: tl.constexpr):
    """total = the sum of `num` repeats, or -1 if one is negative; grid: (1,)."""
    sums, smallest = tl.zeros([BLOCK], tl.int64), tl.zeros([BLOCK], tl.int64)
    for start in range(0, num, BLOCK):
        at = start + tl.arange(0, BLOCK)
        repeated = tl.load(repeats + at, mask=at < num, other=0).to(tl.int64)
        sums += repeated
        smallest = tl.minimum(smallest, repeated)
    tl.store(total, tl.where(tl.min(smallest, axis=0) < 0, -1, tl.sum(sums, axis=0)))


@triton.jit
def write_few(repeats, out, num, BLOCK: tl.constexpr):
    """out[j] = i, repeats[i] times, for `num` i; none is negative. Grid: (1,)."""
    start = tl.zeros([], tl.int64)
    for i in tl.range(0, num):
        end = start + tl.load(repeats + i)
        write_run(out, i, start, end, BLOCK)
        start = end


def searchsorted(
    sorted_sequence: torch.Tensor,
    self: Operand,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: torch.Tensor | None = None,
) -> torch.Tensor:
    """The places at which elements of self[…, n] keep sorted_sequence[…, length], or one row for all, in order."""
    if side not in (None, "left", "right") or (right and side == "left"):
        raise Declined("a side that is not there")
    rows = sorted_sequence
    if not isinstance(self, torch.Tensor):
        self = torch.full((), self, dtype=rows.dtype, device=rows.device)
    if self.dtype is not rows.dtype or rows.dim() == 0:
        raise Declined("operands of two types")
    if rows.dim() > 1 and (self.dim() != rows.dim() or self.shape[:-1] != rows.shape[:-1]):
        raise Declined("rows that do not fit")
    if sorter is not None and (sorter.shape != rows.shape or sorter.dtype is not torch.int64):
        raise Declined("rows that do not fit")
    if sorter is not None and sorter.numel() and not bool(((sorter >= 0) & (sorter < rows.shape[-1])).all()):
        raise Declined("places outside the rows")
    compute = compute_type(rows.dtype)
    out = torch.empty(self.shape, dtype=torch.int32 if out_int32 else torch.int64, device=rows.device)
    if out.numel() == 0:
        return out
    length = rows.shape[-1]
    num = rows.numel() // length if length and rows.dim() > 1 else 1
    n = out.numel() // num
    row = tiles.of(rows.device)
    block = tiles.block(n, row.row)
    launch(
        find, (num, tiles.parts(n, block)), self.contiguous(), rows.contiguous(),
        None if sorter is None else sorter.contiguous(), out, num, n, length, length.bit_length(),
        RIGHT=right or side == "right", COMPUTE=compute, BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return out


def write_runs(ends: torch.Tensor, out: torch.Tensor) -> None:
    """out[j] = i for j from ends[i - 1] to before ends[i]; RuntimeError where the ends do not rise from 0."""
    tile = tiles.of(out.device)
    each = tiles.block(ends.numel(), tile.row)
    with flagged(out.device, _negative) as flag:
        launch(
            write_repeats, (tiles.parts(ends.numel(), each),), ends, out, flag, ends.numel(), out.numel(),
            EACH=each, BLOCK=_REPEATED, num_warps=tile.num_warps,
        )  # fmt: skip


def _negative() -> RuntimeError:
    return RuntimeError("repeats can not be negative; give how often each place is repeated, 0 or more")


def repeat_interleave(repeats: torch.Tensor, *, output_size: int | None = None) -> torch.Tensor:
    """0 as often as repeats[0], 1 as often as repeats[1], …, in the type of repeats, int32 or int64.

    Errors: RuntimeError for a negative number of repeats.
    """
    if repeats.dtype not in (torch.int32, torch.int64) or repeats.dim() != 1:
        raise Declined("repeats of another kind")
    if repeats.numel() == 0:
        return torch.empty((0,), dtype=repeats.dtype, device=repeats.device)
    few = repeats.numel() <= FEW
    ends = None if few else cumsum(repeats, 0)
    total = int((add_few_up(repeats) if ends is None else ends[-1]).item())
    if total < 0:
        raise _negative()
    if output_size not in (None, total):
        raise Declined("an output of another size")
    out = torch.empty((total,), dtype=repeats.dtype, device=repeats.device)
    if ends is None:
        write_few_runs(repeats, out)
    else:
        write_runs(ends, out)
    return out


def write_few_runs(repeats: torch.Tensor, out: torch.Tensor) -> None:
    """out[j] = i, repeats[i] times, of a few repeats, none of them negative."""
    _launch_few(write_few, repeats, out, _REPEATED)


def add_few_up(repeats: torch.Tensor) -> torch.Tensor:
    """[the sum of a few repeats, or -1 if one is negative]."""
    total = torch.empty((1,), dtype=torch.int64, device=repeats.device)
    _launch_few(add_few, repeats, total, BLOCK)
    return total


def _launch_few(kernel: Any, repeats: torch.Tensor, out: torch.Tensor, block: int) -> None:
    num_warps = tiles.of(out.device).num_warps
    launch(kernel, (1,), repeats.contiguous(), out, repeats.numel(), BLOCK=block, num_warps=num_warps)


def bucketize(
    self: Operand, boundaries: torch.Tensor, *, out_int32: bool = False, right: bool = False
) -> torch.Tensor:
    """The bucket between the sorted boundaries that each element falls into."""
    if boundaries.dim() != 1:
        raise Declined("boundaries that are no row")
    return searchsorted(boundaries, self, out_int32=out_int32, right=right)
