"""Where a tensor is not 0.

The elements that are not 0 are counted by block, the counts summed, and each one's place in the result is the sum
before its block plus those before it in the block. The size of the result follows from values, so it is read.

Formula:
    out[r] = coordinates of the rth i, in order, with x[i] ≠ 0
    r = Σ over the blocks before of their count + how many before i in its block
Shapes: x of any shape; out [how many, dims of x].
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; out is int64.
Source: the page of torch.nonzero; Blelloch, "Prefix Sums and Their Applications", 1990, Carnegie Mellon CMU-CS-90-190
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.generate import storage_type
from tessera.ops.launch import launch
from tessera.ops.move import cumsum

BLOCK = 1024
# So many blocks are done before they are shared out among programs, which takes three launches for one.
FEW_BLOCKS = 16


@triton.jit
def count_true(x, counts, size, BLOCK: tl.constexpr):
    """counts[b] = how many of block b are not 0; grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < size, other=0)
    tl.store(counts + tl.program_id(0), tl.sum((v != 0).to(tl.int64), axis=0))


@triton.jit
def write_true(x, chosen, out, at, before, size, BLOCK: tl.constexpr):
    """How many of the elements `at` are not 0; their places, or what is `chosen` there, go to out[before:]."""
    true = (tl.load(x + at, mask=at < size, other=0) != 0).to(tl.int64)
    num = tl.sum(true, axis=0)
    found = at
    if chosen is not None:
        found = tl.load(chosen + at, mask=at < size, other=0)
    if num == BLOCK:
        # What is true side by side stays so.
        tl.store(out + before + tl.arange(0, BLOCK), found)
    elif num > 0:
        tl.store(out + before + tl.cumsum(true, axis=0) - 1, found, mask=true != 0)
    return num


@triton.jit
def place_true(x, ends, chosen, out, size, BLOCK: tl.constexpr):
    """out[k] = the place of the kth element that is not 0, or what is `chosen` there; `ends` are the running sums of
    counts."""
    block = tl.program_id(0)
    before = tl.load(ends + block - 1, mask=block > 0, other=0)
    write_true(x, chosen, out, block.to(tl.int64) * BLOCK + tl.arange(0, BLOCK), before, size, BLOCK)


@triton.jit
def place_few(x, chosen, out, num, size, BLOCK: tl.constexpr):
    """The same of a few blocks, one after the other, and how many there are; grid: (1,)."""
    before = tl.zeros([], tl.int64)
    for start in range(0, size, BLOCK):
        before += write_true(x, chosen, out, start + tl.arange(0, BLOCK).to(tl.int64), before, size, BLOCK)
    tl.store(num, before)


@triton.jit
def coordinate(places, out, num, size, inner, BLOCK: tl.constexpr):
    """out[k] = the coordinate of each place along a dim of `size` (first: None) whose elements lie `inner` apart."""
    k = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    found = tl.load(places + k, mask=k < num, other=0) // inner
    if size is not None:
        found = found % size
    tl.store(out + k, found, mask=k < num)


def count_by_block(flat: torch.Tensor) -> torch.Tensor:
    """How many elements of each block of a contiguous row are not 0."""
    blocks = tiles.parts(flat.numel(), BLOCK)
    counts = torch.empty((blocks,), dtype=torch.int64, device=flat.device)
    _launch(count_true, blocks, flat, counts, flat.numel())
    return counts


def write_places(
    flat: torch.Tensor, ends: torch.Tensor, out: torch.Tensor, chosen: torch.Tensor | None = None
) -> None:
    """Where a contiguous row is not 0, or what is `chosen` there, given the running sums of `count_by_block`."""
    _launch(place_true, tiles.parts(flat.numel(), BLOCK), flat, ends, chosen, out, flat.numel())


def write_coordinates(places: torch.Tensor, shape: tuple[int, ...], out: torch.Tensor) -> None:
    """out[d] = the coordinates along dim d of places in a tensor of `shape`."""
    num, inner = places.numel(), 1
    for dim in range(len(shape) - 1, -1, -1):
        _launch(coordinate, tiles.parts(num, BLOCK), places, out[dim], num, shape[dim] if dim else None, inner)
        inner *= shape[dim]


def _launch(kernel: Any, blocks: int, first: torch.Tensor, *args: Any) -> None:
    launch(kernel, (blocks,), first, *args, BLOCK=BLOCK, num_warps=tiles.of(first.device).num_warps)


def true_places(x: torch.Tensor, chosen: torch.Tensor | None = None) -> torch.Tensor:
    """Where a tensor that is seen as one row is not 0, as int64, or the elements that are `chosen` there."""
    storage_type(x.dtype)
    dtype = torch.int64 if chosen is None else chosen.dtype
    flat = x.contiguous().view(-1)
    if flat.numel() == 0:
        return torch.empty((0,), dtype=dtype, device=x.device)
    chosen = None if chosen is None else chosen.contiguous()
    if flat.numel() <= FEW_BLOCKS * BLOCK:
        out = torch.empty((flat.numel(),), dtype=dtype, device=x.device)
        return out.resize_(write_few_places(flat, chosen, out))
    ends = cumsum(count_by_block(flat), 0)
    out = torch.empty((int(ends[-1].item()),), dtype=dtype, device=x.device)
    write_places(flat, ends, out, chosen)
    return out


def write_few_places(flat: torch.Tensor, chosen: torch.Tensor | None, out: torch.Tensor) -> int:
    """As `write_places`, of a few blocks, into memory for as many as there are elements; how many are written."""
    num = torch.empty((1,), dtype=torch.int64, device=flat.device)
    _launch(place_few, 1, flat, chosen, out, num, flat.numel())
    return int(num.item())


def nonzero(self: torch.Tensor) -> torch.Tensor:
    """The coordinates of all elements that are not 0, as [how many, dims]; those of one dim lie side by side."""
    places = true_places(self)
    out = torch.empty((self.dim(), places.numel()), dtype=torch.int64, device=self.device)
    if places.numel():
        write_coordinates(places, tuple(self.shape), out)
    return out.t()
