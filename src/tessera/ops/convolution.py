"""Convolution over 1 to 3 dims as implicit matrix products: strided, padded, dilated, grouped, transposed, any layout.

A window's element (c, k) of all places is a row of a matrix that is never stored: the row begins `table[c, k]` behind
the first place, and its places follow one another in memory. For that the input is copied once where it is padded or
its columns do not follow one another: padded, and one image for each remainder of the stride, so that places with a
stride between them become neighbours. The weight is the other matrix as it lies. Where channels lie innermost, and
along the columns of wide windows, the matrix is read by its columns, the windows: runs of elements that follow one
another. Then an input is copied only where it is padded.
`product` multiplies outputs by places, and `windows` windows by outputs. `outer` and `outer_windows` are the same on
chips where float sums in registers are faster than a dot, which would copy its operands; `scaled` serves groups of one
channel, where there is no matrix to speak of, and so does `depthwise.py` where channels are better neighbours than
columns; `weight_gradient`, `outer_gradient`, `run_gradient` and, of one channel, `scaled_gradient` sum over places,
split into parts by the shape alone, so that threads change no result.

Formula:
    forward:    y[n, o, p] = b[o] + Σ_{c, k} x[n, c, p·s - pad + k·d] · w[o, c, k]
    transposed: y[n, o, p] = b[o] + Σ_{c, k} x[n, c, q] · w[c, o, k]   where q·s = p + pad - k·d is whole;
                for each remainder of p by s these are the places q + h of some of the taps, a forward of its own
    backward:   the gradient by x of either is the other;  dw[o, c, k] = Σ_{n, p} x[n, c, p·s - pad + k·d] · g[n, o, p]
Shapes: x [N, C, …] with 1 to 3 dims behind the channels, contiguous or channels-last; w [O, C / groups, …], or [C, O /
groups, …] where transposed; b [O]; y [N, O, …], channels-last where x or w is.
Types: float64, float32, float16 and bfloat16, the same for all. Sums are kept in float32 (float64 for float64).
Limits: no empty operands, and no integers.
Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning", 2016, arXiv:1603.07285; Chetlur and
others, "cuDNN: Efficient Primitives for Deep Learning", 2014, arXiv:1410.0759, for the matrix that is never stored;
the pages of torch.nn.functional.conv2d and torch.nn.functional.conv_transpose2d
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
import triton.language as tl

from tessera.ops import depthwise, reduce, tiles
from tessera.ops.convolution_kernels import (
    add_parts,
    outer,
    outer_gradient,
    outer_windows,
    product,
    run_gradient,
    scaled,
    scaled_gradient,
    spread,
    weight_gradient,
    windows,
)
from tessera.ops.convolution_plan import (
    LEAST_COLUMNS,
    LEAST_RUN,
    Image,
    Pass,
    Shape,
    picked,
    places_of,
    runs,
    single,
    steps_of,
    strided,
    sums_by_output,
    sums_of,
    table_of,
    tile_of,
    transposed,
)
from tessera.ops.declined import Declined
from tessera.ops.launch import fixed, launch
from tessera.ops.layout import is_channels_last
from tessera.ops.pointwise import zero_

# Tiles of places that one part of the gradient by a weight sums, and the most parts.
TILES_OF_PART, MOST_PARTS = 16, 16
# Places that it sums where they are taken one after the other.
PLACES_OF_PART = 1024
# Passes of a transposed convolution, each of which writes places that lie apart, that take less than one and a copy.
MOST_PASSES = 8
# Taps of one channel that are summed in registers.
MOST_TAPS = 9
# Places of one channel whose sums are held in registers, at the least and at the most.
LEAST_WIDE, MOST_WIDE = 64, 256
# How often the columns of an operand of at least so many bytes are picked from vectors.
MOST_PICKS, FAR_BYTES = 4, 1 << 19
_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _three(values: Sequence[int], num: int, missing: int) -> tuple[int, ...]:
    values = list(values) * num if len(values) == 1 else list(values)
    if len(values) != num:
        raise Declined("sizes that do not fit the dims")
    return (missing,) * (3 - num) + tuple(values)


def _shape(num: int, stride: Sequence[int], pad: Sequence[int], dilation: Sequence[int], groups: int) -> Shape:
    found = Shape(_three(stride, num, 1), _three(pad, num, 0), _three(dilation, num, 1), groups)
    if min(found.stride) <= 0 or min(found.dilation) <= 0 or min(found.pad) < 0 or groups <= 0:
        raise Declined("a stride, padding or dilation that is none")
    return found


def _wide(x: torch.Tensor) -> torch.Tensor:
    """[n, c, …] with 3 dims after the channels."""
    while x.dim() < 5:
        x = x.unsqueeze(2)
    return x


def _sizes(x: torch.Tensor) -> tuple[int, int, int]:
    n0, n1, n2 = x.shape[2:]
    return n0, n1, n2


def _check(x: torch.Tensor, w: torch.Tensor, *others: torch.Tensor | None) -> None:
    if x.dtype not in _TYPES or any(t is not None and t.dtype is not x.dtype for t in (w, *others)):
        raise Declined("a convolution of these types")
    if x.dim() not in (3, 4, 5) or w.dim() != x.dim() or x.numel() == 0 or w.numel() == 0:
        raise Declined("a convolution without elements")


def _new(shape: Sequence[int], like: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """In channels-last where either operand is; over 3 dims PyTorch has that for bfloat16 alone."""
    layout = torch.contiguous_format
    if is_channels_last(like) or is_channels_last(other):
        if len(shape) == 4:
            layout = torch.channels_last
        elif like.dtype is torch.bfloat16:
            layout = torch.channels_last_3d
    return torch.empty(list(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _sums_in(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype is torch.float64 else tl.float32


def _laid_out(x: torch.Tensor, image: Image | None) -> torch.Tensor:
    """`x` [N, C, n0, n1, n2] as a plan reads it."""
    if image is None:
        return x
    if image.last:
        x = x.permute(0, 2, 3, 4, 1).flatten(3).unsqueeze(1)
    copy = torch.empty((*x.shape[:2], image.step), dtype=x.dtype, device=x.device)
    row = tiles.of(x.device)
    columns, lines = image.sizes[2], image.sizes[0] * image.sizes[1]
    width = min(tiles.power_of_2(columns), row.row // 8)
    height = min(tiles.power_of_2(lines), max(1, row.flat // tiles.power_of_2(columns)))
    launch(
        spread, (tiles.parts(lines, height), math.prod((*x.shape[:2], *image.remainders))),
        x, copy, image.step, lines, x.shape[1],
        *x.shape[2:], *image.remainders, *image.sizes, *image.stride[:2], *image.pad, *x.stride(),
        s2=image.stride[2], R=height, BW=width, BE=min(LEAST_COLUMNS, width), num_warps=row.num_warps,
    )  # fmt: skip
    return copy


def _multiply(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, step: Pass, stride: tuple[int, ...]
) -> None:
    """The places of one pass; x as the plan reads it, w [groups, outputs, channels, k0, k1, k2], y [N, O, …] whole."""
    if step.run:
        _multiply_runs(x, w, bias, y, step, stride)
        return
    w = w.contiguous()
    groups, outputs, channels = w.shape[:3]
    depth = w.numel() // (groups * outputs)
    table = fixed(table_of(channels, step.channel, step.table, x.device))
    to, (y_n, y_c, *y_steps) = _places(y, step, stride)
    m0, m1, m2 = step.places
    x_n, x_0, x_1, x_2 = step.x_steps
    if x_1 == m2 * x_2 and y_steps[1] == m2 * y_steps[2]:
        m1, m2 = 1, m1 * m2
        if x_0 == m2 * x_2 and y_steps[0] == m2 * y_steps[2]:
            m0, m2 = 1, m0 * m2
    lines = y.shape[0] * m0 * m1
    row, acc = tiles.of(x.device), _sums_in(x.dtype)
    numbers = (
        outputs, depth, lines, m0, m1, m2, channels * step.channel, x_n, x_0, x_1, y_n, y_c, *y_steps,
    )  # fmt: skip
    if channels == 1:
        _scale(x, w, table, bias, to, numbers, groups, x_2, tiles.store_modifier(y))
        return
    # Rows of places are taken as one line, with what lies between them, where that makes fewer tiles.
    rows, length = (1, m2) if x_1 % x_2 else (m1, (m1 - 1) * (x_1 // x_2) + m2)
    height, width = sums_of(row, x.dtype, outputs, length)
    if height and tiles.parts(length, width) > m1 * tiles.parts(m2, sums_of(row, x.dtype, outputs, m2)[1]):
        rows, length = 1, m2
        height, width = sums_of(row, x.dtype, outputs, m2)
    if height and 2 * rows * m2 > tiles.parts(length, width) * width:
        lines //= rows
        launch(
            outer, (lines * tiles.parts(length, width), groups), x, w, table, bias, to, outputs, depth, lines,
            m0, m1 // rows, m2, x_1 // x_2 if rows > 1 else m2, rows, channels * step.channel, x_n, x_0, x_1, y_n, y_c,
            *y_steps, y_steps[1],
            X_2=x_2, ACC=acc, BM=height, BW=width, FULL=length >= width, STORE=tiles.store_modifier(y),
            num_warps=row.num_warps,
        )  # fmt: skip
        return
    bm, bn = steps_of(outputs, row.min_dot, row.mm[0]), places_of(row, lines * m2 * groups)
    _, grain_n, grain_k = row.dot_grain
    height, width = tile_of(lines, m2, bn, grain_n)
    least = max(row.min_dot, min(LEAST_COLUMNS, tiles.power_of_2(depth)))
    bk = steps_of(depth, least, row.mm[2], grain_k if height == 1 else 0)
    grid = (tiles.parts(lines, height) * tiles.parts(m2, width), tiles.parts(outputs, bm), groups)
    launch(
        product, grid, x, w, table, bias, to, *numbers,
        X_2=x_2, ACC=acc, BM=bm, R=height, BW=width, BK=bk, STORE=tiles.store_modifier(y), num_warps=row.num_warps,
    )  # fmt: skip


def _scale(
    x: torch.Tensor, w: torch.Tensor, table: torch.Tensor, bias: torch.Tensor | None, to: torch.Tensor,
    numbers: tuple[int, ...], groups: int, x_2: int, store: str,
) -> None:  # fmt: skip
    """`_multiply` of one channel a group."""
    outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, *y_steps = numbers
    row = tiles.of(x.device)
    given = {"X_2": x_2, "ACC": _sums_in(x.dtype), "STORE": store, "num_warps": row.num_warps}
    # All rows of places are taken as one line, as those of many channels.
    length = (m1 - 1) * x_1 + m2
    width = min(steps_of(length, LEAST_WIDE, MOST_WIDE), 1 << (length.bit_length() - 1))
    one_line = outputs == 1 and x_2 == 1 and row.outer[0] and length >= LEAST_WIDE
    if one_line and 2 * m1 * m2 > tiles.parts(length, width) * width:
        launch(
            outer, (lines // m1 * tiles.parts(length, width), groups), x, w, table, bias, to, outputs, depth,
            lines // m1, m0, 1, m2, x_1, m1, x_g, x_n, x_0, x_1, *y_steps, y_steps[3],
            BM=1, BW=width, FULL=True, **given,
        )  # fmt: skip
        return
    height, width = tile_of(lines, m2, row.row)
    taps = max(count for count in range(1, MOST_TAPS + 1) if depth % count == 0)
    programs = tiles.parts(lines, height) * tiles.parts(m2, width)
    launch(
        scaled, (programs, outputs * groups), x, w, table, bias, to, *numbers,
        R=height, BW=width, TAPS=taps, **given,
    )  # fmt: skip


def _places(y: torch.Tensor, step: Pass, stride: tuple[int, ...]) -> tuple[torch.Tensor, list[int]]:
    """Where the places of a pass begin, and the steps between them: of the batch, the outputs and 3 dims."""
    b0, b1, b2 = step.start
    n, c, *steps = y.stride()
    return y[..., b0:, b1:, b2:], [n, c, *(size * s for size, s in zip(steps, stride, strict=True))]


def _multiply_runs(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, step: Pass, stride: tuple[int, ...]
) -> None:
    """`_multiply` where windows are runs of elements."""
    groups, outputs, channels = w.shape[:3]
    if step.channel == 1:
        w = w.permute(0, 1, 3, 4, 5, 2)
    depth = w.numel() // (groups * outputs)
    table = fixed(table_of(1, 0, step.table, x.device))
    to, y_steps = _places(y, step, stride)
    m0, m1, m2 = step.places
    places = y.shape[0] * m0 * m1 * m2
    row = tiles.of(x.device)
    numbers = (
        table, bias, to, outputs, depth // step.run, step.run, places, m0, m1, m2, channels * step.channel,
        *step.x_steps, *y_steps,
    )  # fmt: skip
    most, acc = places_of(row, places * groups), _sums_in(x.dtype)
    height, width = sums_by_output(row, x.dtype, outputs)
    if height and x.dtype is not torch.bfloat16:
        w = w.flatten(2).transpose(1, 2).contiguous()
        grid = (tiles.parts(outputs, width), tiles.parts(places, most), groups)
        launch(
            outer_windows, grid, x, w, *numbers,
            ACC=acc, BM=height, BN=width, STEPS=most // height, num_warps=row.num_warps,
        )  # fmt: skip
        return
    bn = steps_of(outputs, row.min_dot, row.mm[1])
    least = max(row.min_dot, min(LEAST_RUN, tiles.power_of_2(step.run)))
    bk = steps_of(step.run, least, row.mm[2], row.dot_grain[2])
    launch(
        windows, (tiles.parts(outputs, bn), tiles.parts(places, most), groups), x, w.contiguous(), *numbers,
        ACC=acc, BM=most, BN=bn, BK=bk, num_warps=row.num_warps,
    )  # fmt: skip


def _run(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, shape: Shape, is_transposed: bool
) -> torch.Tensor:
    """Into y. The weight is [outputs, channels / groups, …], or [channels, outputs / groups, …] where transposed."""
    x5, y5, w5 = _wide(x), _wide(y), _wide(w)
    w6 = w5.view(shape.groups, w5.shape[0] // shape.groups, *w5.shape[1:])
    if depthwise.suits(x5, w6, shape, is_transposed):
        depthwise.run(x5, w6, bias, y5, shape, is_transposed)
        return y
    if is_transposed and _apart(x5, w5, y5, shape):
        _run_apart(x5, w6, bias, y5)
        return y
    laid_out = (tuple(x5.shape), x5.stride(), _sizes(w5), _sizes(y5), shape)
    plan = runs(*laid_out, is_transposed)
    if plan is None:
        plan = (transposed if is_transposed else picked if _is_picked(x5, w6) else strided)(*laid_out)
    x5, passes = _laid_out(x5, plan.image), plan.passes
    if bias is None and any(step.is_empty for step in passes):
        zero_(y, out=y)
        passes = tuple(step for step in passes if not step.is_empty)
    for step in passes:
        t0, t1, t2 = step.taps
        part = w6.transpose(1, 2)[..., t0, t1, t2] if is_transposed else w6
        _multiply(x5, part, bias, y5, step, shape.stride if is_transposed else (1, 1, 1))
    return y


def _is_picked(x: torch.Tensor, w: torch.Tensor) -> bool:
    """Whether columns that lie apart are better picked from vectors, again for each few outputs, than copied once to
    lie side by side: where that copy goes through memory, and sums are in registers."""
    most = 0 if x.dtype is torch.bfloat16 else MOST_PICKS * tiles.of(x.device).outer[0]
    return w.shape[1:3] != (1, 1) and w.shape[1] <= most and x.numel() * x.element_size() >= FAR_BYTES


def _apart(x: torch.Tensor, w: torch.Tensor, y: torch.Tensor, shape: Shape) -> bool:
    """Whether the windows of a transposed convolution are no small ones, and neither meet nor leave anything out."""
    if math.prod(shape.stride) <= MOST_PASSES or any(shape.pad) or max(shape.dilation) > 1 or _sizes(w) != shape.stride:
        return False
    return all(n * k <= m for n, k, m in zip(_sizes(x), _sizes(w), _sizes(y), strict=True))


def _run_apart(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor) -> None:
    """Windows that stand apart: each element of a window is an output of its own, which is then moved to its place."""
    groups, channels, outputs, k0, k1, k2 = w.shape
    whole = Shape((1, 1, 1), (0, 0, 0), (1, 1, 1), groups)
    taps = k0 * k1 * k2
    plan = strided(tuple(x.shape), x.stride(), (1, 1, 1), _sizes(x), whole)
    matrix = w.flatten(2).transpose(1, 2).contiguous().view(groups, outputs * taps, channels, 1, 1, 1)
    found = torch.empty((x.shape[0], groups * outputs * taps, *x.shape[2:]), dtype=x.dtype, device=x.device)
    if bias is not None:
        bias = bias[:, None].expand(-1, taps).contiguous()
    _multiply(_laid_out(x, plan.image), matrix, bias, found, plan.passes[0], (1, 1, 1))
    found = found.view(x.shape[0], groups * outputs, k0, k1, k2, *x.shape[2:])
    n0, n1, n2 = _sizes(x)
    if y.numel() > found.numel():
        y.copy_(torch.zeros_like(y[:, :, :1, :1, :1]) if bias is None else bias[:, :1, None, None])
    to = y[..., : n0 * k0, : n1 * k1, : n2 * k2].unflatten(2, (n0, k0)).unflatten(4, (n1, k1)).unflatten(6, (n2, k2))
    to.copy_(found.permute(0, 1, 5, 2, 6, 3, 7, 4))


def convolution(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: Sequence[int],
    padding: Sequence[int], dilation: Sequence[int], transposed: bool, output_padding: Sequence[int], groups: int,
) -> torch.Tensor:  # fmt: skip
    """input [N, C, …]; weight [O, C / groups, …], or [C, O / groups, …] where transposed; the result is [N, O, …]."""
    _check(input, weight, bias)
    num = input.dim() - 2
    shape = _shape(num, stride, padding, dilation, groups)
    extra = _three(output_padding, num, 0)
    channels = weight.shape[0] if transposed else weight.shape[1] * groups
    outputs = weight.shape[1] * groups if transposed else weight.shape[0]
    if input.shape[1] != channels or outputs % groups or channels % groups:
        raise Declined("channels that do not fit the weight")
    if bias is not None and tuple(bias.shape) != (outputs,):
        raise Declined("a bias that does not fit the weight")
    sizes = []
    per_dim = zip(input.shape[2:], weight.shape[2:], range(3 - num, 3), strict=True)
    for n, k, d in per_dim:
        reach = shape.dilation[d] * (k - 1)
        if transposed:
            if extra[d] >= max(shape.stride[d], shape.dilation[d]) or extra[d] < 0:
                raise Declined("an output padding that is none")
            sizes.append((n - 1) * shape.stride[d] - 2 * shape.pad[d] + reach + extra[d] + 1)
        else:
            sizes.append((n + 2 * shape.pad[d] - reach - 1) // shape.stride[d] + 1)
    if min(sizes) <= 0:
        raise Declined("a window that does not fit the input")
    y = _new((input.shape[0], outputs, *sizes), input, weight)
    return _run(input, weight, None if bias is None else bias.contiguous(), y, shape, transposed)


def _by_weight(g: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, shape: Shape) -> torch.Tensor:
    """The gradient by a weight [outputs, channels / groups, …] of the convolution that gave g from x."""
    g5, x5, w5 = _wide(g), _wide(x), _wide(weight)
    outputs, channels = w5.shape[0] // shape.groups, w5.shape[1]
    row = tiles.of(g.device)
    # What bfloat16 gains by a dot is less than a copy of its operands costs.
    singly = g.dtype is not torch.bfloat16 or g5.is_contiguous(memory_format=torch.channels_last_3d)
    if channels > 1 and singly and sums_by_output(row, g.dtype, outputs)[0]:
        parts = _parts_in_registers(g5, x5, w5, shape)
    else:
        parts = _parts(g5.contiguous(), x5, w5, shape)
    dw = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    depth = parts.shape[2]
    bm, bn = min(32, tiles.power_of_2(outputs)), min(64, tiles.power_of_2(depth))
    launch(
        add_parts, (tiles.parts(outputs, bm), tiles.parts(depth, bn), shape.groups), parts, dw, parts.shape[0], outputs,
        depth, ACC=_sums_in(g.dtype), BM=bm, BN=bn, num_warps=row.num_warps,
    )  # fmt: skip
    return dw


def _parts_in_registers(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, shape: Shape) -> torch.Tensor:
    """[parts, groups, depth, outputs]: sums over lines of places, one place after the other."""
    g = g.contiguous(memory_format=torch.channels_last_3d)
    outputs, channels = w.shape[0] // shape.groups, w.shape[1]
    plan = single(tuple(x.shape), x.stride(), _sizes(w), _sizes(g), shape)
    (step,) = plan.passes
    x = _laid_out(x, plan.image)
    table = fixed(table_of(channels, step.channel, step.table, x.device))
    depth, (m0, m1, m2) = table.numel(), step.places
    lines = g.shape[0] * m0 * m1
    row = tiles.of(g.device)
    if g.dtype is torch.bfloat16 and step.channel == 1 and min(channels, outputs, m2) >= LEAST_COLUMNS:
        return _parts_of_runs(x, g, table, outputs, channels, shape.groups, step)
    num_lines = tiles.parts(lines, min(MOST_PARTS, tiles.parts(lines * m2, PLACES_OF_PART)))
    height, width = sums_by_output(row, g.dtype, outputs)
    parts = _empty_parts(tiles.parts(lines, num_lines), depth, outputs, shape.groups, g)
    grid = (tiles.parts(depth, height) * tiles.parts(outputs, width), parts.shape[0], shape.groups)
    launch(
        outer_gradient, grid, x, g, table, parts, outputs, depth, lines, m0, m1, m2, channels * step.channel,
        *step.x_steps, outputs * shape.groups, num_lines,
        ACC=_sums_in(g.dtype), BM=height, BN=width, num_warps=row.num_warps,
    )  # fmt: skip
    return parts


def _parts_of_runs(
    x: torch.Tensor, g: torch.Tensor, table: torch.Tensor, outputs: int, channels: int, groups: int, step: Pass
) -> torch.Tensor:
    """The same of bfloat16, where a dot gains more than its operands cost."""
    row, (m0, m1, m2), depth = tiles.of(g.device), step.places, table.numel()
    lines, across = g.shape[0] * m0 * m1, step.table[2]
    beside = len(across) if all(b - a == channels for a, b in itertools.pairwise(across)) else 1
    bm = steps_of(outputs, row.min_dot, row.mm[1])
    bn = steps_of(channels * beside, row.min_dot, row.mm[1], row.dot_grain[1])
    bk = max(row.min_dot, steps_of(m2, LEAST_COLUMNS, row.mm[2] // 2, row.dot_grain[2]))
    num_tiles = lines * tiles.parts(m2, bk)
    each = tiles.parts(num_tiles, min(MOST_PARTS, tiles.parts(num_tiles, TILES_OF_PART)))
    parts = _empty_parts(tiles.parts(num_tiles, each), depth, outputs, groups, g)
    programs = depth // (channels * beside) * tiles.parts(channels * beside, bn) * tiles.parts(outputs, bm)
    launch(
        run_gradient, (programs, parts.shape[0], groups), x, g, table, parts, outputs, channels, depth // channels,
        beside, lines, m0, m1, m2, channels * step.channel, *step.x_steps, outputs * groups, each,
        ACC=_sums_in(g.dtype), BM=bm, BN=bn, BK=bk, num_warps=row.num_warps,
    )  # fmt: skip
    return parts


def _empty_parts(num: int, depth: int, outputs: int, groups: int, g: torch.Tensor) -> torch.Tensor:
    kind = torch.float64 if g.dtype is torch.float64 else torch.float32
    return torch.empty((num, groups, depth, outputs), dtype=kind, device=g.device)


def _parts(g: torch.Tensor, x: torch.Tensor, w: torch.Tensor, shape: Shape) -> torch.Tensor:
    """[parts, groups, depth, outputs]: sums over tiles of places."""
    outputs, channels = w.shape[0] // shape.groups, w.shape[1]
    plan = strided(tuple(x.shape), x.stride(), _sizes(w), _sizes(g), shape)
    (step,) = plan.passes
    x = _laid_out(x, plan.image)
    table = fixed(table_of(channels, step.channel, step.table, x.device))
    depth, (m0, m1, m2) = table.numel(), step.places
    x_n, x_0, x_1, _ = step.x_steps
    if x_1 == m2:
        m1, m2 = 1, m1 * m2
        if x_0 == m2:
            m0, m2 = 1, m0 * m2
    lines = g.shape[0] * m0 * m1
    row, acc = tiles.of(g.device), _sums_in(g.dtype)
    g_n, g_c, g_0, g_1, _ = g.stride()
    numbers = outputs, depth, lines, m0, m1, m2, channels * step.channel, x_n, x_0, x_1, g_n, g_c, g_0, g_1
    if channels == 1:
        taps = max(n for n in range(1, MOST_TAPS + 1) if depth % n == 0)
        num_lines = tiles.parts(lines, min(MOST_PARTS, tiles.parts(lines * m2, TILES_OF_PART * row.row)))
        parts = _empty_parts(tiles.parts(lines, num_lines), depth, outputs, shape.groups, g)
        launch(
            scaled_gradient, (depth // taps, parts.shape[0], outputs * shape.groups), x, g, table, parts, *numbers,
            num_lines, ACC=acc, TAPS=taps, BW=row.step, num_warps=row.num_warps,
        )  # fmt: skip
        return parts
    width = steps_of(m2, min(LEAST_COLUMNS, tiles.power_of_2(m2)), row.mm[2])
    num_tiles = lines * tiles.parts(m2, width)
    num_parts = min(MOST_PARTS, tiles.parts(num_tiles, TILES_OF_PART))
    each = tiles.parts(num_tiles, num_parts)
    parts = _empty_parts(num_parts, depth, outputs, shape.groups, g)
    bm, bn = (steps_of(size, row.min_dot, most) for size, most in zip((depth, outputs), row.mm[:2], strict=True))
    grid = (tiles.parts(depth, bm) * tiles.parts(outputs, bn), num_parts, shape.groups)
    launch(
        weight_gradient, grid, x, g, table, parts, *numbers, each,
        ACC=acc, BM=bm, BN=bn, BK=max(row.min_dot, width), num_warps=row.num_warps,
    )  # fmt: skip
    return parts


Gradients = tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]


def convolution_backward(
    grad_output: torch.Tensor, input: torch.Tensor, weight: torch.Tensor, bias_sizes: Sequence[int] | None,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], transposed: bool,
    output_padding: Sequence[int], groups: int, output_mask: Sequence[bool],
) -> Gradients:  # fmt: skip
    """(by input, by weight, by bias), each where `output_mask` asks for it."""
    _check(input, weight, grad_output)
    if grad_output.dim() != input.dim() or grad_output.numel() == 0:
        raise Declined("a convolution without elements")
    num = input.dim() - 2
    shape = _shape(num, stride, padding, dilation, groups)
    dx, dw, db = None, None, None
    if output_mask[0]:
        dx = _run(grad_output, weight, None, _new(input.shape, input, weight), shape, not transposed)
    if output_mask[1]:
        # Of a transposed convolution the input plays the part of the result, and the result that of the input.
        g, x = (input, grad_output) if transposed else (grad_output, input)
        dw = _by_weight(g, x, weight, shape)
    if output_mask[2]:
        db = reduce.sum_(grad_output, [0, *range(2, grad_output.dim())])
    return dx, dw, db
