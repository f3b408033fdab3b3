"""Structured control flow. A block that a loop carries, or that a branch yields, lives in scratch of its own."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from tessera.compiler.llvm.builder import V
from tessera.compiler.lower import apart, dot
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.function import FunctionLowering
from tessera.compiler.lower.memory import TRUE
from tessera.compiler.passes import reach
from tessera.ir.nodes import Block, Op, Value
from tessera.ir.types import BlockType, shape_of


def for_loop(low: FunctionLowering, op: Op) -> None:
    """`for index = lower to upper step by, carried…`"""
    low.flush()
    b = low.b
    body = op.regions[0].block
    index, *carried = body.args
    lower, upper, by = (low.scalar(operand) for operand in op.operands[:3])
    predicate = "ult" if op.attrs.get("unsigned") else "slt"
    sums = _sums(low, body, op.operands[3:], carried)
    slots = enter(low, op.operands[3:], carried, sums, op)
    low.for_bodies.add(body)
    ending = next((dot.ending(low, op) for op in body.ops if op.name == "dot"), None)
    entered = b.icmp(predicate, lower, upper) if sums or ending else None
    if sums and entered is not None:
        _clear_unless(low, entered, sums)
    free = apart.harmless(low, ending.store, ending.guarded) if ending is not None else None
    head, inside, leave, before = b.fresh("for"), b.fresh("body"), b.fresh("end"), b.current
    b.branch(head)
    b.label(head)
    at = len(b.lines)
    phis = [(index, lower), *((arg, init) for arg, init in slots.scalars)]
    for arg, init in phis:
        low.scalars[arg] = V(init.type, f"%{b.fresh('loop')}")
    b.branch_if(b.icmp(predicate, low.scalars[index], upper), inside, leave)
    b.label(inside)
    if sums:
        low.fresh.update(dict.fromkeys(sums, b.icmp("eq", low.scalars[index], lower)))
    if ending is not None and free is not None:
        more = b.icmp(predicate, b.add(low.scalars[index], by), upper)
        low.stored[ending.store] = b.binary("and", free, b.binary("xor", more, TRUE))
    with low.conditional():
        low.ops(body.ops[:-1])
        low.flush()
        following = carry(low, body.terminator.operands, carried)
    following[index] = b.add(low.scalars[index], by)
    tail = b.current
    b.branch(head)
    b.lines[at:at] = [
        f"  {low.scalars[arg].ref} = phi {init.type} [ {init.ref}, %{before} ], [ {following[arg].ref}, %{tail} ]"
        for arg, init in phis
    ]
    b.label(leave)
    if ending is not None and free is not None and entered is not None:
        low.stored[ending.store] = b.binary("and", free, entered)
    publish(low, carried, op.results)


def _sums(low: FunctionLowering, body: Block, inits: Sequence[Value], carried: Sequence[Value]) -> dict[Value, Value]:
    """The carried blocks that begin as zeros and that a dot of the body adds to, and those zeros. The dot writes them
    in the first trip without reading them."""
    adding = {dot.accumulator(low, op) for op in body.ops if op.name == "dot"}
    return {arg: init for init, arg in zip(inits, carried, strict=True) if arg in adding and dot.is_zero(init)}


def _clear_unless(low: FunctionLowering, entered: V, sums: Mapping[Value, Value]) -> None:
    """Without a first trip the sums are the zeros that they began as."""
    b, empty, after = low.b, low.b.fresh("empty"), low.b.fresh("begun")
    b.branch_rarely(b.binary("xor", entered, TRUE), empty, after)
    b.label(empty)
    for arg, init in sums.items():
        low.fill(low.buffers[arg], init)
    b.branch(after)
    b.label(after)


def while_loop(low: FunctionLowering, op: Op) -> None:
    """`while`: the first region computes the condition and what it passes on, the second the next carried values."""
    low.flush()
    b = low.b
    condition, body = op.regions[0].block, op.regions[1].block
    slots = enter(low, op.operands, condition.args)
    head, inside, leave, before = b.fresh("while"), b.fresh("body"), b.fresh("end"), b.current
    b.branch(head)
    b.label(head)
    at = len(b.lines)
    for arg, init in slots.scalars:
        low.scalars[arg] = V(init.type, f"%{b.fresh('loop')}")
    low.ops(condition.ops[:-1])
    low.flush()
    proceed, *passed = condition.terminator.operands
    for source, targets in zip(passed, zip(body.args, op.results, strict=True), strict=True):
        hand_over(low, source, targets)
    b.branch_if(low.scalar(proceed), inside, leave)
    b.label(inside)
    with low.conditional():
        low.ops(body.ops[:-1])
        low.flush()
        following = carry(low, body.terminator.operands, condition.args)
    tail = b.current
    b.branch(head)
    b.lines[at:at] = [
        f"  {low.scalars[arg].ref} = phi {init.type} [ {init.ref}, %{before} ], [ {following[arg].ref}, %{tail} ]"
        for arg, init in slots.scalars
    ]
    b.label(leave)


def if_else(low: FunctionLowering, op: Op) -> None:
    """`if`: both branches write their block results to the same scratch; scalars meet in phis."""
    low.flush()
    b = low.b
    then, otherwise, after = b.fresh("then"), b.fresh("else"), b.fresh("endif")
    outputs = {result: low.scratch(result) for result in op.results if isinstance(result.type, BlockType)}
    b.branch_if(low.scalar(op.operands[0]), then, otherwise if len(op.regions) > 1 else after)
    ends: list[tuple[str, list[V]]] = []
    for label, region in zip((then, otherwise), op.regions, strict=False):
        b.label(label)
        block = region.block
        with low.conditional():
            low.ops(block.ops[:-1])
            low.flush()
            found = _branch_results(low, block, op.results, outputs)
            ends.append((b.current, found))
        b.branch(after)
    # The last label seen by `current` must be the join.
    b.label(after)
    scalars = [result for result in op.results if result not in outputs]
    for number, result in enumerate(scalars):
        type = ends[0][1][number].type
        sources = ", ".join(f"[ {values[number].ref}, %{label} ]" for label, values in ends)
        low.scalars[result] = b.emit(type, f"phi {type} {sources}")
    low.buffers.update(outputs)


def _branch_results(
    low: FunctionLowering, block: Block, results: Sequence[Value], outputs: dict[Value, Buffer]
) -> list[V]:
    scalars = []
    for value, result in zip(block.terminator.operands, results, strict=True):
        if result in outputs:
            low.fill(outputs[result], value)
        else:
            scalars.append(low.scalar(value))
    return scalars


class Slots:
    """What a loop carries: scalars with their first values. Blocks are already in scratch."""

    def __init__(self) -> None:
        self.scalars: list[tuple[Value, V]] = []


def enter(
    low: FunctionLowering, inits: Sequence[Value], args: Sequence[Value], unwritten: Container[Value] = (),
    loop: Op | None = None,
) -> Slots:  # fmt: skip
    """Give every carried block its scratch, holding its first value unless it is left unwritten; in a `loop` that may
    be the scratch of the loop around it."""
    slots = Slots()
    for init, arg in zip(inits, args, strict=True):
        if loop is not None and _handed_on(low, init, loop):
            low.buffers[arg] = low.buffers[init]
        elif isinstance(arg.type, BlockType):
            buffer = low.scratch(arg)
            if arg not in unwritten:
                low.keep(buffer, init)
            low.buffers[arg] = buffer
        else:
            slots.scalars.append((arg, low.scalar(init)))
    return slots


def _handed_on(low: FunctionLowering, init: Value, loop: Op) -> bool:
    """Is this a block that the loop around carries, and that nothing but this loop needs from here on?"""
    around = init.owner
    if not isinstance(around, Block) or around not in low.for_bodies or not isinstance(init.type, BlockType):
        return False
    alone = low.users[init] == [loop] and loop.operands.count(init) == 1 and loop in around.ops
    return alone and not low.in_registers(init)


def hand_over(low: FunctionLowering, source: Value, targets: tuple[Value, Value]) -> None:
    """What a `while` condition passes to its body and, at the end, to its results."""
    if not isinstance(source.type, BlockType):
        for target in targets:
            low.scalars[target] = low.scalar(source)
        return
    if source not in low.buffers:
        buffer = low.scratch(source)
        low.fill(buffer, source)
        low.buffers[source] = buffer
    for target in targets:
        low.buffers[target] = low.buffers[source]


def carry(low: FunctionLowering, yielded: Sequence[Value], args: Sequence[Value]) -> dict[Value, V]:
    """Move the yielded blocks into the carried scratch, as if all at once; return the yielded scalars."""
    scalars: dict[Value, V] = {}
    moves: list[tuple[Value, Value]] = []
    for value, arg in zip(yielded, args, strict=True):
        if not isinstance(arg.type, BlockType):
            scalars[arg] = low.scalar(value)
        elif value is not arg and low.buffers.get(value) != low.buffers[arg]:
            moves.append((value, arg))
    for value, arg in _in_place_first(low, moves):
        low.keep(low.buffers[arg], value)
    return scalars


def _in_place_first(low: FunctionLowering, moves: list[tuple[Value, Value]]) -> list[tuple[Value, Value]]:
    """The moves, with those values first copied aside that would read scratch which another move has already
    overwritten."""
    targets = [arg for _, arg in moves]
    for number, (value, arg) in enumerate(moves):
        others = [low.buffers[target] for target in targets if target is not arg]
        if _reads(low, value, others) or _reads_elsewhere(low, value, low.buffers[arg]):
            aside = low.scratch(value)
            low.fill(aside, value)
            copy = Value(f"{value.name}.next", value.type)
            low.buffers[copy] = aside
            moves[number] = (copy, arg)
    return moves


def _reads(low: FunctionLowering, value: Value, buffers: Sequence[Buffer]) -> bool:
    return any(low.buffers.get(visit.value) in buffers for visit in _visits(low, value))


def _reads_elsewhere(low: FunctionLowering, value: Value, own: Buffer) -> bool:
    """Does computing one element of `value` read another element of its own scratch?"""
    whole = reach.identity(len(shape_of(value.type)))
    return any(low.buffers.get(visit.value) == own and visit.dims != whole for visit in _visits(low, value))


def _visits(low: FunctionLowering, value: Value) -> list[reach.Visit]:
    whole = reach.identity(len(shape_of(value.type)))
    return list(reach.visits(value, whole, lambda visit: visit.value in low.buffers))


def publish(low: FunctionLowering, args: Sequence[Value], results: Sequence[Value]) -> None:
    """After a loop its results are what it last carried."""
    for arg, result in zip(args, results, strict=True):
        if not isinstance(arg.type, BlockType):
            low.scalars[result] = low.scalars[arg]
        elif low.in_registers(arg):
            # What follows may reach into the block by index, which registers do not allow.
            low.buffers[result] = low.scratch(result)
            low.keep(low.buffers[result], arg)
        else:
            low.buffers[result] = low.buffers[arg]
