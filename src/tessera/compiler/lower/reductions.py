"""Reductions along one axis, with any associative combiner and any number of operands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tessera.compiler.llvm.builder import I64, V, const, int_const
from tessera.compiler.lower import buffers, edges
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.lanes import Index, Lanes, Uniform, Vector, ltype, to_vector
from tessera.compiler.lower.sweep import Plan, Sweeper
from tessera.ir.nodes import Op
from tessera.ir.types import BlockType, element_of, shape_of


def reduce(low: Sweeper, op: Op) -> None:
    """Every slice along the axis becomes one element; the combiner must be associative and commutative."""
    _Reduction(low, op).run()


class _Reduction:
    def __init__(self, low: Sweeper, op: Op) -> None:
        self.low, self.b, self.op = low, low.b, op
        self.axis: int = op.attrs["axis"]
        self.shape = shape_of(op.operands[0].type)
        self.plan = _hiding_latency(low.plan(self.shape, op.operands), op)
        self.outputs: list[Buffer | None] = [
            low.scratch(result) if isinstance(result.type, BlockType) else None for result in op.results
        ]

    def run(self) -> None:
        with self.low.walking(self.plan, self.op.operands, reduced=True):
            self._outer({})
        for result, output in zip(self.op.results, self.outputs, strict=True):
            if output is not None:
                self.low.buffers[result] = output

    def _outer(self, places: dict[int, Lanes]) -> None:
        """Loops over all dimensions but the axis, the vector's innermost."""
        dims = [dim for dim in self.plan.order if dim != self.axis]
        if len(places) == len(dims):
            self._slice(places)
            return
        dim = dims[len(places)]

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.low.frame():
                self._outer({**places, dim: Uniform(position)})
            return []

        if dim == self.plan.vector_dim:
            self._neighbours(places, inside)
        else:
            self.b.counted_loop(self.shape[dim], 1, [], inside)

    def _neighbours(self, places: dict[int, Lanes], inside: Callable[[V, list[V]], list[V]]) -> None:
        """The loop over vectors of slices that lie side by side; the unrolling is along the axis."""
        dim, size, width = self.plan.order[-1], self.shape[self.plan.order[-1]], self.plan.width
        found = edges.along(self.low, self.op.operands, self.shape, dim, unknown=self.axis) if size > width else []
        if not found:
            self.b.counted_loop(size, width, [], inside)
            return
        for stretch in edges.stretches(self.low, found, self._index(places), dim, (0, size), width, 1):
            with self.low.knowing(stretch.facts):
                self.b.range_loop(stretch.begin, stretch.end, width, [], inside)

    def _slice(self, places: dict[int, Lanes]) -> None:
        """One slice, or a vector of slices that lie side by side."""
        if self.plan.vector_dim == self.axis:
            step, ways = self.plan.width, self.plan.unroll
        else:
            step, ways = 1, min(4, self.shape[self.axis])
        total = (
            self._up_to_edges(places, ways)
            or self._in_stages(places, step, ways)
            or self._from_first(places, step, ways)
        )
        count = len(self.op.operands)
        groups = [total[i : i + count] for i in range(0, len(total), count)]
        while len(groups) > 1:
            groups = [self._join(groups[i], groups[i + 1]) for i in range(0, len(groups), 2)]
        self._finish(groups[0], places)

    def _up_to_edges(self, places: dict[int, Lanes], ways: int) -> list[V] | None:
        """The slice in three loops where masks end along it; None without such a mask."""
        size, width, operands = self.shape[self.axis], self.plan.width, self.op.operands
        if self.plan.vector_dim != self.axis or size <= width * ways:
            return None
        found = edges.along(self.low, operands, self.shape, self.axis)
        if not found:
            return None
        if _neutral(self.op) is not None:
            total, begin = self._nothing(ways), 0
        else:
            total, begin = self._first(places, width, ways), width * ways
        index, part = self._index(places), self._part(width, ways)
        for stretch in edges.stretches(self.low, found, index, self.axis, (begin, size), width, ways):
            count = stretch.step // width * len(operands)

            def inside(position: V, carried: list[V], stretch: edges.Stretch = stretch) -> list[V]:
                with self.low.knowing(stretch.facts):
                    return self._combined(places, position, carried, width, stretch.step // width)

            if part and stretch.step == width * ways:
                total = self._by_parts(stretch.begin, stretch.end, stretch.step, part, total, inside)
            else:
                total[:count] = self.b.range_loop(stretch.begin, stretch.end, stretch.step, total[:count], inside)
        return total

    def _first(self, places: dict[int, Lanes], step: int, ways: int) -> list[V]:
        """The values of the first `ways` trips."""
        found = [self._values(places, Uniform(int_const(way * step, I64))) for way in range(ways)]
        return [value for values in found for value in values]

    def _combined(self, places: dict[int, Lanes], start: V, carried: list[V], step: int, ways: int) -> list[V]:
        """What is carried, each way combined with the values at its place from `start` on."""
        found: list[V] = []
        count = len(self.op.operands)
        for way in range(ways):
            values = self._values(places, Uniform(self.b.add(start, int_const(way * step, I64))))
            found += self._join(carried[way * count : (way + 1) * count], values)
        return found

    def _in_stages(self, places: dict[int, Lanes], step: int, ways: int) -> list[V] | None:
        """The slice in parts that are summed by themselves; None where nothing is rounded, or little is summed."""
        part = self._part(step, ways)
        if not part:
            return None

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.low.frame():
                return self._combined(places, position, carried, step, ways)

        size = self.shape[self.axis]
        return self._by_parts(int_const(0, I64), int_const(size, I64), step * ways, part, self._nothing(ways), inside)

    def _part(self, step: int, ways: int) -> int:
        """The elements that are summed by themselves, 0 where all may be summed one after another.

        A sum's error grows with the number of additions that one accumulator sees: √n parts of √n terms see 2√n.
        """
        trips = self.shape[self.axis] // (step * ways)
        if trips < _LONG or _single(self.op) != "addf":
            return 0
        return step * ways * max(_PART, 1 << (trips.bit_length() // 2))

    def _nothing(self, ways: int) -> list[V]:
        """Accumulators of the combiner's neutral element."""
        neutral = _neutral(self.op)
        assert neutral is not None
        return [self.b.splat(neutral, self.low.width) if self.low.width else neutral] * ways

    def _by_parts(
        self, begin: V, end: V, step: int, part: int, total: list[V], inside: Callable[[V, list[V]], list[V]]
    ) -> list[V]:
        """A loop whose sums are begun anew for each part, and added to the total behind it."""

        def one(position: V, carried: list[V]) -> list[V]:
            stop = edges.least(self.b, self.b.add(position, int_const(part, I64)), end)
            found = self.b.range_loop(position, stop, step, self._nothing(len(total)), inside)
            return [value for pair in zip(carried, found, strict=True) for value in self._join(pair[:1], pair[1:])]

        return self.b.range_loop(begin, end, part, total, one)

    def _from_first(self, places: dict[int, Lanes], step: int, ways: int) -> list[V]:
        """The slice in one loop that starts with its first `ways` trips."""
        return self._rest(places, self._first(places, step, ways), step, ways)

    def _rest(self, places: dict[int, Lanes], accumulators: list[V], step: int, ways: int) -> list[V]:
        """Combine everything after the first `ways` trips into the accumulators."""
        size = self.shape[self.axis]
        if size == step * ways:
            return accumulators

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.low.frame():
                start = self.b.add(position, int_const(ways * step, I64))
                return self._combined(places, start, carried, step, ways)

        return self.b.counted_loop(size - step * ways, step * ways, accumulators, inside)

    def _values(self, places: dict[int, Lanes], along: Uniform) -> list[V]:
        """The operands' elements at one place along the axis."""
        self.low.at(self._index({**places, self.axis: along}))
        return [
            to_vector(self.b, self.low.evaluate(operand, self.low.trip), self.low.width) for operand in self.op.operands
        ]

    def _index(self, places: dict[int, Lanes]) -> Index:
        """The index of a trip; dimensions without a place are at their start."""
        places = dict.fromkeys(range(len(self.shape)), Uniform(int_const(0, I64))) | places
        return self.low.full_index(self.plan, [places[dim] for dim in self.plan.order], 0)

    def _join(self, left: Sequence[V], right: Sequence[V]) -> list[V]:
        return self.low.combine(self.op.regions[0], [*left, *right])

    def _finish(self, values: list[V], places: dict[int, Lanes]) -> None:
        """Fold the lanes if the axis ran through the vector, and keep the result."""
        if self.plan.vector_dim == self.axis:
            while values[0].type.lanes > 1:
                half = values[0].type.lanes // 2
                low = [self.b.shuffle(value, None, range(half)) for value in values]
                high = [self.b.shuffle(value, None, range(half, 2 * half)) for value in values]
                values = self._join(low, high)
            values = [self.b.extract(value, 0) for value in values]
        for value, result, output in zip(values, self.op.results, self.outputs, strict=True):
            if output is None:
                self.low.scalars[result] = value
            else:
                self._write(output, value, places)

    def _write(self, output: Buffer, value: V, places: dict[int, Lanes]) -> None:
        dims = [dim for dim in range(len(self.shape)) if dim != self.axis]
        index = [places[dim] for dim in dims]
        if value.type.lanes:
            whole = self._index({**places, self.axis: Uniform(int_const(0, I64))})
            index = [whole[dim] for dim in dims]
        lanes: Lanes = Vector(value) if value.type.lanes else Uniform(value)
        buffers.write(self.b, output, index, lanes, self.low.width if value.type.lanes else 0)


# From so many additions in a row on a sum is taken in parts, each of so many at least.
_LONG, _PART = 32, 16

# Combiners of one short instruction; others wait for themselves, unless more of them are under way.
_SHORT = frozenset({"addf", "mulf", "addi", "andi", "ori", "xori", "maxsi", "minsi", "maxui", "minui"})


def _hiding_latency(plan: Plan, op: Op) -> Plan:
    """The plan with as many independent accumulators as one step of the combiner takes cycles, or so."""
    axis, block = op.attrs["axis"], op.regions[0].block
    if plan.vector_dim != axis or plan.unroll == 1:
        return plan
    short = len(block.ops) == 2 and block.ops[0].name in _SHORT
    wanted = 4 if short else 8
    enough = plan.shape[axis] // plan.width >= 8 * wanted
    return replace(plan, unroll=max(plan.unroll, wanted)) if enough else plan


_NEUTRAL_FLOATS = {
    "addf": -0.0, "mulf": 1.0, "maximumf": -math.inf, "minimumf": math.inf, "maxnumf": math.nan, "minnumf": math.nan,
}  # fmt: skip
_NEUTRAL_INTS = {"addi": 0, "muli": 1, "andi": -1, "ori": 0, "xori": 0, "maxui": 0, "minui": -1}


def _single(op: Op) -> str | None:
    """The name of a reduction's combiner, if it has one operand and is a single operation on both of its arguments."""
    block = op.regions[0].block
    if len(op.operands) != 1 or len(block.ops) != 2 or set(block.ops[0].operands) != set(block.args):
        return None
    return block.ops[0].name


def _neutral(op: Op) -> V | None:
    """The element that the combiner of a reduction gives every other one back for, if it is a single operation."""
    name, type = _single(op), ltype(element_of(op.operands[0].type))
    if name is None:
        return None
    if name in ("maxsi", "minsi"):
        least = -(1 << (type.bits - 1))
        return int_const(least if name == "maxsi" else -least - 1, type)
    table: Mapping[str, float] = _NEUTRAL_FLOATS if type.is_float else _NEUTRAL_INTS
    return const(table[name], type) if name in table else None
