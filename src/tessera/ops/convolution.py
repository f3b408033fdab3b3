"""Convolution over 1 to 3 dims as implicit matrix products: strided, padded, dilated, grouped, transposed, any layout.

`tiled` multiplies [places, channels] by [channels, outputs] for each tap k, and no matrix of windows is stored.
`direct` serves groups of fewer than 8 channels, where there is no matrix to speak of: it walks places alone.

Formula:
    forward:    y[n, o, p] = b[o] + Σ_{c, k} x[n, c, p·s - pad + k·d] · w[o, c, k]
    transposed: y[n, o, p] = b[o] + Σ_{c, k} x[n, c, q] · w[c, o, k]   where q·s = p + pad - k·d is whole
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

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from tessera.ops import reduce, tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import is_channels_last

# Below it the matrix of a group is too narrow to multiply by tiles.
FEW_CHANNELS = 8
_TYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@triton.jit
def source(place, k, stride, pad, dilation, size, TRANSPOSED: tl.constexpr):
    """Where along one dim tap `k` of output `place` reads, and whether that is inside."""
    if TRANSPOSED:
        shifted = place + pad - k * dilation
        at = shifted // stride
        inside = (shifted >= 0) & (at * stride == shifted) & (at < size)
    else:
        at = place * stride - pad + k * dilation
        inside = (at >= 0) & (at < size)
    return at, inside


@triton.jit
def split(m, m0, m1, m2):
    """(batch, places) of a linear index over [batch, m0, m1, m2]."""
    return m // m2 // m1 // m0, (m // m2 // m1) % m0, (m // m2) % m1, m % m2


@triton.jit
def tap(
    t, x_at, w_at, o0, o1, o2, in_rows, n0, n1, n2, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
    x_0, x_1, x_2, w_0, w_1, w_2, TRANSPOSED: tl.constexpr,
):  # fmt: skip
    """Where tap `t` of places [o0, o1, o2] reads x and w, and which of the places it reads."""
    i0, in_0 = source(o0, t // (k1 * k2), s0, p0, d0, n0, TRANSPOSED)
    i1, in_1 = source(o1, (t // k2) % k1, s1, p1, d1, n1, TRANSPOSED)
    i2, in_2 = source(o2, t % k2, s2, p2, d2, n2, TRANSPOSED)
    from_x = x_at + i0 * x_0 + i1 * x_1 + i2 * x_2
    from_w = w_at + (t // (k1 * k2)) * w_0 + ((t // k2) % k1) * w_1 + (t % k2) * w_2
    return from_x, from_w, in_rows & in_0 & in_1 & in_2


@triton.jit
def tiled(
    x, w, bias, y, M, channels, outputs, n0, n1, n2, m0, m1, m2, k0, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
    x_n, x_c, x_0, x_1, x_2, w_o, w_c, w_0, w_1, w_2, w_g, y_n, y_c, y_0, y_1, y_2,
    TRANSPOSED: tl.constexpr, ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """[BM places, BN outputs] of one group a program; grid: (cdiv(M, BM) · cdiv(outputs, BN), groups)."""
    tiles_n = tl.cdiv(outputs, BN)
    group = tl.program_id(1).to(tl.int64)
    rows = (tl.program_id(0) // tiles_n).to(tl.int64) * BM + tl.arange(0, BM)
    cols = (tl.program_id(0) % tiles_n).to(tl.int64) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    in_rows, in_cols = rows < M, cols < outputs
    batch, o0, o1, o2 = split(rows, m0, m1, m2)
    x_at = x + batch * x_n + group * channels * x_c
    w_at = w + group * w_g + (cols * w_o)[None, :]
    acc = tl.zeros([BM, BN], ACC)
    for t in range(k0 * k1 * k2):
        from_x, from_w, inside = tap(
            t, x_at, w_at, o0, o1, o2, in_rows, n0, n1, n2, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
            x_0, x_1, x_2, w_0, w_1, w_2, TRANSPOSED,
        )  # fmt: skip
        for c in range(0, channels, BK):
            in_depth = depth < channels - c
            a = tl.load(
                from_x[:, None] + ((c + depth) * x_c)[None, :], mask=inside[:, None] & in_depth[None, :], other=0.0
            )
            b = tl.load(from_w + ((c + depth) * w_c)[:, None], mask=in_depth[:, None] & in_cols[None, :], other=0.0)
            acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=ACC)
    if bias is not None:
        acc += tl.load(bias + group * outputs + cols, mask=in_cols, other=0.0).to(ACC)[None, :]
    to = y + batch * y_n + o0 * y_0 + o1 * y_1 + o2 * y_2
    to = to[:, None] + ((group * outputs + cols) * y_c)[None, :]
    tl.store(to, acc.to(y.dtype.element_ty), mask=in_rows[:, None] & in_cols[None, :])


@triton.jit
def direct(
    x, w, bias, y, M, channels, outputs, n0, n1, n2, m0, m1, m2, k0, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
    x_n, x_c, x_0, x_1, x_2, w_o, w_c, w_0, w_1, w_2, w_g, y_n, y_c, y_0, y_1, y_2,
    TRANSPOSED: tl.constexpr, ACC: tl.constexpr, BM: tl.constexpr,
):  # fmt: skip
    """BM places of one output channel a program; grid: (cdiv(M, BM), outputs · groups)."""
    out = tl.program_id(1).to(tl.int64)
    group = out // outputs
    rows = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    in_rows = rows < M
    batch, o0, o1, o2 = split(rows, m0, m1, m2)
    x_at = x + batch * x_n + group * channels * x_c
    w_at = w + group * w_g + (out % outputs) * w_o
    acc = tl.zeros([BM], ACC)
    for t in range(k0 * k1 * k2):
        from_x, from_w, inside = tap(
            t, x_at, w_at, o0, o1, o2, in_rows, n0, n1, n2, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
            x_0, x_1, x_2, w_0, w_1, w_2, TRANSPOSED,
        )  # fmt: skip
        # Summed apart for each tap: two short sums round less than one long.
        part = tl.zeros([BM], ACC)
        for c in range(channels):
            a = tl.load(from_x + c * x_c, mask=inside, other=0.0).to(ACC)
            part += a * tl.load(from_w + c * w_c).to(ACC)
        acc += part
    if bias is not None:
        acc += tl.load(bias + out).to(ACC)
    to = y + batch * y_n + o0 * y_0 + o1 * y_1 + o2 * y_2 + out * y_c
    tl.store(to, acc.to(y.dtype.element_ty), mask=in_rows)


@triton.jit
def weight_gradient(
    g, x, dw, K, channels, outputs, n0, n1, n2, m0, m1, m2, k0, k1, k2, s0, s1, s2, p0, p1, p2, d0, d1, d2,
    g_n, g_c, g_0, g_1, g_2, x_n, x_c, x_0, x_1, x_2, num_taps,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """dw[group · outputs + BM, BN channels, tap], contiguous; grid: (tiles of outputs · of channels, taps, groups)."""
    tiles_n = tl.cdiv(channels, BN)
    t, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    rows = (tl.program_id(0) // tiles_n).to(tl.int64) * BM + tl.arange(0, BM)
    cols = (tl.program_id(0) % tiles_n).to(tl.int64) * BN + tl.arange(0, BN)
    in_rows, in_cols = rows < outputs, cols < channels
    g_at = g + ((group * outputs + rows) * g_c)[:, None]
    x_at = x + ((group * channels + cols) * x_c)[None, :]
    acc = tl.zeros([BM, BN], ACC)
    for k in range(0, K, BK):
        places = k + tl.arange(0, BK).to(tl.int64)
        batch, o0, o1, o2 = split(places, m0, m1, m2)
        i0, in_0 = source(o0, t // (k1 * k2), s0, p0, d0, n0, False)
        i1, in_1 = source(o1, (t // k2) % k1, s1, p1, d1, n1, False)
        i2, in_2 = source(o2, t % k2, s2, p2, d2, n2, False)
        inside = (places < K) & in_0 & in_1 & in_2
        from_g = batch * g_n + o0 * g_0 + o1 * g_1 + o2 * g_2
        from_x = batch * x_n + i0 * x_0 + i1 * x_1 + i2 * x_2
        a = tl.load(g_at + from_g[None, :], mask=in_rows[:, None] & inside[None, :], other=0.0)
        b = tl.load(x_at + from_x[:, None], mask=inside[:, None] & in_cols[None, :], other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=ACC)
    to = dw + ((group * outputs + rows) * channels * num_taps)[:, None] + (cols * num_taps)[None, :] + t
    tl.store(to, acc.to(dw.dtype.element_ty), mask=in_rows[:, None] & in_cols[None, :])


@dataclass(frozen=True)
class Shape:
    """The numbers of a convolution, each over 3 dims (1 where there are fewer)."""

    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


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


def _check(x: torch.Tensor, w: torch.Tensor, *others: torch.Tensor | None) -> None:
    if x.dtype not in _TYPES or any(t is not None and t.dtype is not x.dtype for t in (w, *others)):
        raise Declined("a convolution of these types")
    if x.dim() not in (3, 4, 5) or w.dim() != x.dim() or x.numel() == 0 or w.numel() == 0:
        raise Declined("a convolution without elements")


def _new(shape: Sequence[int], like: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """In channels-last where either operand is."""
    layout = torch.contiguous_format
    if is_channels_last(like) or is_channels_last(other):
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
    return torch.empty(list(shape), dtype=like.dtype, device=like.device, memory_format=layout)


def _sums_in(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype is torch.float64 else tl.float32


def _run(
    x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None, y: torch.Tensor, shape: Shape, transposed: bool
) -> torch.Tensor:
    """Into y. The weight is [outputs, channels / groups, …], or [channels, outputs / groups, …] where transposed."""
    x3, w3, y3 = _wide(x), _wide(w), _wide(y)
    channels, outputs = x3.shape[1] // shape.groups, y3.shape[1] // shape.groups
    w_o, w_c, *w_taps = w3.stride()
    if transposed:
        w_o, w_c = w_c, w_o
    places = y3.shape[0] * math.prod(y3.shape[2:])
    numbers = (
        places, channels, outputs, *x3.shape[2:], *y3.shape[2:], *w3.shape[2:],
        *shape.stride, *shape.pad, *shape.dilation, *x3.stride(),
        w_o, w_c, *w_taps, w3.stride(0) * (w3.shape[0] // shape.groups), *y3.stride(),
    )  # fmt: skip
    row = tiles.of(x.device)
    common = {"TRANSPOSED": transposed, "ACC": _sums_in(x.dtype), "num_warps": row.num_warps}
    if min(channels, outputs) < FEW_CHANNELS:
        block = tiles.block(places, row.row // 4)
        grid = (triton.cdiv(places, block), outputs * shape.groups)
        launch(direct, grid, x, w, bias, y, *numbers, **common, BM=block)
        return y
    sizes = zip(row.mm, (places, outputs, channels), strict=True)
    bm, bn, bk = (max(row.min_dot, tiles.block(size, most)) for most, size in sizes)
    grid = (triton.cdiv(places, bm) * triton.cdiv(outputs, bn), shape.groups)
    launch(tiled, grid, x, w, bias, y, *numbers, **common, BM=bm, BN=bn, BK=bk)
    return y


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
    g3, x3, w3 = _wide(g), _wide(x), _wide(weight)
    outputs, channels = w3.shape[0] // shape.groups, w3.shape[1]
    taps, places = math.prod(w3.shape[2:]), g3.shape[0] * math.prod(g3.shape[2:])
    dw = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device)
    row = tiles.of(g.device)
    sizes = zip(row.mm, (outputs, channels, places), strict=True)
    bm, bn, bk = (max(row.min_dot, tiles.block(size, most)) for most, size in sizes)
    launch(
        weight_gradient, (triton.cdiv(outputs, bm) * triton.cdiv(channels, bn), taps, shape.groups), g, x, dw,
        places, channels, outputs, *x3.shape[2:], *g3.shape[2:], *w3.shape[2:],
        *shape.stride, *shape.pad, *shape.dilation, *g3.stride(), *x3.stride(), taps,
        ACC=_sums_in(g.dtype), BM=bm, BN=bn, BK=bk, num_warps=row.num_warps,
    )  # fmt: skip
    return dw


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
