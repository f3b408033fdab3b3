"""Scans along one axis, with any associative combiner and any number of operands.

A slice whose elements lie side by side is scanned a vector at a time: within the vector in log₂(lanes) steps (Kogge and
Stone, "A Parallel Algorithm for the Efficient Solution of a General Class of Recurrence Equations", 1973), then joined
with what went before. Other slices are scanned element by element, as many at once as lie side by side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tessera.compiler.llvm.builder import I64, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower.lanes import Index, Lanes, Ramp, Uniform, Vector, to_vector
from tessera.compiler.lower.sweep import Plan, Sweeper
from tessera.ir.nodes import Op
from tessera.ir.types import shape_of


def scan(low: Sweeper, op: Op) -> None:
    """Running combination along the axis, from its start or, reversed, from its end."""
    low.flush()
    _Scan(low, op).run()


class _Scan:
    def __init__(self, low: Sweeper, op: Op) -> None:
        self.low, self.b, self.op = low, low.b, op
        self.axis: int = op.attrs["axis"]
        self.shape = shape_of(op.operands[0].type)
        self.inputs = [low.in_scratch(operand) for operand in op.operands]
        self.outputs = [low.scratch(result) for result in op.results]
        self.step = self._lanes_along()

    def run(self) -> None:
        last = len(self.shape) - 1
        beside = self.axis != last and self.shape[last] > 1
        width = min(self.low.target.lanes, self.shape[last]) if beside else 0
        rest = (*self.shape[: self.axis], 1, *self.shape[self.axis + 1 :])
        self.low.sweep(Plan(rest, last if beside else None, width, 1), [], self._slices)
        self.low.buffers.update(zip(self.op.results, self.outputs, strict=True))

    def _lanes_along(self) -> int:
        """Elements of a slice that are taken at once."""
        size, lanes = self.shape[self.axis], self.low.target.lanes
        alone = math.prod(self.shape[self.axis + 1 :]) == 1
        called = any(inner.name == "call" for inner in self.op.regions[0].block.ops)
        return lanes if alone and size >= lanes and not called else 1

    def _slices(self, index: Index) -> None:
        """One slice, or a vector of slices that lie side by side."""

        def advance(position: V, carried: list[V]) -> list[V]:
            following = self.b.add(position, int_const(self.step, I64))
            found = self._join(carried, self._within(self._values(index, following)))
            self._keep(index, following, found)
            return self._last(found)

        first = self._within(self._values(index, int_const(0, I64)))
        self._keep(index, int_const(0, I64), first)
        if self.shape[self.axis] > self.step:
            self.b.counted_loop(self.shape[self.axis] - self.step, self.step, self._last(first), advance)

    def _join(self, before: Sequence[V], after: Sequence[V]) -> list[V]:
        return self.low.combine(self.op.regions[0], [*before, *after])

    def _within(self, values: list[V]) -> list[V]:
        """The scan of the lanes of a vector that runs along the axis."""
        distance = 1
        while distance < self.step:
            lanes = range(self.step)
            moved = [self.b.shuffle(value, None, [max(lane - distance, 0) for lane in lanes]) for value in values]
            # Lanes that nothing comes before keep what they have.
            chosen = [lane + self.step * (lane >= distance) for lane in lanes]
            joined = self._join(moved, values)
            values = [self.b.shuffle(value, new, chosen) for value, new in zip(values, joined, strict=True)]
            distance *= 2
        return values

    def _last(self, values: list[V]) -> list[V]:
        """What the next trip begins with, in every lane."""
        if self.step == 1:
            return values
        return [self.b.shuffle(value, None, [self.step - 1] * self.step) for value in values]

    def _values(self, index: Index, position: V) -> list[V]:
        at, width = self._at(index, position)
        found = [to_vector(self.b, buffers.read(self.b, source, at, width), width) for source in self.inputs]
        return [self._in_order(value) for value in found]

    def _keep(self, index: Index, position: V, values: Sequence[V]) -> None:
        at, width = self._at(index, position)
        for output, value in zip(self.outputs, values, strict=True):
            lanes: Lanes = Vector(self._in_order(value)) if value.type.lanes else Uniform(value)
            buffers.write(self.b, output, at, lanes, width)

    def _at(self, index: Index, position: V) -> tuple[Index, int]:
        """The place of the trip that begins at `position`, and the width of its vectors."""
        if self.op.attrs.get("reverse"):
            position = self.b.sub(int_const(self.shape[self.axis] - self.step, I64), position)
        one = int_const(1, I64)
        place: Lanes = Uniform(position) if self.step == 1 else Ramp(position, one)
        width = self.low.width if self.step == 1 else self.step
        return (*index[: self.axis], place, *index[self.axis + 1 :]), width

    def _in_order(self, value: V) -> V:
        """Lanes in the order of the scan from that of memory, and back."""
        if self.step == 1 or not self.op.attrs.get("reverse"):
            return value
        return self.b.shuffle(value, None, range(self.step - 1, -1, -1))
