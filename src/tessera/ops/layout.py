"""Broadcasting, output strides and the collapsing of dims, by the rules of PyTorch's TensorIterator.

In:  shapes and strides of operands, in elements.
Out: a `Plan`: the output's shape and strides, and the same loop nest with as few dims as possible, innermost dim first.
Source: "How to use TensorIterator" in PyTorch's wiki, and the behaviour of torch.Tensor.stride on results.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from tessera.ops.declined import Declined

Shape = tuple[int, ...]
Layout = tuple[Shape, Shape]  # shape, strides


# So many elements side by side are worth being read together and turned.
_TURNED = 8


@dataclass(frozen=True)
class Plan:
    """`sizes` and `strides[operand]` run from the innermost collapsed dim outwards; the output is the last operand."""

    shape: Shape
    out_strides: Shape
    sizes: Shape
    strides: tuple[Shape, ...]

    @property
    def flat(self) -> bool:
        """Every operand is either dense in the same order as the output, or one element for all."""
        return len(self.sizes) <= 1 and all(s in ((1,), (0,), ()) for s in self.strides)

    @property
    def turned(self) -> bool:
        """Does memory run along the second dim for an operand, and not along the innermost?"""
        return len(self.sizes) > 1 and self.sizes[1] >= _TURNED and any(_runs_along(own, 1) for own in self.strides)


def broadcast_shape(shapes: tuple[Shape, ...]) -> Shape:
    """The common shape of `shapes`; declines when there is none, so that the vendor words the error."""
    rank = max((len(shape) for shape in shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for dim, size in enumerate(shape, rank - len(shape)):
            if size != 1:
                if result[dim] not in (1, size):
                    raise Declined("shapes do not broadcast")
                result[dim] = size
    return tuple(result)


def _expand(layout: Layout, shape: Shape) -> Shape:
    """Strides of an operand seen as `shape`: 0 along every dim it is broadcast over."""
    own_shape, own_strides = layout
    missing = len(shape) - len(own_shape)
    pairs = zip(own_shape, own_strides, shape[missing:], strict=True)
    return (0,) * missing + tuple(0 if size == 1 and want != 1 else stride for size, stride, want in pairs)


def _order(shape: Shape, operands: tuple[Shape, ...]) -> list[int]:
    """Dims from the innermost outwards: insertion sort by stride, where an operand that is broadcast has no say."""
    order = list(range(len(shape) - 1, -1, -1))
    for i in range(1, len(order)):
        at = i
        for before in range(i - 1, -1, -1):
            verdict = _compare(order[before], order[at], shape, operands)
            if verdict > 0:
                order[before], order[at] = order[at], order[before]
                at = before
            elif verdict < 0:
                break
    return order


def _compare(first: int, second: int, shape: Shape, operands: tuple[Shape, ...]) -> int:
    for strides in operands:
        a, b = strides[first], strides[second]
        if a == 0 or b == 0:
            continue
        if a != b:
            return -1 if a < b else 1
        if shape[first] > shape[second]:
            return 1
    return 0


def _dense(shape: Shape, order: list[int]) -> Shape:
    """Strides of a dense tensor of `shape` whose dims lie in memory in `order`, innermost first."""
    strides, step = [0] * len(shape), 1
    for dim in order:
        strides[dim] = step
        step *= max(shape[dim], 1)
    return tuple(strides)


def _collapse(shape: Shape, order: list[int], operands: tuple[Shape, ...]) -> tuple[Shape, tuple[Shape, ...]]:
    """Merge neighbouring dims that every operand walks with one step; dims of size 1 vanish."""
    sizes: list[int] = []
    strides: list[list[int]] = [[] for _ in operands]
    for dim in order:
        if shape[dim] == 1:
            continue
        if sizes and all(mine[-1] * sizes[-1] == full[dim] for mine, full in zip(strides, operands, strict=True)):
            sizes[-1] *= shape[dim]
            continue
        sizes.append(shape[dim])
        for mine, full in zip(strides, operands, strict=True):
            mine.append(full[dim])
    return tuple(sizes), tuple(tuple(mine) for mine in strides)


def _runs_along(strides: Shape, dim: int) -> bool:
    return strides[dim] == 1 and strides[0] > 1


def _beside(sizes: Shape, strides: tuple[Shape, ...]) -> tuple[Shape, tuple[Shape, ...]]:
    """The same nest with the dim second that memory runs along for most operands that it does not run along the
    innermost one for: those two are walked in blocks."""
    votes = [sizes[dim] >= _TURNED and sum(_runs_along(own, dim) for own in strides) for dim in range(1, len(sizes))]
    if not any(votes):
        return sizes, strides
    second = 1 + votes.index(max(votes))
    order = [0, second, *(dim for dim in range(1, len(sizes)) if dim != second)]
    return tuple(sizes[dim] for dim in order), tuple(tuple(own[dim] for dim in order) for own in strides)


@functools.lru_cache(maxsize=4096)
def plan(inputs: tuple[Layout, ...], out: Layout | None) -> Plan:
    """The loop nest for `inputs` and the output; `out` is given where the output's memory already exists."""
    shape = broadcast_shape(tuple(layout[0] for layout in inputs)) if inputs else ()
    if out is not None:
        if inputs and broadcast_shape((shape, out[0])) != out[0]:
            raise Declined("the output would need another shape")
        shape = out[0]
    operands = tuple(_expand(layout, shape) for layout in inputs)
    leading = () if out is None else (out[1],)
    order = _order(shape, leading + operands)
    out_strides = _dense(shape, order) if out is None else out[1]
    sizes, strides = _collapse(shape, order, (*operands, out_strides))
    return Plan(shape, out_strides, *_beside(sizes, strides))


def is_channels_last(x: torch.Tensor) -> bool:
    """Whether PyTorch would lay the result of a layout-keeping operator on `x` out in channels-last."""
    suggested: torch.memory_format = torch._prims_common.suggest_memory_format(x)
    return suggested is not torch.contiguous_format


def layout_of(x: torch.Tensor) -> torch.memory_format:
    """How PyTorch lays out the result of a layout-keeping operator on `x`."""
    if x.is_contiguous():
        return torch.contiguous_format
    suggested: torch.memory_format = torch._prims_common.suggest_memory_format(x)
    return suggested
