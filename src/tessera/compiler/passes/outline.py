"""Gives combiners and element functions with control flow a function of their own.

The body of a reduction, a scan or a `map_elementwise` is normally a straight line of arithmetic, which is written with
vectors where it is needed. Where it branches, loops or touches memory it becomes a function of scalars, called for one
element at a time:

    reduce %x { ^bb0(%a, %b): cond_br … }   →   reduce %x { ^bb0(%a, %b): %r = call @NAME.element0(%a, %b) … }
"""

from __future__ import annotations

from tessera.compiler.passes.placement import LAZY
from tessera.ir.nodes import Block, Function, Module, Op, Region, Value, walk
from tessera.ir.types import Type

_WITH_FUNCTIONS = ("reduce", "scan", "map_elementwise")
_STRAIGHT = (LAZY - {"load"}) | {"constant", "call", "reduce.return", "scan.return", "map_elementwise.return"}
_TOUCHES_MEMORY = frozenset({"load", "store", "atomic_rmw", "atomic_cas", "print", "assert", "call"})


def run(module: Module) -> None:
    """Rewrite every function of the module, those that this pass makes included."""
    waiting = list(module.functions)
    while waiting:
        function = waiting.pop()
        for op in list(function.walk()):
            if op.name in _WITH_FUNCTIONS:
                mark_effects(op)
                if not _straight(op.regions[0]):
                    made = _outline(op, f"{module.name}.element{len(module.functions)}")
                    module.functions.append(made)
                    waiting.append(made)


def mark_effects(op: Op) -> None:
    """An element function that touches memory runs where it stands in the program, not where its result is used."""
    if op.name == "map_elementwise" and any(inner.name in _TOUCHES_MEMORY for inner in walk(op.regions[0])):
        op.name = "map_with_effects"


def _straight(region: Region) -> bool:
    return len(region.blocks) == 1 and all(op.name in _STRAIGHT for op in region.block.ops)


def _outline(op: Op, name: str) -> Function:
    """Move the region of `op` to a function that also takes what the region uses from around it."""
    body = op.regions[0]
    args = list(body.blocks[0].args)
    captured = _captured(body)
    inner = [Value(f"{value.name}.captured", value.type) for value in captured]
    for found in walk(body):
        found.operands = [dict(zip(captured, inner, strict=True)).get(value, value) for value in found.operands]
    ends = [block.terminator for block in body.blocks if block.terminator.name.endswith(".return")]
    kind, types = ends[0].name, [value.type for value in ends[0].operands]
    for end in ends:
        end.name = "return"
    body.blocks[0].args = []
    op.regions = [_calling(name, args, captured, kind, op, types)]
    return Function(name, [*args, *inner], body, False, [], types)


def _captured(body: Region) -> list[Value]:
    own = {arg for block in body.blocks for arg in block.args}
    for op in walk(body):
        own |= set(op.results) | {arg for region in op.regions for block in region.blocks for arg in block.args}
    return list(dict.fromkeys(value for op in walk(body) for value in op.operands if value not in own))


def _calling(name: str, args: list[Value], captured: list[Value], kind: str, op: Op, types: list[Type]) -> Region:
    passed = [Value(arg.name, arg.type) for arg in args]
    call = Op("call", [*passed, *captured], [], {"callee": name}, location=op.location)
    call.results = [Value(f"{name}.{number}", type, call) for number, type in enumerate(types)]
    block = Block(passed, [call, Op(kind, list(call.results), [])], "bb0")
    for arg in passed:
        arg.owner = block
    return Region([block])
