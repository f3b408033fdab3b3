"""Writing by index: scatter and its sums, index_add, index_copy, index_fill, index_put.

A program owns a block of places along the other dims and walks the indices itself, in order, so that equal indices
never race and the result does not depend on the number of threads. All operators here differ only in the strides they
give to it.

Formula:
    out[…, i[j], …] ← out[…, i[j], …] ∘ src[…, j, …] for j in order
    ∘ takes src, or adds, multiplies, takes the larger or the smaller; mean: the sum divided by how many there are
Shapes: scatter: index and src of the rank of self, index nowhere larger than src; index_add and its like: index [L],
src with L slices; index_put: index tensors that broadcast, or masks.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, src of the type
of self; indices int64 or int32 (put: int64). Each step rounds to the type of self.
Limits: up to 5 dims (of complex numbers 4) once those of size 1 are left out; no output whose elements share memory;
complex numbers are written and added up alone.
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
from tessera.ops.index import checked, without_masks, wrapped
from tessera.ops.launch import launch
from tessera.ops.pointwise import clamp_min, copy_, fill_, number_fits

MOST_OTHER_DIMS = 4
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
def scatter(
    out, index, src, flag, num, n, size, d1, d2, d3,
    o0, o1, o2, o3, i0, i1, i2, i3, s0, s1, s2, s3, o_step, i_step, s_step,
    KIND: tl.constexpr, COMPUTE: tl.constexpr, WRAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """`num` places along the other dims [d0, d1, d2, d3], `n` indices at each; grid: (cdiv(num, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < num
    c3 = at % d3
    c2 = (at // d3) % d2
    c1 = (at // d3 // d2) % d1
    c0 = at // d3 // d2 // d1
    to = out + c0 * o0 + c1 * o1 + c2 * o2 + c3 * o3
    which = index + c0 * i0 + c1 * i1 + c2 * i2 + c3 * i3
    given = src + c0 * s0 + c1 * s1 + c2 * s2 + c3 * s3
    for _ in range(n):
        i = tl.load(which, mask=mask, other=0).to(tl.int64)
        place, inside = wrapped(i, size, mask, flag, WRAP)
        value = tl.load(given, mask=inside).to(COMPUTE)
        if KIND != SET:
            value = combined(tl.load(to + place * o_step, mask=inside).to(COMPUTE), value, KIND)
        tl.store(to + place * o_step, value.to(out.dtype.element_ty), mask=inside)
        which += i_step
        given += s_step


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
    others = tuple(dim for dim in others if dim[0] != 1)
    if len(others) > MOST_OTHER_DIMS:
        raise Declined(f"more than {MOST_OTHER_DIMS + 1} dims")
    n, size, *steps = along
    num = math.prod(dim[0] for dim in others)
    if num == 0 or n == 0:
        return
    padded = ((1, 0, 0, 0),) * (MOST_OTHER_DIMS - len(others)) + others
    strides = [dim[k] for k in (1, 2, 3) for dim in padded]
    row = tiles.of(out.device)
    block = tiles.block(num, row.flat // 8)
    compute = storage_type(out.dtype) if kind == SET.value else compute_type(out.dtype)
    with checked(size, out.device, error=error) as flag:
        launch(
            scatter, (triton.cdiv(num, block),), out, index, src, flag, num, n, size,
            *(dim[0] for dim in padded[1:]), *strides, *steps,
            KIND=kind, COMPUTE=compute, WRAP=False, BLOCK=block, num_warps=row.num_warps,
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


def _along(self: torch.Tensor, dim: int, index: torch.Tensor, source: torch.Tensor, kind: int) -> torch.Tensor:
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
    _launch(out, index, source, others, along, kind, IndexError)
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
    """self[index[i]] = value for dim 0; negative indices, which count from the end, are left to PyTorch."""
    rank = max(self.dim(), 1)
    if not -rank <= dim < rank or index.dim() > 1:
        raise Declined("a fill of this kind")
    number_fits(value, self.dtype)
    if index.numel() and bool((index < 0).any()):
        raise Declined("indices that count from the end")
    index, size = _at_least_1d(index), _at_least_1d(self).shape
    shape = (*size[: dim % rank], index.shape[0], *size[dim % rank + 1 :])
    return _along(self, dim, index, one(value, self).expand(shape), SET.value)


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


def _places(self: torch.Tensor, indices: list[torch.Tensor], dims: list[int]) -> torch.Tensor:
    """The offset in elements that each index tuple names, checked; negative indices count from the end."""
    total: torch.Tensor | None = None
    for t, d in zip(indices, dims, strict=True):
        size = self.shape[d]
        if t.numel() and (int(t.min()) < -size or int(t.max()) >= size):
            raise IndexError(
                f"index out of range: dim {d} has {size} elements, so an index must lie in [{-size}, {size}); "
                "compare the index tensor's minimum and maximum with that"
            )
        part = torch.where(t < 0, t + size, t) * self.stride(d)
        total = part if total is None else total + part
    assert total is not None, "an index_put without indices was declined before"
    return total


def index_put_(
    self: torch.Tensor,
    indices: list[torch.Tensor | None],
    values: torch.Tensor,
    accumulate: bool = False,
    unsafe: bool = False,
) -> torch.Tensor:
    """self[indices] = values, or += where equal indices add up; an index may be a boolean mask, None takes a dim."""
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
    places = _places(self, [t.contiguous() for t in wide], dims).reshape(-1)
    source = spread.reshape(*shape[: len(lead)], -1, *shape[len(lead) + len(middle) :]) if math.prod(shape) else spread
    if math.prod(shape) == 0:
        return self
    own = [*range(len(lead)), *range(len(lead) + 1, source.dim())]
    others = tuple(
        (self.shape[d], self.stride(d), 0, source.stride(k)) for d, k in zip([*lead, *rest], own, strict=True)
    )
    extent = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.stride(), strict=True))
    along = (places.shape[0], extent, 1, 1, source.stride(len(lead)))
    _launch(self, places, source, others, along, ADD.value if accumulate else SET.value, IndexError)
    return self


def put_(self: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False) -> torch.Tensor:
    """self[index] = source of self as one row, or += where equal indices add up."""
    if index.dtype is not torch.int64 or index.numel() != source.numel() or not self.is_contiguous():
        raise Declined("an index of this kind")
    if index.numel():
        index_put_(self.view(-1), [index.reshape(-1)], source.reshape(-1), accumulate)
    return self


def unfold_backward(
    grad_in: torch.Tensor, input_sizes: list[int], dim: int, size: int, step: int
) -> torch.Tensor:
    """The gradient of windows along `dim`: each element sums those of the windows that it stands in."""
    out = torch.empty(input_sizes, dtype=grad_in.dtype, device=grad_in.device)
    fill_(out, 0, out=out)
    if grad_in.numel() == 0:
        return out
    if not input_sizes:
        return copy_(out, grad_in.view(()), out=out)
    dim %= len(input_sizes)
    windows = grad_in.shape[dim]
    places = torch.arange(windows, device=out.device).view(-1, 1) * step + torch.arange(size, device=out.device)
    source = grad_in.movedim(-1, dim + 1).reshape(*out.shape[:dim], windows * size, *out.shape[dim + 1 :])
    return index_add_(out, dim, places.view(-1), source)
