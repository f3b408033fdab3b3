"""Writing by index: scatter and its sums, index_add, index_copy, index_fill, index_put.

A program owns a block of places along the other dims and walks the indices itself, in order, so that equal indices
never race and the result does not depend on the number of threads. All operators here differ only in the strides they
give to it: `write_slices` where one index stands for the whole block, or the block is one place; `write_places` where
each place has indices of its own.

Formula:
    out[…, i[j], …] ← out[…, i[j], …] ∘ src[…, j, …] for j in order
    ∘ takes src, or adds, multiplies, takes the larger or the smaller; mean: the sum divided by how many there are
Shapes: scatter: index and src of the rank of self, index nowhere larger than src; index_add and its like: index [L],
src with L slices; index_put: index tensors that broadcast, or masks.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, src of the type
of self; indices int64 or int32 (put: int64). Each step rounds to the type of self.
Limits: up to 5 dims (of complex numbers 4) once those are joined that all operands walk with one step; no output whose
elements share memory; complex numbers are written and added up alone.
Source: the pages of torch.Tensor.scatter_, torch.Tensor.scatter_reduce_, torch.Tensor.index_add_,
torch.Tensor.index_copy_ and torch.Tensor.index_put_
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import functions_integer as integer
from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.functions import maximum, minimum
from tessera.ops.generate import Operand, Promotion, apply, compute_type, run, storage_type
from tessera.ops.index import checked, mask_of, outside, without_masks
from tessera.ops.launch import launch
from tessera.ops.layout import plan
from tessera.ops.pointwise import clamp_min, fill_, number_fits, where
from tessera.ops.pointwise_kernels import place

MOST_OTHER_DIMS = 4
# Of so many slices and indices, each thread writes some slices whole. To write one shorter than a line of the caches
# costs less than to pass over the indices of others, and two threads would write to the same lines.
_SHARED, _LEAST_SLICE_BYTES = 16, 64
SET, ADD, MUL, MAX, MIN = (tl.constexpr(kind) for kind in range(5))


@triton.jit
def combined(old, new, KIND: tl.constexpr):
    if KIND == SET:
        result = new
    elif KIND == ADD:
        result = old + new
    elif KIND == MUL:
        result = old * new
    elif KIND == MAX:
        result = maximum(old, new)
    else:
        result = minimum(old, new)
    return result


@triton.jit
def put_to(to, value, mask, KIND: tl.constexpr):
    """What stands at `to` after `value`, which has the type that is computed in."""
    if KIND != SET:
        value = combined(tl.load(to, mask=mask).to(value.dtype), value, KIND)
    return value.to(to.dtype.element_ty)


@triton.jit
def write_slices(
    out, index, src, flag, num_cols, num_outer, per_program, n, size, size_1, size_2,
    o_0, o_1, o_2, o_3, i_0, i_1, i_2, i_3, s_0, s_1, s_2, s_3, o_step, i_step, s_step,
    KIND: tl.constexpr, COMPUTE: tl.constexpr, WRAP: tl.constexpr, ALIKE: tl.constexpr, OUTER: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """`n` indices, each the same for `num_cols` places o_0 apart, over a loop nest outside of `num_outer` = size_1 ·
    size_2 · (the rest).

    ALIKE: src has one value for all places of an index. Grid: (cdiv(num_outer, per_program), cdiv(num_cols, COLS),
    parts), of which each part writes its share of the `size` slices and passes over the indices of others.
    """
    # A single place is walked by scalar code.
    cols = 0 if COLS == 1 else tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = True if COLS == 1 else cols < num_cols
    first = tl.program_id(0).to(tl.int64) * per_program
    share = tl.cdiv(tl.cast(size, tl.int64), tl.num_programs(2))
    begin = tl.program_id(2) * share
    for outer in tl.range(first, tl.minimum(first + per_program, num_outer)):
        to = out + place(outer, size_1, size_2, o_1, o_2, o_3, OUTER) + cols * o_0
        which = index + place(outer, size_1, size_2, i_1, i_2, i_3, OUTER)
        given = src + place(outer, size_1, size_2, s_1, s_2, s_3, OUTER)
        if not ALIKE:
            given += cols * s_0
        for j in tl.range(n):
            i = tl.load(which + j.to(tl.int64) * i_step).to(tl.int64)
            if WRAP:
                i = tl.where(i < 0, i + size, i)
            if outside(i, size):
                tl.store(flag, 1)
            elif not outside(i - begin, share):
                if ALIKE:
                    value = tl.load(given + j.to(tl.int64) * s_step)
                else:
                    value = tl.load(given + j.to(tl.int64) * s_step, mask=mask)
                at = to + i * o_step
                tl.store(at, put_to(at, value.to(COMPUTE), mask, KIND), mask=mask)


@triton.jit
def write_places(
    out, index, src, flag, num_cols, num_outer, per_program, n, size, size_1, size_2,
    o_0, o_1, o_2, o_3, i_0, i_1, i_2, i_3, s_0, s_1, s_2, s_3, o_step, i_step, s_step,
    KIND: tl.constexpr, COMPUTE: tl.constexpr, WRAP: tl.constexpr, ALIKE: tl.constexpr, OUTER: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """As `write_slices`, where each of the `num_cols` places has indices of its own."""
    cols = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = cols < num_cols
    first = tl.program_id(0).to(tl.int64) * per_program
    for outer in tl.range(first, tl.minimum(first + per_program, num_outer)):
        to = out + place(outer, size_1, size_2, o_1, o_2, o_3, OUTER) + cols * o_0
        which = index + place(outer, size_1, size_2, i_1, i_2, i_3, OUTER) + cols * i_0
        given = src + place(outer, size_1, size_2, s_1, s_2, s_3, OUTER)
        if not ALIKE:
            given += cols * s_0
        for j in tl.range(n):
            i = tl.load(which + j.to(tl.int64) * i_step, mask=mask, other=0).to(tl.int64)
            if WRAP:
                i = tl.where(i < 0, i + size, i)
            bad = tl.max((mask & outside(i, size)).to(tl.int32), axis=0)
            tl.store(flag, bad, mask=bad != 0)
            if ALIKE:
                value = tl.load(given + j.to(tl.int64) * s_step)
            else:
                value = tl.load(given + j.to(tl.int64) * s_step, mask=mask)
            inside = mask & (outside(i, size) == 0)
            at = to + i * o_step
            tl.store(at, put_to(at, value.to(COMPUTE), inside, KIND), mask=inside)


@triton.jit
def add_offsets(index, total, flag, n, size, stride, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    """total[j] += index[j] · stride, where a negative index counts from the end; grid: (cdiv(n, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    i = tl.load(index + at, mask=mask, other=0).to(tl.int64)
    i = tl.where(i < 0, i + size, i)
    bad = tl.max((mask & outside(i, size)).to(tl.int32), axis=0)
    tl.store(flag, bad, mask=bad != 0)
    offset = i * stride
    if not FIRST:
        offset += tl.load(total + at, mask=mask)
    tl.store(total + at, offset, mask=mask)


def _own(out: torch.Tensor) -> None:
    if any(size > 1 and stride == 0 for size, stride in zip(out.shape, out.stride(), strict=True)):
        raise Declined("several elements of the output share memory")


def _launch(
    out: torch.Tensor,
    index: torch.Tensor,
    src: torch.Tensor,
    others: tuple[tuple[int, int, int, int], ...],
    along: tuple[int, int, int, int, int],
    kind: int,
    error: type[Exception],
    wrap: bool = False,
) -> None:
    """`others`: (size, strides of out, index, src) of each other dim; `along`: (n, size, strides) of the indexed."""
    if out.is_complex():
        if kind not in (SET.value, ADD.value):
            raise Declined("products of complex numbers by index")
        # A complex number is a row of two: one dim more, in which the same index serves both.
        others = (*((m, 2 * o, i, 2 * s) for m, o, i, s in others), (2, 1, 0, 1))
        n, size, o, i, s = along
        along = (n, size, 2 * o, i, 2 * s)
        out, src = torch.view_as_real(out), torch.view_as_real(src)
    n, size, *steps = along
    shape = tuple(dim[0] for dim in others)
    if n == 0 or 0 in shape:
        return
    first, second, third = ((shape, tuple(dim[k] for dim in others)) for k in (1, 2, 3))
    loop = plan((second, third), first)
    of_index, of_src, of_out = loop.strides
    sizes, row = loop.sizes, tiles.of(out.device)
    if sizes and steps[0] < of_out[0] and row.one_walks:
        # The dim that is indexed is the inner one.
        sizes, of_out, of_index, of_src = (1, *sizes), (0, *of_out), (0, *of_index), (0, *of_src)
    if len(sizes) > MOST_OTHER_DIMS:
        raise Declined(f"more than {MOST_OTHER_DIMS + 1} dims that no two of can be walked as one")
    missing = MOST_OTHER_DIMS - len(sizes)
    num_cols, *outer = sizes + (1,) * missing
    strides = [s for one in (of_out, of_index, of_src) for s in one + (0,) * missing]
    num_outer, slices = math.prod(outer), strides[MOST_OTHER_DIMS] == 0
    parts, most = 1, row.row // 4
    long = num_cols * out.element_size() >= _LEAST_SLICE_BYTES and num_cols <= row.longest_row
    if slices and num_outer == 1 and min(size, n) >= _SHARED and row.one_walks and long:
        # Slices are read and written whole: where each thread writes pieces of all of them, one fetches ahead what
        # another is about to write, and memory is read in shorter pieces.
        parts, most = tiles.threads(out.device), row.longest_row
    cols = tiles.block(num_cols, most)
    per_program = max(1, row.flat // (cols * n))
    compute = storage_type(out.dtype) if kind == SET.value else compute_type(out.dtype)
    with checked(size, out.device, wrap, error) as flag:
        launch(
            write_slices if slices else write_places,
            (tiles.parts(num_outer, per_program), tiles.parts(num_cols, cols), parts), out, index, src, flag,
            num_cols, num_outer, per_program, n, size, *outer[:2], *strides, *steps,
            KIND=kind, COMPUTE=compute, WRAP=wrap, ALIKE=strides[2 * MOST_OTHER_DIMS] == 0,
            OUTER=math.prod(outer[1:]) > 1, COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip


def _at_least_1d(x: torch.Tensor) -> torch.Tensor:
    return x if x.dim() else x.view(1)


def one(value: Operand, like: torch.Tensor) -> torch.Tensor:
    """`value` as a tensor of one element that stands for any shape."""
    if isinstance(value, torch.Tensor):
        if value.dtype is not like.dtype or value.dim():
            raise Declined("a value of another type")
        return value
    if isinstance(value, complex) and not like.is_complex():
        raise Declined("a complex number for a result that is not")
    one = torch.empty((), dtype=like.dtype, device=like.device)
    return fill_(one, value, out=one)


def _scatter(self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, kind: int) -> torch.Tensor:
    """Along `dim`, each index in its own column; index may be smaller than self and src."""
    if index.dtype not in (torch.int64, torch.int32) or src.dtype is not self.dtype:
        raise Declined("indices or values of another type")
    if index.numel() == 0:
        return self
    out, index = _at_least_1d(self), _at_least_1d(index)
    whole = src.dim() > 0 or self.dim() == 0
    src = _at_least_1d(src) if whole else src.expand(index.shape)
    rank = out.dim()
    if not -rank <= dim < rank or index.dim() != rank or src.dim() != rank:
        raise Declined("an index of this kind")
    dim %= rank
    bounds = [index.shape[d] > out.shape[d] and d != dim for d in range(rank)]
    if any(bounds) or any(index.shape[d] > src.shape[d] for d in range(rank)):
        raise Declined("an index larger than the tensor")
    _own(out)
    others = tuple(
        (index.shape[d], out.stride(d), index.stride(d), src.stride(d)) for d in range(rank) if d != dim
    )
    along = (index.shape[dim], out.shape[dim], out.stride(dim), index.stride(dim), src.stride(dim))
    _launch(out, index, src, others, along, kind, RuntimeError)
    return self


def scatter_(self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    """self[index[i, j], j] = src[i, j] for dim 0; the last of equal indices wins."""
    if src.dim() != index.dim():
        raise Declined("an index of this kind")
    return _scatter(self, dim, index, src, SET.value)


def scatter_value_(self: torch.Tensor, dim: int, index: torch.Tensor, value: Operand) -> torch.Tensor:
    """self[index[i, j], j] = value for dim 0."""
    return _scatter(self, dim, index, one(value, self), SET.value)


_REDUCE = {"add": ADD.value, "multiply": MUL.value}


def scatter_with_(
    self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, *, reduce: str
) -> torch.Tensor:
    """As scatter_, with the values added to or multiplied with what is there."""
    if reduce not in _REDUCE or src.dim() != index.dim():
        raise Declined("a reduction that is not there")
    return _scatter(self, dim, index, src, _REDUCE[reduce])


def scatter_value_with_(
    self: torch.Tensor, dim: int, index: torch.Tensor, value: Operand, *, reduce: str
) -> torch.Tensor:
    """As scatter_value_, with the value added to or multiplied with what is there."""
    if reduce not in _REDUCE:
        raise Declined("a reduction that is not there")
    return _scatter(self, dim, index, one(value, self), _REDUCE[reduce])


def scatter_add_(self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    """self[index[i, j], j] += src[i, j] for dim 0."""
    if src.dim() != index.dim():
        raise Declined("an index of this kind")
    return _scatter(self, dim, index, src, ADD.value)


_REDUCTIONS = {"sum": ADD.value, "prod": MUL.value, "amax": MAX.value, "amin": MIN.value}


def _identity(reduce: str, dtype: torch.dtype) -> float:
    limits = torch.finfo(dtype) if dtype.is_floating_point else torch.iinfo(dtype)
    low, high = (-math.inf, math.inf) if dtype.is_floating_point else (limits.min, limits.max)
    return {"sum": 0, "prod": 1, "amax": low, "amin": high}[reduce]


Write = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


def _averaged(self: torch.Tensor, include_self: bool, write: Write, src: torch.Tensor) -> torch.Tensor:
    """Sums and counts of what `write` brings to each place, and their quotient; integers are rounded down."""
    if not include_self:
        write(self, one(0, self).expand(src.shape), SET.value)
    count = torch.empty_like(self)
    fill_(count, int(include_self), out=count)
    write(count, one(1, self).expand(src.shape), ADD.value)
    write(self, src, ADD.value)
    clamp_min(count, 1, out=count)
    divide = f.true_div if self.is_floating_point() else integer.floor_divide
    return run(divide, (self, count), compute_type(self.dtype), self.dtype, self)


def scatter_reduce_(
    self: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """As scatter_, with the values reduced, from what is there (include_self) or from nothing."""
    if self.dtype is torch.bool or self.is_complex() or src.dim() != index.dim():
        raise Declined("a reduction of this kind")
    if reduce == "mean":
        return _averaged(self, include_self, lambda to, of, kind: _scatter(to, dim, index, of, kind), src)
    if reduce not in _REDUCTIONS:
        raise Declined("a reduction that is not there")
    if not include_self:
        _scatter(self, dim, index, one(_identity(reduce, self.dtype), self), SET.value)
    return _scatter(self, dim, index, src, _REDUCTIONS[reduce])


def _along(
    self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, kind: int, wrap: bool = False
) -> torch.Tensor:
    """Slices of `source` along `dim` at the places that a vector of indices names."""
    out, index = _at_least_1d(self), _at_least_1d(index)
    rank = out.dim()
    if index.dtype not in (torch.int64, torch.int32) or index.dim() != 1 or source.dtype is not self.dtype:
        raise Declined("indices or values of another type")
    if not -rank <= dim < rank:
        raise Declined("a dim that is not there")
    dim %= rank
    shape = (*out.shape[:dim], index.shape[0], *out.shape[dim + 1 :])
    source = _at_least_1d(source) if source.numel() == 1 and self.dim() == 0 else source
    if tuple(source.shape) != shape:
        raise Declined("values of another shape")
    _own(out)
    others = tuple((shape[d], out.stride(d), 0, source.stride(d)) for d in range(rank) if d != dim)
    along = (index.shape[0], out.shape[dim], out.stride(dim), index.stride(0), source.stride(dim))
    _launch(out, index, source, others, along, kind, IndexError, wrap)
    return self


def index_add_(
    self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, *, alpha: Operand = 1
) -> torch.Tensor:
    """self[index[i]] += alpha · source[i] for dim 0."""
    if alpha != 1:
        if self.dtype is not source.dtype:
            raise Declined("a factor of another type")
        number_fits(alpha, self.dtype)
        source = apply(f.mul, (source, alpha), Promotion.SAME)
    return _along(self, dim, index, source, ADD.value)


def index_copy_(self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """self[index[i]] = source[i] for dim 0."""
    return _along(self, dim, index, source, SET.value)


def index_fill_(self: torch.Tensor, dim: int, index: torch.Tensor, value: Operand) -> torch.Tensor:
    """self[index[i]] = value for dim 0; negative indices count from the end."""
    rank = max(self.dim(), 1)
    if not -rank <= dim < rank or index.dim() > 1:
        raise Declined("a fill of this kind")
    number_fits(value, self.dtype)
    index, size = _at_least_1d(index), _at_least_1d(self).shape
    shape = (*size[: dim % rank], index.shape[0], *size[dim % rank + 1 :])
    return _along(self, dim, index, one(value, self).expand(shape), SET.value, wrap=True)


def index_reduce_(
    self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, reduce: str, *, include_self: bool = True
) -> torch.Tensor:
    """As index_add_, with the slices multiplied or their extremes taken."""
    if self.dtype is torch.bool or self.is_complex():
        raise Declined("a reduction of this kind")
    if reduce == "mean":
        return _averaged(self, include_self, lambda to, of, kind: _along(to, dim, index, of, kind), source)
    if reduce not in ("prod", "amax", "amin"):
        raise Declined("a reduction that is not there")
    if not include_self:
        _along(self, dim, index, one(_identity(reduce, self.dtype), self).expand(source.shape), SET.value)
    return _along(self, dim, index, source, _REDUCTIONS[reduce])


def _offsets(self: torch.Tensor, indices: list[torch.Tensor], dims: list[int]) -> torch.Tensor:
    """The offset in elements that each tuple of indices names, checked; negative indices count from the end."""
    n, row = indices[0].numel(), tiles.of(self.device)
    total = torch.empty((n,), dtype=torch.int64, device=self.device)
    block = tiles.block(n, row.row)
    for number, (t, d) in enumerate(zip(indices, dims, strict=True)):
        with checked(self.shape[d], self.device, wrap=True) as flag:
            launch(
                add_offsets, (tiles.parts(n, block),), t.contiguous(), total, flag, n, self.shape[d], self.stride(d),
                FIRST=number == 0, BLOCK=block, num_warps=row.num_warps,
            )  # fmt: skip
    return total


def index_put_(
    self: torch.Tensor,
    indices: list[torch.Tensor | None],
    values: torch.Tensor,
    accumulate: bool = False,
    unsafe: bool = False,
) -> torch.Tensor:
    """self[indices] = values, or += where equal indices add up; an index may be a boolean mask, None takes a dim."""
    mask = mask_of(self, indices)
    if mask is not None and values.dim() == 0 and values.dtype is self.dtype and not accumulate:
        return where(mask, values, self, out=self)
    indices = without_masks(self, indices)
    dims = [d for d, t in enumerate(indices) if t is not None]
    given = [t for t in indices if t is not None]
    if not given or values.dtype is not self.dtype or len(indices) > self.dim():
        raise Declined("an index of this kind")
    if any(t.dtype not in (torch.int64, torch.int32) for t in given):
        raise Declined("indices that are not int32 or int64")
    _own(self)
    try:
        wide = torch.broadcast_tensors(*given)
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error
    adjacent = dims == list(range(dims[0], dims[-1] + 1))
    lead = list(range(dims[0])) if adjacent else []
    rest = [d for d in range(self.dim()) if d not in dims and d not in lead]
    middle = tuple(wide[0].shape)
    shape = (*(self.shape[d] for d in lead), *middle, *(self.shape[d] for d in rest))
    try:
        spread = values.expand(shape)
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error
    if 0 in shape:
        return self
    source = spread.reshape(*shape[: len(lead)], -1, *shape[len(lead) + len(middle) :])
    if len(dims) == 1:
        places, extent, step = wide[0].reshape(-1), self.shape[dims[0]], self.stride(dims[0])
    else:
        places, step = _offsets(self, list(wide), dims), 1
        extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride(), strict=True))
    own = [*range(len(lead)), *range(len(lead) + 1, source.dim())]
    others = tuple(
        (self.shape[d], self.stride(d), 0, source.stride(k)) for d, k in zip([*lead, *rest], own, strict=True)
    )
    along = (places.shape[0], extent, step, places.stride(0), source.stride(len(lead)))
    _launch(self, places, source, others, along, ADD.value if accumulate else SET.value, IndexError, wrap=True)
    return self


def put_(self: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """self[index] = source of self as one row, or += where equal indices add up."""
    if index.dtype is not torch.int64 or index.numel() != source.numel() or not self.is_contiguous():
        raise Declined("an index of this kind")
    if index.numel():
        index_put_(self.view(-1), [index.reshape(-1)], source.reshape(-1), accumulate)
    return self
