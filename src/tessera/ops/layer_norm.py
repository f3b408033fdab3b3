"""Layer and RMS normalisation over the trailing dims, forward and backward.

A row that does not fit one block is read twice: means and squares of its pieces are joined as they come.

Formula:
    forward:  mean = Σ x / n,  rstd = 1 / sqrt(Σ (x - mean)² / n + eps),
              x̂ = (x - mean) · rstd,  y = x̂ · weight + bias
    backward: u = g · weight,  dx = rstd · (u - Σ u / n - x̂ · Σ u·x̂ / n),
              dweight = Σ_rows g · x̂,  dbias = Σ_rows g
    RMS normalisation is the same with mean and bias 0
Shapes: x [..., normalised dims], seen as [rows, n]; weight and bias of the normalised dims; mean and rstd [..., 1, …],
one element a row.
Types: float64, float32, float16 and bfloat16; weight and bias may be of another floating type. Sums in float32
(float64 for float64). Layer norm gives mean and rstd in the type of weight (of x when there is none), RMS norm in the
type that is computed in.
Limits: no rows without elements.
Source: Ba, Kiros and Hinton, "Layer Normalization", 2016, arXiv:1607.06450; Zhang and Sennrich, "Root Mean Square
Layer Normalization", 2019, arXiv:1910.07467; the joining: Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
Algorithm for Computing Sample Variances", 1979, Stanford STAN-CS-79-773; torch.native_layer_norm and the page of
torch.nn.functional.rms_norm
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import zero_
from tessera.ops.rows import Rows, view

# Rows that a program takes at least, and pieces that rows are cut into at most, for the gradients of the parameters.
_LEAST_ROWS = 16
_MOST_PIECES = 64


@triton.jit
def load_or(x, cols, mask, default, COMPUTE: tl.constexpr):
    """x[cols], or `default` where there is no x."""
    if x is None:
        value = tl.full(cols.shape, default, COMPUTE)
    else:
        value = tl.load(x + cols, mask=mask, other=0.0).to(COMPUTE)
    return value


@triton.jit
def forward(
    x, weight, bias, y, mean, rstd, num, n, eps: tl.float64,
    CENTERED: tl.constexpr, WHOLE: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """[ROWS, COLS] of rows a program; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = (rows * n)[:, None]
    cols = tl.arange(0, COLS)[None, :]
    in_rows = (rows < num)[:, None]
    center = tl.zeros([ROWS, 1], COMPUTE)
    if WHOLE:
        mask = in_rows & (cols < n)
        v = tl.load(x + starts + cols, mask=mask, other=0.0).to(COMPUTE)
        off = v
        if CENTERED:
            center = tl.sum(v, axis=1)[:, None] / n
            off = tl.where(mask, v - center, 0.0)
        scale = 1.0 / tl.sqrt(tl.sum(off * off, axis=1)[:, None] / n + tl.cast(eps, COMPUTE))
        w = load_or(weight, cols, cols < n, 1.0, COMPUTE)
        b = load_or(bias, cols, cols < n, 0.0, COMPUTE)
        tl.store(y + starts + cols, (off * scale * w + b).to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)
    else:
        squares = tl.zeros([ROWS, 1], COMPUTE)
        for start in range(0, n, COLS):
            mask = in_rows & (cols < n - start)
            v = tl.load(x + starts + start + cols, mask=mask, other=0.0).to(COMPUTE)
            off = v
            if CENTERED:
                size = tl.minimum(n - start, COLS).to(COMPUTE)
                middle = tl.sum(v, axis=1)[:, None] / size
                off = tl.where(mask, v - middle, 0.0)
                between = middle - center
                squares += between * between * (size * (start / (start + size)))
                center += between * (size / (start + size))
            squares += tl.sum(off * off, axis=1)[:, None]
        scale = 1.0 / tl.sqrt(squares / n + tl.cast(eps, COMPUTE))
        for start in range(0, n, COLS):
            mask = in_rows & (cols < n - start)
            v = tl.load(x + starts + start + cols, mask=mask, other=0.0).to(COMPUTE)
            w = load_or(weight, start + cols, cols < n - start, 1.0, COMPUTE)
            b = load_or(bias, start + cols, cols < n - start, 0.0, COMPUTE)
            result = (v - center) * scale * w + b
            tl.store(y + starts + start + cols, result.to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)
    one = tl.zeros([1], tl.int32)[None, :]
    if CENTERED:
        tl.store(mean + rows[:, None] + one, center.to(mean.dtype.element_ty), mask=in_rows)
    tl.store(rstd + rows[:, None] + one, scale.to(rstd.dtype.element_ty), mask=in_rows)


@triton.jit
def backward_rows(
    g, x, weight, mean, rstd, dx, part_weight, part_bias, num, n, length,
    CENTERED: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
    STEP: tl.constexpr,
):  # fmt: skip
    """dx of a piece of `length` rows, and what the piece adds to the gradients of weight and bias.

    part_weight and part_bias are [pieces, n]. Grid: (cdiv(num, length),).
    """
    piece = tl.program_id(0).to(tl.int64)
    cols = tl.arange(0, COLS)[None, :]
    begin = piece * length
    last = tl.minimum(begin + length, num)
    for first in range(begin, last, ROWS):
        rows = first + tl.arange(0, ROWS)
        starts = (rows * n)[:, None]
        in_rows = (rows < last)[:, None]
        center = load_or(mean, rows, rows < last, 0.0, COMPUTE)[:, None]
        scale = tl.load(rstd + rows, mask=rows < last, other=0.0).to(COMPUTE)[:, None]
        sum_u = tl.zeros([ROWS, 1], COMPUTE)
        sum_ux = tl.zeros([ROWS, 1], COMPUTE)
        if dx is not None:
            for start in range(0, n, COLS):
                mask = in_rows & (cols < n - start)
                u = tl.load(g + starts + start + cols, mask=mask, other=0.0).to(COMPUTE)
                u *= load_or(weight, start + cols, cols < n - start, 1.0, COMPUTE)
                v = (tl.load(x + starts + start + cols, mask=mask, other=0.0).to(COMPUTE) - center) * scale
                if CENTERED:
                    sum_u += tl.sum(u, axis=1)[:, None]
                sum_ux += tl.sum(u * v, axis=1)[:, None]
        mean_u = sum_u / n
        mean_ux = sum_ux / n
        # Few columns at a time, whose values stay in registers for all that is made of them.
        few = tl.arange(0, STEP)[None, :]
        for start in range(0, n, STEP):
            in_cols = few < n - start
            mask = in_rows & in_cols
            d = tl.load(g + starts + start + few, mask=mask, other=0.0).to(COMPUTE)
            v = (tl.load(x + starts + start + few, mask=mask, other=0.0).to(COMPUTE) - center) * scale
            if dx is not None:
                u = d * load_or(weight, start + few, in_cols, 1.0, COMPUTE)
                result = scale * (u - mean_u - v * mean_ux)
                tl.store(dx + starts + start + few, result.to(dx.dtype.element_ty), mask=mask, cache_modifier=STORE)
            at = piece * n + start + few
            # What the first rows add to is 0, and not in memory.
            before = in_cols & (first > begin)
            if part_weight is not None:
                total = tl.load(part_weight + at, mask=before, other=0.0) + tl.sum(d * v, axis=0)[None, :]
                tl.store(part_weight + at, total, mask=in_cols)
            if part_bias is not None:
                total = tl.load(part_bias + at, mask=before, other=0.0) + tl.sum(d, axis=0)[None, :]
                tl.store(part_bias + at, total, mask=in_cols)


@triton.jit
def add_parts(part_weight, part_bias, dweight, dbias, pieces, n, COLS: tl.constexpr):
    """dweight and dbias are sums over the pieces, in their order; grid: (cdiv(n, COLS),)."""
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = cols < n
    if part_weight is not None:
        total = tl.load(part_weight + cols, mask=mask, other=0.0)
        for piece in range(1, pieces):
            total += tl.load(part_weight + piece * n + cols, mask=mask, other=0.0)
        tl.store(dweight + cols, total.to(dweight.dtype.element_ty), mask=mask)
    if part_bias is not None:
        total = tl.load(part_bias + cols, mask=mask, other=0.0)
        for piece in range(1, pieces):
            total += tl.load(part_bias + piece * n + cols, mask=mask, other=0.0)
        tl.store(dbias + cols, total.to(dbias.dtype.element_ty), mask=mask)


def _rows(x: torch.Tensor, n: int, longest: int | None = None) -> Rows:
    return view(x.view(-1, n), 1, longest)


def _check(x: torch.Tensor, shape: list[int], *parameters: torch.Tensor | None) -> None:
    if not x.is_floating_point() or list(x.shape[x.dim() - len(shape) :]) != list(shape) or not shape:
        raise Declined("a shape or type that layer normalisation does not take")
    if any(p is not None and (list(p.shape) != list(shape) or not p.is_floating_point()) for p in parameters):
        raise Declined("a shape or type that layer normalisation does not take")


def native_layer_norm(
    input: torch.Tensor,
    normalized_shape: list[int],
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(y like input, mean and rstd of shape [leading dims, 1, …])."""
    _check(input, normalized_shape, weight, bias)
    x = input.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    leading = x.shape[: x.dim() - len(normalized_shape)]
    parameter = weight if weight is not None else bias
    dtype = x.dtype if parameter is None else parameter.dtype
    mean, rstd = (
        torch.empty((*leading, *(1,) * len(normalized_shape)), dtype=dtype, device=x.device) for _ in range(2)
    )
    if mean.numel() == 0:
        return y, mean, rstd
    n = math.prod(normalized_shape)
    if n == 0:
        raise Declined("rows without elements")
    rows = _rows(x, n)
    launch(
        forward, rows.grid, x, _flat(weight), _flat(bias), y, mean, rstd, rows.num, n, eps,
        CENTERED=True, WHOLE=rows.whole, COMPUTE=compute_type(x.dtype), STORE=tiles.store_modifier(y),
        ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
    )  # fmt: skip
    return y, mean, rstd


def _flat(parameter: torch.Tensor | None) -> torch.Tensor | None:
    return None if parameter is None else parameter.contiguous()


def native_layer_norm_backward(
    grad_out: torch.Tensor,
    input: torch.Tensor,
    normalized_shape: list[int],
    mean: torch.Tensor,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    output_mask: list[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None, torch.Tensor | None]:
    """(dx, dweight, dbias), each where `output_mask` asks for it."""
    _check(input, normalized_shape, weight, bias)
    dweight = torch.empty(normalized_shape, dtype=weight.dtype) if output_mask[1] and weight is not None else None
    dbias = torch.empty(normalized_shape, dtype=bias.dtype) if output_mask[2] and bias is not None else None
    dx = _backward(grad_out, input, mean.contiguous(), rstd, weight, dweight, dbias, normalized_shape, output_mask[0])
    return dx, dweight, dbias


def _backward(
    g: torch.Tensor,
    x: torch.Tensor,
    mean: torch.Tensor | None,
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    dweight: torch.Tensor | None,
    dbias: torch.Tensor | None,
    shape: list[int],
    wants_dx: bool,
) -> torch.Tensor | None:
    """Fills dweight and dbias where they are given; gives dx where it is wanted. No mean: RMS normalisation."""
    g, x, rstd = g.contiguous(), x.contiguous(), rstd.contiguous()
    n = math.prod(shape)
    dx = torch.empty(x.shape, dtype=x.dtype, device=x.device) if wants_dx else None
    if x.numel() == 0:
        for gradient in (dweight, dbias):
            if gradient is not None:
                zero_(gradient, out=gradient)
        return dx
    wanted = (dweight, dbias)
    if dx is None and not any(gradient is not None for gradient in wanted):
        return None
    chip, compute, rows = tiles.of(x.device), compute_type(x.dtype), _rows(x, n)
    # So many rows that a piece's sums are small beside them, in so many pieces that threads have enough to do.
    length = max(_LEAST_ROWS, tiles.parts(rows.num, _MOST_PIECES), rows.block_rows)
    pieces = tiles.parts(rows.num, length)
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    parts = [None if one is None else torch.empty((pieces, n), dtype=wide, device=x.device) for one in wanted]
    launch(
        backward_rows, (pieces,), g, x, _flat(weight), mean, rstd, dx, *parts, rows.num, n, length,
        CENTERED=mean is not None, COMPUTE=compute, STORE="" if dx is None else tiles.store_modifier(dx),
        ROWS=1 if chip.one_walks else rows.block_rows, COLS=rows.block_cols, STEP=min(chip.step, rows.block_cols),
        num_warps=rows.num_warps,
    )  # fmt: skip
    if parts != [None, None]:
        cols = tiles.block(n, 64)
        launch(
            add_parts, (tiles.parts(n, cols),), *parts, *wanted, pieces, n, COLS=cols, num_warps=rows.num_warps,
        )  # fmt: skip
    return dx


def fused_rms_norm(
    input: torch.Tensor, normalized_shape: list[int], weight: torch.Tensor | None, eps: float | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(y like input, rstd of shape [leading dims, 1, …] in the type that is computed in).

    No `eps` means the smallest step of that type.
    """
    _check(input, normalized_shape, weight)
    x = input.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    wide = torch.float64 if x.dtype is torch.float64 else torch.float32
    leading = x.shape[: x.dim() - len(normalized_shape)]
    rstd = torch.empty((*leading, *(1,) * len(normalized_shape)), dtype=wide, device=x.device)
    n = math.prod(normalized_shape)
    if y.numel() == 0:
        if rstd.numel():
            raise Declined("rows without elements")
        return y, rstd
    rows = _rows(x, n)
    launch(
        forward, rows.grid, x, _flat(weight), None, y, None, rstd, rows.num, n,
        torch.finfo(wide).eps if eps is None else eps,
        CENTERED=False, WHOLE=rows.whole, COMPUTE=compute_type(x.dtype), STORE=tiles.store_modifier(y),
        ROWS=rows.block_rows, COLS=rows.block_cols, num_warps=rows.num_warps,
    )  # fmt: skip
    return y, rstd


def fused_rms_norm_backward(
    grad_out: torch.Tensor,
    input: torch.Tensor,
    normalized_shape: list[int],
    rstd: torch.Tensor,
    weight: torch.Tensor | None,
    output_mask: list[bool],
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(dx, dweight), each where `output_mask` asks for it."""
    _check(input, normalized_shape, weight)
    dweight = torch.empty(normalized_shape, dtype=weight.dtype) if output_mask[1] and weight is not None else None
    return _backward(grad_out, input, None, rstd, weight, dweight, None, normalized_shape, output_mask[0]), dweight
