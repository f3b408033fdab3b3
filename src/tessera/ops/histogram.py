"""How many elements fall into each of a row of bins.

A program counts its share of the elements into bins of its own; a second launch adds the programs' bins up, so that
the result is the same for any number of threads.

Formula:
    out[j] = #{i : ⌊(x[i] - low) · bins / (high - low)⌋ = j}; x[i] = high counts in the last bin, what lies
        outside and NaN nowhere; low = high stands for the smallest and the largest element
Shapes: x of any shape; out [bins].
Types: float64, float32, float16 and bfloat16. Half types are placed in float32; counts are whole, and rounded once.
Limits: more than 16,384 bins are left to PyTorch.
Source: the page of torch.histc
"""

from __future__ import annotations

import math
import struct

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.moments import aminmax
from tessera.ops.pointwise import zero_

MOST_BINS = 16384
FEWEST_AT_ONCE, MOST_PROGRAMS = 1024, 64


@triton.jit
def number_of(bits, like, COMPUTE: tl.constexpr):
    """The float64 whose bits these are, as what the pointer `like` points to has it."""
    return tl.cast(bits, tl.int64).to(tl.float64, bitcast=True).to(like.dtype.element_ty).to(COMPUTE)


@triton.jit
def count_elements(
    x, counts, size, steps, low, high, bins, COMPUTE: tl.constexpr, BINS: tl.constexpr, BLOCK: tl.constexpr
):
    """counts[p, j] = how many of the `steps` blocks' elements of program p fall into bin j of [low, high], whose bits
    these are; grid: (programs,)."""
    first = tl.program_id(0).to(tl.int64) * steps * BLOCK
    left, right = number_of(low, x, COMPUTE), number_of(high, x, COMPUTE)
    found = tl.zeros([BINS], tl.int32)
    for step in range(steps):
        at = first + step * BLOCK + tl.arange(0, BLOCK)
        v = tl.load(x + at, mask=at < size, other=0).to(COMPUTE)
        inside = (at < size) & (v >= left) & (v <= right)
        # Step by step as PyTorch does: a number near an edge falls to the same side.
        place = (v - left) * tl.cast(bins, COMPUTE) / (right - left)
        # A range beyond the type's largest number gives no number for a place.
        place = tl.maximum(tl.minimum(tl.where(inside, place, 0).to(tl.int32), bins - 1), 0)
        found += tl.histogram(place, BINS, mask=inside)
    tl.store(counts + tl.program_id(0) * BINS + tl.arange(0, BINS), found)


@triton.jit
def add_counts(counts, out, programs, bins, BINS: tl.constexpr):
    """out[j] = Σ_p counts[p, j]; grid: (1,)."""
    at = tl.arange(0, BINS)
    total = tl.zeros([BINS], tl.int64)
    for program in range(programs):
        total += tl.load(counts + program * BINS + at)
    tl.store(out + at, total.to(out.dtype.element_ty), mask=at < bins)


def _count(x: torch.Tensor, out: torch.Tensor, low: float, high: float) -> torch.Tensor:
    bins = out.numel()
    if x.numel() == 0:
        return zero_(out, out=out)
    wide = tiles.power_of_2(bins)
    block = max(FEWEST_AT_ONCE, wide)
    blocks = tiles.parts(x.numel(), block)
    steps = tiles.parts(blocks, MOST_PROGRAMS)
    programs = tiles.parts(blocks, steps)
    counts = torch.empty((programs, wide), dtype=torch.int32, device=x.device)
    warps = tiles.of(x.device).num_warps
    launch(
        count_elements, (programs,), x.contiguous(), counts, x.numel(), steps, _bits(low), _bits(high), bins,
        COMPUTE=compute_type(x.dtype), BINS=wide, BLOCK=block, num_warps=warps,
    )  # fmt: skip
    launch(add_counts, (1,), counts, out, programs, bins, BINS=wide, num_warps=warps)
    return out


def _bits(number: float) -> int:
    return int(struct.unpack("<q", struct.pack("<d", number))[0])


def histc(self: torch.Tensor, bins: int = 100, min: float = 0, max: float = 0) -> torch.Tensor:
    """How many elements lie in each of `bins` equal parts of [min, max]; with min = max of what the elements span."""
    if not self.is_floating_point():
        raise Declined("defined for floating types only")
    if not 0 < bins <= MOST_BINS:
        raise Declined(f"no bins, or more than {MOST_BINS}")
    low, high = float(min), float(max)
    if low == high and self.numel():
        low, high = (float(end.item()) for end in aminmax(self))
    if low == high:
        low, high = low - 1, high + 1
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise Declined("a range that is not one")
    return _count(self, torch.empty((bins,), dtype=self.dtype, device=self.device), low, high)
