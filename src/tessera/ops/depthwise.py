"""Depthwise convolutions by channels: where channels lie innermost, lines are short, or places read lie apart.

A vector is of neighbouring channels at one place, which each have a weight of their own for every tap, and some places
beside each other share a load of weights. Nothing is padded: outside of the input taps are left out, or zero. Where
channels do not lie innermost the input is copied so that they do, and the result back: that is less than the taps that
vectors along short lines would waste, and than picking places that lie apart from vectors for each tap.

Formula: that of `convolution.py` with O = C = groups; transposed with strides of 1 it reads the taps backwards.
Shapes: x [N, C, n0, n1, n2], w [C, 1, 1, k0, k1, k2], y [N, C, m0, m1, m2].
Types: float64, float32, float16 and bfloat16; sums are kept in float32 (float64 for float64).
Source: Howard and others, "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications", 2017,
arXiv:1704.04861
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.convolution_plan import Shape
from tessera.ops.launch import launch

# Places and channels whose sums are held in registers, and the fewest channels that are worth a copy.
PLACES, BLOCK, _LEAST_CHANNELS = 4, 32, 32
# Columns up to which vectors of channels waste less than vectors of columns.
_FEW_COLUMNS = 64


@triton.jit
def taps_inside(begin, size, taps, apart):
    """The first tap, and the one behind the last, that find begin + tap · apart in [0, size)."""
    first = tl.cdiv(tl.maximum(-begin, 0), apart)
    return first, tl.maximum(tl.minimum(taps, tl.cdiv(tl.maximum(size - begin, 0), apart)), first)


@triton.jit
def across_channels(
    x, w, bias, y, w_first, w_tap, lines, per_program, channels, n0, n1, n2, m0, m1, m2, k0, k1, k2,
    s0, s1, s2, p0, p1, p2, d0, d1, d2, x_n, x_0, x_1, x_2, y_n, y_0, y_1, y_2,
    ACC: tl.constexpr, EVEN: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """BP places of a line of m2 by BC channels at a time, whose sums stay in registers; tap t begins at w + w_first +
    t · w_tap.

    EVEN: BC divides the channels. Grid: (cdiv(lines, per_program), cdiv(channels, BC)), lines being N · m0 · m1.
    """
    channel = tl.program_id(1).to(tl.int64) * BC
    c = tl.arange(0, BC)[None, :]
    in_channels = True if EVEN else c < channels - channel
    w += channel + w_first
    begin = tl.program_id(0).to(tl.int64) * per_program
    for line in range(begin, tl.minimum(begin + per_program, lines)):
        o1, o0, n = (line % m1).to(tl.int32), (line // m1 % m0).to(tl.int32), line // m1 // m0
        b0, b1 = o0 * s0 - p0, o1 * s1 - p1
        first_0, last_0 = taps_inside(b0, n0, k0, d0)
        first_1, last_1 = taps_inside(b1, n1, k1, d1)
        for first in range(0, m2, BP):
            o2 = first + tl.arange(0, BP)[:, None]
            b2 = o2 * s2 - p2
            total = tl.zeros([BP, BC], ACC)
            for i0 in range(first_0, last_0):
                for i1 in range(first_1, last_1):
                    x_at = x + channel + n * x_n + (b0 + i0 * d0).to(tl.int64) * x_0 + (b1 + i1 * d1).to(tl.int64) * x_1
                    w_at = w + ((i0 * k1 + i1) * k2).to(tl.int64) * w_tap
                    for i2 in range(k2):
                        at = b2 + i2 * d2
                        within = (at >= 0) & (at < n2) & (o2 < m2)
                        value = tl.load(x_at + at.to(tl.int64) * x_2 + c, mask=within & in_channels, other=0.0)
                        total += value.to(ACC) * tl.load(w_at + i2 * w_tap + c, mask=in_channels, other=0.0).to(ACC)
            if bias is not None:
                total += tl.load(bias + channel + c, mask=in_channels, other=0.0).to(ACC)
            to = y + channel + n * y_n + o0.to(tl.int64) * y_0 + o1.to(tl.int64) * y_1
            to += o2.to(tl.int64) * y_2 + c
            tl.store(to, total.to(y.dtype.element_ty), mask=(o2 < m2) & in_channels)


def suits(x: torch.Tensor, w: torch.Tensor, shape: Shape, is_transposed: bool) -> bool:
    """Whether a convolution is served here; w [groups, outputs, channels, …], or with those two changed."""
    if w.shape[1:3] != (1, 1) or w.shape[0] < _LEAST_CHANNELS or (is_transposed and max(shape.stride) > 1):
        return False
    return x.stride(1) == 1 or x.shape[4] <= _FEW_COLUMNS or shape.stride[2] > 1


def run(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, shape: Shape, is_transposed: bool
) -> None:
    """Into y."""
    channels, taps = w.shape[0], math.prod(w.shape[3:])
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    w_taps = w.view(channels, taps).t().contiguous()
    pad, w_first, w_tap = shape.pad, 0, channels
    if is_transposed:
        reach = (d * (k - 1) for d, k in zip(shape.dilation, w.shape[3:], strict=True))
        pad, w_first, w_tap = tuple(r - p for r, p in zip(reach, pad, strict=True)), (taps - 1) * channels, -channels
    lines, row = y.numel() // channels // y.shape[4], tiles.of(x.device)
    per_program = max(1, 2 * row.flat // (BLOCK * taps * y.shape[4]))
    # By channel too where the result does not lie so: channels of planes may all meet in one set of a cache.
    found = y.permute(0, 2, 3, 4, 1)
    if y.stride(1) != 1:
        found = torch.empty(found.shape, dtype=y.dtype, device=y.device)
    launch(
        across_channels, (tiles.parts(lines, per_program), tiles.parts(channels, BLOCK)), x, w_taps, bias, found,
        w_first, w_tap, lines, per_program, channels, *x.shape[1:4], *y.shape[2:], *w.shape[3:], *shape.stride, *pad,
        *shape.dilation, *x.stride()[:4], *found.stride()[:4],
        ACC=tl.float64 if x.dtype is torch.float64 else tl.float32, EVEN=channels % BLOCK == 0, BP=PLACES, BC=BLOCK,
        num_warps=row.num_warps,
    )  # fmt: skip
    if y.stride(1) != 1:
        y.copy_(found.permute(0, 4, 1, 2, 3))
