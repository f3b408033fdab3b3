"""The rules of the tile IR, checked all at once: what a pass may rely on, and must leave true."""

from __future__ import annotations

from collections.abc import Iterator

from tessera.ir.nodes import Block, Function, Module, Op, Region, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of

_TERMINATORS = frozenset(
    ["return", "yield", "condition", "br", "cond_br", "reduce.return", "scan.return", "map_elementwise.return"]
)
# Results and operands of one shape.
_ELEMENTWISE = frozenset(
    ["addi", "subi", "muli", "addf", "subf", "mulf", "divf", "cmpi", "cmpf", "addptr", "andi", "ori"]
)


def verify(module: Module) -> list[str]:
    """Every fault of a module, each with the operation it was found at; an empty list when there is none."""
    return [fault for function in module.functions for fault in _function(function)]


def _function(function: Function) -> Iterator[str]:
    yield from _region(function.body, set(function.args))


def _region(region: Region, known: set[Value]) -> Iterator[str]:
    """`known` are the values that dominate the region. Blocks of a function's body stand in an order that dominance
    allows."""
    seen = set(known)
    for block in region.blocks:
        seen |= set(block.args)
        yield from _block(block, seen)


def _block(block: Block, known: set[Value]) -> Iterator[str]:
    if not block.ops or block.ops[-1].name not in _TERMINATORS:
        yield f"block {block.label or 'without a label'} does not end with a terminator"
    for op in block.ops:
        yield from _op(op, known)
        for inner in op.regions:
            yield from _region(inner, known)
        known |= set(op.results)


def _op(op: Op, known: set[Value]) -> Iterator[str]:
    for operand in op.operands:
        if operand not in known:
            yield f"{_name(op)} uses %{operand.name}, which is not defined before it"
    for result in op.results:
        if result.owner is not op:
            yield f"{_name(op)}: its result %{result.name} names another owner"
    if op.name in _ELEMENTWISE:
        shapes = {shape_of(value.type) for value in (*op.operands, *op.results)}
        if len(shapes) > 1:
            yield f"{_name(op)} mixes the shapes {', '.join(map(str, sorted(shapes)))}"
    if op.name in ("load", "store", "addptr") and not isinstance(element_of(op.operands[0].type), PointerType):
        yield f"{_name(op)} takes {op.operands[0].type} for an address"
    if op.name == "for":
        yield from _carried(op)
    if op.name == "insert":
        yield from _inserted(op)
    if op.name == "make_range":
        count = op.attrs["end"] - op.attrs["start"]
        if not isinstance(op.result.type, BlockType) or count != op.result.type.numel:
            yield f"{_name(op)} counts from {op.attrs['start']} to {op.attrs['end']} into {op.result.type}"


def _inserted(op: Op) -> Iterator[str]:
    """A part is one index wide along the axis, and like the whole otherwise."""
    whole, part, axis = shape_of(op.operands[0].type), shape_of(op.operands[1].type), op.attrs["axis"]
    if part != (*whole[:axis], 1, *whole[axis + 1 :]) or op.result.type != op.operands[0].type:
        yield f"{_name(op)} puts {op.operands[1].type} into {op.operands[0].type} along {axis}"


def _carried(loop: Op) -> Iterator[str]:
    """First values, arguments, yielded values and results of a loop agree in number and type."""
    body = loop.regions[0].block
    inits, args, yielded = loop.operands[3:], body.args[1:], body.terminator.operands
    rows = [[value.type for value in values] for values in (inits, args, yielded, loop.results)]
    if any(row != rows[0] for row in rows[1:]):
        listed = "; ".join(", ".join(map(str, row)) or "nothing" for row in rows)
        yield f"{_name(loop)} carries values that do not agree (first, argument, yielded, result): {listed}"


def _name(op: Op) -> str:
    results = ", ".join(f"%{result.name}" for result in op.results)
    return f"{results} = {op.name}" if results else op.name
