"""Sinks that write to the user's memory: stores and atomics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import I1, I8, I64, V, int_const
from tessera.compiler.lower import apart, buffers, memory, squares
from tessera.compiler.lower.lanes import Index, Uniform, Vector, size_bytes
from tessera.compiler.lower.memory import zero
from tessera.compiler.lower.rules import map_elements
from tessera.compiler.lower.sweep import Plan, Sweeper
from tessera.compiler.passes.compaction import is_packing
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of, shape_of


def store(low: Sweeper, op: Op) -> None:
    """`store pointer, value[, mask]`"""
    pointer, value, *rest = op.operands
    mask = rest[0] if rest else None
    # What was loaded before and waits to be computed must not see what is written here.
    guarded = apart.take_guarded(low, op)
    low.flush()
    stored = low.stored.get(op)
    if stored is not None and stored.const == 1:
        return
    if not isinstance(pointer.type, BlockType):
        condition = Uniform(low.scalar(mask)) if mask is not None else None
        memory.store(low.b, Uniform(low.scalar(value)), Uniform(low.scalar(pointer)), condition, 0)
        return

    body = writer(low, op)

    def write() -> None:
        assert isinstance(pointer.type, BlockType)
        # Past the caches goes a whole register at a time.
        plan = low.plan(pointer.type.shape, op.operands[1:], stored_to=pointer, narrow=not is_streaming(op))
        plan = dataclasses.replace(plan, mask=mask)
        low.sweep(squares.turned(low, plan, op.operands[1:], squares.along_memory(pointer)), op.operands, body)

    def all_of_it() -> None:
        if guarded:
            apart.either_way(low, op, guarded, write)
        else:
            write()

    if stored is None:
        all_of_it()
    else:
        with low.conditional():
            low.b.unless(stored, all_of_it)


def writer(low: Sweeper, op: Op) -> Callable[[Index], None]:
    """What a store of a block does at an index."""
    pointer, value, *rest = op.operands
    mask = rest[0] if rest else None
    packed = mask is not None and low.target.has("avx512f") and is_packing(pointer, mask)

    def body(index: Index) -> None:
        condition = low.evaluate(mask, index) if mask is not None else None
        written, place = low.evaluate(value, index), low.evaluate(pointer, index)
        if packed and isinstance(place, Vector) and isinstance(condition, Vector):
            memory.store_packed(low.b, written, place, condition, low.target.vector_bits)
            return
        memory.store(low.b, written, place, condition, low.width, is_streaming(op))

    return body


def is_streaming(op: Op) -> bool:
    """Does a store ask to go round the caches, as `.cs` does?"""
    return op.name == "store" and op.attrs.get("cacheModifier") == "cs"


_ORDERS = {"relaxed": "monotonic", "acquire": "acquire", "release": "release", "acq_rel": "acq_rel"}
_KINDS = {
    "fadd": "fadd", "add": "add", "and": "and", "or": "or", "xor": "xor", "max": "max", "min": "min", "umax": "umax",
    "umin": "umin", "exch": "xchg",
}  # fmt: skip


def atomic_rmw(low: Sweeper, op: Op) -> None:
    """`atomic_rmw kind, order, scope, pointer, value[, mask]`: the old value where the mask holds, else 0."""
    kind, order = op.attrs["words"][:2]
    pointer, value, *rest = op.operands
    element = element_of(value.type)
    name = _KINDS[kind]
    if isinstance(element, ScalarType) and element.is_float and name in ("max", "min"):
        name = f"f{name}"
    elif isinstance(element, ScalarType) and element.is_float and name not in ("fadd", "xchg"):
        raise fail(f"atomic {kind} of {element} is not supported; bitcast to an integer of {element.bits} bits first")

    def once(values: list[V]) -> V:
        text = f"atomicrmw {name} {values[0]}, {values[1]} {_ORDERS[order]}, align {size_bytes(values[1].type)}"
        return low.b.emit(values[1].type, text)

    _atomic(low, op, [pointer, value], rest, once)


def atomic_cas(low: Sweeper, op: Op) -> None:
    """`atomic_cas order, scope, pointer, expected, desired`: the old value."""
    order = _ORDERS[op.attrs["words"][0]]
    failure = {"acq_rel": "acquire", "release": "monotonic"}.get(order, order)

    def once(values: list[V]) -> V:
        pointer, expected, desired = values
        as_int = expected.type.with_scalar(f"i{expected.type.bits}") if expected.type.is_float else expected.type
        old, new = (low.b.cast("bitcast", v, as_int) for v in (expected, desired))
        pair = low.b.fresh("pair")
        low.b.raw(f"%{pair} = cmpxchg {pointer}, {old}, {new} {order} {failure}, align {size_bytes(as_int)}")
        return low.b.cast("bitcast", low.b.emit(as_int, f"extractvalue {{ {as_int}, i1 }} %{pair}, 0"), expected.type)

    _atomic(low, op, op.operands, [], once)


def _atomic(
    low: Sweeper, op: Op, operands: Sequence[Value], rest: Sequence[Value], once: Callable[[list[V]], V]
) -> None:
    """Run `once` for every element whose mask holds, in index order."""
    mask = rest[0] if rest else None
    result = op.results[0]
    low.flush()
    if not isinstance(operands[0].type, BlockType):
        condition = low.scalar(mask) if mask is not None else None
        low.scalars[result] = _guarded(low, condition, [low.scalar(v) for v in operands], once)
        return
    old = low.scratch(result)

    def body(index: Index) -> None:
        condition = _one(low, mask, index) if mask is not None else None
        values = [_one(low, operand, index) for operand in operands]
        buffers.write(low.b, old, index, Uniform(_guarded(low, condition, values, once)), 0)

    shape = shape_of(operands[0].type)
    low.sweep(Plan(shape, None, 0, 1), [*operands, *rest], body)
    low.buffers[result] = old


def _one(low: Sweeper, value: Value, index: Index) -> V:
    lanes = low.evaluate(value, index)
    assert isinstance(lanes, Uniform), "a walk element by element has one lane"
    return lanes.value


def _guarded(low: Sweeper, mask: V | None, values: list[V], once: Callable[[list[V]], V]) -> V:
    if mask is None or mask.const == 1:
        return once(values)
    b, then, after, before = low.b, low.b.fresh("then"), low.b.fresh("after"), low.b.current
    b.branch_if(mask, then, after)
    b.label(then)
    old = once(values)
    b.branch(after)
    b.label(after)
    return b.emit(old.type, f"phi {old.type} [ {old.ref}, %{then} ], [ {zero(old.type).ref}, %{before} ]")


def _bytes(buffer: buffers.Buffer) -> V:
    return int_const(math.prod(buffer.shape) * size_bytes(buffer.stored), I64)


def map_with_effects(low: Sweeper, op: Op) -> None:
    """A `map_elementwise` whose function touches memory: once for every element, in index order."""
    low.flush()
    outputs = [low.scratch(result) for result in op.results]

    def body(index: Index) -> None:
        values = [_one(low, operand, index) for operand in op.operands]
        for output, found in zip(outputs, map_elements(low, op, values), strict=True):
            buffers.write(low.b, output, index, Uniform(found), 0)

    low.sweep(Plan(shape_of(op.operands[0].type), None, 0, 1), op.operands, body)
    low.buffers.update(zip(op.results, outputs, strict=True))


def histogram(low: Sweeper, op: Op) -> None:
    """How often each of 0 … N−1 occurs among the values whose mask holds; values outside count nowhere."""
    low.flush()
    values, *rest = op.operands
    bins = low.scratch(op.result)
    (count,) = bins.shape
    low.b.call("llvm.memset.p0.i64", None, [bins.pointer, int_const(0, I8), _bytes(bins), V(I1, "false")])

    def body(index: Index) -> None:
        value = low.b.cast("zext", _one(low, values, index), I64)
        inside = low.b.icmp("ult", value, int_const(count, I64))
        if rest:
            inside = low.b.binary("and", inside, _one(low, rest[0], index))
        place = low.b.offset(bins.pointer, value, size_bytes(bins.element))

        def once(_: list[V]) -> V:
            total = low.b.add(low.b.load(bins.element, place, 1), int_const(1, bins.element))
            low.b.store(total, place, size_bytes(bins.element))
            return total

        _guarded(low, inside, [], once)

    low.sweep(Plan(shape_of(values.type), None, 0, 1), op.operands, body)
    low.buffers[op.result] = bins
