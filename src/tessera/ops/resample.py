"""Linear maps along single dims: average pooling, adaptive average pooling, upsampling of any order.

An operator is how it fills the sources s and the weights w of each dim; its gradient is the same kernel with the map
transposed.

Formula:
    y[…, i, …] = Σ_k w[i, k] · x[…, s[i, k], …], one dim after the other
    average: w = 1 / (elements of the window);  adaptive: window i of m covers ⌊i · n / m⌋ up to ⌈(i + 1) · n / m⌉
    nearest: s = ⌊i · n / m⌋,  exact: ⌊(i + ½) · n / m⌋;  linear: the 2 neighbours of (i + ½) · n / m - ½
    cubic:   the 4 neighbours, with Keys' kernel and a = -0.75
Shapes: x [N, C, …] or [C, …] (upsampling: [N, C, …]) with 1 to 3 dims behind the channels.
Types: float64, float32, float16 and bfloat16; between dims in float32 (float64 for float64).
Limits: no integers.
Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE Transactions on Acoustics, Speech,
and Signal Processing 29(6), 1981; the pages of torch.nn.functional.avg_pool2d, torch.nn.functional.adaptive_avg_pool2d
and torch.nn.functional.interpolate
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import fixed, launch
from tessera.ops.layout import layout_of


@triton.jit
def weighted(value, weight, used, GAPS: tl.constexpr):
    """A tap without weight stands for nothing: what lies there, NaN or infinite, does not count."""
    part = weight * value
    return tl.where(used, part, 0.0) if GAPS else part


@triton.jit
def of_rows(k, at, i0, i1, o0, o1, weights_0, weights_1, n1, lanes_in, m0, m1, taps_1, mask, GAPS: tl.constexpr):
    """What tap k of the rows adds along the lanes."""
    k0, k1 = k // taps_1, k % taps_1
    weight = tl.load(weights_0 + k0 * m0 + o0) * tl.load(weights_1 + k1 * m1 + o1)
    value = tl.load(at + ((i0 + k0) * n1 + i1 + k1) * lanes_in, mask=mask, other=0.0)
    return weighted(value.to(weight.dtype), weight, weight != 0, GAPS)


@triton.jit
def resample(
    x, y, first_0, first_1, first_lane, weights_0, weights_1, weights_lane, num_rows, per_program,
    n0, n1, lanes_in, m0, m1, lanes_out, taps_0, taps_1, taps_lane, same_0, same_1,
    TAPS: tl.constexpr, GAPS: tl.constexpr, REPEATS: tl.constexpr, STEP: tl.constexpr, WINDOW: tl.constexpr,
    COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, n0, n1, lanes_in], y is [planes, m0, m1, lanes_out], both contiguous; a block reads WINDOW lanes.

    TAPS: 0, or taps_0 * taps_1; same: where a row is the one before it. STEP: from lane to lane of y in x, or 0.
    Grid: (cdiv(num_rows, per_program),), a row being lanes_out elements.
    """
    begin = tl.program_id(0).to(tl.int64) * per_program
    for row in range(begin, tl.minimum(begin + per_program, num_rows)):
        o1, o0 = row % m1, row // m1 % m0
        i1, i0 = tl.load(first_1 + o1), tl.load(first_0 + o0)
        plane = x + (row // m1 // m0) * n0 * n1 * lanes_in
        repeated, back = REPEATS, 0
        if REPEATS:
            back = tl.where(tl.load(same_1 + o1) != 0, 1, tl.where(tl.load(same_0 + o0) != 0, m1, row + 1))
            repeated = row - back >= begin
        for c in range(0, lanes_out, BLOCK):
            lane = c + tl.arange(0, BLOCK)
            to = y + row * lanes_out + lane
            if repeated:
                tl.store(to, tl.load(to - back * lanes_out, mask=lane < lanes_out), mask=lane < lanes_out)
            else:
                start = tl.load(first_lane + c)
                source = start + tl.arange(0, WINDOW)
                total = tl.zeros([WINDOW], COMPUTE)
                for k in tl.static_range(TAPS):
                    total += of_rows(
                        k, plane + source, i0, i1, o0, o1, weights_0, weights_1, n1, lanes_in, m0, m1, taps_1,
                        source < lanes_in, GAPS,
                    )  # fmt: skip
                for k in range(0 if TAPS else taps_0 * taps_1):
                    total += of_rows(
                        k, plane + source, i0, i1, o0, o1, weights_0, weights_1, n1, lanes_in, m0, m1, taps_1,
                        source < lanes_in, GAPS,
                    )  # fmt: skip
                result = tl.zeros([BLOCK], COMPUTE)
                if not STEP:
                    place = tl.load(first_lane + lane, mask=lane < lanes_out, other=0) - start
                for k in range(taps_lane):
                    weight = tl.load(weights_lane + k * lanes_out + lane, mask=lane < lanes_out, other=0.0)
                    at = tl.arange(0, BLOCK) * STEP + k if STEP else tl.minimum(place + k, WINDOW - 1)
                    value = tl.gather(total, at, 0)
                    result += weighted(value, weight, weight != 0, GAPS)
                tl.store(to, result.to(y.dtype.element_ty), mask=lane < lanes_out)


@triton.jit
def of_places(
    k, at, i0, i1, i2, o0, o1, place, weights_0, weights_1, weights_2, n1, n2, m0, m1, m2, taps_1, taps_2, channels,
    mask, GAPS: tl.constexpr,
):  # fmt: skip
    """What tap k of the places adds in all channels."""
    k0, k1, k2 = k // taps_2 // taps_1, k // taps_2 % taps_1, k % taps_2
    weight = tl.load(weights_0 + k0 * m0 + o0) * tl.load(weights_1 + k1 * m1 + o1)
    weight = (weight * tl.load(weights_2 + k2 * m2 + place, mask=place < m2, other=0.0))[:, None]
    at += (((i0 + k0) * n1 + i1 + k1) * n2 + k2) * channels
    value = tl.load(at + (i2 * channels)[:, None], mask=mask, other=0.0)
    return weighted(value.to(weight.dtype), weight, weight != 0, GAPS)


@triton.jit
def resample_channels(
    x, y, first_0, first_1, first_2, weights_0, weights_1, weights_2, num_rows, per_program,
    n0, n1, n2, m0, m1, m2, taps_0, taps_1, taps_2, channels,
    TAPS: tl.constexpr, GAPS: tl.constexpr, COMPUTE: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [batch, n0, n1, n2, channels], y is [batch, m0, m1, m2, channels], both contiguous.

    TAPS: 0, or taps_0 * taps_1 * taps_2. Grid: (cdiv(num_rows, per_program),), a row being m2 places.
    """
    begin = tl.program_id(0).to(tl.int64) * per_program
    for row in range(begin, tl.minimum(begin + per_program, num_rows)):
        o1, o0 = row % m1, row // m1 % m0
        i1, i0 = tl.load(first_1 + o1), tl.load(first_0 + o0)
        volume = x + (row // m1 // m0) * n0 * n1 * n2 * channels
        for p in range(0, m2, PLACES):
            place = p + tl.arange(0, PLACES)
            i2 = tl.load(first_2 + place, mask=place < m2, other=0)
            for c in range(0, channels, BLOCK):
                channel = c + tl.arange(0, BLOCK)[None, :]
                mask = (place < m2)[:, None] & (channel < channels)
                total = tl.zeros([PLACES, BLOCK], COMPUTE)
                for k in tl.static_range(TAPS):
                    total += of_places(
                        k, volume + channel, i0, i1, i2, o0, o1, place, weights_0, weights_1, weights_2, n1, n2,
                        m0, m1, m2, taps_1, taps_2, channels, mask, GAPS,
                    )  # fmt: skip
                for k in range(0 if TAPS else taps_0 * taps_1 * taps_2):
                    total += of_places(
                        k, volume + channel, i0, i1, i2, o0, o1, place, weights_0, weights_1, weights_2, n1, n2,
                        m0, m1, m2, taps_1, taps_2, channels, mask, GAPS,
                    )  # fmt: skip
                to = y + (row * m2 + place)[:, None] * channels + channel
                tl.store(to, total.to(y.dtype.element_ty), mask=mask)


@dataclass(frozen=True)
class Taps:
    """The map of one dim from `n` elements: `places` and `weights` are [outputs, taps]; a weight of 0 is no tap."""

    n: int
    places: np.ndarray
    weights: np.ndarray

    def transposed(self) -> Taps:
        """The map of the gradient: for each of the n elements, the outputs that it went into."""
        rows, columns = np.nonzero(self.weights)
        into, weight = self.places[rows, columns], self.weights[rows, columns]
        order = np.argsort(into, kind="stable")
        rows, into, weight = rows[order], into[order], weight[order]
        counts = np.bincount(into, minlength=self.n)
        slot = np.arange(len(into)) - np.repeat(np.cumsum(counts) - counts, counts)
        shape = (self.n, max(1, int(counts.max(initial=0))))
        places, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape)
        places[into, slot], weights[into, slot] = rows, weight
        return Taps(len(self.places), places, weights)


@dataclass(frozen=True)
class Band:
    """A map of one dim whose taps lie side by side: output i reads from `first[i]` on, by `weights[i]`."""

    n: int
    first: np.ndarray
    weights: np.ndarray

    @property
    def taps(self) -> int:
        return int(self.weights.shape[1])

    @property
    def has_gaps(self) -> bool:
        """Some taps have no weight: they stand for nothing, and what lies there is not looked at."""
        return not self.weights.all()

    @property
    def same(self) -> np.ndarray:
        """Where an output is what the one before it is."""
        found = np.zeros(len(self.first), dtype=bool)
        found[1:] = (self.first[1:] == self.first[:-1]) & (self.weights[1:] == self.weights[:-1]).all(axis=1)
        return found

    @property
    def step(self) -> int:
        """From output to output where it is the same everywhere, else 0."""
        steps = np.unique(np.diff(self.first))
        return int(steps[0]) if len(steps) == 1 else 0

    def window(self, block: int) -> int:
        """How many elements so many outputs read at the most; of one step, also those outputs that there are not."""
        if self.step:
            return (block - 1) * self.step + self.taps
        last = self.first[np.minimum(np.arange(0, len(self.first), block) + block, len(self.first)) - 1]
        return int((last - self.first[::block]).max()) + self.taps


def _band(taps: Taps) -> Band:
    """No output begins to read behind where the next one does."""
    rows, columns = np.nonzero(taps.weights)
    places = taps.places[rows, columns]
    low, high = np.full(len(taps.places), taps.n), np.zeros(len(taps.places), dtype=np.int64)
    np.minimum.at(low, rows, places)
    np.maximum.at(high, rows, places)
    low = np.minimum.accumulate(low[::-1])[::-1]
    length = max(1, int((high - low).max()) + 1)
    first = np.minimum(low, taps.n - length)
    weights = np.zeros((len(first), length))
    np.add.at(weights, (rows, places - first[rows]), taps.weights[rows, columns])
    return Band(taps.n, first, weights)


def _identity(n: int) -> Band:
    return Band(n, np.arange(n), np.ones((n, 1)))


def _apply(x: torch.Tensor, maps: Sequence[Taps], like: torch.Tensor | None) -> torch.Tensor:
    """`maps` of the last dims; the result is laid out as `like`, or contiguous."""
    if not x.is_floating_point():
        raise Declined("defined for floating types only")
    shape = (*x.shape[: x.dim() - len(maps)], *(len(m.places) for m in maps))
    layout = torch.contiguous_format if like is None else layout_of(like)
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    if y.numel():
        bands = [_identity(1)] * (3 - len(maps)) + [_band(m) for m in maps]
        (_launch if layout is torch.contiguous_format else _by_channel)(x.contiguous(memory_format=layout), y, bands)
    return y


def _by_channel(x: torch.Tensor, y: torch.Tensor, bands: list[Band]) -> None:
    """Where both have many taps the last dim is a step of its own: sums of taps are cheaper than their product."""
    outer, inner = math.prod(band.taps for band in bands[:-1]), bands[-1].taps
    if outer * inner <= 2 * (outer + inner):
        _launch_channels(x, y, bands)
        return
    kind = torch.float64 if x.dtype is torch.float64 else torch.float32
    layout = layout_of(x)
    between = torch.empty((*y.shape[:-1], x.shape[-1]), dtype=kind, device=x.device, memory_format=layout)
    _launch_channels(x, between, [*bands[:-1], _identity(x.shape[-1])])
    _launch_channels(between, y, [*(_identity(len(band.first)) for band in bands[:-1]), bands[-1]])


# So few taps are written out one by one, their sum stays in registers.
_UNROLLED = 9
# The share of repeated rows from which on it is worth while to look for them.
_WORTHWHILE = 0.25


def _launch(x: torch.Tensor, y: torch.Tensor, bands: list[Band]) -> None:
    row, lane, outer = tiles.of(x.device), bands[-1], math.prod(band.taps for band in bands[:-1])
    block = min(tiles.power_of_2(len(lane.first)), row.row // 4)
    grid, arguments = _arguments(x, y, bands, 1)
    same = [band.same for band in bands[:-1]]
    launch(
        resample, grid, *arguments, *(table(rows, np.int8, x) for rows in same),
        TAPS=outer if outer <= _UNROLLED else 0, GAPS=any(band.has_gaps for band in bands),
        REPEATS=any(rows.mean() > _WORTHWHILE for rows in same), STEP=lane.step,
        WINDOW=tiles.power_of_2(lane.window(block)), COMPUTE=compute_type(x.dtype), BLOCK=block,
        num_warps=row.num_warps,
    )  # fmt: skip


def _launch_channels(x: torch.Tensor, y: torch.Tensor, bands: list[Band]) -> None:
    row, channels, taps = tiles.of(x.device), x.shape[1], math.prod(band.taps for band in bands)
    block = min(tiles.power_of_2(channels), row.row // 4)
    grid, arguments = _arguments(x, y, bands, channels)
    launch(
        resample_channels, grid, *arguments, channels, TAPS=taps if taps <= _UNROLLED else 0,
        GAPS=any(band.has_gaps for band in bands), COMPUTE=compute_type(x.dtype),
        PLACES=tiles.block(len(bands[-1].first), max(1, row.row // block)), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip


def _arguments(
    x: torch.Tensor, y: torch.Tensor, bands: list[Band], channels: int
) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """The grid, and what both kernels take."""
    kind = np.float64 if x.dtype is torch.float64 else np.float32
    num_rows = y.numel() // (channels * len(bands[-1].first))
    lane, taps = bands[-1], [band.taps for band in bands]
    work = channels * max(len(lane.first) * taps[-1], lane.n * math.prod(taps[:-1]))
    per_program = tiles.block(num_rows, max(1, tiles.of(x.device).flat // tiles.power_of_2(work)))
    first = (table(band.first, np.int32, x) for band in bands)
    weights = (table(band.weights.T, kind, x) for band in bands)
    sizes = [band.n for band in bands] + [len(band.first) for band in bands] + taps
    return (tiles.parts(num_rows, per_program),), (x, y, *first, *weights, num_rows, per_program, *sizes)


def table(values: np.ndarray, kind: type, like: torch.Tensor) -> torch.Tensor:
    """`values` on the device of `like`; plans keep them."""
    return fixed(torch.from_numpy(np.ascontiguousarray(values, dtype=kind)).to(like.device))


def _checked(x: torch.Tensor, num: int, sizes: Sequence[int]) -> None:
    """Decline what PyTorch rejects or lays out in another memory format."""
    if x.dim() not in (num + 1, num + 2) or any(n == 0 for n in x.shape[1:]):
        raise Declined("an input of another rank or memory format")
    if any(size <= 0 for size in sizes):
        raise Declined("an output without elements")


def _spread(values: Sequence[int], num: int) -> list[int]:
    if len(values) not in (1, num):
        raise Declined("sizes that do not fit the dims")
    return list(values) * num if len(values) == 1 else list(values)


def pooled_size(n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows there are; in ceil mode the last one must start inside the input or its left padding."""
    reach = n + 2 * pad - dilation * (kernel - 1) - 1
    size = (-(-reach // stride) if ceil_mode else reach // stride) + 1
    return size - 1 if ceil_mode and (size - 1) * stride >= n + pad else size


def _windows(n: int, kernel: int, stride: int, pad: int, ceil_mode: bool, include_pad: bool, divide: bool) -> Taps:
    m = pooled_size(n, kernel, stride, pad, 1, ceil_mode)
    if m <= 0 or 2 * pad > kernel:
        raise Declined("a window that does not fit the input")
    start = np.arange(m) * stride - pad
    end = np.minimum(start + kernel, n + pad)
    places = start[:, None] + np.arange(kernel)[None, :]
    inside = (places >= 0) & (places < n)
    count = (end - start) if include_pad else inside.sum(axis=1)
    weights = inside / (np.maximum(count, 1)[:, None] if divide else 1.0)
    return Taps(n, np.where(inside, places, 0), weights)


def _pool_maps(
    shape: Sequence[int], num: int, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
    ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> list[Taps]:  # fmt: skip
    if divisor_override is not None and divisor_override == 0:
        raise Declined("a divisor of 0")
    kernel, pads = _spread(kernel_size, num), _spread(padding, num)
    strides = _spread(stride, num) if len(stride) else kernel
    if min(kernel) <= 0 or min(strides) <= 0 or min(pads) < 0:
        raise Declined("a window that does not fit the input")
    divide = divisor_override is None
    sizes = shape[len(shape) - num :]
    maps = [
        _windows(n, k, s, p, ceil_mode, count_include_pad, divide)
        for n, k, s, p in zip(sizes, kernel, strides, pads, strict=True)
    ]
    if divisor_override is not None:
        maps[0] = Taps(maps[0].n, maps[0].places, maps[0].weights / divisor_override)
    return maps


def average_pool(num: int) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
    """Averages of windows over the last `num` dims, and their gradient."""

    def forward(
        self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
        ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """The average of each window."""
        _checked(self, num, ())
        padding = (padding,) if isinstance(padding, int) else padding
        maps = _pool_maps(self.shape, num, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return _apply(self, maps, self if num == 2 else None)

    def backward(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
    ) -> torch.Tensor:  # fmt: skip
        """The gradient by what was averaged."""
        _checked(self, num, ())
        maps = _pool_maps(self.shape, num, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return _gradient(grad_output, self.shape, maps, self if num == 2 else None)

    return forward, backward


def _gradient(grad: torch.Tensor, shape: Sequence[int], maps: list[Taps], like: torch.Tensor | None) -> torch.Tensor:
    wanted = [*shape[: len(shape) - len(maps)], *(len(m.places) for m in maps)]
    if list(grad.shape) != wanted:
        raise Declined("a gradient of another shape")
    return _apply(grad, [m.transposed() for m in maps], like)


def _areas(n: int, m: int) -> Taps:
    start = np.arange(m) * n // m
    end = -(-(np.arange(1, m + 1) * n) // m)
    places = start[:, None] + np.arange(int((end - start).max()))[None, :]
    inside = places < end[:, None]
    return Taps(n, np.where(inside, places, 0), inside / (end - start)[:, None])


def adaptive_average_pool(num: int) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
    """Averages of `output_size` nearly equal parts of the last `num` dims, and their gradient."""

    def forward(self: torch.Tensor, output_size: Sequence[int]) -> torch.Tensor:
        """The average of each of `output_size` nearly equal parts."""
        _checked(self, num, output_size)
        sizes = _spread(output_size, num)
        maps = [_areas(n, m) for n, m in zip(self.shape[-num:], sizes, strict=True)]
        return _apply(self, maps, self if num == 2 else None)

    def backward(grad_output: torch.Tensor, self: torch.Tensor) -> torch.Tensor:
        """The gradient by what was averaged."""
        _checked(self, num, ())
        if grad_output.dim() != self.dim():
            raise Declined("a gradient of another shape")
        sizes = zip(self.shape[-num:], grad_output.shape[-num:], strict=True)
        return _gradient(grad_output, self.shape, [_areas(n, m) for n, m in sizes], self if num == 2 else None)

    return forward, backward


def _scale(n: int, m: int, align_corners: bool, scale: float | None) -> float:
    """How far the source moves for a step of the output."""
    if align_corners:
        return (n - 1) / (m - 1) if m > 1 else 0.0
    return 1.0 / scale if scale is not None and scale > 0 else n / m


def _nearest(n: int, m: int, scale: float | None, offset: float) -> Taps:
    # In float32, as PyTorch does: a source that falls between two elements must fall to the same side.
    step = np.float32(_scale(n, m, False, scale))
    source = np.floor((np.arange(m, dtype=np.float32) + np.float32(offset)) * step).astype(np.int64)
    return Taps(n, np.minimum(source, n - 1)[:, None], np.ones((m, 1)))


def linear(n: int, m: int, align_corners: bool, scale: float | None) -> Taps:
    step = _scale(n, m, align_corners, scale)
    source = np.arange(m) * step if align_corners else np.maximum((np.arange(m) + 0.5) * step - 0.5, 0.0)
    low = np.minimum(np.floor(source).astype(np.int64), n - 1)
    high = np.minimum(low + 1, n - 1)
    part = np.clip(source - low, 0.0, 1.0)
    return Taps(n, np.stack([low, high], axis=1), np.stack([1.0 - part, part], axis=1))


def cubic(n: int, m: int, align_corners: bool, scale: float | None) -> Taps:
    step = _scale(n, m, align_corners, scale)
    source = np.arange(m) * step if align_corners else (np.arange(m) + 0.5) * step - 0.5
    low = np.floor(source)
    distance = np.abs((source - low)[:, None] - np.arange(-1, 3)[None, :])
    a = -0.75
    near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    far = ((distance - 5) * distance + 8) * distance * a - 4 * a
    places = np.clip(low.astype(np.int64)[:, None] + np.arange(-1, 3)[None, :], 0, n - 1)
    return Taps(n, places, np.where(distance <= 1, near, far))


Size = Sequence[int]


def _upsample(kind: Callable[..., Taps], num: int, x_shape: Size, size: Size, options: Sequence[object]) -> list[Taps]:
    if len(size) != num or len(x_shape) != num + 2 or min(size) <= 0:
        raise Declined("sizes that do not fit the dims")
    scales = [s if isinstance(s, float) else None for s in options[-num:]]
    rest = options[:-num]
    return [kind(n, m, *rest, s) for n, m, s in zip(x_shape[2:], size, scales, strict=True)]


def upsample(kind: Callable[..., Taps], num: int) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]]:
    """Upsampling of the last `num` dims, and its gradient; options end with a scale for each dim."""

    def forward(self: torch.Tensor, output_size: Size, *options: object) -> torch.Tensor:
        """`output_size` elements, each made of its neighbours by the rule of the name."""
        _checked(self, num, output_size)
        return _apply(self, _upsample(kind, num, self.shape, output_size, _with_scales(options, num)), self)

    def backward(grad_output: torch.Tensor, output_size: Size, input_size: Size, *options: object) -> torch.Tensor:
        """The gradient by what was upsampled."""
        if any(n == 0 for n in input_size):
            raise Declined("an input of another rank or memory format")
        maps = _upsample(kind, num, input_size, output_size, _with_scales(options, num))
        kept = kind is linear or (num == 2 and kind is not cubic)
        return _gradient(grad_output, input_size, maps, grad_output if kept else None)

    return forward, backward


def _with_scales(options: tuple[object, ...], num: int) -> tuple[object, ...]:
    """Scales that are left out are None; `align_corners`, where an operator has it, comes first and never is."""
    leading = 1 if options and isinstance(options[0], bool) else 0
    return options + (None,) * (leading + num - len(options))


def nearest(n: int, m: int, scale: float | None) -> Taps:
    return _nearest(n, m, scale, 0.0)


def nearest_exact(n: int, m: int, scale: float | None) -> Taps:
    return _nearest(n, m, scale, 0.5)
