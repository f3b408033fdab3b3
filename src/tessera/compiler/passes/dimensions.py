"""Which dimensions of an operation's operands and results are one and the same.

    c = a + b            along each dimension an element of c needs those of a and b at its own index
    s = reduce(a, 1)     dimension 0 of s is dimension 0 of a; along dimension 1 elements of a are mixed
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tessera.compiler.passes.placement import LAZY
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, shape_of

# A dimension of a block.
Place = tuple[Value, int]

# Each element is computed from others at all indices along `axis`, but only at its own along the rest.
_ALONG_AXIS = frozenset({"gather", "exchange", "fp4_to_fp", "scan"})
_MIXED = frozenset({"cat", "unsplat"})
_SOURCES = frozenset({"constant", "splat", "make_range", "poison"})


def same(op: Op) -> Iterable[list[Place]]:
    """The dimensions of operands and results that are one and the same, element by element; those that appear nowhere
    are mixed."""
    blocks = blocks_of(op)
    if not blocks:
        return []
    if op.name in ("for", "if"):
        return _through(op)
    if op.name == "constant" and isinstance(op.attrs["value"], list):
        return []
    if op.name in _SOURCES:
        return [[(op.result, dim)] for dim in range(len(shape_of(op.result.type)))]
    if op.name == "broadcast":
        (source,), shape = op.operands, shape_of(op.result.type)
        sizes = enumerate(shape_of(source.type))
        return [[(op.result, dim)] if size != shape[dim] else [(op.result, dim), (source, dim)] for dim, size in sizes]
    if op.name == "expand_dims":
        axis = op.attrs["axis"]
        rank = len(shape_of(op.result.type))
        return [[(op.result, dim), (op.operands[0], dim - (dim > axis))] for dim in range(rank) if dim != axis]
    if op.name == "trans":
        return [[(op.result, dim), (op.operands[0], origin)] for dim, origin in enumerate(op.attrs["order"])]
    if op.name == "reduce":
        axis, rank = op.attrs["axis"], len(shape_of(op.operands[0].type))
        return [_at(op.operands, dim) + _at(op.results, dim - (dim > axis)) for dim in range(rank) if dim != axis]
    if op.name in ("reshape", "join", "split"):
        return list(_leading(op, blocks))
    if op.name in _ALONG_AXIS:
        return [_at(blocks, dim) for dim in range(len(shape_of(blocks[0].type))) if dim != op.attrs["axis"]]
    if op.name in _MIXED or op.attrs.get("pack", 1) != 1 or op.name not in LAZY:
        return []
    shapes = {shape_of(value.type) for value in blocks}
    return [_at(blocks, dim) for dim in range(len(shape_of(blocks[0].type)))] if len(shapes) == 1 else []


def blocks_of(op: Op) -> list[Value]:
    """The blocks among the operands and results of an operation."""
    return [value for value in (*op.operands, *op.results) if isinstance(value.type, BlockType)]


def _leading(op: Op, blocks: list[Value]) -> Iterator[list[Place]]:
    """The first dimensions, as far as they are the same on both sides of an operation that keeps row-major order."""
    before, after = shape_of(op.operands[0].type), shape_of(op.results[0].type)
    for dim, (left, right) in enumerate(zip(before, after, strict=False)):
        if left != right:
            return
        yield _at(blocks, dim)


def _through(op: Op) -> Iterator[list[Place]]:
    yielded = [region.block.terminator.operands for region in op.regions]
    sides = [op.results, *yielded, op.operands[3:], op.regions[0].block.args[1:]]
    if op.name == "if":
        sides = [op.results, *yielded]
    for together in zip(*sides, strict=True):
        for dim in range(len(shape_of(together[0].type))):
            yield _at(together, dim)


def _at(values: Iterable[Value], dim: int) -> list[Place]:
    return [(value, dim) for value in values if isinstance(value.type, BlockType)]
