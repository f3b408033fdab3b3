"""Whether two tensors hold the same numbers.

A first block is compared alone: tensors that differ do so there as a rule, and then no other element is read.

Formula:
    equal(x, y) = ∀i x[i] = y[i]; a NaN differs from everything
Shapes: any two; tensors of two shapes differ.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool, the same for both.
Limits: tensors of two types, or of complex numbers, are left to PyTorch.
Source: the page of torch.equal
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import fill_

FIRST = 256
# From here on fewer and longer blocks: after a difference each program that is left still looks whether there was one.
MANY = 1 << 20


@triton.jit
def differ_in(x, y, start, size, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """Whether any of a block of elements differs."""
    at = tl.arange(0, BLOCK)
    mask = at < size - start
    v = tl.load(x + start + at, mask=mask, other=0).to(COMPUTE)
    w = tl.load(y + start + at, mask=mask, other=0).to(COMPUTE)
    return tl.max((mask & (v != w)).to(tl.int32), 0) != 0


@triton.jit
def compare_first(x, y, same, size, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """same[0] = whether the first block of x and y is the same; grid: (1,)."""
    tl.store(same, differ_in(x, y, tl.full([], 0, tl.int64), size, COMPUTE, BLOCK) == 0)


@triton.jit
def compare_rest(x, y, same, size, first, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """same[0] = 0 where x and y differ in a block behind the first elements, while it still is 1; grid: (blocks,)."""
    # Programs that write at once all write the same.
    if tl.load(same):
        start = first + tl.program_id(0).to(tl.int64) * BLOCK
        if differ_in(x, y, start, size, COMPUTE, BLOCK):
            tl.store(same, False)


def equal(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Whether two tensors have one shape and no element that differs, as a boolean of no dims."""
    if self.dtype is not other.dtype or self.is_complex() or self.device != other.device:
        raise Declined("tensors of two types, or complex numbers")
    compute = compute_type(self.dtype)
    same = torch.empty((), dtype=torch.bool, device=self.device)
    size = self.numel()
    if size == 0 or self.shape != other.shape:
        return fill_(same, self.shape == other.shape, out=same)
    x, y = _in_one_order(self, other)
    row = tiles.of(x.device)
    kind = {"COMPUTE": compute, "num_warps": row.num_warps}
    launch(compare_first, (1,), x, y, same, size, BLOCK=tiles.block(size, FIRST), **kind)
    if size > FIRST:
        flat = row.flat if size < MANY else 8 * row.flat
        launch(compare_rest, (tiles.parts(size - FIRST, flat),), x, y, same, size, FIRST, BLOCK=flat, **kind)
    return same


def _in_one_order(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Both with their elements in the same order in memory, without gaps."""
    if x.stride() == y.stride() == torch.empty_like(x).stride():
        return x, y
    return x.contiguous(), y.contiguous()
