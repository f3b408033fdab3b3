"""Operators over lists of tensors: one launch for a whole list.

A program computes one chunk of one tensor; the tensors' addresses, the chunks and the numbers of each tensor are small
tables in memory. Lists whose tensors differ in type or layout take the single operator's entry, tensor by tensor. Any
scalar function of up to 3 tensors and a number makes such an operator.

Formula:
    out[t][i] = fn(x[t][i], y[t][i] or number[t], …)    for tensor t of the list and element i of it
Shapes: lists of equal length; the tensors at one place of the lists have one shape, tensors of one list may differ.
Types: float64, float32, float16 and bfloat16 in one launch, computed in float32 for the half types; other types, and
lists of several types, tensor by tensor.
Source: torch._foreach_add and its like, each as the single operator of the same name; torch.optim.Optimizer, for which
they are made
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, compute_type
from tessera.ops.launch import Addresses, Given, Handed, Numbers, ValueNeeded, fixed, launch, real

Entry = Callable[..., Any]
Tensors = Sequence[torch.Tensor]
Number = bool | int | float
Out = Tensors | None

_ELEMENTS = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
}


@triton.jit
def start(addresses, row, num, owner, ELEMENT: tl.constexpr):
    """Where the tensor `owner` of list `row` begins."""
    return tl.load(addresses + row * num + owner).to(tl.pointer_type(ELEMENT))


@triton.jit
def element(addresses, row, num, owner, at, mask, ELEMENT: tl.constexpr, COMPUTE: tl.constexpr):
    """Elements `at` of the tensor `owner` of list `row`."""
    return tl.load(start(addresses, row, num, owner, ELEMENT) + at, mask=mask).to(COMPUTE)


@triton.jit
def chunk(owners, starts, sizes, BLOCK: tl.constexpr):
    """(tensor, offsets in it, which of them are inside) of this program."""
    program = tl.program_id(0)
    owner = tl.load(owners + program)
    at = tl.load(starts + program) + tl.arange(0, BLOCK)
    return owner, at, at < tl.load(sizes + owner)


@triton.jit
def many(
    addresses, numbers, owners, starts, sizes, num,
    FN: tl.constexpr, LISTS: tl.constexpr, NUMBERED: tl.constexpr,
    ELEMENT: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[t][i] = FN(list 0[t][i], …, numbers[t]); row LISTS of the addresses is the output. Grid: (chunks,)."""
    owner, at, mask = chunk(owners, starts, sizes, BLOCK)
    x = element(addresses, 0, num, owner, at, mask, ELEMENT, COMPUTE)
    if NUMBERED:
        n = tl.full([BLOCK], 0, COMPUTE) + tl.load(numbers + owner).to(COMPUTE)
    if LISTS == 1:
        value = FN(x, n) if NUMBERED else FN(x)
    else:
        y = element(addresses, 1, num, owner, at, mask, ELEMENT, COMPUTE)
        if LISTS == 2:
            value = FN(x, y, n) if NUMBERED else FN(x, y)
        else:
            z = element(addresses, 2, num, owner, at, mask, ELEMENT, COMPUTE)
            value = FN(x, y, z, n) if NUMBERED else FN(x, y, z)
    tl.store(start(addresses, LISTS, num, owner, ELEMENT) + at, value.to(ELEMENT), mask=mask)


def chunks(lists: Sequence[Tensors], block: int) -> tuple[Any, ...]:
    """(addresses, owners, starts, sizes) of lists of tensors with equal sizes."""
    addresses = Addresses(tuple(t for tensors in lists for t in tensors))
    tables = _chunk_tables(tuple(t.numel() for t in lists[0]), block, lists[0][0].device)
    return addresses, *(fixed(table) for table in tables)


@functools.lru_cache(maxsize=64)
def _chunk_tables(sizes: tuple[int, ...], block: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """(owners, starts, sizes): the tensor and the offset in it of each chunk, and the size of each tensor."""
    counts = -(-np.array(sizes, dtype=np.int64) // block)
    owners = np.repeat(np.arange(len(sizes)), counts)
    first = np.repeat(np.cumsum(counts) - counts, counts)
    starts = (np.arange(len(owners)) - first) * block
    return tuple(table(values, device) for values in (owners, starts, np.array(sizes, dtype=np.int64)))


def table(values: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    """A table in the memory of `device`."""
    made = torch.from_numpy(values)
    return made if device.type == "cpu" else made.to(device)


def alike(lists: Sequence[Tensors]) -> bool:
    """Whether one kernel can walk all lists: one floating type, and at each place dense tensors of one layout."""
    dtype, device = lists[0][0].dtype, lists[0][0].device
    if dtype not in _ELEMENTS or any(len(tensors) != len(lists[0]) for tensors in lists):
        return False
    if any(t.dtype is not dtype or t.device != device for tensors in lists for t in tensors):
        return False
    layouts = [[(t.shape, t.stride()) for t in tensors] for tensors in lists]
    if any(one != layouts[0] for one in layouts[1:]):
        return False
    return all(t.is_contiguous() or torch.empty_like(t).stride() == t.stride() for t in lists[0])


def element_type(dtype: torch.dtype) -> Any:
    """The Triton type of an element in memory."""
    return _ELEMENTS[dtype]


def _run(fn: Any, lists: Sequence[Tensors], numbers: Sequence[Handed], out: Tensors) -> None:
    first = lists[0][0]
    row = tiles.of(first.device)
    addresses, owners, starts, sizes = chunks([*lists, out], row.flat)
    if owners.numel() == 0:
        return
    given = Numbers(tuple(real(n) for n in numbers), first.device) if numbers else None
    launch(
        many, (owners.numel(),), addresses, given, owners, starts, sizes, len(lists[0]),
        FN=fn, LISTS=len(lists), NUMBERED=bool(numbers), ELEMENT=_ELEMENTS[first.dtype],
        COMPUTE=compute_type(first.dtype), BLOCK=row.flat, num_warps=row.num_warps,
    )  # fmt: skip


def over(fn: Any, single: Entry, lists: Sequence[Tensors], numbers: Sequence[Handed], out: Out, **options: Any) -> Any:
    """`fn` over every place of the lists in one launch, or `single`, tensor by tensor, with one number each if any."""
    num = len(lists[0])
    if num == 0 or any(len(tensors) != num for tensors in lists) or (numbers and len(numbers) != num):
        raise Declined("lists of different lengths")
    walked = fn is not None and all(isinstance(n, Handed) for n in numbers)
    if walked and alike([*lists, *([out] if out is not None else [])]):
        result = [torch.empty_like(t) for t in lists[0]] if out is None else out
        _run(fn, lists, numbers, result)
        return result
    if any(isinstance(n, Given) for n in numbers):
        raise ValueNeeded
    found = []
    for place in range(num):
        operands = [tensors[place] for tensors in lists] + ([numbers[place]] if numbers else [])
        found.append(single(*operands, **options, **({} if out is None else {"out": out[place]})))
    return found


def unary(fn: Any, single: Entry) -> Entry:
    """Each tensor by itself."""

    def entry(self: Tensors, *, out: Out = None) -> Any:
        return over(fn, single, [self], [], out)

    return entry


def without_booleans(entry: Entry) -> Entry:
    """`entry`, for an operator that PyTorch does not define on booleans."""

    @functools.wraps(entry)
    def checked(*args: Any, **kwargs: Any) -> Any:
        given = (x for a in (*args, *kwargs.values()) for x in (a if isinstance(a, list | tuple) else [a]))
        if any(x.dtype is torch.bool if isinstance(x, torch.Tensor) else isinstance(x, bool) for x in given):
            raise Declined("not defined for booleans")
        return entry(*args, **kwargs)

    return checked


def with_list(fn: Any, single: Entry) -> Entry:
    """Each tensor with its partner in a second list."""

    def entry(self: Tensors, other: Tensors, *, out: Out = None) -> Any:
        return over(fn, single, [self, other], [], out)

    return entry


def with_scaled_list(fn: Any, scaled: Any, single: Entry) -> Entry:
    """add and sub: the second list times alpha."""

    def entry(self: Tensors, other: Tensors, *, alpha: Handed = 1, out: Out = None) -> Any:
        if alpha == 1:
            return over(fn, single, [self, other], [], out)

        def one(x: torch.Tensor, y: torch.Tensor, a: Number, **options: Any) -> Any:
            return single(x, y, alpha=a, **options)

        return over(scaled, one, [self, other], [alpha] * len(self), out)

    return entry


def with_number(fn: Any, single: Entry) -> Entry:
    """Each tensor with one number."""

    def entry(self: Tensors, scalar: Handed, *, out: Out = None) -> Any:
        return over(fn, single, [self], [scalar] * len(self), out)

    return entry


def with_numbers(fn: Any, single: Entry) -> Entry:
    """Each tensor with its number."""

    def entry(self: Tensors, scalars: Sequence[Handed], *, out: Out = None) -> Any:
        return over(fn, single, [self], list(scalars), out)

    return entry


def with_tensor(single: Entry) -> Entry:
    """One tensor for all places."""

    def entry(self: Tensors, other: torch.Tensor, *, out: Out = None) -> Any:
        if other.dim():
            raise Declined("the other operand is not a scalar")
        return over(None, lambda x, **options: single(x, other, **options), [self], [], out)

    return entry


def with_scaled_tensor(single: Entry) -> Entry:
    """Each tensor and a 0-dim tensor times alpha."""

    def entry(self: Tensors, other: torch.Tensor, *, alpha: Number = 1, out: Out = None) -> Any:
        if other.dim():
            raise Declined("the other operand is not a scalar")
        return over(None, lambda x, **options: single(x, other, alpha=alpha, **options), [self], [], out)

    return entry


def _valued(single: Entry) -> Entry:
    def one(x: Any, first: Any, second: Any, value: Number, **options: Any) -> Any:
        return single(x, first, second, value=value, **options)

    return one


def products(fn: Any, single: Entry) -> Entry:
    """addcmul and addcdiv with one number."""

    def entry(self: Tensors, tensor1: Tensors, tensor2: Tensors, value: Handed = 1, *, out: Out = None) -> Any:
        return over(fn, _valued(single), [self, tensor1, tensor2], [value] * len(self), out)

    return entry


def products_each(fn: Any, single: Entry) -> Entry:
    """addcmul and addcdiv with a number for each place, as a list or as a tensor."""

    def entry(
        self: Tensors, tensor1: Tensors, tensor2: Tensors, scalars: Sequence[Handed] | torch.Tensor, *, out: Out = None
    ) -> Any:
        if isinstance(scalars, torch.Tensor) and (scalars.dim() != 1 or not scalars.is_contiguous()):
            raise Declined("numbers that are no vector")
        numbers = scalars.tolist() if isinstance(scalars, torch.Tensor) else list(scalars)
        return over(fn, _valued(single), [self, tensor1, tensor2], numbers, out)

    return entry


def lerp_number(fn: Any, single: Entry) -> Entry:
    """self + weight · (end - self) with one weight."""

    def entry(self: Tensors, tensors1: Tensors, weight: Handed, *, out: Out = None) -> Any:
        return over(fn, single, [self, tensors1], [weight] * len(self), out)

    return entry


def lerp_numbers(fn: Any, single: Entry) -> Entry:
    """As `lerp_number`, with a weight for each tensor."""

    def entry(self: Tensors, tensors1: Tensors, weight: Sequence[Handed], *, out: Out = None) -> Any:
        return over(fn, single, [self, tensors1], list(weight), out)

    return entry


def lerp_list(fn: Any, single: Entry) -> Entry:
    """As `lerp_number`, with a tensor of weights for each tensor."""

    def entry(self: Tensors, tensors1: Tensors, weights: Tensors, *, out: Out = None) -> Any:
        return over(fn, single, [self, tensors1, weights], [], out)

    return entry


def power_list(single: Entry) -> Entry:
    """Each tensor to the power of its partner."""

    def entry(self: Tensors, exponent: Tensors, *, out: Out = None) -> Any:
        return over(None, single, [self, exponent], [], out)

    return entry


def power_number(single: Entry) -> Entry:
    """Each tensor to the power of one number."""

    def entry(self: Tensors, exponent: Number, *, out: Out = None) -> Any:
        return over(None, single, [self], [exponent] * len(self), out)

    return entry


def power_numbers(single: Entry) -> Entry:
    """Each tensor to the power of its number."""

    def entry(self: Tensors, exponent: Sequence[Number], *, out: Out = None) -> Any:
        return over(None, single, [self], list(exponent), out)

    return entry


def number_to_powers(single: Entry) -> Entry:
    """One number to the power of each tensor."""

    def entry(self: Operand, exponent: Tensors, *, out: Out = None) -> Any:
        return over(None, lambda x, **options: single(self, x, **options), [exponent], [], out)

    return entry


def copy_list(single: Entry) -> Entry:
    """Each of src into its place of self; `out` is self."""

    def entry(self: Tensors, src: Tensors, non_blocking: bool = False, *, out: Tensors) -> Any:
        return over(None, lambda x, y, **options: single(x, y, **options), [self, src], [], out)

    return entry
