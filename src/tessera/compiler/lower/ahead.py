"""Prefetches what the next program, or the next trip of a loop, will read.

A block that several sweeps read comes from memory in the first, which waits for it, and from the cache in the others,
while memory rests. The second one prefetches the block that will follow: the same elements, moved as far as the start
of this block has moved from that of the block before. So nothing need be known of how a kernel computes its addresses;
a guess that is wrong costs its prefetches.

A dot reads its operands once, into scratch, and then computes for long while memory rests. So each tile of its result
prefetches its part of the operands of the next one.

The end of a loop over one row is where a processor guesses wrong, and what it had asked memory for ahead stops short of
the next row. Where a reduction reads one block, and nothing else does, each row's loop prefetches the row after it. (Of
two blocks side by side it costs more than it brings.)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I32, I64, PTR, Builder, V, int_const
from tessera.compiler.lower.calls import STARTS
from tessera.compiler.lower.lanes import Lanes, Ramp, Uniform, ltype, size_bytes
from tessera.compiler.passes import reach
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, element_of, shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.lanes import Index
    from tessera.compiler.lower.sweep import Plan, Sweeper

# Blocks of fewer bytes arrive sooner than a prefetch pays, larger ones push each other out of the second-level cache.
# Up to `_NEAR` two of them and what is written fit the first level.
_LEAST, _NEAR, _MOST = 512, 1 << 14, 1 << 18
# Where a block is read once, row after row.
_ROW_LEAST, _ROW_MOST = 1 << 10, 1 << 13
_SLOT_BYTES = 8
_LINE_BYTES = 64
# LLVM's numbers of the caches.
_FIRST_LEVEL, _SECOND_LEVEL = 3, 2
# Prefetches of one operand in one tile of a dot's result: more take time that memory does not give back.
_MOST_LINES = 32


@contextmanager
def looking(low: Sweeper, plan: Plan, reads: Sequence[Value], reduced: bool) -> Iterator[None]:
    """For the time of a walk that evaluates `reads`: loads that a walk before it performed too are prefetched for the
    next block, in one walk each, and those that are only `reduced` for the next row."""
    loads = list(dict.fromkeys(_loads(low, plan, reads))) if low.starts is not None else []
    low.moved = {load: _moved(low, load) for load in loads if low.performed.get(load) == 1}
    once = [load for load in loads if reduced and load not in low.performed and _is_of_rows(load)]
    if len(once) == 1:
        low.moved[once[0]] = _next_row(low, once[0])
    try:
        yield
    finally:
        low.moved = {}
        for load in loads:
            low.performed[load] = low.performed.get(load, 0) + 1


def prefetch(b: Builder, pointer: Lanes, moved: tuple[V, int]) -> None:
    """The elements at `pointer`, of the block that follows."""
    if isinstance(pointer, Ramp):
        distance, locality = moved
        _prefetch(b, b.offset(pointer.base, distance, 1), locality)


def _prefetch(b: Builder, address: V, locality: int) -> None:
    b.call(
        "llvm.prefetch.p0", None, [address, int_const(0, I32), int_const(locality, I32), int_const(1, I32)]
    )  # fmt: skip


@dataclass(frozen=True)
class Coming:
    """The block that a dot will read after this one through `load`, in whose rows along dimension `along` memory runs:
    `distance` bytes behind this one's."""

    load: Op
    along: int
    distance: V

    def prefetch(self, low: Sweeper, part: V, parts: int) -> None:
        """The block's part of this number, out of so many; both are powers of two, as the sides of blocks are."""
        b, in_row = low.b, _lines_in_row(self.load, self.along)
        count = -(-_lines(self.load, self.along) // parts)
        if count > _MOST_LINES:
            return
        # Of fewer lines than parts several parts ask for the same one.
        part = b.binary("udiv", part, int_const(max(1, parts // _lines(self.load, self.along)), I64))
        first = b.mul(part, int_const(count, I64))
        for line in range(0, count, in_row):
            place = b.add(first, int_const(line, I64))
            row = b.binary("udiv", place, int_const(in_row, I64))
            column = b.mul(b.sub(place, b.mul(row, int_const(in_row, I64))), int_const(_LINE_BYTES, I64))
            start = b.add(_pointer(low, self.load, self._index(row)), b.add(column, self.distance))
            for further in range(min(count, in_row)):
                address = b.cast("inttoptr", b.add(start, int_const(further * _LINE_BYTES, I64)), PTR)
                _prefetch(b, address, _SECOND_LEVEL)

    def _index(self, row: V) -> Index:
        other, first = Uniform(row), Uniform(int_const(0, I64))
        return (other, first) if self.along == 1 else (first, other)


def coming(low: Sweeper, operands: Sequence[Value]) -> list[Coming]:
    """What a dot reads from memory that can be told of the one after it."""
    if low.starts is None:
        return []
    found = []
    for load in dict.fromkeys(load for operand in operands for load in _loads_of_matrix(low, operand)):
        steps = [step(load.operands[0], dim, usual=True) for dim in range(2)]
        if None not in steps and 1 in steps and _LEAST <= _bytes(load) <= _MOST:
            found.append(Coming(load, steps.index(1), _moved(low, load)[0]))
    return found


def _loads_of_matrix(low: Sweeper, operand: Value) -> Iterator[Op]:
    for visit in reach.visits(operand, reach.identity(2), lambda visit: visit.value in low.buffers):
        load = visit.value.owner
        if isinstance(load, Op) and load.name == "load" and visit.value not in low.buffers and len(visit.dims) == 2:
            yield load


def _lines_in_row(load: Op, along: int) -> int:
    element = ltype(element_of(load.result.type))
    return max(1, shape_of(load.result.type)[along] * size_bytes(element) // _LINE_BYTES)


def _lines(load: Op, along: int) -> int:
    return shape_of(load.result.type)[1 - along] * _lines_in_row(load, along)


def _loads(low: Sweeper, plan: Plan, reads: Sequence[Value]) -> Iterator[Op]:
    """The loads of blocks, not too small and not too large, whose every element the walk reads once and in order."""
    long = {dim for dim, size in enumerate(plan.shape) if size > 1}
    for value in reads:
        if plan.vector_dim is None or shape_of(value.type) != plan.shape:
            continue
        for visit in reach.visits(value, reach.identity(len(plan.shape)), lambda visit: visit.value in low.buffers):
            load = visit.value.owner
            if not isinstance(load, Op) or load.name != "load" or visit.value in low.buffers:
                continue
            every = long <= set(visit.dims) and visit.dims[-1] == plan.vector_dim
            if every and _in_order(load.operands[0]) and _LEAST <= _bytes(load) <= _MOST:
                yield load


def _in_order(pointer: Value) -> bool:
    if not isinstance(pointer.type, BlockType):
        return False
    steps = [step(pointer, dim, usual=True) for dim in range(len(shape_of(pointer.type)))]
    return steps[-1] == 1 and None not in steps


def _bytes(load: Op) -> int:
    return math.prod(shape_of(load.result.type)) * size_bytes(ltype(element_of(load.result.type)))


def _is_of_rows(load: Op) -> bool:
    """Several rows that are read once, each long enough to be worth it, and so short that its end comes often."""
    shape = shape_of(load.result.type)
    if "sinks" in load.attrs:
        return False
    row_bytes = shape[-1] * size_bytes(ltype(element_of(load.result.type)))
    return len(shape) > 1 and shape[-2] > 1 and _ROW_LEAST <= row_bytes <= _ROW_MOST


def _next_row(low: Sweeper, load: Op) -> tuple[V, int]:
    """How many bytes a row of the block begins behind the one before it."""
    rank = len(shape_of(load.operands[0].type))
    first, second = (_pointer(low, load, _constant((0,) * (rank - 2) + (row, 0))) for row in range(2))
    return low.b.sub(second, first), _FIRST_LEVEL


def _constant(index: tuple[int, ...]) -> Index:
    return tuple(Uniform(int_const(place, I64)) for place in index)


def _pointer(low: Sweeper, load: Op, index: Index) -> V:
    """Where an element of the load's block lies, as a number."""
    with low.lanes(0):
        lanes = low.evaluate(load.operands[0], index)
    assert isinstance(lanes, Uniform)
    return low.b.cast("ptrtoint", lanes.value, I64)


def _moved(low: Sweeper, load: Op) -> tuple[V, int]:
    """How many bytes the block of a load begins behind the one before it, and how near it is worth having."""
    assert low.starts is not None
    b = low.b
    slot = b.offset(STARTS, int_const(low.starts * _SLOT_BYTES, I64), 1)
    low.starts += 1
    now = _pointer(low, load, _constant((0,) * len(shape_of(load.operands[0].type))))
    before = b.load(I64, slot, _SLOT_BYTES)
    b.store(now, slot, _SLOT_BYTES)
    # The first program knows of none before it.
    distance = b.select(b.icmp("eq", before, int_const(0, I64)), int_const(0, I64), b.sub(now, before))
    return distance, _FIRST_LEVEL if _bytes(load) <= _NEAR else _SECOND_LEVEL
