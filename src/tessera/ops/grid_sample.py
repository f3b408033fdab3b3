"""An image or a volume read at places that a grid names, with the gradients by both.

Outside the image pixels are 0, those of the border, or the image is reflected.

Formula:
    y[c, p] = Σ_k w_k(x_p) · image[c, place_k(x_p)], a product of such sums over the 2 or 3 dims
    x_p = ((g + 1) · size - 1) / 2, g being the grid's point p from [-1, 1]
          aligned corners: (g + 1) · (size - 1) / 2
    linear: 2 places a dim, w = 1 - |x - place|;  nearest: 1 place;  cubic: 4 places, cubic convolution with a = -3/4
    dimage[c, q] = Σ w_k(x_p) · dy[c, p] over the p and k with place_k(x_p) = q, in the order of the points
    dgrid[p] = Σ_c dy[c, p] · Σ_k w'_k(x_p) · image[c, place_k(x_p)] · dx/dg; 0 beyond a border, and of the nearest
Shapes: image [N, C, H, W] and grid [N, …, 2], or [N, C, D, H, W] and [N, …, 3]; y [N, C, …].
Types: float64, float32, float16 and bfloat16, one for both; the image's gradient is summed in float32 for half types.
Limits: cubic for images alone; no image without elements.
Source: the page of torch.nn.functional.grid_sample; Keys, "Cubic Convolution Interpolation for Digital Image
Processing", IEEE Transactions on Acoustics, Speech, and Signal Processing 29(6), 1981
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_, zero_

LINEAR, NEAREST, CUBIC = (tl.constexpr(mode) for mode in range(3))
ZEROS, BORDER, REFLECTION = (tl.constexpr(padding) for padding in range(3))
_TAPS = {LINEAR.value: 2, NEAREST.value: 1, CUBIC.value: 4}


@triton.jit
def bounded(x, size, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """The place inside the image that x stands for, and its derivative by x."""
    slope = tl.zeros_like(x) + 1.0
    if PADDING == REFLECTION:
        low = 0.0 if ALIGN else -0.5
        span = (tl.zeros_like(x) + size) - (1.0 if ALIGN else 0.0)
        away = tl.abs(x - low)
        flips = tl.floor(away / span)
        odd = tl.floor(flips * 0.5) * 2.0 != flips
        rest = libdevice.fmod(away, span)
        slope = tl.where((x < low) != odd, -1.0, 1.0).to(x.dtype)
        x = tl.where(span == 0, 0.0, tl.where(odd, span - rest, rest) + low).to(x.dtype)
    if PADDING != ZEROS:
        last = (tl.zeros_like(x) + size) - 1.0
        slope = tl.where((x > 0) & (x < last), slope, 0.0).to(x.dtype)
        x = tl.where(x > 0, tl.where(x < last, x, last), 0.0).to(x.dtype)
    return x, slope


@triton.jit
def in_pixels(g, size, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """The place in pixels of a coordinate of the grid, and its derivative. Cubic places are bounded one by one."""
    half = (tl.zeros_like(g) + size - (1.0 if ALIGN else 0.0)) * 0.5
    x = (g + 1.0) * half
    if not ALIGN:
        x -= 0.5
    slope = half
    if MODE != CUBIC:
        x, inner = bounded(x, size, PADDING, ALIGN)
        slope = half * inner
    return x, slope


@triton.jit
def cubic_weight(t, K: tl.constexpr):
    """The weight of the Kth of 4 places around t pixels behind the second, and its derivative."""
    if K == 0 or K == 3:
        s = t + 1.0 if K == 0 else 2.0 - t
        weight = ((-0.75 * s + 3.75) * s - 6.0) * s + 3.0
        slope = (-2.25 * s + 7.5) * s - 6.0
    else:
        s = t if K == 1 else 1.0 - t
        weight = (1.25 * s - 2.25) * s * s + 1.0
        slope = (3.75 * s - 4.5) * s
    if K > 1:
        slope = -slope
    return weight, slope


@triton.jit
def tap(x, size, K: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr):
    """(pixel, whether it is inside, weight, derivative of the weight) of the Kth place that x reads."""
    if MODE == NEAREST:
        place, weight, slope = libdevice.rint(x), tl.zeros_like(x) + 1.0, tl.zeros_like(x)
    elif MODE == LINEAR:
        base = tl.floor(x)
        place = base + K
        weight = x - base if K else (base + 1.0) - x
        slope = tl.zeros_like(x) + (1.0 if K else -1.0)
    else:
        base = tl.floor(x)
        weight, slope = cubic_weight(x - base, K)
        place, _ = bounded(base + (K - 1), size, PADDING, ALIGN)
    inside = (place >= 0) & (place < size)
    return tl.where(inside, place, 0).to(tl.int64), inside, weight, slope


@triton.jit
def read_places(
    x, grid, y, channels, depth, height, width, points,
    DIMS: tl.constexpr, TAPS: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [batch, channels, depth, height, width], grid [batch, points, DIMS], y [batch, channels, points].

    All are contiguous; in 2 dims the depth is 1. Grid: (cdiv(points, BLOCK), batch).
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1).to(tl.int64)
    mask = at < points
    point = grid + (batch * points + at) * DIMS
    px, _ = in_pixels(tl.load(point, mask=mask, other=0).to(COMPUTE), width, MODE, PADDING, ALIGN)
    py, _ = in_pixels(tl.load(point + 1, mask=mask, other=0).to(COMPUTE), height, MODE, PADDING, ALIGN)
    pz = px
    if DIMS == 3:
        pz, _ = in_pixels(tl.load(point + 2, mask=mask, other=0).to(COMPUTE), depth, MODE, PADDING, ALIGN)
    for c in range(channels):
        plane = x + (batch * channels + c) * depth * height * width
        total = tl.zeros([BLOCK], COMPUTE)
        for k in tl.static_range(TAPS if DIMS == 3 else 1):
            if DIMS == 3:
                iz, in_z, wz, _ = tap(pz, depth, k, MODE, PADDING, ALIGN)
            for j in tl.static_range(TAPS):
                iy, in_y, wy, _ = tap(py, height, j, MODE, PADDING, ALIGN)
                row, in_row = iy * width, mask & in_y
                if DIMS == 3:
                    row, in_row, wy = row + iz * height * width, in_row & in_z, wy * wz
                for i in tl.static_range(TAPS):
                    ix, in_x, wx, _ = tap(px, width, i, MODE, PADDING, ALIGN)
                    total += wx * wy * tl.load(plane + row + ix, mask=in_row & in_x, other=0).to(COMPUTE)
        tl.store(y + (batch * channels + c) * points + at, total.to(y.dtype.element_ty), mask=mask)


@triton.jit
def grid_gradient(
    g, x, grid, dgrid, channels, depth, height, width, points,
    DIMS: tl.constexpr, TAPS: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """g is as y in `read_places`, dgrid as grid; grid of programs: (cdiv(points, BLOCK), batch)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1).to(tl.int64)
    mask = at < points
    first = (batch * points + at) * DIMS
    px, slope_x = in_pixels(tl.load(grid + first, mask=mask, other=0).to(COMPUTE), width, MODE, PADDING, ALIGN)
    py, slope_y = in_pixels(tl.load(grid + first + 1, mask=mask, other=0).to(COMPUTE), height, MODE, PADDING, ALIGN)
    pz, slope_z = px, slope_x
    if DIMS == 3:
        pz, slope_z = in_pixels(tl.load(grid + first + 2, mask=mask, other=0).to(COMPUTE), depth, MODE, PADDING, ALIGN)
    along_x = tl.zeros([BLOCK], COMPUTE)
    along_y = tl.zeros([BLOCK], COMPUTE)
    along_z = tl.zeros([BLOCK], COMPUTE)
    for c in range(channels):
        plane = x + (batch * channels + c) * depth * height * width
        grad = tl.load(g + (batch * channels + c) * points + at, mask=mask, other=0).to(COMPUTE)
        for k in tl.static_range(TAPS if DIMS == 3 else 1):
            if DIMS == 3:
                iz, in_z, wz, dz = tap(pz, depth, k, MODE, PADDING, ALIGN)
            for j in tl.static_range(TAPS):
                iy, in_y, wy, dy = tap(py, height, j, MODE, PADDING, ALIGN)
                row, in_row = iy * width, mask & in_y
                if DIMS == 3:
                    row, in_row = row + iz * height * width, in_row & in_z
                for i in tl.static_range(TAPS):
                    ix, in_x, wx, dx = tap(px, width, i, MODE, PADDING, ALIGN)
                    value = grad * tl.load(plane + row + ix, mask=in_row & in_x, other=0).to(COMPUTE)
                    if DIMS == 3:
                        along_z += value * wx * wy * dz
                        value *= wz
                    along_x += value * wy * dx
                    along_y += value * wx * dy
    kind = dgrid.dtype.element_ty
    tl.store(dgrid + first, (along_x * slope_x).to(kind), mask=mask)
    tl.store(dgrid + first + 1, (along_y * slope_y).to(kind), mask=mask)
    if DIMS == 3:
        tl.store(dgrid + first + 2, (along_z * slope_z).to(kind), mask=mask)


@triton.jit
def image_gradient(
    g, grid, dx, channels, depth, height, width, points,
    DIMS: tl.constexpr, TAPS: tl.constexpr, MODE: tl.constexpr, PADDING: tl.constexpr, ALIGN: tl.constexpr,
    COMPUTE: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """g is [batch, points, channels], dx is [batch, depth, height, width, channels], zeros before, both contiguous.

    A program adds up one batch's points in order, so that it needs no atomics. Grid: (cdiv(channels, COLS), batch).
    """
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    batch = tl.program_id(1).to(tl.int64)
    in_cols = cols < channels
    whole = dx + batch * depth * height * width * channels + cols
    for p in range(points):
        point = grid + (batch * points + p) * DIMS
        px, _ = in_pixels(tl.load(point).to(COMPUTE), width, MODE, PADDING, ALIGN)
        py, _ = in_pixels(tl.load(point + 1).to(COMPUTE), height, MODE, PADDING, ALIGN)
        pz = px
        if DIMS == 3:
            pz, _ = in_pixels(tl.load(point + 2).to(COMPUTE), depth, MODE, PADDING, ALIGN)
        grad = tl.load(g + (batch * points + p) * channels + cols, mask=in_cols, other=0).to(COMPUTE)
        for k in tl.static_range(TAPS if DIMS == 3 else 1):
            if DIMS == 3:
                iz, in_z, wz, _ = tap(pz, depth, k, MODE, PADDING, ALIGN)
            for j in tl.static_range(TAPS):
                iy, in_y, wy, _ = tap(py, height, j, MODE, PADDING, ALIGN)
                row, in_row = iy * width, in_cols & in_y
                if DIMS == 3:
                    row, in_row, wy = row + iz * height * width, in_row & in_z, wy * wz
                for i in tl.static_range(TAPS):
                    ix, in_x, wx, _ = tap(px, width, i, MODE, PADDING, ALIGN)
                    place = whole + (row + ix) * channels
                    total = tl.load(place, mask=in_row & in_x, other=0)
                    tl.store(place, total + (wx * wy * grad).to(total.dtype), mask=in_row & in_x)


def _constants(x: torch.Tensor, grid: torch.Tensor, mode: int, padding: int, align: bool, dims: int) -> dict[str, Any]:
    """Declines what PyTorch rejects; the constants of the kernels."""
    if x.dim() != dims + 2 or grid.dim() != dims + 2 or grid.shape[-1] != dims or x.shape[0] != grid.shape[0]:
        raise Declined("a grid that does not fit the image")
    if grid.dtype is not x.dtype or not x.is_floating_point() or 0 in x.shape[1:]:
        raise Declined("an image and a grid of other types, or an image of no elements")
    if mode not in _TAPS or (dims == 3 and mode == CUBIC.value) or padding not in range(3):
        raise Declined("an interpolation or a padding that is not there")
    names = {"DIMS": dims, "TAPS": _TAPS[mode], "MODE": mode, "PADDING": padding, "ALIGN": bool(align)}
    return names | {"COMPUTE": compute_type(x.dtype), "num_warps": tiles.of(x.device).num_warps}


def _sizes(x: torch.Tensor, grid: torch.Tensor) -> tuple[int, int, int, int, int]:
    """(channels, depth, height, width, points)"""
    depth, height, width = (1, *x.shape[2:])[-3:]
    return x.shape[1], depth, height, width, math.prod(grid.shape[1:-1])


def grid_sampler(dims: int) -> tuple[Any, Any]:
    """The operator of images (2) or volumes (3), and its gradient."""

    def entry(
        input: torch.Tensor, grid: torch.Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
    ) -> torch.Tensor:
        """[N, C, *places] of input[N, C, H, W] at grid[N, *places, 2], whose points are (x, y); with one dim more
        [N, C, D, H, W] at (x, y, z).

        interpolation: 0 linear, 1 nearest, 2 cubic (images only) · padding: 0 zeros, 1 border, 2 reflection.
        Both of one floating type.
        """
        constants = _constants(input, grid, interpolation_mode, padding_mode, align_corners, dims)
        y = torch.empty((*input.shape[:2], *grid.shape[1:-1]), dtype=input.dtype, device=input.device)
        if y.numel():
            sizes, row = _sizes(input, grid), tiles.of(y.device)
            block = tiles.block(sizes[-1], row.row // 4)
            launch(
                read_places, (tiles.parts(sizes[-1], block), y.shape[0]), input.contiguous(), grid.contiguous(), y,
                *sizes, BLOCK=block, **constants,
            )  # fmt: skip
        return y

    def backward(
        grad_output: torch.Tensor, input: torch.Tensor, grid: torch.Tensor, interpolation_mode: int, padding_mode: int,
        align_corners: bool, output_mask: list[bool],
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
        """The gradients by input and by grid, each where output_mask asks for it."""
        constants = _constants(input, grid, interpolation_mode, padding_mode, align_corners, dims)
        shape = (*input.shape[:2], *grid.shape[1:-1])
        if tuple(grad_output.shape) != shape or grad_output.dtype is not input.dtype:
            raise Declined("a gradient of another shape")
        given = (grad_output, input, grid, constants)
        return _by_image(*given) if output_mask[0] else None, _by_grid(*given) if output_mask[1] else None

    return entry, backward


def _by_image(grad: torch.Tensor, x: torch.Tensor, grid: torch.Tensor, constants: dict[str, Any]) -> torch.Tensor:
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    channels, *places = _sizes(x, grid)
    last = torch.empty((x.shape[0], *x.shape[2:], channels), dtype=wide, device=x.device)
    zero_(last, out=last)
    if grad.numel():
        cols = tiles.block(channels, tiles.of(x.device).row // 4)
        launch(
            image_gradient, (tiles.parts(channels, cols), x.shape[0]), grad.movedim(1, -1).contiguous(),
            grid.contiguous(), last, channels, *places, COLS=cols, **constants,
        )  # fmt: skip
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return copy_(dx, last.movedim(-1, 1), out=dx)


def _by_grid(grad: torch.Tensor, x: torch.Tensor, grid: torch.Tensor, constants: dict[str, Any]) -> torch.Tensor:
    dgrid = torch.empty(grid.shape, dtype=grid.dtype, device=grid.device)
    if constants["MODE"] == NEAREST.value or grad.numel() == 0:
        return zero_(dgrid, out=dgrid)
    sizes = _sizes(x, grid)
    block = tiles.block(sizes[-1], tiles.of(x.device).row // 4)
    launch(
        grid_gradient, (tiles.parts(sizes[-1], block), x.shape[0]), grad.contiguous(), x.contiguous(),
        grid.contiguous(), dgrid, *sizes, BLOCK=block, **constants,
    )  # fmt: skip
    return dgrid
