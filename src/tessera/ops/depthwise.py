"""Depthwise convolutions by channels: where channels lie innermost, lines are short, or places read lie apart.

A vector is of neighbouring channels at one place, which each have a weight of their own for every tap, and some places
beside each other share a load of weights. Nothing is padded, and nothing masked: taps outside of the input are left
out, for which places near the ends of a line are taken one by one. Where channels do not lie innermost the input is
copied so that they do, and the result back: that is less than the taps that vectors along short lines would waste, and
than picking places that lie apart from vectors for each tap.

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

# Places and channels whose sums are held in registers; a copy is worth while from so many channels on.
PLACES, BLOCK = 4, 32
# The fewest channels that are served where they lie innermost.
_LEAST_CHANNELS = 16
# Columns up to which vectors of channels waste less than vectors of columns.
_FEW_COLUMNS = 96


@triton.jit
def taps_inside(begin, size, taps, apart):
    """The first tap, and the one behind the last, that find begin + tap · apart in [0, size)."""
    first = tl.cdiv(tl.maximum(-begin, 0), apart)
    return first, tl.maximum(tl.minimum(taps, tl.cdiv(tl.maximum(size - begin, 0), apart)), first)


@triton.jit
def _sum_of_taps(
    x, w, first_0, last_0, first_1, last_1, first_2, last_2, w_tap, k1, k2, x_0, x_1, x_2,
    ACC: tl.constexpr, PLACES: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """[PLACES, BC] over the taps in these ranges, all of which find an element; x [PLACES, BC] are where tap 0 would,
    and x_0, x_1, x_2 lie between the elements of neighbouring taps."""
    total = tl.zeros([PLACES, BC], ACC)
    for i0 in range(first_0, last_0):
        for i1 in range(first_1, last_1):
            x_at = x + i0 * x_0 + i1 * x_1
            w_at = w + ((i0 * k1 + i1) * k2).to(tl.int64) * w_tap
            for i2 in range(first_2, last_2):
                total += tl.load(x_at + i2 * x_2).to(ACC) * tl.load(w_at + i2 * w_tap)
    return total


@triton.jit
def across_channels(
    x, w, bias, y, w_first, w_tap, lines, per_program, channels, n0, n1, n2, m0, m1, m2, k0, k1, k2,
    s0, s1, s2, p0, p1, p2, d0, d1, d2, x_n, x_0, x_1, x_2, y_n, y_0, y_1, y_2,
    ACC: tl.constexpr, BP: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """BC channels at a time of BP places of a line of m2 whose taps all find an element, and of one place where some
    do not; sums stay in registers. Tap t begins at w + w_first + t · w_tap.

    There are BC channels or more; the last ones are BC as well, some of which others compute too.
    Grid: (cdiv(lines, per_program), cdiv(channels, BC)), lines being N · m0 · m1.
    """
    channel = tl.minimum(tl.program_id(1).to(tl.int64) * BC, channels - BC)
    c = tl.arange(0, BC)[None, :]
    x, w, y = x + channel + c, w + channel + w_first + c, y + channel + c
    shift = tl.zeros([1, BC], ACC)
    if bias is not None:
        shift += tl.load(bias + channel + c).to(ACC)
    # From the element of a tap to the next tap's.
    apart_0, apart_1, apart_2 = tl.cast(d0, tl.int64) * x_0, tl.cast(d1, tl.int64) * x_1, tl.cast(d2, tl.int64) * x_2
    # Places whose taps all find an element are those in [begin, end); they are taken BP at a time up to `rest`.
    begin = tl.minimum(tl.cdiv(tl.maximum(p2, 0), s2), m2)
    end = tl.minimum(tl.maximum(n2 + p2 - (k2 - 1) * d2 - 1 + s2, 0) // s2, m2)
    rest = begin + tl.maximum(end - begin, 0) // BP * BP
    from_line = tl.program_id(0).to(tl.int64) * per_program
    for line in range(from_line, tl.minimum(from_line + per_program, lines)):
        o1, o0, n = (line % m1).to(tl.int32), (line // m1 % m0).to(tl.int32), line // m1 // m0
        b0, b1 = o0 * s0 - p0, o1 * s1 - p1
        first_0, last_0 = taps_inside(b0, n0, k0, d0)
        first_1, last_1 = taps_inside(b1, n1, k1, d1)
        from_x = x + n * x_n + b0.to(tl.int64) * x_0 + b1.to(tl.int64) * x_1 - tl.cast(p2, tl.int64) * x_2
        to = y + n * y_n + o0.to(tl.int64) * y_0 + o1.to(tl.int64) * y_1
        for first in range(begin, rest, BP):
            o2 = (first + tl.arange(0, BP)[:, None]).to(tl.int64)
            total = _sum_of_taps(
                from_x + o2 * s2 * x_2, w, first_0, last_0, first_1, last_1, 0, k2, w_tap, k1, k2,
                apart_0, apart_1, apart_2, ACC, BP, BC,
            )  # fmt: skip
            tl.store(to + o2 * y_2, (total + shift).to(y.dtype.element_ty))
        for place in range(begin + m2 - rest):
            o2 = tl.where(place < begin, place, place - begin + rest)
            first_2, last_2 = taps_inside(o2 * s2 - p2, n2, k2, d2)
            at = tl.zeros([1, 1], tl.int64) + o2
            total = _sum_of_taps(
                from_x + at * s2 * x_2, w, first_0, last_0, first_1, last_1, first_2, last_2, w_tap, k1, k2,
                apart_0, apart_1, apart_2, ACC, 1, BC,
            )  # fmt: skip
            tl.store(to + at * y_2, (total + shift).to(y.dtype.element_ty))


def suits(x: torch.Tensor, w: torch.Tensor, shape: Shape, is_transposed: bool) -> bool:
    """Whether a convolution is served here; w [groups, outputs, channels, …], or with those two changed."""
    channels = w.shape[0]
    if w.shape[1:3] != (1, 1) or (is_transposed and max(shape.stride) > 1):
        return False
    if x.stride(1) == 1:
        return channels >= _LEAST_CHANNELS
    return channels >= BLOCK and (x.shape[4] <= _FEW_COLUMNS or shape.stride[2] > 1)


def run(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, shape: Shape, is_transposed: bool
) -> None:
    """Into y."""
    channels, taps = w.shape[0], math.prod(w.shape[3:])
    block = BLOCK if channels >= BLOCK else _LEAST_CHANNELS
    x = x.permute(0, 2, 3, 4, 1).contiguous()
    sums = torch.float64 if x.dtype is torch.float64 else torch.float32
    w_taps = torch.empty((taps, channels), dtype=sums, device=w.device).copy_(w.view(channels, taps).t())
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
        across_channels, (tiles.parts(lines, per_program), tiles.parts(channels, block)), x, w_taps, bias, found,
        w_first, w_tap, lines, per_program, channels, *x.shape[1:4], *y.shape[2:], *w.shape[3:], *shape.stride, *pad,
        *shape.dilation, *x.stride()[:4], *found.stride()[:4],
        ACC=tl.float64 if x.dtype is torch.float64 else tl.float32, BP=PLACES * BLOCK // block, BC=block,
        num_warps=row.num_warps,
    )  # fmt: skip
    if y.stride(1) != 1:
        y.copy_(found.permute(0, 4, 1, 2, 3))
