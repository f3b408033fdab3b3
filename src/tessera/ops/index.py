"""Reading by index: index_select, gather, index with integer tensors; and the gradient of an embedding table.

gather, index_select and advanced indexing differ only in the strides that they give to the kernel `take`;
`select_rows` is the embedding's case, with contiguous rows. Only `index` and `take` count negative indices from the
end. An index outside is an error: kernels raise a flag and write 0, and the entry raises IndexError (gather:
RuntimeError), as PyTorch does.

Formula:
    take:        out[…] = x[… + Σ_k i_k[…] · s_k], with up to 3 index tensors, each broadcast over the output
    select_rows: out[r, :] = x[i[r], :]
    backward:    dw[i[r], :] += g[r, :] for all r but those at `padding_idx`, in order of r
Shapes: gather: index of the rank of self; index_select: index [L]; embedding: weight [num, width], indices of any
shape; index: index tensors that broadcast, or boolean masks of the dims that they stand for.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, moved bit by
bit; indices int64, also int32 but for take. The gradient takes floating types and sums half types in float32.
Limits: results of up to 5 dims (of complex numbers 4) and up to 3 index tensors, but for whole slices along the first
dim; no gradient scaled by frequency.
Source: the pages of torch.gather, torch.index_select, torch.take, torch.nn.functional.embedding; "Tensor indexing" in
PyTorch's reference of torch.Tensor
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import storage_type
from tessera.ops.launch import launch, raising
from tessera.ops.nonzero import nonzero
from tessera.ops.pointwise import zero_

MOST_DIMS = 5
MOST_INDICES = 3
_LONG_ROW = 64


@triton.jit
def wrapped(index, size, mask, flag, WRAP: tl.constexpr):
    """The place that `index` names, and whether it is inside; raises the flag where it is not."""
    place = tl.where(index < 0, index + size, index) if WRAP else index
    inside = (place >= 0) & (place < size)
    bad = tl.max(tl.ravel((mask & (inside == 0)).to(tl.int32)), axis=0)
    tl.store(flag, bad, mask=bad != 0)
    return place, inside & mask


@triton.jit
def step(offsets, index, place, size, stride, mask, flag, WRAP: tl.constexpr):
    """Add one index tensor's part to `offsets`; the second result is where all is inside."""
    inside = mask
    if index is not None:
        i = tl.load(index + place, mask=mask, other=0).to(tl.int64)
        position, inside = wrapped(i, size, mask, flag, WRAP)
        offsets += position * stride
    return offsets, inside


@triton.jit
def take(
    x, out, i, j, k, flag, numel, d1, d2, d3, d4,
    x0, x1, x2, x3, x4, i0, i1, i2, i3, i4, j0, j1, j2, j3, j4, k0, k1, k2, k3, k4,
    i_size, i_stride, j_size, j_stride, k_size, k_stride, WRAP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The output is [d0, d1, d2, d3, d4], contiguous; grid: (cdiv(numel, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    c4 = at % d4
    c3 = (at // d4) % d3
    c2 = (at // d4 // d3) % d2
    c1 = (at // d4 // d3 // d2) % d1
    c0 = at // d4 // d3 // d2 // d1
    offsets = c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3 + c4 * x4
    place = c0 * i0 + c1 * i1 + c2 * i2 + c3 * i3 + c4 * i4
    offsets, in_i = step(offsets, i, place, i_size, i_stride, mask, flag, WRAP)
    place = c0 * j0 + c1 * j1 + c2 * j2 + c3 * j3 + c4 * j4
    offsets, in_j = step(offsets, j, place, j_size, j_stride, mask, flag, WRAP)
    place = c0 * k0 + c1 * k1 + c2 * k2 + c3 * k3 + c4 * k4
    offsets, in_k = step(offsets, k, place, k_size, k_stride, mask, flag, WRAP)
    value = tl.load(x + offsets, mask=in_i & in_j & in_k, other=0)
    tl.store(out + at, value, mask=mask)


@triton.jit
def select_rows(x, index, out, flag, num, size, width, x_row, ROWS: tl.constexpr, COLS: tl.constexpr):
    """out[r, c] = x[index[r], c]; grid: (cdiv(num, ROWS), cdiv(width, COLS))."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    cols = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    in_rows = rows < num
    i = tl.load(index + rows, mask=in_rows, other=0).to(tl.int64)
    place, inside = wrapped(i, size, in_rows, flag, False)
    in_cols = (cols < width)[None, :]
    value = tl.load(x + (place * x_row)[:, None] + cols[None, :], mask=inside[:, None] & in_cols, other=0)
    tl.store(out + (rows * width)[:, None] + cols[None, :], value, mask=in_rows[:, None] & in_cols)


@triton.jit
def add_rows(g, index, out, num, width, padding, COLS: tl.constexpr):
    """out[index[r], c] += g[r, c] for all r but those at `padding`, in order of r; grid: (cdiv(width, COLS),)."""
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    in_cols = cols < width
    g_at = g + cols
    for r in range(num):
        i = tl.load(index + r).to(tl.int64)
        mask = in_cols & (i != padding)
        total = tl.load(out + i * width + cols, mask=mask, other=0.0)
        total += tl.load(g_at, mask=mask, other=0.0).to(total.dtype)
        tl.store(out + i * width + cols, total, mask=mask)
        g_at += width


@functools.cache
def _flag(device: torch.device) -> torch.Tensor:
    return torch.tensor([0], dtype=torch.int32, device=device)


def flagged(device: torch.device, error: Callable[[], Exception]) -> AbstractContextManager[torch.Tensor]:
    """The flag for the launches inside; `error()` is raised behind them when a kernel raised it."""
    flag = _flag(device)

    def check() -> None:
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
    if len(shape) > MOST_DIMS or len(indices) > MOST_INDICES:
        raise Declined(f"more than {MOST_DIMS} dims or {MOST_INDICES} index tensors")
    storage_type(x.dtype)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    if any(size == 0 for _, size, _ in indices):
        raise Declined("an index into a dim without elements")
    missing = MOST_DIMS - len(shape)
    pad = (0,) * missing
    sizes = (1,) * missing + tuple(shape)
    nothing: list[tuple[torch.Tensor | None, int, int]] = [(None, 1, 0)] * (MOST_INDICES - len(indices))
    given = [*indices, *nothing]
    steps = [s for t, _, _ in given for s in (pad + t.stride() if t is not None else (0,) * MOST_DIMS)]
    limits = [value for _, size, stride in given for value in (size, stride)]
    row = tiles.of(x.device)
    block = tiles.block(out.numel(), row.flat // 8)
    with checked(indices[0][1], x.device, wrap, error) as flag:
        launch(
            take, (triton.cdiv(out.numel(), block),), x, out, *(t for t, _, _ in given), flag, out.numel(),
            *sizes[1:], *pad, *strides, *steps, *limits, WRAP=wrap, BLOCK=block, num_warps=row.num_warps,
        )  # fmt: skip
    return out


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
    strides = tuple(0 if d == dim else self.stride(d) for d in range(self.dim()))
    return _take(self, tuple(index.shape), strides, [(index, self.shape[dim], self.stride(dim))], error=RuntimeError)


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
    if dim == 0 and self[0:1].is_contiguous() and self.shape[0] and self.numel():
        return _select_rows(self, index, shape)
    strides = tuple(0 if d == dim else self.stride(d) for d in range(self.dim()))
    after = self.dim() - dim - 1
    wide = index.view(-1, *(1,) * after).expand(shape)
    return _take(self, shape, strides, [(wide, self.shape[dim], self.stride(dim))])


def _select_rows(x: torch.Tensor, index: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if x.is_complex():
        return torch.view_as_complex(_select_rows(torch.view_as_real(x), index, (*shape, 2)))
    storage_type(x.dtype)
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    num, width = index.shape[0], x.numel() // x.shape[0]
    row = tiles.of(x.device)
    cols = tiles.block(width, row.row)
    # A long row by itself is a plain copy; short ones share a program.
    rows = 1 if cols >= _LONG_ROW else tiles.block(num, row.row // cols)
    with checked(x.shape[0], x.device) as flag:
        launch(
            select_rows, (triton.cdiv(num, rows), triton.cdiv(width, cols)), x, index.contiguous(), out, flag, num,
            x.shape[0], width, x.stride(0), ROWS=rows, COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return out


def take_(self: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """self[index] of self as one row; negative indices count from the end."""
    if index.dtype is not torch.int64 or (self.numel() == 0 and index.numel()):
        raise Declined("an index of this kind")
    flat = self.contiguous().view(-1)
    return _take(flat, tuple(index.shape), (0,) * index.dim(), [(index, flat.numel(), 1)], wrap=True)


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
    if scale_grad_by_freq or not grad_output.is_floating_point():
        raise Declined("gradients scaled by frequency")
    width = grad_output.shape[-1]
    kind = torch.float64 if grad_output.dtype is torch.float64 else torch.float32
    total = torch.empty((num_weights, width), dtype=kind, device=grad_output.device)
    zero_(total, out=total)
    num = indices.numel()
    if num and width:
        row = tiles.of(total.device)
        cols = tiles.block(width, row.row // 4)
        launch(
            add_rows, (triton.cdiv(width, cols),), grad_output.contiguous(), indices.contiguous(), total, num, width,
            padding_idx, COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return total if total.dtype is grad_output.dtype else total.to(grad_output.dtype)


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
