"""What a sink reads: a walk from its operands through the expressions that will be written into its loops.

Along the walk each dimension of a value is the number of a dimension of the sink's loops, or None where it is neither
constant nor one of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, shape_of

# For each dimension of a value: a loop dimension, -1 where the index is constant, None where it is anything else.
Dims = tuple[int | None, ...]
_CONSTANT = -1


@dataclass(frozen=True)
class Visit:
    """One value read at an index described by `dims`."""

    value: Value
    dims: Dims


Stop = Callable[[Visit], bool]


def visits(value: Value, dims: Dims, stop: Stop) -> Iterator[Visit]:
    """Every block that evaluating `value` at `dims` evaluates, itself first; nothing beyond a visit where
    `stop` holds."""
    seen: set[Visit] = set()
    waiting = [Visit(value, dims)]
    while waiting:
        visit = waiting.pop()
        if visit in seen or not isinstance(visit.value.type, BlockType):
            continue
        seen.add(visit)
        yield visit
        owner = visit.value.owner
        if not stop(visit) and isinstance(owner, Op):
            waiting += [Visit(operand, inner) for operand, inner in operands(owner, visit.dims)]


def operands(op: Op, dims: Dims) -> Iterator[tuple[Value, Dims]]:
    """The operands of a lazily computed operation and where each is read for a result at `dims`."""
    source = op.operands[0] if op.operands else None
    if op.name == "expand_dims" and source is not None:
        axis = op.attrs["axis"]
        yield source, dims[:axis] + dims[axis + 1 :]
    elif op.name == "broadcast" and source is not None:
        yield source, tuple(_CONSTANT if size == 1 else d for size, d in zip(shape_of(source.type), dims, strict=True))
    elif op.name == "trans" and source is not None:
        inner: list[int | None] = [None] * len(dims)
        for position, origin in enumerate(op.attrs["order"]):
            inner[origin] = dims[position]
        yield source, tuple(inner)
    elif op.name == "gather":
        source, indices = op.operands
        axis = op.attrs["axis"]
        yield source, (*dims[:axis], None, *dims[axis + 1 :])
        yield indices, dims
    elif op.name in ("fp4_to_fp", "exchange") and source is not None:
        axis = op.attrs["axis"]
        yield source, (*dims[:axis], None, *dims[axis + 1 :])
    elif op.name in ("reshape", "join", "split", "cat"):
        for operand in op.operands:
            yield operand, (None,) * len(shape_of(operand.type))
    else:
        for operand in op.operands:
            if isinstance(operand.type, BlockType):
                yield operand, dims


def identity(rank: int) -> Dims:
    return tuple(range(rank))
