"""Reductions over dims: sum, mean, product, max, min, any, all, argmax, argmin.

A tensor is seen as [outer, kept, reduced] with any strides. Where the reduced dim is the tightest in memory a program
takes rows; else it takes columns and walks the reduced dim, so that loads stay contiguous either way. Long reductions
of few rows are done in pieces, whose number does not depend on the threads. Other layouts are copied first.

Formula:
    sum: Σ x,  mean: Σ x / n,  prod: Π x,  any: max (x ≠ 0),  all: min (x ≠ 0)
    max, min: the extreme element;  argmax, argmin: the first place where it stands
Shapes: x of any shape, reduced over any dims (max.dim, argmax: one or all), which may stay as 1.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool. Half types are summed in
float32, integers in int64, which is also their result; any and all of uint8 give uint8; mean takes floating types. A
NaN wins in max and min.
Limits: of complex numbers sums, means, products, any and all alone. argmax and argmin of booleans are left to PyTorch;
no extreme of no elements.
Source: the pages of torch.sum, torch.mean, torch.prod, torch.amax, torch.any and torch.argmax
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.functions import identity, maximum, minimum, mul, ne
from tessera.ops.generate import Promotion, apply, compute_type, run_parts
from tessera.ops.launch import launch
from tessera.ops.pointwise import fill_

NAN = float("nan")
MOST_DIMS = 64


# From so many columns side by side on, up to so many are walked together in search of the best of each.
_SIDE_BY_SIDE, _COLUMNS = 16, 256
# A reduction is cut up until it has so many programs, as far as each has so many elements.
_PROGRAMS = 16
_WORTH_A_PROGRAM = 8192

SUM = tl.constexpr(0)
MAX = tl.constexpr(1)
MIN = tl.constexpr(2)
PROD = tl.constexpr(3)


@triton.jit
def combine(a, b, KIND: tl.constexpr):
    if KIND == SUM:
        result = a + b
    elif KIND == PROD:
        result = a * b
    elif KIND == MAX:
        result = maximum(a, b)
    else:
        result = minimum(a, b)
    return result


@triton.jit
def fold(block, AXIS: tl.constexpr, KIND: tl.constexpr):
    if KIND == SUM:
        result = tl.sum(block, AXIS)
    elif KIND == PROD:
        result = tl.reduce(block, AXIS, mul)
    elif KIND == MAX:
        result = tl.reduce(block, AXIS, maximum)
    else:
        result = tl.reduce(block, AXIS, minimum)
    return result


@triton.jit
def begin(v, EACH: tl.constexpr, TRUTH: tl.constexpr, COMPUTE: tl.constexpr):
    """What is combined of the elements `v`."""
    v = (v != 0).to(COMPUTE) if TRUTH else v.to(COMPUTE)
    if EACH is not None:
        v = EACH(v)
    return v


@triton.jit
def finish(total, divisor, out, LAST: tl.constexpr, MEAN: tl.constexpr):
    if MEAN:
        total = total / divisor
    if LAST is not None:
        total = LAST(total)
    return total.to(out.dtype.element_ty)


@triton.jit
def along_rows(
    x, out, num, kept, n, length, pieces, stride_outer, stride_kept, stride_n, initial, divisor,
    KIND: tl.constexpr, EACH: tl.constexpr, TRUTH: tl.constexpr, MEAN: tl.constexpr, LAST: tl.constexpr,
    COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """out[r, p] = KIND over the pth `length` of the n elements of row r = outer · kept + k.

    Grid: (cdiv(num, ROWS), cdiv(n, length)).
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = ((rows // kept) * stride_outer + (rows % kept) * stride_kept)[:, None]
    cols = tl.arange(0, COLS).to(tl.int64)[None, :]
    in_rows = (rows < num)[:, None]
    first = tl.program_id(1).to(tl.int64) * length
    last = tl.minimum(first + length, n)
    total = tl.full([ROWS], 0, COMPUTE) + tl.cast(initial, COMPUTE)
    for start in range(first, last, COLS):
        mask = in_rows & (cols < last - start)
        v = tl.load(x + starts + (start + cols) * stride_n, mask=mask)
        v = begin(v, EACH, TRUTH, COMPUTE)
        total = combine(total, fold(tl.where(mask, v, tl.cast(initial, COMPUTE)), 1, KIND), KIND)
    place = rows * pieces + tl.program_id(1)
    tl.store(out + place, finish(total, divisor, out, LAST, MEAN), mask=rows < num)


@triton.jit
def along_columns(
    x, out, kept, n, length, pieces, stride_outer, stride_kept, stride_n, initial, divisor,
    KIND: tl.constexpr, EACH: tl.constexpr, TRUTH: tl.constexpr, MEAN: tl.constexpr, LAST: tl.constexpr,
    COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """out[outer, k, p] = KIND over the pth `length` of n elements `stride_n` apart.

    Grid: (cdiv(kept, COLS), cdiv(n, length), outer).
    """
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    outer = tl.program_id(2).to(tl.int64)
    in_cols = (cols < kept)[None, :]
    at = x + outer * stride_outer + (cols * stride_kept)[None, :]
    total = tl.full([COLS], 0, COMPUTE) + tl.cast(initial, COMPUTE)
    first = tl.program_id(1).to(tl.int64) * length
    last = tl.minimum(first + length, n)
    for start in range(first, last, ROWS):
        rows = start + tl.arange(0, ROWS).to(tl.int64)
        mask = (rows < last)[:, None] & in_cols
        v = tl.load(at + (rows * stride_n)[:, None], mask=mask)
        v = begin(v, EACH, TRUTH, COMPUTE)
        total = combine(total, fold(tl.where(mask, v, tl.cast(initial, COMPUTE)), 0, KIND), KIND)
    place = (outer * kept + cols) * pieces + tl.program_id(1)
    tl.store(out + place, finish(total, divisor, out, LAST, MEAN), mask=cols < kept)


@triton.jit
def smaller(a, b):
    return tl.where(a < b, a, b)


@triton.jit
def extreme_columns(
    x, values, indices, kept, n, stride_outer, stride_n, KIND: tl.constexpr, COMPUTE: tl.constexpr, COLS: tl.constexpr
):
    """The same of columns that lie side by side. Grid: (cdiv(kept, COLS), outer)."""
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = cols < kept
    at = x + tl.program_id(1).to(tl.int64) * stride_outer + cols
    best = tl.load(at, mask=mask, other=0).to(COMPUTE)
    place = tl.zeros([COLS], tl.int32)
    for row in range(1, n):
        v = tl.load(at + tl.cast(row, tl.int64) * stride_n, mask=mask, other=0).to(COMPUTE)
        beats = v > best if KIND == MAX else v < best
        better = (beats | (v != v)) & (best == best)
        best = tl.where(better, v, best)
        place = tl.where(better, row, place)
    out = tl.program_id(1).to(tl.int64) * kept + cols
    if values is not None:
        tl.store(values + out, best.to(values.dtype.element_ty), mask=mask)
    if indices is not None:
        tl.store(indices + out, place.to(tl.int64), mask=mask)


@triton.jit
def extreme(
    x, values, indices, num, kept, n, stride_outer, stride_kept, stride_n,
    KIND: tl.constexpr, COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """The best element of each row and the first place where it stands; either output may be missing.

    KIND is MAX or MIN. Grid: (cdiv(num, ROWS),).
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    starts = ((rows // kept) * stride_outer + (rows % kept) * stride_kept)[:, None]
    cols = tl.arange(0, COLS).to(tl.int64)[None, :]
    in_rows = (rows < num)[:, None]
    # Lanes beyond the row repeat element 0: they can tie with it, and the first place wins.
    best = tl.load(x + starts + tl.where(cols < n, cols, 0) * stride_n, mask=in_rows, other=0).to(COMPUTE)
    place = tl.where(cols < n, cols, 0) + tl.zeros([ROWS, 1], tl.int64)
    for start in range(COLS, n, COLS):
        mask = in_rows & (cols < n - start)
        v = tl.load(x + starts + (start + cols) * stride_n, mask=mask, other=0).to(COMPUTE)
        beats = v > best if KIND == MAX else v < best
        better = mask & (beats | (v != v)) & (best == best)
        best = tl.where(better, v, best)
        place = tl.where(better, start + cols, place)
    top = fold(best, 1, KIND)[:, None]
    level = (best == top) | ((best != best) & (top != top))
    first = tl.reduce(tl.where(level, place, 0x7FFFFFFFFFFFFFFF), 1, smaller)
    if values is not None:
        one = tl.zeros([1], tl.int32)[None, :]
        tl.store(values + rows[:, None] + one, top.to(values.dtype.element_ty), mask=in_rows)
    if indices is not None:
        tl.store(indices + rows, first, mask=rows < num)


def _dims(x: torch.Tensor, dim: Any) -> tuple[int, ...]:
    """Dims to reduce, not negative, in order; none given means all."""
    given = [dim] if isinstance(dim, int) else list(dim or range(x.dim()))
    rank = max(x.dim(), 1)
    if rank > MOST_DIMS:
        raise Declined("more dims than PyTorch reduces over")
    if any(not -rank <= d < rank for d in given):
        raise Declined("a dim that is not there")
    wrapped = sorted(d % rank for d in given)
    if len(set(wrapped)) != len(wrapped):
        raise Declined("a dim given twice")
    return tuple(wrapped) if x.dim() else ()


def row_size(x: torch.Tensor, dim: Any) -> int:
    """Of how many elements each reduced one is made."""
    return math.prod(x.shape[d] for d in _dims(x, dim))


def _collapse(x: torch.Tensor, dims: list[int]) -> list[tuple[int, int]]:
    """(size, stride) of `dims`, outermost first, with neighbours merged where one step walks both."""
    result: list[tuple[int, int]] = []
    for d in dims:
        size, stride = x.shape[d], x.stride(d)
        if size == 1:
            continue
        if result and result[-1][1] == size * stride:
            result[-1] = (result[-1][0] * size, stride)
        else:
            result.append((size, stride))
    return result


Nest = tuple[torch.Tensor, tuple[int, int], tuple[int, int], tuple[int, int]]


def _nest(x: torch.Tensor, dims: tuple[int, ...]) -> Nest:
    """`x` (or a copy) with (size, stride) of outer, kept and reduced."""
    kept = [d for d in range(x.dim()) if d not in dims]
    outside, inside = _collapse(x, kept), _collapse(x, list(dims))
    if len(outside) > 2 or len(inside) > 1:
        x = x.permute(*kept, *dims).contiguous()
        rank = len(kept)
        outside, inside = _collapse(x, list(range(rank))), _collapse(x, list(range(rank, x.dim())))
    outer, middle = ([(1, 0)] * 2 + outside)[-2:]
    return x, outer, middle, inside[0] if inside else (1, 0)


def _result_shape(x: torch.Tensor, dims: tuple[int, ...], keepdim: bool) -> list[int]:
    if keepdim:
        return [1 if d in dims else size for d, size in enumerate(x.shape)]
    return [size for d, size in enumerate(x.shape) if d not in dims]


def _reduce(
    x: torch.Tensor,
    dim: Any,
    keepdim: bool,
    dtype: torch.dtype,
    kind: int,
    initial: float,
    partial: torch.dtype,
    truth: bool = False,
    mean: bool = False,
    each: Any = None,
    last: Any = None,
) -> torch.Tensor:
    """KIND over dims of `each` element (or of its truth), `last` of that; sums and the like are kept in `partial`."""
    dims = _dims(x, dim)
    compute_type(x.dtype)
    out = torch.empty(_result_shape(x, dims, keepdim), dtype=dtype, device=x.device)
    if out.numel() == 0:
        return out
    if x.numel() == 0:
        return fill_(out, NAN if mean else initial, out=out)
    x, (outer, stride_outer), (kept, stride_kept), (n, stride_n) = _nest(x, dims)
    row = tiles.of(x.device)
    across = stride_kept != 0 and stride_n > stride_kept
    if across:
        # So few that their sums stay in registers; and few rows at a time.
        cols = tiles.block(kept, row.row // 8)
        rows = tiles.block(n, row.row // cols)
        programs, step = tiles.parts(kept, cols) * outer, rows
    else:
        cols = tiles.block(n, row.row)
        rows = tiles.block(outer * kept, row.row // cols)
        programs, step = tiles.parts(outer * kept, rows), cols
    pieces, length = _pieces(n, programs, n * outer * kept, step)
    target = out if pieces == 1 else torch.empty((outer * kept, pieces), dtype=partial, device=x.device)
    geometry = (length, pieces, stride_outer, stride_kept, stride_n, initial, n)
    constants = {
        "KIND": kind, "EACH": each, "TRUTH": truth, "MEAN": mean and pieces == 1, "LAST": last if pieces == 1 else None,
        "COMPUTE": compute_type(partial),
        "ROWS": rows, "COLS": cols, "num_warps": row.num_warps,
    }  # fmt: skip
    if across:
        across_grid = tiles.parts(kept, cols), pieces, outer
        launch(along_columns, across_grid, x, target, kept, n, *geometry, **constants)
    else:
        grid = tiles.parts(outer * kept, rows), pieces
        launch(along_rows, grid, x, target, outer * kept, kept, n, *geometry, **constants)
    if pieces > 1:
        cols = tiles.block(pieces, row.row)
        rows = tiles.block(outer * kept, row.row // cols)
        constants |= {"EACH": None, "TRUTH": False, "MEAN": mean, "LAST": last, "ROWS": rows, "COLS": cols}
        launch(
            along_rows, (tiles.parts(outer * kept, rows),), target, out, outer * kept, 1, pieces,
            pieces, 1, pieces, 0, 1, initial, n, **constants,
        )  # fmt: skip
    return out


def sum_of(
    each: Any, self: torch.Tensor, dim: Any, keepdim: bool, dtype: torch.dtype, wide: torch.dtype, last: Any = None
) -> torch.Tensor:
    """Σ each(x) over dims, and `last` of it, computed in `wide`."""
    return _reduce(self, dim, keepdim, dtype, SUM.value, 0, wide, each=each, last=last)


def count_of(self: torch.Tensor, dim: Any, keepdim: bool, dtype: torch.dtype, wide: torch.dtype) -> torch.Tensor:
    """How many elements over dims are not 0, counted in `wide`."""
    return _reduce(self, dim, keepdim, dtype, SUM.value, 0, wide, truth=True)


def best_of(
    each: Any, self: torch.Tensor, dim: Any, keepdim: bool, dtype: torch.dtype, wide: torch.dtype, largest: bool
) -> torch.Tensor:
    """The largest or smallest each(x) over dims, computed in `wide`."""
    kind = MAX.value if largest else MIN.value
    return _reduce(self, dim, keepdim, dtype, kind, _worst(wide, largest), wide, each=each)


def _pieces(n: int, programs: int, elements: int, step: int) -> tuple[int, int]:
    """Into how many pieces a reduction of n elements is cut, and how long they are.

    A few programs with much work each would leave threads idle. The cut depends on sizes alone, so that a sum is the
    same for any number of threads.
    """
    if programs >= _PROGRAMS or elements < _PROGRAMS * _WORTH_A_PROGRAM:
        return 1, n
    wanted = tiles.parts(_PROGRAMS, programs)
    length = tiles.parts(tiles.parts(n, wanted), step) * step
    return tiles.parts(n, length), length


def _summed_in(dtype: torch.dtype) -> torch.dtype:
    """The type of partial results: half types in float32, booleans as numbers."""
    if dtype is torch.bool:
        return torch.int32
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def sum_(
    self: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Σ over dims; integers give int64."""
    return _combined(self, dim, keepdim, dtype, SUM.value, 0)


def prod(
    self: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Π over dims; integers give int64."""
    return _combined(self, dim, keepdim, dtype, PROD.value, 1)


def _combined(
    self: torch.Tensor, dim: Any, keepdim: bool, dtype: torch.dtype | None, kind: int, initial: int
) -> torch.Tensor:
    if self.is_complex() and dtype in (None, self.dtype):
        return _of_complex(self, dim, keepdim, mean=False) if kind == SUM.value else _multiplied(self, dim, keepdim)
    result = dtype or (self.dtype if self.is_floating_point() else torch.int64)
    if self.is_complex() or result.is_complex or result is torch.bool:
        raise Declined("sums of this type")
    # Short integers are summed in int32 and cut off behind: the sum is the same modulo the size of the type.
    whole = torch.int64 if result is torch.int64 else torch.int32
    wide = torch.promote_types(self.dtype, result) if result.is_floating_point else whole
    if not result.is_floating_point and self.is_floating_point():
        raise Declined("sums of this type")
    return _reduce(self, dim, keepdim, result, kind, initial, _summed_in(wide))


def _of_complex(self: torch.Tensor, dim: Any, keepdim: bool, mean: bool) -> torch.Tensor:
    """The sum or mean of complex numbers: that of their parts."""
    dims, pair = _dims(self, dim), torch.view_as_real(self)
    if not dims:
        return self.clone()
    partial = _summed_in(pair.dtype)
    return torch.view_as_complex(_reduce(pair, list(dims), keepdim, pair.dtype, SUM.value, 0, partial, mean=mean))


def _multiplied(self: torch.Tensor, dim: Any, keepdim: bool) -> torch.Tensor:
    """The product of complex numbers: halves are multiplied with each other until one number is left, in float64."""
    dims = _dims(self, dim)
    kept = [d for d in range(self.dim()) if d not in dims]
    shape = _result_shape(self, dims, keepdim)
    x = self.permute(*dims, *kept).reshape(-1, *(self.shape[d] for d in kept)) if dims else self.unsqueeze(0)
    odd: torch.Tensor | None = None
    if self.numel() == 0:
        out = torch.empty(shape, dtype=self.dtype, device=self.device)
        return fill_(out, 1, out=out)
    if x.dtype is not torch.complex128:
        x = run_parts((identity, identity), (x,), torch.complex128)
    while x.shape[0] > 1:
        half = x.shape[0] // 2
        if x.shape[0] % 2:
            odd = x[-1] if odd is None else apply(mul, (odd, x[-1]), Promotion.SAME)
        x = apply(mul, (x[:half], x[half : 2 * half]), Promotion.SAME)
    whole = torch.empty(x.shape[1:], dtype=self.dtype, device=self.device)
    return apply(mul, (x[0], 1 if odd is None else odd), Promotion.SAME, whole).view(shape)


def mean(
    self: torch.Tensor, dim: Any = None, keepdim: bool = False, *, dtype: torch.dtype | None = None
) -> torch.Tensor:
    """Σ / n over dims, floating types only."""
    result = dtype or self.dtype
    if self.is_complex() and result is self.dtype:
        return _of_complex(self, dim, keepdim, mean=True)
    if self.is_complex() or not result.is_floating_point:
        raise Declined("a mean of integers")
    return _reduce(
        self, dim, keepdim, result, SUM.value, 0, _summed_in(torch.promote_types(self.dtype, result)), mean=True
    )


def _truth(self: torch.Tensor, dim: Any, keepdim: bool, kind: int, initial: int) -> torch.Tensor:
    result = torch.uint8 if self.dtype is torch.uint8 else torch.bool
    self = apply(ne, (self, 0), Promotion.BOOL) if self.is_complex() else self
    return _reduce(self, dim, keepdim, result, kind, initial, torch.int32, truth=True)


def any_(self: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """Whether one element over dims is not 0, as a boolean; uint8 gives uint8."""
    return _truth(self, dim, keepdim, MAX.value, 0)


def all_(self: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """Whether no element over dims is 0, as a boolean; uint8 gives uint8."""
    return _truth(self, dim, keepdim, MIN.value, 1)


def _extreme(self: torch.Tensor, dim: Any, keepdim: bool, largest: bool, values: bool, indices: bool) -> list[Any]:
    """[best values or None, places or None]; places count along the reduced dim, or through all where `dim` is None."""
    dims = _dims(self, dim)
    if self.numel() == 0:
        raise Declined("the best of no elements")
    compute = compute_type(self.dtype)
    shape = _result_shape(self, dims, keepdim)
    wanted = [(values, self.dtype), (indices, torch.int64)]
    found = [torch.empty(shape, dtype=dtype, device=self.device) if want else None for want, dtype in wanted]
    x, (outer, stride_outer), (kept, stride_kept), (n, stride_n) = _nest(self, dims)
    row = tiles.of(x.device)
    kind: dict[str, Any] = {"KIND": MAX.value if largest else MIN.value, "COMPUTE": compute, "num_warps": row.num_warps}
    if stride_kept == 1 and kept >= _SIDE_BY_SIDE and n < 1 << 31:
        cols = tiles.block(kept, _COLUMNS)
        launch(
            extreme_columns, (tiles.parts(kept, cols), outer), x, *found, kept, n, stride_outer, stride_n, COLS=cols,
            **kind,
        )  # fmt: skip
        return found
    cols = tiles.block(n, row.row // 4)
    rows = tiles.block(outer * kept, row.row // cols)
    launch(
        extreme, (tiles.parts(outer * kept, rows),), x, *found, outer * kept, kept, n,
        stride_outer, stride_kept, stride_n, ROWS=rows, COLS=cols, **kind,
    )  # fmt: skip
    return found


def amax(self: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """The largest element over dims."""
    return _best_value(self, dim, keepdim, largest=True)


def amin(self: torch.Tensor, dim: Any = None, keepdim: bool = False) -> torch.Tensor:
    """The smallest element over dims."""
    return _best_value(self, dim, keepdim, largest=False)


def _best_value(self: torch.Tensor, dim: Any, keepdim: bool, largest: bool) -> torch.Tensor:
    if self.numel() == 0:
        raise Declined("the best of no elements")
    kind = MAX.value if largest else MIN.value
    return _reduce(self, dim, keepdim, self.dtype, kind, _worst(self.dtype, largest), _summed_in(self.dtype))


def _worst(dtype: torch.dtype, largest: bool) -> float:
    """What every element is at least (or at most) as good as."""
    if dtype.is_floating_point:
        return -math.inf if largest else math.inf
    if dtype is torch.bool:
        return 0 if largest else 1
    return torch.iinfo(dtype).min if largest else torch.iinfo(dtype).max


def argmax(self: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> torch.Tensor:
    """The first place of the largest element, along `dim` or through all."""
    return _best_place(self, dim, keepdim, largest=True)


def argmin(self: torch.Tensor, dim: int | None = None, keepdim: bool = False) -> torch.Tensor:
    """The first place of the smallest element, along `dim` or through all."""
    return _best_place(self, dim, keepdim, largest=False)


def _best_place(self: torch.Tensor, dim: int | None, keepdim: bool, largest: bool) -> torch.Tensor:
    if self.dtype is torch.bool:
        raise Declined("not defined for booleans")
    found: torch.Tensor = _extreme(self, dim, keepdim, largest, values=False, indices=True)[1]
    return found


def max_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> list[torch.Tensor]:
    """[values, places] of the largest along `dim`."""
    return _extreme(self, dim, keepdim, largest=True, values=True, indices=True)


def min_dim(self: torch.Tensor, dim: int, keepdim: bool = False) -> list[torch.Tensor]:
    """[values, places] of the smallest along `dim`."""
    return _extreme(self, dim, keepdim, largest=False, values=True, indices=True)
