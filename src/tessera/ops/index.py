"""Reading by index: index_select, gather, index with integer tensors; and the gradient of an embedding table.

gather, index_select, embedding and advanced indexing differ only in the strides that they give to the kernel `take`,
which walks blocks of the two innermost dims; where a row of the output has one index, rows are copied. A gather that
picks much of each contiguous row reads the row in order and then picks from it: random reads of memory that is far wait
for each other. Only `index` and `take` count negative indices from the end. An index outside is an error: kernels raise
a flag and leave the block out, and the entry raises IndexError (gather: RuntimeError), as PyTorch does.

Formula:
    take:        out[…] = x[… + Σ_k i_k[…] · s_k], with up to 3 index tensors, each broadcast over the output
    backward:    dw[i[r], :] += g[r, :] for all r but those at `padding_idx`, in order of r
Shapes: gather: index of the rank of self; index_select: index [L]; embedding: weight [num, width], indices of any
shape; index: index tensors that broadcast, or boolean masks of the dims that they stand for.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, moved bit by
bit; indices int64, also int32 but for take. The gradient takes floating types and sums half types in float32.
Limits: up to 3 index tensors; up to 5 dims of the result (of complex numbers 4) once those are joined that all operands
walk with one step.
Source: the pages of torch.gather, torch.index_select, torch.take, torch.nn.functional.embedding; "Tensor indexing" in
PyTorch's reference of torch.Tensor
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import storage_type
from tessera.ops.launch import launch, raising
from tessera.ops.layout import plan
from tessera.ops.nonzero import nonzero, selected
from tessera.ops.pointwise import zero_
from tessera.ops.pointwise_kernels import place
from tessera.ops.row_sums import sum_rows

# Dims of an output that are left once those are joined that every operand walks with one step.
MOST_LOOPS = 5
MOST_INDICES = 3
# Of a row from so many elements on, of which one in so many is picked, all are read.
_LEAST_ROW, _FEWEST_PICKED = 64, 4


@triton.jit
def outside(place, size):
    """Whether a place is not one of `size`; without its sign a negative place is a large one."""
    return place.to(tl.uint64, bitcast=True) >= tl.cast(size, tl.uint64)


@triton.jit
def step(
    index, outer, rows, cols, mask, in_rows, in_cols, size, stride, size_2, size_3, i_0, i_1, i_2, i_3, i_4,
    SHARED: tl.constexpr, WRAP: tl.constexpr, OUTER: tl.constexpr,
):  # fmt: skip
    """What one index tensor adds to the offset of each element, and whether one is outside; SHARED: a row, or a column,
    has one index."""
    if index is None:
        offsets = tl.zeros([1, 1], tl.int64)
        bad = 0
    else:
        which = index + place(outer, size_2, size_3, i_2, i_3, i_4, OUTER) + rows * i_1
        if SHARED == "row":
            i = tl.load(which, mask=in_rows, other=0).to(tl.int64)
        elif SHARED == "column":
            which = index + place(outer, size_2, size_3, i_2, i_3, i_4, OUTER) + cols * i_0
            i = tl.load(which, mask=in_cols, other=0).to(tl.int64)
        else:
            i = tl.load(which + cols * i_0, mask=mask, other=0).to(tl.int64)
        if WRAP:
            i = tl.where(i < 0, i + size, i)
        bad = tl.max(tl.ravel(outside(i, size).to(tl.int32)), axis=0)
        offsets = i * stride
    return offsets, bad


@triton.jit
def take(
    x, out, i, j, k, flag, num_cols, num_rows, num_outer, per_program, size_2, size_3,
    x_0, x_1, x_2, x_3, x_4, out_0, out_1, out_2, out_3, out_4,
    i_0, i_1, i_2, i_3, i_4, j_0, j_1, j_2, j_3, j_4, k_0, k_1, k_2, k_3, k_4,
    i_size, i_stride, j_size, j_stride, k_size, k_stride,
    SHARED_I: tl.constexpr, SHARED_J: tl.constexpr, SHARED_K: tl.constexpr, WRAP: tl.constexpr,
    OUTER: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """A loop nest over the output, innermost first: `num_cols`, `num_rows`, `num_outer` = size_2 · size_3 · (the rest).

    Strides are in elements; OUTER says that `num_outer` is more than one dim. Grid: (cdiv(num_outer, per_program),
    cdiv(num_rows, ROWS), cdiv(num_cols, COLS)).
    """
    rows = (tl.program_id(1).to(tl.int64) * ROWS + tl.arange(0, ROWS))[:, None]
    cols = (tl.program_id(2).to(tl.int64) * COLS + tl.arange(0, COLS))[None, :]
    in_rows, in_cols = rows < num_rows, cols < num_cols
    mask = in_rows & in_cols
    first = tl.program_id(0).to(tl.int64) * per_program
    for outer in range(first, tl.minimum(first + per_program, num_outer)):
        at = place(outer, size_2, size_3, x_2, x_3, x_4, OUTER) + rows * x_1 + cols * x_0
        step_i, bad_i = step(i, outer, rows, cols, mask, in_rows, in_cols, i_size, i_stride, size_2, size_3,
                             i_0, i_1, i_2, i_3, i_4, SHARED_I, WRAP, OUTER)  # fmt: skip
        step_j, bad_j = step(j, outer, rows, cols, mask, in_rows, in_cols, j_size, j_stride, size_2, size_3,
                             j_0, j_1, j_2, j_3, j_4, SHARED_J, WRAP, OUTER)  # fmt: skip
        step_k, bad_k = step(k, outer, rows, cols, mask, in_rows, in_cols, k_size, k_stride, size_2, size_3,
                             k_0, k_1, k_2, k_3, k_4, SHARED_K, WRAP, OUTER)  # fmt: skip
        if bad_i + bad_j + bad_k != 0:
            tl.store(flag, 1)
        else:
            value = tl.load(x + (at + step_i + step_j + step_k), mask=mask)
            to = out + place(outer, size_2, size_3, out_2, out_3, out_4, OUTER) + rows * out_1 + cols * out_0
            tl.store(to, value, mask=mask, cache_modifier=STORE)


@triton.jit
def pick(x, index, out, flag, num_rows, size, count, per_program, SIZE: tl.constexpr, COLS: tl.constexpr):
    """out[r, c] = x[r, index[r, c]], all contiguous; a row of x, `size` elements, is read in order, then picked from.

    Grid: (cdiv(num_rows, per_program),).
    """
    first = tl.program_id(0).to(tl.int64) * per_program
    for row in range(first, tl.minimum(first + per_program, num_rows)):
        lanes = tl.arange(0, SIZE)
        values = tl.load(x + row * size + lanes, mask=lanes < size, other=0)
        for c in range(0, count, COLS):
            cols = c + tl.arange(0, COLS)
            i = tl.load(index + row * count + cols, mask=cols < count, other=0).to(tl.int64)
            if tl.max(outside(i, size).to(tl.int32), axis=0) != 0:
                tl.store(flag, 1)
            else:
                tl.store(out + row * count + cols, tl.gather(values, i.to(tl.int32), 0), mask=cols < count)


@functools.cache
def _flag(device: torch.device) -> torch.Tensor:
    return torch.tensor([0], dtype=torch.int32, device=device)


def flagged(device: torch.device, error: Callable[[], Exception]) -> AbstractContextManager[torch.Tensor]:
    """The flag for the launches inside; `error()` is raised behind them when a kernel raised it."""
    flag = _flag(device)

    def check() -> None:
        # Read through PyTorch, so that a capture sees that values are looked at here.
        if flag.item():
            zero_(flag, out=flag)
            raise error()

    return raising(flag, check)


def checked(
    size: int, device: torch.device, wrap: bool = False, error: type[Exception] = IndexError
) -> AbstractContextManager[torch.Tensor]:
    """`flagged` for indices into a dim of `size` elements."""
    return flagged(device, lambda: error(
        f"index out of range: the indexed dim has {size} elements, so an index must lie in "
        f"[{-size if wrap else 0}, {size}); compare the index tensor's minimum and maximum with that"
    ))  # fmt: skip


def _integers(index: torch.Tensor) -> None:
    if index.dtype not in (torch.int64, torch.int32):
        raise Declined("indices that are not int32 or int64")


# An index tensor expanded to the output, and the size and stride of the dim it picks from.
Index = tuple[torch.Tensor, int, int]


def _take(
    x: torch.Tensor, shape: tuple[int, ...], strides: tuple[int, ...], indices: list[Index], wrap: bool = False,
    error: type[Exception] = IndexError,
) -> torch.Tensor:  # fmt: skip
    """`strides` are x's along the output's dims, 0 along those that an index decides."""
    if x.is_complex():
        # A complex number is a row of two: one dim more, which no index enters.
        wide = (*shape, 2)
        pairs = [(t.unsqueeze(-1).expand(wide), size, 2 * stride) for t, size, stride in indices]
        apart = (*(2 * stride for stride in strides), 1)
        return torch.view_as_complex(_take(torch.view_as_real(x), wide, apart, pairs, wrap, error))
    if len(indices) > MOST_INDICES:
        raise Declined(f"more than {MOST_INDICES} index tensors")
    storage_type(x.dtype)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    if any(size == 0 for _, size, _ in indices):
        raise Declined("an index into a dim without elements")
    layouts = tuple((shape, t.stride()) for t, _, _ in indices)
    loop = plan(((shape, strides), *layouts), (shape, out.stride()))
    if len(loop.sizes) > MOST_LOOPS:
        raise Declined(f"more than {MOST_LOOPS} dims that no two of can be walked as one")
    missing = MOST_LOOPS - len(loop.sizes)
    num_cols, num_rows, *outer = loop.sizes + (1,) * missing
    own, *of_indices, of_out = (one + (0,) * missing for one in loop.strides)
    nothing = MOST_INDICES - len(indices)
    of_indices += [(0,) * MOST_LOOPS] * nothing
    given = [t for t, _, _ in indices] + [None] * nothing
    limits = [value for _, size, stride in indices for value in (size, stride)] + [1, 0] * nothing
    shared = ["column" if one[0] and not one[1] else "row" if not one[0] else "" for one in of_indices]
    row = tiles.of(x.device)
    cols, rows, per_program = _blocks(row, num_cols, num_rows, set(shared))
    num_outer = math.prod(outer)
    grid = (tiles.parts(num_outer, per_program), tiles.parts(num_rows, rows), tiles.parts(num_cols, cols))
    with checked(indices[0][1], x.device, wrap, error) as flag:
        launch(
            take, grid, x, out, *given, flag, num_cols, num_rows, num_outer, per_program, *outer[:2],
            *own, *of_out, *(s for one in of_indices for s in one), *limits,
            SHARED_I=shared[0], SHARED_J=shared[1], SHARED_K=shared[2], WRAP=wrap, OUTER=math.prod(outer[1:]) > 1,
            STORE=tiles.store_modifier(out), ROWS=rows, COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return out


def _blocks(row: tiles.Tiles, num_cols: int, num_rows: int, shared: set[str]) -> tuple[int, int, int]:
    """Columns and rows of a block, and how many blocks a program walks."""
    most = row.row if shared == {"row"} else row.row // 2
    cols = tiles.block(num_cols, most)
    # What all rows of a block share is looked up once.
    rows = tiles.block(num_rows, (max(most, row.flat) if "column" in shared else most) // cols)
    return cols, rows, max(1, row.flat // (cols * rows))


def gather(self: torch.Tensor, dim: int, index: torch.Tensor, *, sparse_grad: bool = False) -> torch.Tensor:
    """out[i, j] = self[index[i, j], j] for dim 0; index may be smaller than self along the other dims."""
    if self.dim() == 0 and index.dim() <= 1:
        return gather(self.view(1), dim, index.reshape(-1), sparse_grad=sparse_grad).view(index.shape)
    if self.dim() == 1 and index.dim() == 0:
        return gather(self, dim, index.view(1), sparse_grad=sparse_grad).view(())
    _integers(index)
    if index.numel() == 0 and -max(1, self.dim()) <= dim < max(1, self.dim()):
        return torch.empty(index.shape, dtype=self.dtype, device=self.device)
    if index.dim() != self.dim():
        raise Declined("an index of another rank")
    if not -self.dim() <= dim < self.dim():
        raise Declined("a dim that is not there")
    dim %= self.dim()
    if any(index.shape[d] > self.shape[d] for d in range(self.dim()) if d != dim):
        raise Declined("an index larger than the tensor")
    if _reads_most(self, dim, index):
        return _pick(self, index)
    strides = tuple(0 if d == dim else self.stride(d) for d in range(self.dim()))
    return _take(self, tuple(index.shape), strides, [(index, self.shape[dim], self.stride(dim))], error=RuntimeError)


def _reads_most(x: torch.Tensor, dim: int, index: torch.Tensor) -> bool:
    """Is it a large part of each row that is picked, so that the row is best read as a whole: in order, once?"""
    size, count = x.shape[-1], index.shape[-1]
    return (
        dim == x.dim() - 1 and x.shape[:-1] == index.shape[:-1] and x.is_contiguous() and index.is_contiguous()
        and _LEAST_ROW <= size <= tiles.of(x.device).row * 2 and count * _FEWEST_PICKED >= size and not x.is_complex()
    )  # fmt: skip


def _pick(x: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    storage_type(x.dtype)
    out = torch.empty(index.shape, dtype=x.dtype, device=x.device)
    row, size, count = tiles.of(x.device), x.shape[-1], index.shape[-1]
    num_rows = x.numel() // size
    per_program = max(1, row.flat // tiles.power_of_2(max(size, count)))
    with checked(size, x.device, error=RuntimeError) as flag:
        launch(
            pick, (tiles.parts(num_rows, per_program),), x, index, out, flag, num_rows, size, count, per_program,
            SIZE=tiles.power_of_2(size), COLS=tiles.block(count, row.row // 2), num_warps=row.num_warps,
        )  # fmt: skip
    return out


def index_select(self: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    """The slices of self at index[L] along dim."""
    _integers(index)
    if index.dim() == 0:
        return index_select(self, dim, index.view(1))
    if self.dim() == 0 and index.numel() == 1 and dim in (-1, 0):
        return index_select(self.view(1), 0, index).view(())
    if index.dim() != 1 or not -self.dim() <= dim < self.dim():
        raise Declined("an index of another kind")
    dim %= self.dim()
    shape = (*self.shape[:dim], index.shape[0], *self.shape[dim + 1 :])
    strides = tuple(0 if d == dim else self.stride(d) for d in range(self.dim()))
    after = self.dim() - dim - 1
    wide = index.view(-1, *(1,) * after).expand(shape)
    return _take(self, shape, strides, [(wide, self.shape[dim], self.stride(dim))])


def take_(self: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """self[index] of self as one row; negative indices count from the end."""
    if index.dtype is not torch.int64 or (self.numel() == 0 and index.numel()):
        raise Declined("an index of this kind")
    flat = self.contiguous().view(-1)
    return _take(flat, tuple(index.shape), (0,) * index.dim(), [(index, flat.numel(), 1)], wrap=True)


def mask_of(x: torch.Tensor, indices: list[torch.Tensor | None]) -> torch.Tensor | None:
    """The mask, where the one index says of each element of `x` whether it is meant."""
    mask = indices[0] if len(indices) == 1 else None
    return mask if mask is not None and mask.dtype is torch.bool and mask.dim() > 0 and mask.shape == x.shape else None


def without_masks(self: torch.Tensor, indices: list[torch.Tensor | None]) -> list[torch.Tensor | None]:
    """`indices` with each boolean mask replaced by the coordinates at which it is true, one tensor a dim."""
    found: list[torch.Tensor | None] = []
    for t in indices:
        if t is None or t.dtype is not torch.bool:
            found.append(t)
        elif t.dim() == 0 or tuple(t.shape) != tuple(self.shape[len(found) : len(found) + t.dim()]):
            raise Declined("a mask of another shape")
        else:
            found += nonzero(t).unbind(1)
    return found


def index(self: torch.Tensor, indices: list[torch.Tensor | None]) -> torch.Tensor:
    """self[indices] with integer tensors or boolean masks; None takes a dim whole."""
    mask = mask_of(self, indices)
    if mask is not None:
        return selected(self, mask)
    indices = without_masks(self, indices)
    picked = [d for d, t in enumerate(indices) if t is not None]
    tensors = [t for t in indices if t is not None]
    for t in tensors:
        _integers(t)
    if not tensors or len(indices) > self.dim():
        raise Declined("an index of this kind")
    try:
        wide = torch.broadcast_tensors(*tensors)
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error
    adjacent = picked == list(range(picked[0], picked[-1] + 1))
    lead = list(range(picked[0])) if adjacent else []
    rest = [d for d in range(self.dim()) if d not in picked and d not in lead]
    middle = tuple(wide[0].shape)
    shape = (*(self.shape[d] for d in lead), *middle, *(self.shape[d] for d in rest))
    strides = (*(self.stride(d) for d in lead), *(0,) * len(middle), *(self.stride(d) for d in rest))
    spread = [t.view(*middle, *(1,) * len(rest)) if t.is_contiguous() else t[(..., *(None,) * len(rest))] for t in wide]
    places = [(t.expand(shape), self.shape[d], self.stride(d)) for t, d in zip(spread, picked, strict=True)]
    return _take(self, shape, strides, places, wrap=True)


def embedding_dense_backward(
    grad_output: torch.Tensor, indices: torch.Tensor, num_weights: int, padding_idx: int, scale_grad_by_freq: bool
) -> torch.Tensor:
    """The gradient of a table [num_weights, width]: rows of grad_output summed by index, in float32 for half types."""
    _integers(indices)
    if not grad_output.is_floating_point():
        raise Declined("a gradient of another kind")
    rows = grad_output.reshape(-1, grad_output.shape[-1])
    return sum_rows(rows, indices.reshape(-1), num_weights, padding_idx, by_frequency=scale_grad_by_freq)


def embedding(
    weight: torch.Tensor,
    indices: torch.Tensor,
    padding_idx: int = -1,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> torch.Tensor:
    """Rows of weight[num, width] at indices of any shape; the other arguments matter to the gradient alone."""
    _integers(indices)
    if weight.dim() != 2:
        raise Declined("a table that is no matrix")
    return index_select(weight, 0, indices.reshape(-1)).view(*indices.shape, weight.shape[1])
