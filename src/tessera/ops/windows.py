"""Windows of an image as columns, and columns summed back into an image.

Formula:
    im2col: y[c · KH · KW + i · KW + j, o · OW + p] = x[c, o · sh - ph + i · dh, p · sw - pw + j · dw], 0 outside x
    col2im: the sum of all columns' elements that stand at a pixel; im2col's gradient
Shapes: image [N, C, H, W] or [C, H, W]; columns [N, C · KH · KW, OH · OW] or without N.
Types: im2col float64, float32, float16, bfloat16, integers and bool, moved bit by bit; col2im float64, float32,
float16 and bfloat16, summed in float32 for the half types.
Limits: no empty image.
Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006,
HAL inria-00112631; the pages of torch.nn.functional.unfold and torch.nn.functional.fold
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, storage_type
from tessera.ops.launch import launch


@triton.jit
def columns_of_image(
    x, y, numel, h, w, kh, kw, dh, dw, ph, pw, sh, sw, oh, ow, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, h, w], y is [planes, kh, kw, oh, ow], both contiguous; grid: (cdiv(numel of y, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    window = at // ow // oh
    row = ((at // ow) % oh) * sh - ph + ((window // kw) % kh) * dh
    col = (at % ow) * sw - pw + (window % kw) * dw
    inside = mask & (row >= 0) & (row < h) & (col >= 0) & (col < w)
    value = tl.load(x + (window // kw // kh) * h * w + row * w + col, mask=inside, other=0)
    tl.store(y + at, value, mask=mask)


@triton.jit
def image_of_columns(
    x, y, numel, h, w, kh, kw, dh, dw, ph, pw, sh, sw, oh, ow, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, kh, kw, oh, ow], y is [planes, h, w], both contiguous; grid: (cdiv(numel of y, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    plane = x + (at // w // h) * kh * kw * oh * ow
    total = tl.zeros([BLOCK], COMPUTE)
    for i in range(kh):
        row = (at // w) % h + ph - i * dh
        in_row = mask & (row >= 0) & (row % sh == 0) & (row // sh < oh)
        for j in range(kw):
            col = at % w + pw - j * dw
            inside = in_row & (col >= 0) & (col % sw == 0) & (col // sw < ow)
            place = ((i * kw + j) * oh + row // sh) * ow + col // sw
            total += tl.load(plane + place, mask=inside, other=0).to(COMPUTE)
    tl.store(y + at, total.to(y.dtype.element_ty), mask=mask)


Pair = Sequence[int]


def _windows(sizes: Pair, kernel: Pair, dilation: Pair, padding: Pair, stride: Pair) -> tuple[int, int]:
    """How many windows there are along each of the two dims."""
    options = (kernel, dilation, padding, stride)
    if any(len(x) != 2 for x in options) or min(*kernel, *dilation, *stride) <= 0 or min(padding) < 0:
        raise Declined("a window that does not fit the input")
    each = zip(sizes, *options, strict=True)
    oh, ow = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in each)
    if oh <= 0 or ow <= 0:
        raise Declined("a window that does not fit the input")
    return oh, ow


def _launch(kernel: Any, x: torch.Tensor, y: torch.Tensor, geometry: tuple[int, ...], **constants: Any) -> None:
    if y.numel() == 0:
        return
    row = tiles.of(x.device)
    block = tiles.block(y.numel(), row.flat // 8)
    launch(
        kernel, (triton.cdiv(y.numel(), block),), x, y, y.numel(), *geometry,
        **constants, BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip


def im2col(self: torch.Tensor, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> torch.Tensor:
    """The windows of self[N, C, H, W] (or without N) as columns [N, C · KH · KW, OH · OW]."""
    if self.dim() not in (3, 4) or 0 in self.shape[-3:]:
        raise Declined("an input of another rank, or of no elements")
    storage_type(self.dtype)
    *lead, channels, h, w = self.shape
    oh, ow = _windows((h, w), kernel_size, dilation, padding, stride)
    kh, kw = kernel_size
    y = torch.empty((*lead, channels * kh * kw, oh * ow), dtype=self.dtype, device=self.device)
    geometry = (h, w, kh, kw, *dilation, *padding, *stride, oh, ow)
    _launch(columns_of_image, self.contiguous(), y, geometry)
    return y


def col2im(
    self: torch.Tensor, output_size: Pair, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair
) -> torch.Tensor:
    """The image [N, C, H, W] whose windows' elements self[N, C · KH · KW, OH · OW] (or without N) holds, summed."""
    if self.dim() not in (2, 3) or 0 in self.shape[-2:] or len(output_size) != 2:
        raise Declined("an input of another rank, or of no elements")
    if not self.is_floating_point():
        raise Declined("defined for floating types only")
    *lead, rows, cols = self.shape
    oh, ow = _windows(output_size, kernel_size, dilation, padding, stride)
    kh, kw = kernel_size
    if rows % (kh * kw) or cols != oh * ow:
        raise Declined("columns that do not fit the windows")
    y = torch.empty((*lead, rows // (kh * kw), *output_size), dtype=self.dtype, device=self.device)
    geometry = (*output_size, kh, kw, *dilation, *padding, *stride, oh, ow)
    _launch(image_of_columns, self.contiguous(), y, geometry, COMPUTE=compute_type(self.dtype))
    return y
