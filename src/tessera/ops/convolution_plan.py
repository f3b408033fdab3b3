"""Where the taps of a convolution find their operand: sizes and strides in, numbers for the kernels out.

In:  the shape and strides of an input [N, C, n0, n1, n2], the window, and how it moves.
Out: the `Image` that the input is copied to, if it must be, and a `Pass` for each set of places that read alike.

Along a dim, tap k of place p of a strided window reads element p·s + k·d of the padded input: place p + ⌊k·d / s⌋ of
the image of the elements that leave the remainder k·d mod s. Of a transposed one, the places q·s + r with one r read
the taps where h = (r + pad - k·d) / s is whole, at q + h.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from tessera.ops import tiles

# Columns of a tile are at least as many, if there are: they fill a vector.
LEAST_COLUMNS = 16
# Places are cut into at least as many programs, down to two vectors each.
LEAST_PROGRAMS = 8
# Windows are taken as runs where these have so many elements, and columns with this stride are not picked from vectors.
LEAST_RUN, LEAST_STRIDE = 8, 5
# Planes of a copy from this many elements on begin an odd multiple of so many apart.
LONG_PLANE, SPREAD = 1024, 32

Three = tuple[int, int, int]
Five = tuple[int, ...]  # N, C, and 3 dims


@dataclass(frozen=True)
class Shape:
    """The numbers of a convolution, each over 3 dims (1 where there are fewer)."""

    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


@dataclass(frozen=True)
class Image:
    """A copy [N, C, remainders by `stride` along each dim, `sizes`], that begins `pad` elements before the input.

    step: from channel to channel · last: the columns of the input are taken with all channels at each, as they lie in
    channels-last; its channels then are one, and `pad` and `sizes` count these columns' elements.
    """

    pad: tuple[int, ...]
    stride: tuple[int, ...]
    remainders: tuple[int, ...]
    sizes: tuple[int, ...]
    last: bool = False

    @property
    def step(self) -> int:
        """Where planes are long, not a multiple of what a cache's sets span: all channels' places would meet in one."""
        size = math.prod((*self.remainders, *self.sizes))
        return size if size < LONG_PLANE else (-(-size // SPREAD) | 1) * SPREAD


@dataclass(frozen=True)
class Pass:
    """One product: places [N, *`places`] of the output, which begin at `start` and have `y_steps` between them.

    taps: for each dim where the taps that are used begin and how far they lie apart ·
    table: where each tap finds its element, counted from where the place does, for each dim ·
    x_steps: from place to place of the operand, of the batch and 3 dims; columns follow one another or lie a few
    elements apart, but where `run` is given · channel: from channel to channel ·
    run: windows are runs of so many elements, that `table` tells the begins of, one after another by channel, if that
    is the innermost dim (`channel` is 1), else by tap.
    """

    places: tuple[int, ...]
    start: tuple[int, ...]
    taps: tuple[slice, ...]
    table: tuple[tuple[int, ...], ...]
    x_steps: tuple[int, ...]
    channel: int
    run: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether the places read no taps, as those between the places of a strided window's gradient."""
        return not all(self.table)


@dataclass(frozen=True)
class Plan:
    """`image` is None where the input is read as it lies."""

    image: Image | None
    passes: tuple[Pass, ...]


def _dense(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))


@functools.lru_cache(maxsize=1024)
def strided(x: Five, steps: Five, kernel: Three, places: Three, shape: Shape) -> Plan:
    """The plan of y[p] = Σ_k x[p·s - pad + k·d]."""
    reach = [[k * d for k in range(count)] for count, d in zip(kernel, shape.dilation, strict=True)]
    whole = tuple(slice(None) for _ in kernel)
    if not any(shape.pad) and (places[2] == 1 or shape.stride[2] * steps[4] == 1):
        table = tuple(tuple(at * step for at in dim) for dim, step in zip(reach, steps[2:], strict=True))
        moved = (steps[0], shape.stride[0] * steps[2], shape.stride[1] * steps[3], 1)
        return Plan(None, (Pass(places, (0, 0, 0), whole, table, moved, steps[1]),))
    per_dim = list(zip(reach, shape.stride, places, strict=True))
    remainders = tuple(min(s, at[-1] + 1) for at, s, _ in per_dim)
    sizes = tuple(m + at[-1] // s for at, s, m in per_dim)
    image = Image(shape.pad, shape.stride, remainders, sizes)
    dims = _dense((*remainders, *sizes))
    table = tuple(
        tuple(at % s * dims[d] + at // s * dims[3 + d] for at in taps) for d, (taps, s, _) in enumerate(per_dim)
    )
    return Plan(image, (Pass(places, (0, 0, 0), whole, table, (x[1] * image.step, *dims[3:]), image.step),))


@functools.lru_cache(maxsize=1024)
def picked(x: Five, steps: Five, kernel: Three, places: Three, shape: Shape) -> Plan:
    """`strided`, or a plan whose columns lie a few elements apart, which are picked from vectors."""
    plan = single(x, steps, kernel, places, shape)
    return plan if 1 < plan.passes[0].x_steps[3] < LEAST_STRIDE else strided(x, steps, kernel, places, shape)


@functools.lru_cache(maxsize=1024)
def transposed(x: Five, steps: Five, kernel: Three, places: Three, shape: Shape) -> Plan:
    """The plan of y[p] = Σ_k x[(p + pad - k·d) / s] over the taps that divide."""
    dims = [
        _remainders(count, *move)
        for count, *move in zip(kernel, places, shape.stride, shape.pad, shape.dilation, strict=True)
    ]
    first = tuple(min([0, *(h for part in dim for h in part.moved)]) for dim in dims)
    reached = [[part.places + h for part in dim for h in part.moved] for dim in dims]
    last = [max([n, *found]) for n, found in zip(x[2:], reached, strict=True)]
    image = None
    if any(first) or tuple(last) != x[2:] or steps[4] != 1:
        sizes = tuple(end - begin for begin, end in zip(first, last, strict=True))
        image = Image(tuple(-begin for begin in first), (1, 1, 1), (1, 1, 1), sizes)
        steps = (x[1] * image.step, image.step, *_dense(sizes))
    passes = []
    for parts in itertools.product(*dims):
        table = tuple(
            tuple((h - begin) * step for h in part.moved)
            for part, begin, step in zip(parts, first, steps[2:], strict=True)
        )
        if all(part.places for part in parts):
            count, start = tuple(part.places for part in parts), tuple(part.start for part in parts)
            passes.append(Pass(count, start, tuple(p.taps for p in parts), table, (steps[0], *steps[2:]), steps[1]))
    return Plan(image, tuple(passes))


@functools.lru_cache(maxsize=1024)
def runs(x: Five, steps: Five, kernel: Three, places: Three, shape: Shape, is_transposed: bool) -> Plan | None:
    """The plan where windows are runs of many elements; None where they are not.

    They are where channels lie innermost; and along columns, where windows and their strides are wide.
    """
    moves = list(zip(kernel, places, shape.stride, shape.pad, shape.dilation, strict=True))
    dims = [_remainders(*move) if is_transposed else [_undivided(*move)] for move in moves]
    channels = x[1] // shape.groups
    if channels == 1:
        return None
    if steps[1] == 1:
        joined = shape.groups == 1 and all(_follow(part.moved) for part in dims[2])
        enough = channels * (kernel[2] if joined else 1) >= LEAST_RUN
        pace = (1, 1, 1) if is_transposed else shape.stride
        return _runs_of_channels(x, steps, dims, pace, channels, joined) if enough else None
    wide = kernel[2] >= LEAST_RUN and shape.stride[2] >= LEAST_STRIDE and shape.dilation[2] == 1
    return _runs_of_columns(x, steps, dims, shape.stride, channels) if wide and not is_transposed else None


def _runs_of_channels(
    x: Five, steps: Five, dims: list[list[_Remainder]], pace: tuple[int, ...], channels: int, joined: bool
) -> Plan | None:
    """joined: the columns of a window follow one another, with all their channels."""
    begin, sizes = _reached(x, dims, pace)
    image, steps = _padded(x, steps, begin, sizes)
    if steps[1] != 1:
        return None
    passes = []
    for parts in itertools.product(*dims):
        *outer, inner = _table(parts, begin, steps[2:])
        run = channels * (max(1, len(inner)) if joined else 1)
        if all(part.places for part in parts):
            table = (*outer, inner[:1] if joined else inner)
            passes.append(_pass(parts, table, steps, pace, run))
    return Plan(image, tuple(passes))


def _runs_of_columns(
    x: Five, steps: Five, dims: list[list[_Remainder]], pace: tuple[int, ...], channels: int
) -> Plan | None:
    begin, sizes = _reached(x, dims, pace)
    image, steps = _padded(x, steps, begin, sizes)
    if steps[4] != 1:
        return None
    parts = tuple(dim[0] for dim in dims)
    *outer, inner = _table(parts, begin, steps[2:])
    table = (tuple(channel * steps[1] for channel in range(channels)), *outer)
    return Plan(image, (_pass(parts, table, steps, pace, len(inner)),))


@functools.lru_cache(maxsize=1024)
def single(x: Five, steps: Five, kernel: Three, places: Three, shape: Shape) -> Plan:
    """The plan of `strided` where elements are read one by one, so that columns need not follow one another."""
    moves = zip(kernel, places, shape.stride, shape.pad, shape.dilation, strict=True)
    parts = tuple(_undivided(*move) for move in moves)
    begin, sizes = _reached(x, [[part] for part in parts], shape.stride)
    image, steps = _padded(x, steps, begin, sizes)
    return Plan(image, (_pass(parts, tuple(_table(parts, begin, steps[2:])), steps, shape.stride, 0),))


def _padded(x: Five, steps: Five, begin: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[Image | None, Five]:
    """The image of an input and what is around it, in channels-last if that is how the input lies; and its steps."""
    if not any(begin) and sizes == x[2:]:
        return None, steps
    if steps[1] == 1 and steps[4] == x[1]:
        long = (*sizes[:2], sizes[2] * x[1])
        image = Image((*begin[:2], begin[2] * x[1]), (1, 1, 1), (1, 1, 1), long, last=True)
        return image, (image.step, 1, *_dense((*sizes, x[1]))[:3])
    image = Image(begin, (1, 1, 1), (1, 1, 1), sizes)
    return image, (x[1] * image.step, image.step, *_dense(sizes))


def _pass(
    parts: tuple[_Remainder, ...], table: tuple[tuple[int, ...], ...], steps: Five, pace: tuple[int, ...], run: int
) -> Pass:
    moved = tuple(s * step for s, step in zip(pace, steps[2:], strict=True))
    count, start, taps = (tuple(found) for found in zip(*((p.places, p.start, p.taps) for p in parts), strict=True))
    return Pass(count, start, taps, table, (steps[0], *moved), steps[1], run)


def _table(parts: tuple[_Remainder, ...], begin: Five, steps: Five) -> list[tuple[int, ...]]:
    """Where the taps of each dim find their element, in an image that begins `begin` before the input."""
    return [
        tuple((h + first) * step for h in part.moved) for part, first, step in zip(parts, begin, steps, strict=True)
    ]


def _reached(x: Five, dims: list[list[_Remainder]], pace: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How far before the input windows begin in each dim, and how much of it and around it they and it are."""
    begin = tuple(-min([0, *(h for part in dim for h in part.moved)]) for dim in dims)
    end = [
        max([n, *((part.places - 1) * move + h + 1 for part in dim for h in part.moved if part.places)])
        for n, move, dim in zip(x[2:], pace, dims, strict=True)
    ]
    return begin, tuple(a + b for a, b in zip(begin, end, strict=True))


def _follow(moved: tuple[int, ...]) -> bool:
    return all(b - a == 1 for a, b in itertools.pairwise(moved))


@dataclass(frozen=True)
class _Remainder:
    """The places of one dim that leave `start` by the stride: which taps they read, and where."""

    start: int
    places: int
    taps: slice
    moved: tuple[int, ...]


def _undivided(count: int, places: int, stride: int, pad: int, dilation: int) -> _Remainder:
    """All places of a strided window, which read all taps."""
    return _Remainder(0, places, slice(None), tuple(k * dilation - pad for k in range(count)))


def _remainders(count: int, places: int, stride: int, pad: int, dilation: int) -> list[_Remainder]:
    found = []
    for start in range(stride):
        taps = [k for k in range(count) if (start + pad - k * dilation) % stride == 0]
        chosen = slice(taps[0], None, stride // math.gcd(stride, dilation)) if taps else slice(0, 0)
        moved = tuple((start + pad - k * dilation) // stride for k in taps)
        found.append(_Remainder(start, max(0, -(-(places - start) // stride)), chosen, moved))
    return found


@functools.lru_cache(maxsize=1024)
def table_of(channels: int, channel: int, table: tuple[tuple[int, ...], ...], device: torch.device) -> torch.Tensor:
    """Where each element of a window is, [channels · taps], in int32 where that is enough."""
    per_dim = [np.arange(channels, dtype=np.int64) * channel, *(np.asarray(dim, dtype=np.int64) for dim in table)]
    total = functools.reduce(np.add.outer, per_dim).reshape(-1)
    small = total.size == 0 or int(total.max()) < 2**31
    return torch.from_numpy(total.astype(np.int32 if small else np.int64)).to(device)


def tile_of(lines: int, columns: int, most: int, grain: int = 0) -> tuple[int, int]:
    """Lines and columns of a tile of about `most` places that leaves the fewest of its places unused; `grain`: in what
    steps of columns the time of a tile of one line follows those that are used, 0: it takes the whole tile."""
    best, least = (1, 1), 0
    width = min(most, LEAST_COLUMNS)
    while width <= most:
        height = max(1, min(most // width, tiles.power_of_2(lines)))
        used = tiles.covered(lines, height) * tiles.covered(columns, width, grain if height == 1 else 0)
        if not least or used <= least:
            best, least = (height, width), used
        if width >= columns:
            break
        width *= 2
    return best


def sums_of(row: tiles.Tiles, dtype: torch.dtype, outputs: int, columns: int) -> tuple[int, int]:
    """Outputs and columns whose sums are held in registers; 0 where the chip's dot is faster."""
    most, width = row.outer
    if dtype is torch.bfloat16 or not most:
        return 0, 0
    height = min(most, tiles.power_of_2(outputs))
    sums = most * width // (2 if dtype is torch.float64 else 1) // height
    return height, steps_of(columns, min(sums, width), sums)


def sums_by_output(row: tiles.Tiles, dtype: torch.dtype, outputs: int) -> tuple[int, int]:
    """Of places or a window's elements, and of outputs, whose sums are held in registers; 0 where a dot is faster.

    All of the outputs are used: the last ones of several blocks are as many, some of which belong to the one before.
    """
    most, width = row.outer
    width //= 2 if dtype is torch.float64 else 1
    return (most, min(width, 1 << (outputs.bit_length() - 1))) if outputs >= most else (0, 0)


def places_of(row: tiles.Tiles, places: int) -> int:
    """Places of a product's tile: as many as there may be, while there are programs enough."""
    most = row.mm[1]
    while most > max(row.min_dot, 2 * LEAST_COLUMNS) and places < LEAST_PROGRAMS * most:
        most //= 2
    return most


def steps_of(size: int, least: int, most: int, grain: int = 0) -> int:
    """How many of `size` to take at a time, a power of 2: the rest of the last step is lost, but for what a dot's grain
    leaves of it, and each step costs."""
    return tiles.cheapest(size, [1 << bits for bits in range(least.bit_length() - 1, most.bit_length())], grain)
