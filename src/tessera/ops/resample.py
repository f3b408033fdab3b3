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
Limits: channels-last tensors are left to PyTorch, which keeps that layout, and so are integers.
Source: Keys, "Cubic Convolution Interpolation for Digital Image Processing", IEEE Transactions on Acoustics, Speech,
and Signal Processing 29(6), 1981; the pages of torch.nn.functional.avg_pool2d, torch.nn.functional.adaptive_avg_pool2d
and torch.nn.functional.interpolate
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import fixed, launch
from tessera.ops.layout import is_channels_last


@triton.jit
def resample(
    x, y, first_0, first_1, first_2, first_lane, weights_0, weights_1, weights_2, weights_lane, num_rows, per_program,
    n0, n1, n2, lanes_in, m0, m1, m2, lanes_out, taps_0, taps_1, taps_2, taps_lane,
    ALONG: tl.constexpr, WINDOW: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, n0, n1, n2, lanes_in], y is [planes, m0, m1, m2, lanes_out], both contiguous.

    ALONG: also the lanes are resampled, of which a block reads WINDOW; else they are channels, WINDOW is BLOCK.
    Grid: (cdiv(num_rows, per_program),), a row being lanes_out elements.
    """
    begin = tl.program_id(0).to(tl.int64) * per_program
    for row in range(begin, tl.minimum(begin + per_program, num_rows)):
        o2, o1, o0 = row % m2, row // m2 % m1, row // m2 // m1 % m0
        i2, i1, i0 = tl.load(first_2 + o2), tl.load(first_1 + o1), tl.load(first_0 + o0)
        plane = x + (row // m2 // m1 // m0) * n0 * n1 * n2 * lanes_in
        for c in range(0, lanes_out, BLOCK):
            lane = c + tl.arange(0, BLOCK)
            start = tl.load(first_lane + c) if ALONG else c
            source = start + tl.arange(0, WINDOW)
            total = tl.zeros([WINDOW], COMPUTE)
            for k0 in range(taps_0):
                for k1 in range(taps_1):
                    for k2 in range(taps_2):
                        weight = tl.load(weights_0 + o0 * taps_0 + k0) * tl.load(weights_1 + o1 * taps_1 + k1)
                        weight *= tl.load(weights_2 + o2 * taps_2 + k2)
                        at = ((i0 + k0) * n1 + i1 + k1) * n2 + i2 + k2
                        # A tap without weight stands for nothing: what lies there is not looked at.
                        inside = (source < lanes_in) & (weight != 0)
                        value = tl.load(plane + at * lanes_in + source, mask=inside, other=0.0)
                        total += weight * value.to(COMPUTE)
            if ALONG:
                result = tl.zeros([BLOCK], COMPUTE)
                place = tl.load(first_lane + lane, mask=lane < lanes_out, other=0) - start
                for k in range(taps_lane):
                    weight = tl.load(weights_lane + k * lanes_out + lane, mask=lane < lanes_out, other=0.0)
                    value = tl.gather(total, tl.minimum(place + k, WINDOW - 1), 0)
                    result += tl.where(weight != 0, weight * value, 0.0)
            else:
                result = total
            tl.store(y + row * lanes_out + lane, result.to(y.dtype.element_ty), mask=lane < lanes_out)


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

    def window(self, block: int) -> int:
        """How many elements so many outputs read at the most."""
        last = self.first[np.minimum(np.arange(0, len(self.first), block) + block, len(self.first)) - 1]
        return int((last - self.first[::block]).max()) + self.weights.shape[1]


def _band(taps: Taps) -> Band:
    """No output reads from before where the one before it does."""
    rows, columns = np.nonzero(taps.weights)
    places = taps.places[rows, columns]
    low, high = np.full(len(taps.places), taps.n), np.zeros(len(taps.places), dtype=np.int64)
    np.minimum.at(low, rows, places)
    np.maximum.at(high, rows, places)
    low = np.maximum.accumulate(np.where(low == taps.n, 0, low))
    length = max(1, int((high - low).max()) + 1)
    first = np.minimum(low, taps.n - length)
    weights = np.zeros((len(first), length))
    np.add.at(weights, (rows, places - first[rows]), taps.weights[rows, columns])
    return Band(taps.n, first, weights)


_WHOLE = Band(1, np.zeros(1, dtype=np.int64), np.ones((1, 1)))


def _apply(x: torch.Tensor, maps: Sequence[Taps]) -> torch.Tensor:
    """`maps` of the last dims; the result is laid out as x is."""
    if not x.is_floating_point():
        raise Declined("defined for floating types only")
    lead, last = x.dim() - len(maps), not x.is_contiguous() and is_channels_last(x)
    layout = torch._prims_common.suggest_memory_format(x) if last else torch.contiguous_format
    shape = (*x.shape[:lead], *(len(m.places) for m in maps))
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    if y.numel():
        _launch(x.contiguous(memory_format=layout), y, [_band(m) for m in maps], x.shape[1] if last else None)
    return y


def _launch(x: torch.Tensor, y: torch.Tensor, bands: list[Band], channels: int | None) -> None:
    """`channels`: how many lie side by side in memory; None: the elements of the last band do."""
    row = tiles.of(x.device)
    lane = _WHOLE if channels else bands[-1]
    outer = bands if channels else bands[:-1]
    outer = [_WHOLE] * (3 - len(outer)) + outer
    sizes = [channels or lane.n, channels or len(lane.first)]
    block = tiles.block(sizes[1], row.row // 4)
    every = [*outer, lane]
    weights = [band.weights for band in outer] + [lane.weights.T]
    kind = np.float64 if x.dtype is torch.float64 else np.float32
    num_rows = y.numel() // sizes[1]
    taps = [band.weights.shape[1] for band in every]
    work = max(sizes[1] * taps[3], sizes[0] * math.prod(taps[:3]))
    per_program = tiles.block(num_rows, max(1, row.flat // tiles.power_of_2(work)))
    launch(
        resample, (triton.cdiv(num_rows, per_program),), x, y, *(_table(band.first, np.int32, x) for band in every),
        *(_table(w, kind, x) for w in weights), num_rows, per_program,
        *(band.n for band in outer), sizes[0], *(len(band.first) for band in outer), sizes[1], *taps,
        ALONG=channels is None, WINDOW=block if channels else tiles.power_of_2(lane.window(block)),
        COMPUTE=compute_type(x.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip


def _table(values: np.ndarray, kind: type, like: torch.Tensor) -> torch.Tensor:
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
        maps = _pool_maps(
            self.shape, num, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        return _apply(self, maps)

    def backward(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
    ) -> torch.Tensor:  # fmt: skip
        """The gradient by what was averaged."""
        _checked(self, num, ())
        maps = _pool_maps(
            self.shape, num, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
        )
        return _gradient(grad_output, self.shape, maps)

    return forward, backward


def _gradient(grad: torch.Tensor, shape: Sequence[int], maps: list[Taps]) -> torch.Tensor:
    wanted = [*shape[: len(shape) - len(maps)], *(len(m.places) for m in maps)]
    if list(grad.shape) != wanted:
        raise Declined("a gradient of another shape")
    return _apply(grad, [m.transposed() for m in maps])


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
        return _apply(self, [_areas(n, m) for n, m in zip(self.shape[-num:], sizes, strict=True)])

    def backward(grad_output: torch.Tensor, self: torch.Tensor) -> torch.Tensor:
        """The gradient by what was averaged."""
        _checked(self, num, ())
        if grad_output.dim() != self.dim():
            raise Declined("a gradient of another shape")
        sizes = zip(self.shape[-num:], grad_output.shape[-num:], strict=True)
        return _gradient(grad_output, self.shape, [_areas(n, m) for n, m in sizes])

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
        return _apply(self, _upsample(kind, num, self.shape, output_size, _with_scales(options, num)))

    def backward(grad_output: torch.Tensor, output_size: Size, input_size: Size, *options: object) -> torch.Tensor:
        """The gradient by what was upsampled."""
        if any(n == 0 for n in input_size):
            raise Declined("an input of another rank or memory format")
        maps = _upsample(kind, num, input_size, output_size, _with_scales(options, num))
        return _gradient(grad_output, input_size, maps)

    return forward, backward


def _with_scales(options: tuple[object, ...], num: int) -> tuple[object, ...]:
    """Scales that are left out are None; `align_corners`, where an operator has it, comes first and never is."""
    leading = 1 if options and isinstance(options[0], bool) else 0
    return options + (None,) * (leading + num - len(options))


def nearest(n: int, m: int, scale: float | None) -> Taps:
    return _nearest(n, m, scale, 0.0)


def nearest_exact(n: int, m: int, scale: float | None) -> Taps:
    return _nearest(n, m, scale, 0.5)
