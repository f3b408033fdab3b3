"""Each element of the output is an element of the input or a constant: flip, roll, repeat, padding, triangles.

Along each dim the output is up to three stretches: what was pushed in before, the input itself, what was pushed in
behind. A program writes rows of the output, stretch by stretch; neighbouring dims that move as one are one dim.
Backward operators of padding add up along one dim after the other what was taken from one place.

Formula:
    out[c0, c1, …] = x[t0(c0), t1(c1), …], or the constant where t(c) lies outside of x
    flip: t(c) = n - 1 - c;  roll: (c - shift) mod n;  repeat: c mod n
    padding: t(c) = c - before, reflected at 0 and n - 1, clipped to them, or left as it is
    tril: x[i, j] where j - i ≤ diagonal, else 0;  triu: where j - i ≥ diagonal
Shapes: x of up to 5 dims that do not move as one; padding of the last 1 to 3 dims, and of any dims by a constant.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8, bool and complex numbers, moved bit by
bit; gradients of padding take floating types and are summed in float32 for the half types.
Limits: complex numbers are padded by 0 alone; padding of channels-last tensors is left to PyTorch, which keeps that
layout.
Source: the pages of torch.flip, torch.roll, torch.Tensor.repeat, torch.nn.functional.pad, torch.tril and torch.eye
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from tessera.ops import scatter, tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, storage_type
from tessera.ops.launch import launch
from tessera.ops.layout import is_channels_last
from tessera.ops.pointwise import clone, fill_, zero_
from tessera.ops.rearrange_kernels import CLIPPED, FILLED, MIRRORED, ROLLED, WITHIN, rearrange, triangle

MOST_DIMS = 5
# Elements of a row that are read backwards at a time; memory is fetched ahead upwards.
_MOST_TURNED = 512
# Up to so many elements at the end of a row cost less one by one than as a masked vector.
_SHORT_EDGE = 4
# Rows up to this long get a block of their own size.
_NARROW = 64
# Dims that move as one with whole dims inside of them.
_BY_SHIFT = (WITHIN.value, ROLLED.value, FILLED.value)


@dataclass(frozen=True, kw_only=True)
class Dim:
    """A dim of the output: `size` places; place c comes from c - shift of an input of `length` elements, which lie
    `step` apart."""

    size: int
    length: int
    shift: int = 0
    step: int

    @property
    def is_whole(self) -> bool:
        return self.size == self.length and self.shift == 0

    @property
    def longest_edge(self) -> int:
        """How many places are pushed in at one end."""
        return max(self.shift, self.size - self.length - self.shift)


def merged(dims: Sequence[Dim], mode: int) -> list[Dim]:
    """The same with as few dims as possible; at least one."""
    found: list[Dim] = []
    for dim in dims:
        if dim.size == 1 and dim.is_whole:
            continue
        outer, n = found[-1] if found else None, dim.length
        alike = outer is not None and (outer.is_whole or mode in _BY_SHIFT) and (dim.step > 0 or n < _MOST_TURNED)
        if outer is not None and alike and dim.is_whole and outer.step == n * dim.step:
            found[-1] = Dim(size=outer.size * n, length=outer.length * n, shift=outer.shift * n, step=dim.step)
        else:
            found.append(dim)
    return found or [Dim(size=1, length=1, step=1)]


def _moved_as(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """The same memory in a type that kernels move, and how many of its elements make one of x."""
    if x.dtype in _OF_PARTS:
        return torch.view_as_real(x), 2
    if x.dtype in _SAME_BITS:
        return x.view(_SAME_BITS[x.dtype]), 1
    storage_type(x.dtype)
    return x, 1


_OF_PARTS = frozenset({torch.complex128})
_SAME_BITS = {torch.bool: torch.uint8, torch.complex32: torch.int32, torch.complex64: torch.int64}


def place(
    x: torch.Tensor, dims: Sequence[Dim], mode: int, out: torch.Tensor, start: int = 0, value: Operand = 0
) -> torch.Tensor:
    """Write `out`, which is contiguous and has `dims` for its dims, from x[start:]."""
    if out.numel() == 0:
        return out
    (given, parts), (to, _) = _moved_as(x), _moved_as(out)
    dims = [replace(dim, step=dim.step * parts) for dim in dims] + [Dim(size=parts, length=parts, step=1)]
    *outer, last = merged(dims, mode)
    if len(outer) >= MOST_DIMS:
        raise Declined(f"more than {MOST_DIMS} dims")
    rows, row = math.prod(dim.size for dim in outer), tiles.of(x.device)
    start, pitch, end = start * parts, last.size, 0
    if outer and outer[-1].step < 0:
        # From the last row on, so that x is read upwards, as memory is fetched ahead.
        end, pitch = (rows - 1) * pitch, -pitch
        start += sum((dim.size - 1) * dim.step for dim in outer)
        outer = [replace(dim, step=-dim.step) for dim in outer]
    cols = _columns(last.size, row.flat if last.step >= 0 else _MOST_TURNED)
    chunks, rows_each = tiles.parts(last.size, cols), max(1, row.flat // last.size)
    steps = [Dim(size=1, length=1, step=0)] * (MOST_DIMS - 1 - len(outer)) + outer
    numbers = [n for dim in reversed(steps) for n in (dim.size, dim.length, dim.shift, dim.step)]
    launch(
        rearrange, (tiles.parts(rows, rows_each) * chunks,), _from(given, start), _from(to, end),
        *_number(value, out),
        rows, chunks, rows_each, pitch, last.size, last.length, last.shift, abs(last.step), *numbers,
        MODE=mode, OUTER=len(outer), SIGN=(last.step > 0) - (last.step < 0), STORE=tiles.store_modifier(out),
        EDGE=0 if last.longest_edge <= _SHORT_EDGE else cols, COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip
    return out


def _number(value: Operand, out: torch.Tensor) -> tuple[float, int]:
    """The constant as a kernel takes it for floating types, and for others."""
    assert isinstance(value, int | float), "what a type holds is a number"
    return (float(value), 0) if out.is_floating_point() else (0.0, int(value))


def _from(x: torch.Tensor, start: int) -> torch.Tensor:
    return x.as_strided((1,), (1,), x.storage_offset() + start) if start else x


def _columns(size: int, most: int) -> int:
    """The block of a row: a short one is held closely, as every row has to be masked where it ends."""
    return max(16, tiles.power_of_2(size)) if size <= _NARROW else tiles.block(size, most)


def _new(x: torch.Tensor, dims: Sequence[Dim]) -> torch.Tensor:
    return torch.empty([dim.size for dim in dims], dtype=x.dtype, device=x.device)


def _whole(x: torch.Tensor) -> list[Dim]:
    return [Dim(size=n, length=n, step=step) for n, step in zip(x.shape, x.stride(), strict=True)]


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
    # The result is laid out as `self` is: its dims are taken in the order in which they lie in memory.
    strides = torch.empty_like(self).stride()
    order = sorted(range(self.dim()), key=lambda d: (-strides[d], d))
    taken = _whole(self)
    start = sum((taken[d].size - 1) * taken[d].step for d in wanted)
    taken = [replace(dim, step=-dim.step) if d in wanted else dim for d, dim in enumerate(taken)]
    taken = [taken[d] for d in order]
    out = place(self, taken, WITHIN.value, _new(self, taken), start)
    return out.permute([order.index(d) for d in range(self.dim())])


def roll(self: torch.Tensor, shifts: Sequence[int], dims: Sequence[int] = ()) -> torch.Tensor:
    """Elements moved along dims, those pushed out coming in again; without dims along the flattened tensor."""
    if not dims and len(shifts) == 1:
        return roll(self.contiguous().view(-1), shifts, [0]).view(self.shape)
    wanted = _dims(self, dims)
    if len(shifts) != len(wanted) or not wanted or self.dim() == 0:
        raise Declined("shifts that do not fit the dims")
    taken = _whole(self)
    for shift, d in zip(shifts, wanted, strict=True):
        taken[d] = replace(taken[d], shift=(taken[d].shift + shift) % max(taken[d].size, 1))
    return place(self, taken, ROLLED.value, _new(self, taken))


def narrow_copy(self: torch.Tensor, dim: int, start: int, length: int) -> torch.Tensor:
    """`length` elements along `dim` from `start` on, in new contiguous memory."""
    if not -self.dim() <= dim < self.dim():
        raise Declined("a dim that there is not")
    size = self.shape[dim]
    first = start + size if start < 0 else start
    if length < 0 or first < 0 or first + length > size:
        raise Declined("a range outside of the dim")
    return clone(self.narrow(dim, first, length), memory_format=torch.contiguous_format)


def repeat(self: torch.Tensor, repeats: Sequence[int]) -> torch.Tensor:
    """The tensor laid out `repeats` times along each dim; more repeats than dims add dims in front."""
    missing = len(repeats) - self.dim()
    if missing < 0 or any(r < 0 for r in repeats):
        raise Declined("repeats that do not fit the dims")
    x = self[(None,) * missing] if missing else self
    shape = [n * r for n, r in zip(x.shape, repeats, strict=True)]
    taken = [dim for r, own in zip(repeats, _whole(x), strict=True) for dim in (Dim(size=r, length=r, step=0), own)]
    if len(merged(taken, WITHIN.value)) + (x.dtype in _OF_PARTS) > MOST_DIMS:
        # The innermost of the repeated dims first.
        inner = max(d for d, r in enumerate(repeats) if r > 1)
        once = repeat(x, [r if d == inner else 1 for d, r in enumerate(repeats)])
        return repeat(once, [1 if d == inner else r for d, r in enumerate(repeats)])
    out = torch.empty(shape, dtype=x.dtype, device=x.device)
    return place(x, taken, WITHIN.value, out)


def _padded(x: torch.Tensor, padding: Sequence[int]) -> list[Dim]:
    """The dims of x with (before, after) of the last dim, then of the one before it; negative numbers cut."""
    dims = _whole(x)
    for k, (before, after) in enumerate(zip(padding[::2], padding[1::2], strict=True)):
        dim = dims[-1 - k]
        dims[-1 - k] = replace(dim, size=dim.length + before + after, shift=before)
    return dims


def _fits(value: Operand, dtype: torch.dtype) -> bool:
    """Whether the type holds the constant, which PyTorch asks for; of complex numbers 0 is taken."""
    if isinstance(value, complex | torch.Tensor):
        return False
    if dtype is torch.bool or dtype.is_complex:
        return value == 0 or (value == 1 and not dtype.is_complex)
    if dtype.is_floating_point:
        return not math.isfinite(value) or abs(value) <= torch.finfo(dtype).max
    return isinstance(value, int) and torch.iinfo(dtype).min <= value <= torch.iinfo(dtype).max


def constant_pad_nd(self: torch.Tensor, pad: Sequence[int], value: Operand = 0) -> torch.Tensor:
    """`pad` = (before, after) of the last dim, then of the one before it; negative numbers cut."""
    if len(pad) % 2 or len(pad) > 2 * self.dim():
        raise Declined("a padding that does not fit the dims")
    if is_channels_last(self):
        raise Declined("another memory format")
    if self.dtype is torch.bool:
        value = bool(value)
    elif isinstance(value, float) and math.isfinite(value) and not (self.is_floating_point() or self.is_complex()):
        value = int(value)
    if not _fits(value, self.dtype):
        raise Declined("a constant that the type does not hold")
    dims = _padded(self, pad)
    if any(dim.size < 0 for dim in dims):
        raise Declined("a padding that does not fit the dims")
    return place(self, dims, FILLED.value, _new(self, dims), value=value)


def _pad_dims(x: torch.Tensor, padding: Sequence[int], mode: int) -> list[Dim]:
    num = len(padding) // 2
    if x.dim() not in (num + 1, num + 2) or any(n == 0 for n in x.shape[1:]):
        raise Declined("a padding that does not fit the dims")
    dims = _padded(x, padding)
    if any(dim.size <= 0 for dim in dims[-num:]):
        raise Declined("a padding that does not fit the dims")
    if mode == MIRRORED.value and any(d.longest_edge >= d.length for d in dims[-num:]):
        raise Declined("a reflection wider than the dim")
    return dims


def padding(mode: int) -> Callable[..., torch.Tensor]:
    """Padding of the last dims by elements of the tensor itself."""

    def entry(self: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        if is_channels_last(self):
            raise Declined("another memory format")
        dims = _pad_dims(self, padding, mode)
        return place(self, dims, mode, _new(self, dims))

    return entry


def _places(dim: Dim, mode: int) -> torch.Tensor:
    """Where each place of the output comes from."""
    at = torch.arange(dim.size) - dim.shift
    if mode == MIRRORED.value:
        at = at.abs()
        return torch.where(at >= dim.length, 2 * (dim.length - 1) - at, at)
    return at.clamp(0, dim.length - 1)


def padding_backward(mode: int) -> Callable[..., torch.Tensor]:
    """The gradient of a padding: what each element was taken for, summed dim by dim, in float32 for half types."""

    def entry(grad_output: torch.Tensor, self: torch.Tensor, padding: Sequence[int]) -> torch.Tensor:
        if is_channels_last(self) or not self.is_floating_point():
            raise Declined("another memory format")
        dims = _pad_dims(self, padding, mode)
        if list(grad_output.shape) != [dim.size for dim in dims]:
            raise Declined("a gradient of another shape")
        grad = grad_output if self.dtype is torch.float64 else grad_output.to(torch.float32)
        for d, dim in enumerate(dims):
            if not dim.is_whole:
                size = [*grad.shape[:d], dim.length, *grad.shape[d + 1 :]]
                total = torch.empty(size, dtype=grad.dtype, device=grad.device)
                index = _places(dim, mode).to(grad.device)
                grad = scatter.index_add_(zero_(total, out=total), d, index, grad)
        return grad.to(self.dtype)

    return entry


reflection = padding(MIRRORED.value)
reflection_backward = padding_backward(MIRRORED.value)
replication = padding(CLIPPED.value)
replication_backward = padding_backward(CLIPPED.value)


def _triangle(self: torch.Tensor, diagonal: int, upper: bool) -> torch.Tensor:
    if self.dim() < 2:
        raise Declined("a triangle of a vector")
    x = self.contiguous()
    out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
    if out.numel():
        (given, words), (to, _) = _moved_as(x), _moved_as(out)
        height, size, row = x.shape[-2], x.shape[-1] * words, tiles.of(x.device)
        cols = _columns(size, row.flat)
        chunks, rows_each, rows = tiles.parts(size, cols), max(1, row.flat // size), x.numel() * words // size
        launch(
            triangle, (tiles.parts(rows, rows_each) * chunks,), given, to, rows, chunks, rows_each, height, size,
            diagonal, UPPER=upper, WORDS=words, STORE=tiles.store_modifier(out), COLS=cols, num_warps=row.num_warps,
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
