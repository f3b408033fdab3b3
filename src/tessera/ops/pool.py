"""Maximum pooling with the places of the maxima, its gradient, and unpooling.

Windows of adaptive and of fractional pooling are not evenly spaced, so where they begin and how long they are is in
tables; in fractional pooling each plane has tables of its own. Gradients and unpooling are writes by place.

Formula:
    forward:  y[c, o] = max_k x[c, o · stride - pad + k · dilation], place[c, o] = where that lies in the plane:
              the first such element, of NaNs the last
    adaptive: window o of m covers ⌊o · n / m⌋ up to ⌈(o + 1) · n / m⌉
    fractional: window o of m begins at ⌊(o + u) a⌋ - ⌊u a⌋, a = (n - k) / (m - 1), the last at n - k; u is random
    backward: dx[c, place[c, o]] += g[c, o];  unpooling: y[c, place[c, o]] = x[c, o], 0 elsewhere
Shapes: x [N, C, …] or [C, …] with 2 or 3 dims behind the channels; results keep its layout.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8 and uint8; places are int64. A NaN is the
largest. Gradients take floating types and sum half types in float32.
Limits: no empty dims.
Source: the pages of torch.nn.functional.max_pool2d, torch.nn.functional.adaptive_max_pool2d and
torch.nn.functional.max_unpool2d
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.index import checked
from tessera.ops.launch import launch
from tessera.ops.layout import layout_of
from tessera.ops.pointwise import copy_
from tessera.ops.resample import pooled_size, table


@triton.jit
def better(value, best):
    """Whether a value takes the place of the best one before it; a NaN always does."""
    return (value > best) | (value != value)


@triton.jit
def in_table(window, plane, num, OWN: tl.constexpr):
    """Where a table tells of a window, one of `num`."""
    return window + plane * num if OWN else window


@triton.jit
def maximum_pool(
    x, y, places, first_0, first_1, first_2, count_0, count_1, count_2, num_rows, per_program,
    n0, n1, n2, m0, m1, m2, step_0, step_1, step_2, most,
    OWN: tl.constexpr, LOWEST: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, n0, n1, n2], y is [planes, m0, m1, m2]; windows have at most `most` elements along n2.

    OWN: each plane has windows of its own. Grid: (cdiv(num_rows, per_program),), a row being m2 windows.
    """
    begin = tl.program_id(0).to(tl.int64) * per_program
    for row in range(begin, tl.minimum(begin + per_program, num_rows)):
        which = row // m1 // m0
        o1, o0 = in_table(row % m1, which, m1, OWN), in_table(row // m1 % m0, which, m0, OWN)
        a1, a0 = tl.load(first_1 + o1), tl.load(first_0 + o0)
        plane = x + which * n0 * n1 * n2
        for p in range(0, m2, BLOCK):
            lane = p + tl.arange(0, BLOCK)
            o2 = in_table(lane, which, m2, OWN)
            a2 = tl.load(first_2 + o2, mask=lane < m2, other=0)
            inside = tl.load(count_2 + o2, mask=lane < m2, other=0)
            best = tl.full([BLOCK], LOWEST, COMPUTE)
            place = (a0 * n1 + a1) * n2 + a2
            for i in range(tl.load(count_0 + o0)):
                for j in range(tl.load(count_1 + o1)):
                    begin_2 = ((a0 + i * step_0) * n1 + a1 + j * step_1) * n2
                    for k in range(most):
                        here = begin_2 + a2 + k * step_2
                        v = tl.load(plane + here, mask=k < inside, other=LOWEST).to(COMPUTE)
                        place = tl.where(better(v, best), here, place)
                        best = tl.where(better(v, best), v, best)
            tl.store(y + row * m2 + lane, best.to(y.dtype.element_ty), mask=lane < m2)
            tl.store(places + row * m2 + lane, place.to(tl.int64), mask=lane < m2)


@triton.jit
def maximum_pool_short(
    x, y, places, first, counts, num_planes, per_program, windows, size, step_0, step_1, step_2,
    most_0, most_1, most_2, LOWEST: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As `maximum_pool`, of planes whose rows have few windows: x is [planes, size], BLOCK windows are done at a time.

    first[w] is where window w begins in its plane, counts[3, windows] how many elements it has along each dim. A step
    along the first dim is of step_0 elements, and so on. Grid: (cdiv(num_planes, per_program),).
    """
    begin = tl.program_id(0).to(tl.int64) * per_program
    for which in range(begin, tl.minimum(begin + per_program, num_planes)):
        for w in range(0, windows, BLOCK):
            window = w + tl.arange(0, BLOCK)
            mask = window < windows
            start = tl.load(first + window, mask=mask, other=0)
            count_0 = tl.load(counts + window, mask=mask, other=0)
            count_1 = tl.load(counts + windows + window, mask=mask, other=0)
            count_2 = tl.load(counts + 2 * windows + window, mask=mask, other=0)
            best = tl.full([BLOCK], LOWEST, COMPUTE)
            place = start
            for i in range(most_0):
                for j in range(most_1):
                    inside = (i < count_0) & (j < count_1)
                    for k in range(most_2):
                        here = start + (i * step_0 + j * step_1 + k * step_2)
                        v = tl.load(x + which * size + here, mask=inside & (k < count_2), other=LOWEST).to(COMPUTE)
                        place = tl.where(better(v, best), here, place)
                        best = tl.where(better(v, best), v, best)
            tl.store(y + which * windows + window, best.to(y.dtype.element_ty), mask=mask)
            tl.store(places + which * windows + window, place.to(tl.int64), mask=mask)


@triton.jit
def maximum_pool_wide(
    x, y, places, first_0, first_1, first_2, count_0, count_1, count_2, num_rows, per_program,
    n0, n1, n2, m0, m1, m2, step_0, step_1, step_2,
    OWN: tl.constexpr, LOWEST: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As `maximum_pool`, of long windows: one after the other, BLOCK elements at a time."""
    begin = tl.program_id(0).to(tl.int64) * per_program
    for window in range(begin * m2, tl.minimum(begin + per_program, num_rows) * m2):
        which = window // m2 // m1 // m0
        o2, o1 = in_table(window % m2, which, m2, OWN), in_table(window // m2 % m1, which, m1, OWN)
        o0 = in_table(window // m2 // m1 % m0, which, m0, OWN)
        a2, a1, a0 = tl.load(first_2 + o2), tl.load(first_1 + o1), tl.load(first_0 + o0)
        plane, count = x + which * n0 * n1 * n2, tl.load(count_2 + o2)
        best = tl.full([BLOCK], LOWEST, COMPUTE)
        place = tl.zeros([BLOCK], tl.int32) + ((a0 * n1 + a1) * n2 + a2)
        for i in range(tl.load(count_0 + o0)):
            for j in range(tl.load(count_1 + o1)):
                begin_2 = ((a0 + i * step_0) * n1 + a1 + j * step_1) * n2 + a2
                for k in range(0, count, BLOCK):
                    at = k + tl.arange(0, BLOCK)
                    here = begin_2 + at * step_2
                    v = tl.load(plane + here, mask=at < count, other=LOWEST).to(COMPUTE)
                    place = tl.where(better(v, best), here, place)
                    best = tl.where(better(v, best), v, best)
        unknown = best != best
        top = tl.max(tl.where(unknown, LOWEST, best), 0)
        last_unknown = tl.max(tl.where(unknown, place, -1), 0)
        first_top = tl.min(tl.where(best == top, place, n0 * n1 * n2), 0)
        found = tl.where(last_unknown >= 0, tl.sum(tl.where(unknown, best, 0), 0).to(COMPUTE), top)
        tl.store(y + window, found.to(y.dtype.element_ty))
        tl.store(places + window, tl.where(last_unknown >= 0, last_unknown, first_top).to(tl.int64))


@triton.jit
def maximum_pool_channels(
    x, y, places, first_0, first_1, first_2, count_0, count_1, count_2, num_rows, per_program,
    n0, n1, n2, m0, m1, m2, step_0, step_1, step_2, most, channels,
    LOWEST: tl.constexpr, COMPUTE: tl.constexpr, PLACES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """As `maximum_pool`, x and y with their channels last."""
    begin = tl.program_id(0).to(tl.int64) * per_program
    for row in range(begin, tl.minimum(begin + per_program, num_rows)):
        o1, o0 = row % m1, row // m1 % m0
        a1, a0 = tl.load(first_1 + o1), tl.load(first_0 + o0)
        volume = x + (row // m1 // m0) * n0 * n1 * n2 * channels
        for p in range(0, m2, PLACES):
            lane = p + tl.arange(0, PLACES)[:, None]
            a2 = tl.load(first_2 + lane, mask=lane < m2, other=0)
            inside = tl.load(count_2 + lane, mask=lane < m2, other=0)
            for c in range(0, channels, BLOCK):
                channel = c + tl.arange(0, BLOCK)[None, :]
                best = tl.full([PLACES, BLOCK], LOWEST, COMPUTE)
                place = tl.zeros([PLACES, BLOCK], tl.int32) + ((a0 * n1 + a1) * n2 + a2)
                for i in range(tl.load(count_0 + o0)):
                    for j in range(tl.load(count_1 + o1)):
                        begin_2 = ((a0 + i * step_0) * n1 + a1 + j * step_1) * n2
                        for k in range(most):
                            here = begin_2 + a2 + k * step_2
                            mask = (k < inside) & (channel < channels)
                            v = tl.load(volume + here * channels + channel, mask=mask, other=LOWEST).to(COMPUTE)
                            place = tl.where(better(v, best), here, place)
                            best = tl.where(better(v, best), v, best)
                to = (row * m2 + lane) * channels + channel
                tl.store(y + to, best.to(y.dtype.element_ty), mask=(lane < m2) & (channel < channels))
                tl.store(places + to, place.to(tl.int64), mask=(lane < m2) & (channel < channels))


@triton.jit
def to_places(
    values, places, out, flag, num, size, channels,
    ADD: tl.constexpr, EVEN: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Zeros, and each of values[planes, num, channels] to its place in out[planes, size, channels], in their order.

    ADD: added up; EVEN: channels are a multiple of BLOCK. Grid: (planes, cdiv(channels, BLOCK)).
    """
    plane = tl.program_id(0).to(tl.int64)
    first = tl.program_id(1) * BLOCK
    lanes = first + tl.arange(0, BLOCK)[None, :]
    for begin in range(0, size, ROWS):
        row = begin + tl.arange(0, ROWS)[:, None]
        zero = tl.zeros([ROWS, BLOCK], out.dtype.element_ty)
        tl.store(out + (plane * size + row) * channels + lanes, zero, mask=(row < size) & (lanes < channels))
    # A channel alone is walked by scalars.
    channel = first if BLOCK == 1 else first + tl.arange(0, BLOCK)
    to = out + plane * size * channels + channel
    mask = None if EVEN else channel < channels
    kept = channel * 0
    for window in range(num):
        at = (plane * num + window) * channels + channel
        place = tl.load(places + at, mask=mask)
        inside = place.to(tl.uint64) < size
        kept += inside.to(tl.int32)
        # What is outside goes to the first place instead of being masked: the caller raises.
        here = to + tl.where(inside, place, 0) * channels
        value = tl.load(values + at, mask=mask).to(out.dtype.element_ty)
        if ADD:
            value += tl.load(here, mask=mask)
        tl.store(here, value, mask=mask)
    wrong = ((kept != num) & (channel < channels)).to(tl.int32)
    tl.store(flag, 1, mask=(wrong if BLOCK == 1 else tl.max(wrong, 0)) > 0)


# First element of each window of a dim, how many it has, and the step between them. Windows that each plane has of its
# own are rows of [planes, windows].
Windows = tuple[np.ndarray, np.ndarray, int]


def _windows(n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> Windows:
    m = pooled_size(n, kernel, stride, pad, dilation, ceil_mode)
    if m <= 0 or 2 * pad > kernel:
        raise Declined("a window that does not fit the input")
    start = np.arange(m) * stride - pad
    end = np.minimum(start + dilation * (kernel - 1) + 1, n)
    missed = np.where(start < 0, -(start // dilation), 0)
    first = start + missed * dilation
    return first, np.maximum(-(-(end - first) // dilation), 0), dilation


def _parts(n: int, m: int) -> Windows:
    first = np.arange(m) * n // m
    return first, -(-(np.arange(1, m + 1) * n) // m) - first, 1


# Windows from this length on are read along the window, shorter ones many windows at a time.
_LONG = 8
# Rows of up to so many windows do not fill a vector: several rows are done at a time, where planes have no more windows
# than this.
_SHORT, _MOST_WINDOWS = 12, 1 << 12


def _pool(x: torch.Tensor, windows: list[Windows], keeps_layout: bool) -> tuple[torch.Tensor, torch.Tensor]:
    num = len(windows)
    if x.dim() not in (num + 1, num + 2) or any(n == 0 for n in x.shape[1:]):
        raise Declined("an input of another rank, or of no elements")
    if x.dtype is torch.bool:
        raise Declined("not defined for booleans")
    if math.prod(x.shape[-num:]) >= 1 << 31:
        raise Declined("planes of 2³¹ elements")
    layout = layout_of(x) if keeps_layout else torch.contiguous_format
    shape = (*x.shape[: x.dim() - num], *(first.shape[-1] for first, _, _ in windows))
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=layout)
    places = torch.empty(shape, dtype=torch.int64, device=x.device, memory_format=layout)
    if y.numel():
        _launch(x.contiguous(memory_format=layout), y, places, windows, layout)
    return y, places


def _launch(
    x: torch.Tensor, y: torch.Tensor, places: torch.Tensor, windows: list[Windows], layout: torch.memory_format
) -> None:
    row, num, own = tiles.of(x.device), len(windows), windows[0][0].ndim > 1
    whole = (len(windows[0][0]), 1) if own else (1,)
    windows = [(np.zeros(whole), np.ones(whole), 1)] * (3 - num) + windows
    most = [int(count.max()) for _, count, _ in windows]
    channels = 1 if layout is torch.contiguous_format else x.shape[1]
    length = y.shape[-1] * channels
    num_rows = y.numel() // length
    per_program = tiles.block(num_rows, max(1, row.flat // tiles.power_of_2(length * math.prod(most))))
    sizes = [(1,) * (3 - num) + tuple(shape[-num:]) for shape in (x.shape, y.shape)]
    lowest = -math.inf if x.is_floating_point() else torch.iinfo(x.dtype).min
    constants = {"LOWEST": lowest, "COMPUTE": compute_type(x.dtype), "num_warps": row.num_warps}
    small_planes = layout is torch.contiguous_format and not own and math.prod(sizes[1]) <= _MOST_WINDOWS
    if small_planes and y.shape[-1] <= _SHORT and most[2] < _LONG:
        _launch_short(x, y, places, windows, sizes, constants)
        return
    tables = [table(values, np.int32, x) for values in (*(w[0] for w in windows), *(w[1] for w in windows))]
    arguments = (x, y, places, *tables, num_rows, per_program, *sizes[0], *sizes[1], *(step for _, _, step in windows))
    grid, limit = (tiles.parts(num_rows, per_program),), row.row // 4
    if layout is not torch.contiguous_format:
        block = min(tiles.power_of_2(channels), limit)
        lanes = min(tiles.power_of_2(y.shape[-1]), row.row // block)
        launch(maximum_pool_channels, grid, *arguments, most[2], channels, **constants, PLACES=lanes, BLOCK=block)
    elif most[2] >= _LONG:
        block = min(tiles.power_of_2(most[2]), limit)
        launch(maximum_pool_wide, grid, *arguments, **constants, OWN=own, BLOCK=block)
    else:
        block = min(tiles.power_of_2(y.shape[-1]), limit)
        launch(maximum_pool, grid, *arguments, most[2], **constants, OWN=own, BLOCK=block)


def _launch_short(
    x: torch.Tensor, y: torch.Tensor, places: torch.Tensor, windows: list[Windows], sizes: list[tuple[int, ...]],
    constants: dict[str, Any],
) -> None:  # fmt: skip
    row, num, size = tiles.of(x.device), math.prod(sizes[1]), math.prod(sizes[0])
    rows, cols = sizes[0][1] * sizes[0][2], sizes[0][2]
    firsts, counts = zip(*((first.reshape(-1), count.reshape(-1)) for first, count, _ in windows), strict=True)
    begins = firsts[0][:, None, None] * rows + firsts[1][:, None] * cols + firsts[2]
    each = np.stack(np.meshgrid(*counts, indexing="ij"))
    most = [int(count.max()) for count in counts]
    steps = [step * apart for (_, _, step), apart in zip(windows, (rows, cols, 1), strict=True)]
    planes, block = y.numel() // num, min(tiles.power_of_2(num), row.row // 4)
    per_program = tiles.block(planes, max(1, row.flat // (tiles.power_of_2(num) * math.prod(most))))
    launch(
        maximum_pool_short, (tiles.parts(planes, per_program),), x, y, places, table(begins, np.int32, x),
        table(each, np.int32, x), planes, per_program, num, size, *steps, *most, **constants, BLOCK=block,
    )  # fmt: skip


def _list(value: int | Sequence[int], num: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    if len(values) not in (1, num):
        raise Declined("sizes that do not fit the dims")
    return values * num if len(values) == 1 else values


def max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of windows over the last `num` dims."""

    def entry(
        self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1, ceil_mode: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        kernel = _list(kernel_size, num)
        strides = _list(stride, num) if len(stride) else kernel
        pads, steps = _list(padding, num), _list(dilation, num)
        if min(kernel) <= 0 or min(strides) <= 0 or min(pads) < 0 or min(steps) <= 0 or self.dim() < num:
            raise Declined("a window that does not fit the input")
        if 0 in self.shape[-num - 1 :]:
            raise Declined("no elements but in the batch")
        each = zip(self.shape[-num:], kernel, strides, pads, steps, strict=True)
        return _pool(self, [_windows(*sizes, ceil_mode) for sizes in each], keeps_layout=True)

    return entry


def adaptive_max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of nearly equal parts of the last `num` dims."""

    def entry(self: torch.Tensor, output_size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(output_size) != num or self.dim() < num or min(output_size) <= 0:
            raise Declined("sizes that do not fit the dims")
        windows = [_parts(n, m) for n, m in zip(self.shape[-num:], output_size, strict=True)]
        return _pool(self, windows, keeps_layout=num == 2)

    return entry


def fractional_max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of windows that random numbers [N, C, num] place, in each plane on their own."""

    def entry(
        self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[int], random_samples: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kernel, sizes = _list(kernel_size, num), _list(output_size, num)
        if self.dim() not in (num + 1, num + 2) or random_samples.dtype is not self.dtype:
            raise Declined("an input of another rank, or random numbers of another type")
        places = self.shape[-num:]
        if any(m <= 0 or k <= 0 or m + k - 1 > n for n, m, k in zip(places, sizes, kernel, strict=True)):
            raise Declined("a window that does not fit the input")
        planes = self.numel() // math.prod(places)
        if random_samples.numel() != planes * num or not self.is_floating_point():
            raise Declined("random numbers that do not fit the planes")
        samples = random_samples.reshape(planes, num)
        if not bool(((samples >= 0) & (samples < 1)).all()):
            raise Declined("random numbers outside [0, 1)")
        # In 2 dims the first number is that of the columns.
        order = range(num)[::-1] if num == 2 else range(num)
        each = zip(places, sizes, kernel, order, strict=True)
        return _pool(self, [_fractional(n, m, k, samples[:, i : i + 1]) for n, m, k, i in each], False)

    return entry


def _fractional(n: int, m: int, kernel: int, u: torch.Tensor) -> Windows:
    """Windows for each of u[planes, 1], in the arithmetic of its type."""
    last = torch.full_like(u, n - kernel, dtype=torch.int64)
    if m > 1:
        step = torch.tensor((n - kernel) / (m - 1), dtype=u.dtype, device=u.device)
        o = torch.arange(m - 1, dtype=u.dtype, device=u.device)
        last = torch.cat([((o + u) * step).to(torch.int64) - (u * step).to(torch.int64), last], 1)
    first: np.ndarray = last.cpu().numpy()
    return first, np.full(first.shape, kernel), 1


def fractional_max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of fractional_max_pool, as that of max_pool."""

    def entry(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[int],
        indices: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        return _pool_gradient(grad_output, self, indices, num, apart=False, keeps_layout=False)

    return entry


def _by_place(values: torch.Tensor, places: torch.Tensor, out: torch.Tensor, num: int, add: bool) -> torch.Tensor:
    """`out` with each value at its place in its plane, and zeros elsewhere."""
    if values.shape != places.shape or places.dtype is not torch.int64 or out.dim() not in (num + 1, num + 2):
        raise Declined("values and places that do not fit")
    if out.numel() == 0:
        return out
    layout = layout_of(out)
    channels = 1 if layout is torch.contiguous_format else out.shape[1]
    size, row = math.prod(out.shape[-num:]), tiles.of(out.device)
    planes = out.numel() // size // channels
    block = min(tiles.power_of_2(channels), row.row // 4)
    given = (values.contiguous(memory_format=layout), places.contiguous(memory_format=layout), out)
    with checked(size, out.device, error=RuntimeError) as flag:
        launch(
            to_places, (planes, tiles.parts(channels, block)), *given, flag, values.numel() // (planes * channels),
            size, channels, ADD=add, EVEN=channels % block == 0, ROWS=row.row // block, BLOCK=block,
            num_warps=row.num_warps,
        )  # fmt: skip
    return out


def max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of max_pool: each window's goes to the place of its maximum; half types are summed in float32."""

    def entry(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool, indices: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        kernel = _list(kernel_size, num)
        each = zip(kernel, _list(stride, num) if len(stride) else kernel, _list(dilation, num), strict=True)
        apart = all(step >= d * (k - 1) + 1 for k, step, d in each)
        return _pool_gradient(grad_output, self, indices, num, apart, keeps_layout=True)

    return entry


def adaptive_max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of adaptive_max_pool, as that of max_pool."""

    def entry(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        if grad_output.dim() != self.dim():
            raise Declined("a gradient of another shape")
        apart = all(m and n % m == 0 for n, m in zip(self.shape[-num:], grad_output.shape[-num:], strict=True))
        return _pool_gradient(grad_output, self, indices, num, apart, keeps_layout=num == 2)

    return entry


def _pool_gradient(
    grad: torch.Tensor, x: torch.Tensor, indices: torch.Tensor, num: int, apart: bool, keeps_layout: bool
) -> torch.Tensor:
    """`apart`: no element lies in two windows, so that nothing is summed."""
    if not x.is_floating_point() or grad.dtype is not x.dtype:
        raise Declined("operands of two types")
    layout = layout_of(x) if keeps_layout else torch.contiguous_format
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=layout)
    if apart or x.dtype in (torch.float32, torch.float64):
        return _by_place(grad, indices, dx, num, add=not apart)
    return copy_(dx, _by_place(grad, indices, torch.empty_like(dx, dtype=torch.float32), num, add=True), out=dx)


def max_unpool(num: int) -> Callable[..., torch.Tensor]:
    """Zeros, and each element at the place that its maximum had."""

    def entry(
        self: torch.Tensor, indices: torch.Tensor, output_size: Sequence[int], *unused: Sequence[int]
    ) -> torch.Tensor:
        if len(output_size) != num or self.dim() not in (num + 1, num + 2):
            raise Declined("an input of another rank, or of no elements")
        shape = (*self.shape[: self.dim() - num], *output_size)
        layout = layout_of(self) if num == 2 else torch.contiguous_format
        out = torch.empty(shape, dtype=self.dtype, device=self.device, memory_format=layout)
        return _by_place(self, indices, out, num, add=False)

    return entry
