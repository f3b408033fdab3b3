"""What a mask selects, and writing there: the elements where it is true, in order.

Formula:
    masked_select:  y = the x[i] with mask[i], in order of i
    masked_scatter: y[i] = source[r - 1] where mask[i], r being how many of the mask are true up to i; else x[i]
Shapes: masked_select: x and mask broadcast, y is [how many are true]; masked_scatter: the mask broadcasts to x, source
has at least as many elements as the mask has true ones.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; the mask is bool.
Limits: the size of masked_select follows from values, so it is read back.
Errors: RuntimeError for a source that is too short.
Source: the pages of torch.masked_select and torch.Tensor.masked_scatter_
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import storage_type
from tessera.ops.index import flagged
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.nonzero import BLOCK, PARTS, before, bounds, counted, is_true, selected
from tessera.ops.pointwise import copy_


@triton.jit
def scatter_true(
    x, mask, counts, source, flag, size, per_part, num, PARTS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """x = source[r] at the rth place where the mask is true; `num` are in the source. Grid: (parts,)."""
    first, last = bounds(size, per_part)
    start_r = before(counts, PARTS)
    for start in range(first, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        true = is_true(mask, at, size)
        next_r = start_r + tl.sum(true, axis=0)
        if next_r > num:
            tl.store(flag, 1)
        else:
            given = tl.load(source + start_r + tl.cumsum(true, axis=0) - 1, mask=true != 0)
            tl.store(x + at, given, mask=true != 0)
        start_r = next_r


def _mask(mask: torch.Tensor) -> None:
    if mask.dtype is not torch.bool:
        raise Declined("the mask is not boolean")


def masked_select(self: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The elements where the mask is true, in a row; both are broadcast."""
    _mask(mask)
    shape = broadcast_shape((tuple(self.shape), tuple(mask.shape)))
    return selected(self.expand(shape), mask.expand(shape))


def masked_scatter_(self: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """The elements of source, in order, to where the mask is true."""
    _mask(mask)
    if source.dtype is not self.dtype or broadcast_shape((tuple(self.shape), tuple(mask.shape))) != self.shape:
        raise Declined("operands that do not fit")
    if self.numel() == 0:
        return self
    if self.is_complex():
        pairs = torch.view_as_real(self)
        masked_scatter_(pairs, mask.unsqueeze(-1).expand(pairs.shape), torch.view_as_real(source))
        return self
    storage_type(self.dtype)
    found, x = counted(mask.expand(self.shape)), self.contiguous()
    with flagged(self.device, lambda: RuntimeError(
        f"the mask has more true places than the source has elements, which are {source.numel()}; compare "
        "mask.sum(), broadcast to the tensor's shape, with source.numel()"
    )) as flag:  # fmt: skip
        launch(
            scatter_true, (found.counts.numel(),), x, found.flat, found.counts, source.contiguous(), flag, x.numel(),
            found.per_part, source.numel(), PARTS=PARTS, BLOCK=BLOCK, num_warps=tiles.of(x.device).num_warps,
        )  # fmt: skip
    return self if x is self else copy_(self, x, out=self)
