"""Where a tensor is not 0.

A tensor is cut in few parts. What is not 0 is counted by part, and each one's place in the result is the sum of the
parts before plus those before it in the part. The size of the result follows from values, so it is read.

Formula:
    out[r] = coordinates of the rth i, in order, with x[i] ≠ 0
    r = Σ over the parts before of their count + how many before i in its part
    selected: y[r] = x[i] instead of the coordinates
Shapes: x of any shape; out [how many, dims of x].
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; out is int64.
Source: the page of torch.nonzero; Blelloch, "Prefix Sums and Their Applications", 1990, Carnegie Mellon CMU-CS-90-190
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.generate import storage_type
from tessera.ops.launch import fixed, launch, shorten

BLOCK = 1024
# So many parts that several threads have work, and so few that a program adds up the counts before its own.
PARTS = 256
# So many elements are done before they are shared out among programs, which takes several launches for one.
FEW = 16 * BLOCK


@triton.jit
def is_true(x, at, size):
    """1 where an element is not 0, else 0, also behind the end."""
    return (tl.load(x + at, mask=at < size, other=0) != 0).to(tl.int32)


@triton.jit
def bounds(size, per_part):
    """Where the program's part of `size` elements begins, and where it ends."""
    first = tl.program_id(0).to(tl.int64) * per_part
    return first, tl.minimum(first + per_part, size)


@triton.jit
def before(counts, PARTS: tl.constexpr):
    """How many are not 0 in the parts before this program's."""
    part = tl.arange(0, PARTS)
    return tl.sum(tl.load(counts + part, mask=part < tl.program_id(0), other=0), axis=0)


@triton.jit
def count_true(x, counts, size, per_part, BLOCK: tl.constexpr):
    """counts[p] = how many of part p are not 0; grid: (parts,)."""
    first, last = bounds(size, per_part)
    count = tl.cast(0, tl.int64)
    for start in range(first, last, BLOCK):
        count += tl.sum(is_true(x, start + tl.arange(0, BLOCK), size), axis=0)
    tl.store(counts + tl.program_id(0), count)


@triton.jit
def place_true(
    x, counts, out, sizes, size, per_part, num, RANK: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """out[d, r] = coordinate d of the rth of `num` elements that are not 0; grid: (parts,)."""
    first, last = bounds(size, per_part)
    to = out + before(counts, PARTS)
    for start in range(first, last, BLOCK):
        place = start + tl.arange(0, BLOCK)
        true = is_true(x, place, size)
        r = tl.cumsum(true, axis=0) - 1
        for d in tl.static_range(RANK - 1, 0, -1):
            n = tl.load(sizes + d)
            tl.store(to + d * num + r, place % n, mask=true != 0)
            place = place // n
        tl.store(to + r, place, mask=true != 0)
        to += tl.sum(true, axis=0)


@triton.jit
def select_true(x, mask, counts, num, out, size, per_part, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """out[r] = x at the rth place where the mask is true; grid: (parts,).

    Without `counts` there is one part, and num = how many are selected.
    """
    first, last = bounds(size, per_part)
    done = tl.zeros([], tl.int64)
    if counts is not None:
        done += before(counts, PARTS)
    for start in range(first, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        true = is_true(mask, at, size)
        tl.store(out + done + tl.cumsum(true, axis=0) - 1, tl.load(x + at, mask=at < size), mask=true != 0)
        done += tl.sum(true, axis=0)
    if num is not None:
        tl.store(num, done)


@dataclass(frozen=True)
class Counted:
    """A contiguous row in parts of `per_part` elements, and how many of each part are not 0."""

    flat: torch.Tensor
    counts: torch.Tensor
    per_part: int

    @property
    def total(self) -> int:
        """How many are not 0; reads them."""
        return int((self.counts if self.counts.numel() == 1 else self.counts.sum()).item())


def counted(x: torch.Tensor) -> Counted:
    """How many of `x`, seen as one row of at least one element, are not 0."""
    storage_type(x.dtype)
    flat = x.contiguous().view(-1)
    row, size = tiles.of(x.device), flat.numel()
    per_part = max(row.flat, BLOCK * tiles.parts(size, BLOCK * PARTS))
    counts = torch.empty((tiles.parts(size, per_part),), dtype=torch.int64, device=x.device)
    launch(count_true, (counts.numel(),), flat, counts, size, per_part, BLOCK=BLOCK, num_warps=row.num_warps)
    return Counted(flat, counts, per_part)


def coordinates(x: Counted, shape: tuple[int, ...], num: int) -> torch.Tensor:
    """[dims, num]: where the `num` elements that are not 0 are in a tensor of `shape`."""
    rank = max(1, len(shape))
    out = torch.empty((rank, num), dtype=torch.int64, device=x.flat.device)
    launch(
        place_true, (x.counts.numel(),), x.flat, x.counts, out, fixed(_sizes(shape, out.device)), x.flat.numel(),
        x.per_part, num, RANK=rank, PARTS=PARTS, BLOCK=BLOCK, num_warps=tiles.of(out.device).num_warps,
    )  # fmt: skip
    return out


@functools.lru_cache(maxsize=256)
def _sizes(shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(shape or (1,), dtype=torch.int64, device=device)


def selected(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The elements of `x`, in order, where a mask of its shape is true."""
    if x.is_complex():
        # A complex number is a row of two, of which the mask means both or none.
        pairs = torch.view_as_real(x)
        return torch.view_as_complex(selected(pairs, mask.unsqueeze(-1).expand(pairs.shape)).view(-1, 2))
    storage_type(x.dtype)
    if x.numel() == 0:
        return torch.empty((0,), dtype=x.dtype, device=x.device)
    if x.numel() <= FEW:
        # Memory for all of them is there before it is known how many are wanted.
        room = torch.empty((x.numel(),), dtype=x.dtype, device=x.device)
        shorten(take_few(x, mask, room), room)
        return room
    found = counted(mask)
    return taken(x, found, found.total)


def take_few(x: torch.Tensor, mask: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Write the elements of `x`, in order, where a mask of its shape is true; [how many there are]."""
    num = torch.empty((1,), dtype=torch.int64, device=x.device)
    _select(1, x, mask.contiguous(), None, num, out, x.numel())
    return num


def taken(x: torch.Tensor, found: Counted, num: int) -> torch.Tensor:
    """The `num` elements of `x`, in order, where a row of its size is not 0."""
    out = torch.empty((num,), dtype=x.dtype, device=x.device)
    _select(found.counts.numel(), x, found.flat, found.counts, None, out, found.per_part)
    return out


def _select(
    parts: int, x: torch.Tensor, mask: torch.Tensor, counts: torch.Tensor | None, num: torch.Tensor | None,
    out: torch.Tensor, per_part: int,
) -> None:  # fmt: skip
    launch(
        select_true, (parts,), x.contiguous(), mask, counts, num, out, x.numel(), per_part, PARTS=PARTS, BLOCK=BLOCK,
        num_warps=tiles.of(x.device).num_warps,
    )  # fmt: skip


def nonzero(self: torch.Tensor) -> torch.Tensor:
    """The coordinates of all elements that are not 0, as [how many, dims]; those of one dim lie side by side."""
    storage_type(self.dtype)
    found = counted(self) if self.numel() else None
    num = found.total if found is not None else 0
    if found is None or num == 0 or self.dim() == 0:
        return torch.empty((self.dim(), num), dtype=torch.int64, device=self.device).t()
    return coordinates(found, tuple(self.shape), num).t()
