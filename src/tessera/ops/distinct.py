"""What is in a tensor, once each: unique and unique_consecutive.

The elements are sorted; each that differs from the one before it opens a group, and the running count of those is the
number of an element's group. It is summed up block by block first. Without sorting, the same gives runs of equal
elements.

Formula:
    opens[i] = x[i] ≠ x[i - 1],  group[i] = Σ_{j≤i} opens[j] - 1
    out[group[i]] = x[i],  inverse[place of i] = group[i],  counts[g] = how many i are in group g
Shapes: x of any shape, seen as one row; out and counts [number of groups]; inverse like x. Along a dim x[i] are slices;
out has the number of groups there, inverse [elements of the dim].
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; places and counts are int64. A
NaN equals nothing, so each is a group.
Limits: not of an empty tensor; unique not along a dim.
Source: the pages of torch.unique and torch.unique_consecutive
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.index import index_select
from tessera.ops.launch import launch, shorten
from tessera.ops.move import cumsum
from tessera.ops.nonzero import BLOCK, FEW
from tessera.ops.pointwise import sub
from tessera.ops.sort import sorted_rows

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@triton.jit
def opens_at(x, at, size):
    """(element `at`, whether it differs from the one before); the first element does."""
    v = tl.load(x + at, mask=at < size, other=0)
    last = tl.load(x + at - 1, mask=(at > 0) & (at < size), other=0)
    return v, (at < size) & ((v != last) | (at == 0))


@triton.jit
def count_groups(x, counts, size, BLOCK: tl.constexpr):
    """counts[b] = how many groups open in block b; grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    _, opens = opens_at(x, at, size)
    tl.store(counts + tl.program_id(0), tl.sum(opens.to(tl.int64), axis=0))


@triton.jit
def write_opened(x, places, out, starts, inverse, at, before, size, BLOCK: tl.constexpr):
    """How many groups open among the elements `at`; what `write_groups` writes of them, behind `before` groups."""
    v, opens = opens_at(x, at, size)
    num = tl.sum(opens.to(tl.int32), axis=0)
    if num == BLOCK:
        # Where all elements differ they stay side by side.
        tl.store(out + before + tl.arange(0, BLOCK), v)
        if starts is not None:
            tl.store(starts + before + tl.arange(0, BLOCK), at)
    elif num > 0:
        group = before + tl.cumsum(opens.to(tl.int32), axis=0) - 1
        tl.store(out + group, v, mask=opens)
        if starts is not None:
            tl.store(starts + group, at, mask=opens)
    if inverse is not None:
        group = before + tl.cumsum(opens.to(tl.int32), axis=0) - 1
        to = at
        if places is not None:
            to = tl.load(places + at, mask=at < size, other=0)
        tl.store(inverse + to, group, mask=at < size)
    return num


@triton.jit
def write_groups(x, places, ends, out, starts, inverse, size, BLOCK: tl.constexpr):
    """The value of each group, where it starts, and which group each element is in, which stood at places[i].

    `ends` are the running sums of `count_groups`; what is None is not wanted. Grid: (cdiv(size, BLOCK),).
    """
    block = tl.program_id(0)
    before = tl.load(ends + block - 1, mask=block > 0, other=0)
    at = block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    write_opened(x, places, out, starts, inverse, at, before, size, BLOCK)


@triton.jit
def write_few_groups(x, places, out, starts, inverse, num, size, BLOCK: tl.constexpr):
    """The same of a few blocks, one after the other, and how many groups there are; grid: (1,)."""
    before = tl.zeros([], tl.int64)
    for start in range(0, size, BLOCK):
        at = start + tl.arange(0, BLOCK).to(tl.int64)
        before += write_opened(x, places, out, starts, inverse, at, before, size, BLOCK)
    tl.store(num, before)


@triton.jit
def count_elements(starts, counts, num, size, BLOCK: tl.constexpr):
    """counts[g] = how many elements group g has, up to the start of the next; grid: (cdiv(num, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    end = tl.where(at + 1 < num, tl.load(starts + at + 1, mask=at + 1 < num, other=0), size)
    tl.store(counts + at, end - tl.load(starts + at, mask=at < num, other=0), mask=at < num)


@triton.jit
def compare_rows(x, differs, width, BLOCK: tl.constexpr):
    """differs[i] = whether row i of x[rows, width] differs from the row before; 0 for the first. Grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    here = x + row * width
    before = x + tl.maximum(row - 1, 0) * width
    differ = tl.zeros([BLOCK], tl.int32)
    for start in range(0, width, BLOCK):
        at = start + tl.arange(0, BLOCK)
        v = tl.load(here + at, mask=at < width, other=0)
        differ |= (v != tl.load(before + at, mask=at < width, other=0)).to(tl.int32)
    tl.store(differs + row, tl.where(row == 0, 0, tl.max(differ, axis=0)).to(tl.int64))


def differing_rows(rows: torch.Tensor) -> torch.Tensor:
    """What `compare_rows` writes of rows [num, width]."""
    num, width = rows.shape
    differs = torch.empty((num,), dtype=torch.int64, device=rows.device)
    block = tiles.block(width, BLOCK)
    launch(compare_rows, (num,), rows, differs, width, BLOCK=block, num_warps=tiles.of(rows.device).num_warps)
    return differs


def open_counts(values: torch.Tensor) -> torch.Tensor:
    """How many groups open in each block of a row of elements."""
    counts = torch.empty((tiles.parts(values.numel(), BLOCK),), dtype=torch.int64, device=values.device)
    _launch(count_groups, values.numel(), values, counts, values.numel())
    return counts


def close_groups(
    values: torch.Tensor, places: torch.Tensor | None, ends: torch.Tensor, out: torch.Tensor,
    starts: torch.Tensor | None, inverse: torch.Tensor | None,
) -> None:  # fmt: skip
    """What `write_groups` writes, of a row of elements."""
    _launch(write_groups, values.numel(), values, places, ends, out, starts, inverse, values.numel())


def close_few_groups(
    values: torch.Tensor, places: torch.Tensor | None, out: torch.Tensor, starts: torch.Tensor | None,
    inverse: torch.Tensor | None,
) -> torch.Tensor:  # fmt: skip
    """The same of a few blocks, into memory for as many groups as elements; [how many groups there are]."""
    num = torch.empty((1,), dtype=torch.int64, device=values.device)
    _launch(write_few_groups, 1, values, places, out, starts, inverse, num, values.numel())
    return num


def sizes_of(starts: torch.Tensor, size: int) -> torch.Tensor:
    """How many elements each group has, of `size` in all."""
    counts = torch.empty_like(starts)
    _launch(count_elements, starts.numel(), starts, counts, starts.numel(), size)
    return counts


def _launch(kernel: Any, elements: int, first: torch.Tensor, *args: Any) -> None:
    grid = (tiles.parts(elements, BLOCK),)
    launch(kernel, grid, first, *args, BLOCK=BLOCK, num_warps=tiles.of(first.device).num_warps)


def _grouped(
    values: torch.Tensor, places: torch.Tensor | None, shape: tuple[int, ...], inverse: bool, counts: bool
) -> Found:
    """(one of each group, the group of each place, how many are in it) of a row of elements; empty: not wanted."""

    def room(wanted: bool, *sizes: int) -> torch.Tensor:
        return torch.empty(sizes if wanted else (0,), dtype=torch.int64, device=values.device)

    size, few = values.numel(), values.numel() <= FEW
    ends = None if few else cumsum(open_counts(values), 0)
    num = size if ends is None else int(ends[-1].item())
    out = torch.empty((num,), dtype=values.dtype, device=values.device)
    group_of, starts = room(inverse, *shape), room(counts, num)
    given = (out, starts if counts else None, group_of if inverse else None)
    if ends is None:
        shorten(close_few_groups(values, places, *given), out, *[starts] * counts)
    else:
        close_groups(values, places, ends, *given)
    return out, group_of, sizes_of(starts, size) if counts else starts


def _none(self: torch.Tensor, inverse: bool, dim: int | None = None) -> Found:
    """The groups of no elements: of none as PyTorch's own words it where `dim` has elements, but another has not."""
    if dim is not None and self.shape[dim]:
        raise Declined("slices of no elements")
    nothing = torch.empty((0,), dtype=torch.int64, device=self.device)
    of_each = torch.empty(self.shape if inverse else (0,), dtype=torch.int64, device=self.device)
    values = torch.empty((0,) if dim is None else self.shape, dtype=self.dtype, device=self.device)
    return values, of_each if dim is None else nothing, torch.empty_like(nothing)


def unique(
    self: torch.Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Found:
    """(the distinct elements in order, which of them stands at each place, how often each stands there)."""
    compute_type(self.dtype)
    if self.numel() == 0:
        return _none(self, return_inverse or return_counts)
    values, places = sorted_rows(self.contiguous().view(1, -1), False)
    # PyTorch computes the inverse where the counts are asked for as well.
    inverse = return_inverse or return_counts
    return _grouped(values.view(-1), places.view(-1), tuple(self.shape), inverse, return_counts)


def _equal_slices(slices: torch.Tensor, dim: int) -> Found:
    """`unique_consecutive` of the slices along the first dim, which `dim` of the result is to be."""
    rows = slices.contiguous().view(slices.shape[0], -1)
    _, inverse, counts = _grouped(cumsum(differing_rows(rows), 0), None, (rows.shape[0],), True, True)
    starts = sub(cumsum(counts, 0), counts)
    return index_select(rows, 0, starts).view(-1, *slices.shape[1:]).movedim(0, dim), inverse, counts


def unique_consecutive(
    self: torch.Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Found:
    """`unique` of runs of equal elements, or of equal slices along `dim`, which gives inverse and counts always."""
    compute_type(self.dtype)
    if dim is not None and not -max(self.dim(), 1) <= dim < max(self.dim(), 1):
        raise Declined("a dim that there is not")
    if self.numel() == 0:
        return _none(self, return_inverse, dim)
    if dim is not None and self.dim() > 1:
        return _equal_slices(self.movedim(dim, 0), dim)
    return _grouped(self.contiguous().view(-1), None, tuple(self.shape), return_inverse, return_counts)
