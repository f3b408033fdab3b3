"""Windows of an image as columns, and columns summed back into an image; windows along one dim summed back.

Formula:
    im2col: y[c · KH · KW + i · KW + j, o · OW + p] = x[c, o · sh - ph + i · dh, p · sw - pw + j · dw], 0 outside x
    col2im: the sum of all columns' elements that stand at a pixel; im2col's gradient
    unfold_backward: y[o, i, n] = Σ_w g[o, w, n, i - w · step] over the windows w that i stands in; unfold's gradient
Shapes: image [N, C, H, W] or [C, H, W]; columns [N, C · KH · KW, OH · OW] or without N. Windows along a dim: g has one
more dim, the last, of a window's size.
Types: im2col float64, float32, float16, bfloat16, integers and bool, moved bit by bit; col2im float64, float32,
float16 and bfloat16, summed in float32 for the half types; unfold_backward complex numbers, too.
Limits: no empty image.
Source: Chellapilla, Puri and Simard, "High Performance Convolutional Neural Networks for Document Processing", 2006,
HAL inria-00112631; the pages of torch.nn.functional.unfold and torch.nn.functional.fold
"""

from __future__ import annotations

import math
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


@triton.jit
def sum_of_windows(
    x, y, plane, length, inner, num, size, step, most, COMPUTE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """x is [outer, num, inner, size], y is [outer, length, inner], both contiguous, of `plane` = length · inner
    elements each; no element stands in more than `most` windows. Grid: (cdiv(plane, BLOCK), outer)."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    outer = tl.program_id(1).to(tl.int64)
    i, n = at // inner, at % inner
    total = tl.zeros([BLOCK], COMPUTE)
    for k in range(most):
        w = i // step - k
        place = i - w * step
        inside = (at < plane) & (w >= 0) & (w < num) & (place < size)
        total += tl.load(x + ((outer * num + w) * inner + n) * size + place, mask=inside, other=0).to(COMPUTE)
    tl.store(y + outer * plane + at, total.to(y.dtype.element_ty), mask=at < plane)


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
            image_of_columns, (tiles.parts(num_rows, per_program),), self.contiguous(), y, num_rows, per_program,
            *output_size, kh, kw, *dilation, *padding, *stride, oh, ow, COMPUTE=compute_type(self.dtype),
            BLOCK=min(tiles.power_of_2(width), row.row // 2), num_warps=row.num_warps,
        )  # fmt: skip
    return y


def unfold_backward(
    grad_in: torch.Tensor, input_sizes: list[int], dim: int, size: int, step: int
) -> torch.Tensor:
    """The gradient of windows along `dim`: each element sums those of the windows that it stands in."""
    if not input_sizes:
        return unfold_backward(grad_in.view(1, -1), [1], 0, size, step).view(())
    dim %= len(input_sizes)
    if grad_in.is_complex():
        parts = torch.view_as_real(grad_in).movedim(-1, 0)
        sums = unfold_backward(parts, [2, *input_sizes], dim + 1, size, step)
        return torch.view_as_complex(sums.movedim(0, -1).contiguous())
    compute = compute_type(grad_in.dtype)
    y = torch.empty(input_sizes, dtype=grad_in.dtype, device=grad_in.device)
    if y.numel() == 0:
        return y
    inner, plane = math.prod(input_sizes[dim + 1 :]), math.prod(input_sizes[dim:])
    row = tiles.of(grad_in.device)
    block = tiles.block(plane, row.row)
    launch(
        sum_of_windows, (tiles.parts(plane, block), y.numel() // plane), grad_in.contiguous(), y, plane,
        input_sizes[dim], inner, grad_in.shape[dim], size, step, tiles.parts(size, step), COMPUTE=compute,
        BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return y
