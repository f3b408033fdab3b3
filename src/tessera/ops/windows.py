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

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, storage_type
from tessera.ops.launch import launch


@triton.jit
def columns_of_image(
    x, y, h, w, kh, kw, dh, dw, ph, pw, sh, sw, oh, ow, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, h, w], y is [planes, kh, kw, oh, ow], both contiguous; grid: (planes * kh * kw,)."""
    window = tl.program_id(0).to(tl.int64)
    top, left = (window // kw) % kh * dh - ph, (window % kw) * dw - pw
    plane, to = x + (window // kw // kh) * h * w, y + window * oh * ow
    for o in range(oh):
        row = o * sh + top
        for begin in range(0, ow, BLOCK):
            p = begin + tl.arange(0, BLOCK)
            col = p * sw + left
            inside = (row >= 0) & (row < h) & (p < ow) & (col >= 0) & (col < w)
            value = tl.load(plane + row * w + col, mask=inside, other=0)
            tl.store(to + o * ow + p, value, mask=p < ow)


@triton.jit
def image_of_columns(
    x, y, num_rows, per_program, h, w, kh, kw, dh, dw, ph, pw, sh, sw, oh, ow,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, kh, kw, oh, ow], y is [planes, h, w], both contiguous; grid: (cdiv(num_rows, per_program),)."""
    begin = tl.program_id(0).to(tl.int64) * per_program
    for pixels in range(begin, tl.minimum(begin + per_program, num_rows)):
        plane = x + (pixels // h) * kh * kw * oh * ow
        for c in range(0, w, BLOCK):
            at = c + tl.arange(0, BLOCK)
            total = tl.zeros([BLOCK], COMPUTE)
            for i in range(kh):
                row = pixels % h + ph - i * dh
                if (row >= 0) & (row % sh == 0) & (row // sh < oh):
                    for j in range(kw):
                        col = at + (pw - j * dw)
                        inside = (at < w) & (col >= 0) & (col % sw == 0) & (col // sw < ow)
                        place = ((i * kw + j) * oh + row // sh) * ow + col // sw
                        total += tl.load(plane + place, mask=inside, other=0).to(COMPUTE)
            tl.store(y + pixels * w + at, total.to(y.dtype.element_ty), mask=at < w)


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


def im2col(self: torch.Tensor, kernel_size: Pair, dilation: Pair, padding: Pair, stride: Pair) -> torch.Tensor:
    """The windows of self[N, C, H, W] (or without N) as columns [N, C · KH · KW, OH · OW]."""
    if self.dim() not in (3, 4) or 0 in self.shape[-3:]:
        raise Declined("an input of another rank, or of no elements")
    storage_type(self.dtype)
    *lead, channels, h, w = self.shape
    oh, ow = _windows((h, w), kernel_size, dilation, padding, stride)
    kh, kw = kernel_size
    y = torch.empty((*lead, channels * kh * kw, oh * ow), dtype=self.dtype, device=self.device)
    if y.numel():
        row = tiles.of(self.device)
        launch(
            columns_of_image, (y.numel() // (oh * ow),), self.contiguous(), y, h, w, kh, kw, *dilation, *padding,
            *stride, oh, ow, BLOCK=min(tiles.power_of_2(ow), row.row // 2), num_warps=row.num_warps,
        )  # fmt: skip
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
    if y.numel():
        row, width = tiles.of(self.device), output_size[1]
        num_rows = y.numel() // width
        per_program = tiles.block(num_rows, max(1, row.flat // tiles.power_of_2(width * kh * kw)))
        launch(
            image_of_columns, (triton.cdiv(num_rows, per_program),), self.contiguous(), y, num_rows, per_program,
            *output_size, kh, kw, *dilation, *padding, *stride, oh, ow, COMPUTE=compute_type(self.dtype),
            BLOCK=min(tiles.power_of_2(width), row.row // 2), num_warps=row.num_warps,
        )  # fmt: skip
    return y
