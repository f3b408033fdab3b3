"""What a mask selects, and writing there: the elements where it is true, in order.

Formula:
    masked_select:  y = the x[i] with mask[i], in order of i
    masked_scatter: y[i] = source[r - 1] where mask[i], r being how many of the mask are true up to i; else x[i]
Shapes: masked_select: x and mask broadcast, y is [how many are true]; masked_scatter: the mask broadcasts to x, source
has at least as many elements as the mask has true ones.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool; the mask is bool.
Limits: the size of masked_select follows from values, so it is read back.
Source: the pages of torch.masked_select and torch.Tensor.masked_scatter_
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops.declined import Declined
from tessera.ops.generate import run, storage_type
from tessera.ops.index import index_select
from tessera.ops.layout import broadcast_shape
from tessera.ops.move import cumsum
from tessera.ops.nonzero import true_places
from tessera.ops.pointwise import where


@triton.jit
def one_less(rank):
    return tl.maximum(rank - 1, 0)


def _mask(mask: torch.Tensor) -> None:
    if mask.dtype is not torch.bool:
        raise Declined("the mask is not boolean")


def masked_select(self: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The elements where the mask is true, in a row; both are broadcast."""
    _mask(mask)
    shape = broadcast_shape((tuple(self.shape), tuple(mask.shape)))
    storage_type(self.dtype)
    return true_places(mask.expand(shape), self.expand(shape))


def masked_scatter_(self: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """The elements of source, in order, to where the mask is true."""
    _mask(mask)
    if source.dtype is not self.dtype or broadcast_shape((tuple(self.shape), tuple(mask.shape))) != self.shape:
        raise Declined("operands that do not fit")
    wide = mask.expand(self.shape).contiguous().view(-1)
    if wide.numel() == 0:
        return self
    rank = cumsum(wide, 0)
    if int(rank[-1].item()) > source.numel():
        raise Declined("more places than elements of the source")
    if source.numel() == 0:
        return self
    before = run(one_less, (rank,), tl.int64, torch.int64)
    given = index_select(source.contiguous().view(-1), 0, before).view(self.shape)
    return where(mask, given, self, out=self)

