"""What is in a tensor, once each: unique and unique_consecutive.

The elements are sorted; each that differs from the one before it opens a group, and the running count of those is the
number of an element's group. Without sorting, the same gives runs of equal elements.

Formula:
    opens[i] = x[i] ≠ x[i - 1],  group[i] = Σ_{j≤i} opens[j] - 1
    out[group[i]] = x[i],  inverse[place of i] = group[i],  counts[g] = how many i are in group g
Shapes: x of any shape, seen as one row; out and counts [number of groups]; inverse like x.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; places and counts are int64. A
NaN equals nothing, so each is a group.
Limits: not along a dim of a tensor with several, and not of an empty tensor.
Source: the pages of torch.unique and torch.unique_consecutive
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, run
from tessera.ops.launch import launch
from tessera.ops.move import cumsum
from tessera.ops.sort import sorted_rows

Found = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@triton.jit
def open_groups(x, opens, size, BLOCK: tl.constexpr):
    """opens[i] = x[i] differs from x[i - 1]; the first element opens. Grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    v = tl.load(x + at, mask=mask, other=0)
    last = tl.load(x + at - 1, mask=mask & (at > 0), other=0)
    tl.store(opens + at, (v != last) | (at == 0), mask=mask)


@triton.jit
def close_groups(x, places, groups, out, inverse, ends, size, BLOCK: tl.constexpr):
    """Element i, which stood at places[i], is in group groups[i] - 1: write its value, its end, and who is in it."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    group = tl.load(groups + at, mask=mask, other=0)
    after = tl.load(groups + at + 1, mask=at + 1 < size, other=-1)
    tl.store(inverse + tl.load(places + at, mask=mask, other=0), group - 1, mask=mask)
    closes = mask & (group != after)
    tl.store(out + group - 1, tl.load(x + at, mask=mask, other=0), mask=closes)
    tl.store(ends + group, at + 1, mask=closes)


def mark_opening(values: torch.Tensor, opens: torch.Tensor) -> None:
    """opens[i] = element i of a row differs from the one before."""
    _launch(open_groups, values, opens, values.numel())


def write_groups(
    values: torch.Tensor, places: torch.Tensor, groups: torch.Tensor, out: torch.Tensor, inverse: torch.Tensor,
    ends: torch.Tensor,
) -> None:  # fmt: skip
    """What `close_groups` writes, of a row of elements."""
    _launch(close_groups, values, places, groups, out, inverse, ends, values.numel())


def _launch(kernel: Any, values: torch.Tensor, *args: Any) -> None:
    row = tiles.of(values.device)
    block = tiles.block(values.numel(), row.row)
    launch(kernel, (triton.cdiv(values.numel(), block),), values, *args, BLOCK=block, num_warps=row.num_warps)


def _grouped(values: torch.Tensor, places: torch.Tensor, shape: tuple[int, ...]) -> Found:
    """(one of each group, the group of each place, how many are in it) of a row of elements."""
    size = values.numel()
    opens = torch.empty((size,), dtype=torch.bool, device=values.device)
    mark_opening(values, opens)
    groups = cumsum(opens, 0)
    num = int(groups[-1].item())
    out = torch.empty((num,), dtype=values.dtype, device=values.device)
    inverse, ends = (torch.empty((n,), dtype=torch.int64, device=values.device) for n in (size, num + 1))
    run(f.identity, (0,), tl.int64, torch.int64, ends[:1])
    write_groups(values, places, groups, out, inverse, ends)
    return out, inverse.view(shape), run(f.sub, (ends[1:], ends[:-1]), tl.int64, torch.int64)


def _wanted(found: Found, inverse: bool, counts: bool) -> Found:
    """What was not asked for is empty."""
    nothing = torch.empty((0,), dtype=torch.int64, device=found[0].device)
    return found[0], found[1] if inverse else nothing, found[2] if counts else nothing


def _checked(self: torch.Tensor) -> None:
    compute_type(self.dtype)
    if self.numel() == 0:
        raise Declined("groups of no elements")


def unique(
    self: torch.Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False
) -> Found:
    """(the distinct elements in order, which of them stands at each place, how often each stands there)."""
    _checked(self)
    values, places = sorted_rows(self.contiguous().view(1, -1), False)
    # The inverse is cheap, and PyTorch computes it where the counts are asked for as well.
    return _wanted(
        _grouped(values.view(-1), places.view(-1), tuple(self.shape)), return_inverse or return_counts, return_counts
    )


def unique_consecutive(
    self: torch.Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Found:
    """`unique` of runs of equal elements."""
    _checked(self)
    if dim is not None and self.dim() != 1:
        raise Declined("runs of equal slices")
    flat = self.contiguous().view(-1)
    places = torch.arange(flat.numel(), device=self.device)
    return _wanted(_grouped(flat, places, tuple(self.shape)), return_inverse, return_counts)
