"""Loop-carried pointer and integer blocks become one loop-carried scalar.

    p = init                                    o = 0
    for …:                                      for …:
        … p …                          →            … init + splat(o) …
        p = p + splat(step)                         o = o + step

so that inside the loop an address is again an affine function of the index.
"""

from __future__ import annotations

from tessera.compiler.passes.strides import uniform_scalar
from tessera.ir.nodes import Block, Function, Module, Op, Region, Value, placed, replace_uses, walk
from tessera.ir.types import BlockType, PointerType, ScalarType

_I64 = ScalarType("i64")


def run(module: Module) -> None:
    """Rewrite every loop of the module, inner loops first."""
    for function in module.functions:
        for block, op in placed(function.body):
            if op.name == "for":
                _loop(function, block, op)


def _loop(function: Function, block: Block, loop: Op) -> None:
    body = loop.regions[0].block
    for position in range(len(loop.results)):
        arg = body.args[position + 1]
        steps = _increments(arg, body.terminator.operands[position])
        if steps is not None:
            _rewrite(function, block, loop, position, steps)


def _increments(arg: Value, yielded: Value) -> list[int | Value] | None:
    """The uniform scalars added to `arg` on the way to `yielded`, or None if anything else happens to it."""
    if not isinstance(arg.type, BlockType) or (isinstance(arg.type.element, ScalarType) and arg.type.element.is_float):
        return None
    steps: list[int | Value] = []
    while yielded is not arg:
        op = yielded.owner
        if not isinstance(op, Op) or op.name not in ("addptr", "addi"):
            return None
        base, added = op.operands
        if op.name == "addi" and uniform_scalar(base) is not None:
            base, added = added, base
        scalar = uniform_scalar(added)
        if scalar is None:
            return None
        steps.append(scalar)
        yielded = base
    return steps


def _rewrite(function: Function, block: Block, loop: Op, position: int, steps: list[int | Value]) -> None:
    body = loop.regions[0].block
    arg, init, result = body.args[position + 1], loop.operands[position + 3], loop.results[position]
    assert isinstance(arg.type, BlockType)
    element = arg.type.element
    scalar = _I64 if isinstance(element, PointerType) else element
    assert isinstance(scalar, ScalarType)
    zero = _constant(f"{arg.name}.zero", 0, scalar)
    offset = Value(f"{arg.name}.offset", scalar, body)
    block.ops.insert(block.ops.index(loop), zero.owner)  # type: ignore[arg-type]
    loop.operands[position + 3], body.args[position + 1] = zero, offset
    moved = _moved(init, offset, arg.name)
    replace_uses(loop.regions[0], arg, moved[-1].result)
    body.ops[0:0] = moved
    following = _advance(body, offset, steps, scalar)
    body.terminator.operands[position] = following
    final = Value(f"{result.name}.offset", scalar, loop)
    loop.results[position] = final
    after = _moved(init, final, result.name)
    replace_uses(function.body, result, after[-1].result)
    block.ops[block.ops.index(loop) + 1 : block.ops.index(loop) + 1] = after


def _constant(name: str, value: int, type: ScalarType) -> Value:
    op = Op("constant", [], [], {"value": value})
    op.results = [Value(name, type, op)]
    return op.result


def _moved(init: Value, offset: Value, name: str) -> list[Op]:
    """init + splat(offset)"""
    assert isinstance(init.type, BlockType) and isinstance(offset.type, ScalarType)
    splat = Op("splat", [offset], [])
    splat.results = [Value(f"{name}.splat", BlockType(init.type.shape, offset.type), splat)]
    add = Op("addptr" if isinstance(init.type.element, PointerType) else "addi", [init, splat.result], [])
    add.results = [Value(f"{name}.moved", init.type, add)]
    return [splat, add]


def _advance(body: Block, offset: Value, steps: list[int | Value], scalar: ScalarType) -> Value:
    current = offset
    for number, amount in enumerate(steps):
        ops: list[Op] = []
        if isinstance(amount, int):
            amount = _constant(f"{offset.name}.step{number}", amount, scalar)
            assert isinstance(amount.owner, Op)
            ops.append(amount.owner)
        elif amount.type != scalar:
            wide = Op("extsi", [amount], [])
            wide.results = [Value(f"{offset.name}.wide{number}", scalar, wide)]
            ops.append(wide)
            amount = wide.result
        add = Op("addi", [current, amount], [])
        add.results = [Value(f"{offset.name}.next{number}", scalar, add)]
        current = add.result
        at = len(body.ops) - 1
        body.ops[at:at] = [*ops, add]
    return current


def remove_dead(module: Module, pure: frozenset[str]) -> None:
    """Drop pure operations whose results no one uses any more."""
    for function in module.functions:
        changed = True
        while changed:
            used = {operand for op in function.walk() for operand in op.operands}
            changed = _sweep(function.body, used, pure)


def _is_pure(op: Op, pure: frozenset[str]) -> bool:
    """Has an operation no effect but its results? One that calls a function may have others."""
    return op.name in pure and not any(inner.name == "call" for region in op.regions for inner in walk(region))


def _sweep(region: Region, used: set[Value], pure: frozenset[str]) -> bool:
    changed = False
    for block in region.blocks:
        kept = [op for op in block.ops if not _is_pure(op, pure) or any(result in used for result in op.results)]
        changed |= len(kept) != len(block.ops)
        block.ops = kept
        for op in kept:
            for inner in op.regions:
                changed |= _sweep(inner, used, pure)
    return changed
