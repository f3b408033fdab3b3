"""Each element of the output is an element of the input or a constant: flip, roll, repeat, padding, triangles.

The tables, one for each dim, hold offsets into x; an operator is how it fills them. Backward operators of padding add
up along one dim after the other what was taken from one place.

Formula:
    out[c0, c1, …] = x[t0[c0] + t1[c1] + …], or the constant where a table holds -1
    flip: t[c] = n - 1 - c;  roll: (c - shift) mod n;  repeat: c mod n;  padding: reflected, clipped or -1
    tril: x[i, j] where j - i ≤ diagonal, else 0;  triu: where j - i ≥ diagonal
Shapes: x of up to 5 dims; padding of the last 1 to 3 dims, and of any dims by a constant.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, moved bit by
bit; gradients of padding take floating types and are summed in float32 for the half types.
Limits: up to 5 dims, of complex numbers 4, which are padded by 0 alone; padding of channels-last tensors is left to
PyTorch, which keeps that layout.
Source: the pages of torch.flip, torch.roll, torch.Tensor.repeat, torch.nn.functional.pad, torch.tril and torch.eye
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import scatter, tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, storage_type
from tessera.ops.launch import launch
from tessera.ops.layout import is_channels_last
from tessera.ops.pointwise import fill_, zero_

MOST_DIMS = 5


@triton.jit
def rearrange(
    x, out, constant, t0, t1, t2, t3, t4, numel, d1, d2, d3, d4, FILLED: tl.constexpr, BLOCK: tl.constexpr
):
    """The output is [d0, d1, d2, d3, d4], contiguous; grid: (cdiv(numel, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    p4 = tl.load(t4 + at % d4, mask=mask)
    p3 = tl.load(t3 + (at // d4) % d3, mask=mask)
    p2 = tl.load(t2 + (at // d4 // d3) % d2, mask=mask)
    p1 = tl.load(t1 + (at // d4 // d3 // d2) % d1, mask=mask)
    p0 = tl.load(t0 + at // d4 // d3 // d2 // d1, mask=mask)
    if FILLED:
        inside = mask & (p0 >= 0) & (p1 >= 0) & (p2 >= 0) & (p3 >= 0) & (p4 >= 0)
        value = tl.load(x + (p0 + p1 + p2 + p3 + p4), mask=inside)
        value = tl.where(inside, value, tl.load(constant))
    else:
        value = tl.load(x + (p0 + p1 + p2 + p3 + p4), mask=mask)
    tl.store(out + at, value, mask=mask)


@triton.jit
def triangle(x, out, numel, num_rows, num_cols, bound, UPPER: tl.constexpr, WORDS: tl.constexpr, BLOCK: tl.constexpr):
    """x is contiguous [batch, rows, columns, WORDS]; kept where column - row >= bound (UPPER) or <= bound."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    place = at // WORDS
    distance = place % num_cols - (place // num_cols) % num_rows
    kept = (distance >= bound) if UPPER else (distance <= bound)
    value = tl.load(x + at, mask=mask & kept, other=0)
    tl.store(out + at, value, mask=mask)


def apply_maps(x: torch.Tensor, maps: Sequence[Sequence[int] | None], value: Operand = 0) -> torch.Tensor:
    """`maps[d]` names for each output coordinate of dim d the input's, or -1 for `value`; None takes the dim whole."""
    if x.is_complex() and value == 0:
        return torch.view_as_complex(apply_maps(torch.view_as_real(x), [*maps, None]))
    if x.dim() > MOST_DIMS or isinstance(value, complex) or x.is_complex():
        raise Declined(f"more than {MOST_DIMS} dims, or a complex constant")
    storage_type(x.dtype)
    chosen = [np.arange(x.shape[d]) if m is None else np.asarray(m, dtype=np.int64) for d, m in enumerate(maps)]
    out = torch.empty([len(m) for m in chosen], dtype=x.dtype, device=x.device)
    if out.numel() == 0:
        return out
    filled = any(bool((m < 0).any()) for m in chosen)
    offsets = [np.where(m < 0, -1, m * x.stride(d)) for d, m in enumerate(chosen)]
    offsets = [np.zeros(1, dtype=np.int64)] * (MOST_DIMS - x.dim()) + offsets
    tables = [torch.from_numpy(t).to(x.device) for t in offsets]
    constant = scatter.one(value, x) if filled else None
    row = tiles.of(x.device)
    block = tiles.block(out.numel(), row.flat // 4)
    launch(
        rearrange, (triton.cdiv(out.numel(), block),), x, out, constant, *tables, out.numel(),
        *(t.numel() for t in tables[1:]), FILLED=filled, BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return out


def _dims(x: torch.Tensor, dims: Sequence[int]) -> list[int]:
    rank = max(x.dim(), 1)
    if any(not -rank <= d < rank for d in dims):
        raise Declined("a dim that is not there")
    return [d % rank for d in dims]


def flip(self: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    """The order of elements reversed along dims."""
    wanted = _dims(self, dims)
    if len(set(wanted)) != len(wanted):
        raise Declined("a dim given twice")
    if self.dim() == 0:
        return self.clone()
    # The result is laid out as `self` is: the maps are those of the dims in the order in which they lie in memory.
    strides = torch.empty_like(self).stride()
    order = sorted(range(self.dim()), key=lambda d: (-strides[d], d))
    maps = [range(self.shape[d])[::-1] if d in wanted else None for d in order]
    return apply_maps(self.permute(order), maps).permute([order.index(d) for d in range(self.dim())])


def roll(self: torch.Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> torch.Tensor:
    """Elements moved along dims, those pushed out coming in again; without dims along the flattened tensor."""
    if not dims and len(shifts) == 1:
        return roll(self.contiguous().view(-1), shifts, [0]).view(self.shape)
    wanted = _dims(self, dims)
    if len(shifts) != len(wanted) or not wanted or self.dim() == 0:
        raise Declined("shifts that do not fit the dims")
    moved = dict.fromkeys(wanted, 0)
    for shift, d in zip(shifts, wanted, strict=True):
        moved[d] += shift
    maps = [
        ((np.arange(n) - moved[d]) % n).tolist() if d in moved and n else None for d, n in enumerate(self.shape)
    ]
    return apply_maps(self, maps)


def repeat(self: torch.Tensor, repeats: Sequence[int]) -> torch.Tensor:
    """The tensor laid out `repeats` times along each dim; more repeats than dims add dims in front."""
    missing = len(repeats) - self.dim()
    if missing < 0 or any(r < 0 for r in repeats):
        raise Declined("repeats that do not fit the dims")
    x = self.view((1,) * missing + tuple(self.shape)) if self.is_contiguous() else self[(None,) * missing]
    return apply_maps(x, [np.tile(np.arange(n), r).tolist() for n, r in zip(x.shape, repeats, strict=True)])


def constant_pad_nd(self: torch.Tensor, pad: Sequence[int], value: Operand = 0) -> torch.Tensor:
    """`pad` = (before, after) of the last dim, then of the one before it; negative numbers cut."""
    sizes = list(self.shape)
    if len(pad) % 2 or len(pad) > 2 * len(sizes):
        raise Declined("a padding that does not fit the dims")
    if is_channels_last(self) or (isinstance(value, float) and not self.is_floating_point()):
        raise Declined("another memory format")
    maps: list[Sequence[int] | None] = [None] * len(sizes)
    for k in range(len(pad) // 2):
        d, before, after = len(sizes) - 1 - k, pad[2 * k], pad[2 * k + 1]
        if sizes[d] + before + after < 0:
            raise Declined("a padding that does not fit the dims")
        at = np.arange(-before, sizes[d] + after)
        maps[d] = np.where((at >= 0) & (at < sizes[d]), at, -1).tolist()
    return apply_maps(self, maps, value)


def _reflected(n: int, before: int, after: int) -> list[int]:
    if before >= n or after >= n:
        raise Declined("a reflection wider than the dim")
    at = np.arange(-before, n + after)
    at = np.abs(at)
    folded: list[int] = np.where(at >= n, 2 * (n - 1) - at, at).tolist()
    return folded


def _replicated(n: int, before: int, after: int) -> list[int]:
    clipped: list[int] = np.clip(np.arange(-before, n + after), 0, n - 1).tolist()
    return clipped


Fold = Callable[[int, int, int], list[int]]


def _pad_maps(x: torch.Tensor, padding: Sequence[int], fold: Fold) -> list[list[int] | None]:
    num = len(padding) // 2
    if x.dim() not in (num + 1, num + 2) or any(n == 0 for n in x.shape[1:]):
        raise Declined("a padding that does not fit the dims")
    maps: list[list[int] | None] = [None] * x.dim()
    for k in range(num):
        d, before, after = x.dim() - 1 - k, padding[2 * k], padding[2 * k + 1]
        if x.shape[d] + before + after <= 0:
            raise Declined("a padding that does not fit the dims")
        maps[d] = fold(x.shape[d], before, after)
    return maps


def padding(fold: Fold) -> Callable[..., torch.Tensor]:
    """Padding of the last dims by elements of the tensor itself."""

    def entry(self: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        if is_channels_last(self):
            raise Declined("another memory format")
        return apply_maps(self, _pad_maps(self, padding, fold))

    return entry


def padding_backward(fold: Fold) -> Callable[..., torch.Tensor]:
    """The gradient of a padding: what each element was taken for, summed dim by dim, in float32 for half types."""

    def entry(grad_output: torch.Tensor, self: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        if is_channels_last(self) or not self.is_floating_point():
            raise Declined("another memory format")
        maps = _pad_maps(self, padding, fold)
        shape = [n if m is None else len(m) for n, m in zip(self.shape, maps, strict=True)]
        if list(grad_output.shape) != shape:
            raise Declined("a gradient of another shape")
        grad = grad_output if self.dtype is torch.float64 else grad_output.to(torch.float32)
        for d, m in enumerate(maps):
            if m is not None:
                index = torch.tensor(m, dtype=torch.int64).to(grad.device)
                size = [*grad.shape[:d], self.shape[d], *grad.shape[d + 1 :]]
                total = torch.empty(size, dtype=grad.dtype, device=grad.device)
                grad = scatter.index_add_(zero_(total, out=total), d, index, grad)
        return grad.to(self.dtype)

    return entry


reflection = padding(_reflected)
reflection_backward = padding_backward(_reflected)
replication = padding(_replicated)
replication_backward = padding_backward(_replicated)


def _triangle(self: torch.Tensor, diagonal: int, upper: bool) -> torch.Tensor:
    if self.dim() < 2:
        raise Declined("a triangle of a vector")
    out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
    x, y = (torch.view_as_real(t) if t.is_complex() else t for t in (self.contiguous(), out))
    storage_type(x.dtype)
    if y.numel():
        row = tiles.of(x.device)
        block = tiles.block(y.numel(), row.flat)
        launch(
            triangle, (triton.cdiv(y.numel(), block),), x, y, y.numel(), self.shape[-2], self.shape[-1], diagonal,
            UPPER=upper, WORDS=2 if self.is_complex() else 1, BLOCK=block, num_warps=row.num_warps,
        )  # fmt: skip
    return out


def tril(self: torch.Tensor, diagonal: int = 0) -> torch.Tensor:
    """Zero above the diagonal."""
    return _triangle(self, diagonal, upper=False)


def triu(self: torch.Tensor, diagonal: int = 0) -> torch.Tensor:
    """Zero below the diagonal."""
    return _triangle(self, diagonal, upper=True)


def eye(n: int, m: int | None = None, *, out: torch.Tensor) -> torch.Tensor:
    """Ones on the diagonal of [n, m], zeros elsewhere; `out` is given its size."""
    shape = (n, n if m is None else m)
    if min(shape) < 0:
        raise Declined("a negative size")
    if tuple(out.shape) != shape:
        out.resize_(shape)
    zero_(out, out=out)
    diagonal = out.diagonal()
    fill_(diagonal, 1, out=diagonal)
    return out

