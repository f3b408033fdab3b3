"""Attention forward. Shapes are [batch, heads, length, width of a head]; counted are both products."""

from __future__ import annotations

import torch
from torch.nn import functional

from benchmarks.case import ATTENTION, Kernel, Rivals, Shape, entry, randn


def _rivals(shape: Shape, dtype: torch.dtype, *, causal: bool = False) -> Rivals:
    batch, heads, length, width = shape
    q, k, v = (randn(shape, dtype) for _ in range(3))
    ours = entry("_scaled_dot_product_flash_attention_for_cpu")
    flops = 4.0 * batch * heads * length * length * width
    return Rivals(
        ours=lambda: ours(q, k, v, 0.0, causal)[0],
        torch=lambda: functional.scaled_dot_product_attention(q, k, v, is_causal=causal),
        amount=flops / 2 if causal else flops,
        unit="flop",
    )


def _causal(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals(shape, dtype, causal=True)


KERNELS = {
    "attention": Kernel(peer="scaled_dot_product_attention", target=ATTENTION, make=_rivals),
    "attention_causal": Kernel(peer="scaled_dot_product_attention", target=ATTENTION, make=_causal),
}
