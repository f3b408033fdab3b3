"""Tells at run time whether a load may be performed while a store is writing.

A load that is written into the loop of a later store reads while that store writes. The values are the same as if the
whole block had been loaded before in two cases: both reach ranges of memory that are apart, or both reach the same
element at every index. Where neither holds the block is loaded into scratch first. Few rows that lie anywhere, as those
that are read by index, have a range as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.compiler.llvm.builder import I1, I64, V, int_const
from tessera.compiler.lower import edges
from tessera.compiler.lower.lanes import Uniform, ltype, size_bytes
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes import reach
from tessera.compiler.passes.placement import loose_dims, reads_in_place
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of


def take_guarded(low: Sweeper, store: Op) -> list[Value]:
    """Loads that wait for this very store; they wait no longer."""
    found: dict[Value, None] = {}
    for operand in store.operands:
        whole = reach.identity(len(shape_of(operand.type)))
        for visit in reach.visits(operand, whole, lambda visit: visit.value in low.buffers):
            if visit.value in low.guarded:
                found[visit.value] = None
    for value in found:
        del low.guarded[value]
    return list(found)


def either_way(low: Sweeper, store: Op, guarded: Sequence[Value], write: Callable[[], None]) -> None:
    """Write `write` twice: for loads that are performed on the way, and after they were performed."""

    def together() -> None:
        with low.conditional():
            write()

    def after_loading() -> None:
        with low.conditional():
            low.guarded.update(dict.fromkeys(guarded))
            low.flush()
            write()

    low.b.either(harmless(low, store, guarded), together, after_loading)


@dataclass(frozen=True)
class _Range:
    """The addresses that a block of pointers holds: the first one, the steps in bytes, and what lies between."""

    first: V
    steps: tuple[V, ...]
    low: V
    high: V


def harmless(low: Sweeper, store: Op, loads: Sequence[Value]) -> V:
    """Whether loads may be performed while a store writes, known now or when it runs."""
    b, condition = low.b, int_const(1, I1)
    if not loads:
        return condition
    with low.lanes(0):
        written = _range(low, store.operands[0], store.operands[2:])
        for load in loads:
            assert isinstance(load.owner, Op)
            read = _range(low, load.owner.operands[0], load.owner.operands[1:2])
            fine = b.binary("or", b.icmp("ule", read.high, written.low), b.icmp("ule", written.high, read.low))
            if reads_in_place(load.owner, store) and not loose_dims(load.owner.operands[0]):
                same = b.icmp("eq", read.first, written.first)
                for mine, theirs in zip(read.steps, written.steps, strict=True):
                    same = b.binary("and", same, b.icmp("eq", mine, theirs))
                fine = b.binary("or", fine, same)
            condition = b.binary("and", condition, fine)
    return condition


def _range(low: Sweeper, pointer: Value, masks: Sequence[Value]) -> _Range:
    """Of a block of pointers, affine but for few rows; what masks leave out at its far ends does not count."""
    b, shape = low.b, shape_of(pointer.type)
    zero, one = int_const(0, I64), int_const(1, I64)
    sizes = [int_const(size, I64) for size in shape]
    if masks and isinstance(masks[0].type, BlockType):
        sizes = edges.reaches(low, masks[0], sizes)

    def at(index: Sequence[V]) -> V:
        lanes = low.evaluate(pointer, tuple(Uniform(place) for place in index))
        assert isinstance(lanes, Uniform)
        return b.cast("ptrtoint", lanes.value, I64)

    first = at([zero] * len(shape))
    element = element_of(pointer.type)
    assert isinstance(element, PointerType)
    bottom, top, loose = first, first, loose_dims(pointer)
    for dim in loose:
        for number in range(1, shape[dim]):
            place = b.intrinsic("umin", I64, [int_const(number, I64), b.sub(sizes[dim], one)])
            found = at([place if d == dim else zero for d in range(len(shape))])
            bottom, top = b.intrinsic("umin", I64, [bottom, found]), b.intrinsic("umax", I64, [top, found])
    top = b.add(top, int_const(size_bytes(ltype(element.pointee)), I64))
    steps = []
    for dim, size in enumerate(sizes):
        if shape[dim] > 1 and dim not in loose:
            # Here the block is affine: one step tells them all.
            step = b.sub(at([one if d == dim else zero for d in range(len(shape))]), first)
            span = b.mul(step, b.sub(size, one))
            bottom = b.add(bottom, b.intrinsic("smin", I64, [span, zero]))
            top = b.add(top, b.intrinsic("smax", I64, [span, zero]))
            steps.append(step)
    return _Range(first, tuple(steps), bottom, top)
