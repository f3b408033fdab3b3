"""Walks a block square by square where a store runs along one dimension and what it reads along another.

Vectors along either dimension would reach the memory of one side lane by lane. So n vectors of n elements are read
along memory, turned in registers by log₂ n rounds of shuffles, and computed with and stored along memory, too:

    a₀ a₁ a₂ a₃        a₀ b₀ c₀ d₀
    b₀ b₁ b₂ b₃   →    a₁ b₁ c₁ d₁
    c₀ c₁ c₂ c₃        a₂ b₂ c₂ d₂
    d₀ d₁ d₂ d₃        a₃ b₃ c₃ d₃
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I1, I64, Builder, V, int_const
from tessera.compiler.lower import edges
from tessera.compiler.lower.lanes import Lanes, Ramp, Uniform, Vector, ltype, size_bytes, to_vector
from tessera.compiler.passes import reach
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import element_of, shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.lanes import Index
    from tessera.compiler.lower.sweep import Plan, Sweeper

# Smaller squares are not worth their shuffles, unless registers are.
_LEAST_SIDE = 8
_ZERO, _ONE = int_const(0, I64), int_const(1, I64)


@dataclass(frozen=True)
class Squares:
    """A walk in squares: `reads` run along dimension `down` in memory, the walk's vectors along another."""

    down: int
    reads: tuple[reach.Visit, ...]


def along_memory(pointer: Value) -> int | None:
    """The one dimension along which a block of pointers goes from neighbour to neighbour."""
    moves = [step(pointer, dim, usual=True) for dim in range(len(shape_of(pointer.type)))]
    return moves.index(1) if moves.count(1) == 1 else None


def turned(low: Sweeper, plan: Plan, reads: Sequence[Value], along: int | None) -> Plan:
    """`plan`, a walk that writes along a dimension; in squares where something that is read lies across that."""
    shape = plan.shape
    if along is None or shape[along] == 1:
        return plan
    crossing = {visit: down for read in reads for visit, down in _across(low, read, shape, along)}
    if not crossing:
        return plan
    down = next(iter(crossing.values()))
    found = tuple(visit for visit, other in crossing.items() if other == down)
    widest = max(size_bytes(ltype(element_of(read.type))) for read in (reads[0], *(visit.value for visit in found)))
    most = min(low.target.vector_bits // 8 // widest, low.target.registers)
    side = min(most, shape[down], shape[along])
    if side < min(most, _LEAST_SIDE):
        return plan
    return dataclasses.replace(plan, vector_dim=along, width=side, unroll=1, squares=Squares(down, found))


def _across(low: Sweeper, value: Value, shape: tuple[int, ...], along: int) -> Iterator[tuple[reach.Visit, int]]:
    """What evaluating `value` reads from memory along another dimension than `along`, and that dimension."""
    if shape_of(value.type) != shape:
        return

    def stop(visit: reach.Visit) -> bool:
        return low.is_stored(visit, value) or _down(low, visit, along) is not None

    for visit in reach.visits(value, reach.identity(len(shape)), stop):
        down = _down(low, visit, along)
        if down is not None:
            yield visit, down


def _down(low: Sweeper, visit: reach.Visit, along: int) -> int | None:
    """The dimension of the loops that neighbours in memory lie along, if it is another one than `along`, and the value
    also moves along that."""
    if None in visit.dims or visit.dims.count(along) != 1:
        return None
    own = _dimension_in_memory(low, visit.value)
    if own is None:
        return None
    down = visit.dims[own]
    return down if down not in (along, -1) and visit.dims.count(down) == 1 else None


def _dimension_in_memory(low: Sweeper, value: Value) -> int | None:
    """Along which of its dimensions neighbours of a block in memory lie side by side; None: there is none, or it is
    computed."""
    shape = shape_of(value.type)
    if value in low.buffers or value in low.pending:
        return len(shape) - 1 if shape[-1] > 1 else None
    load = value.owner
    if not isinstance(load, Op) or load.name != "load":
        return None
    pointer = load.operands[0]
    # What stands still along a dimension is read once for it.
    still = any(step(pointer, dim, usual=True) == 0 for dim, size in enumerate(shape) if size > 1)
    return None if still else along_memory(pointer)


def walk(low: Sweeper, plan: Plan, reads: Sequence[Value], body: Callable[[Index], None]) -> None:
    """Run `body` at every index of a plan that walks in squares."""
    assert plan.squares is not None and plan.vector_dim is not None
    outer = [dim for dim in plan.order if dim not in (plan.squares.down, plan.vector_dim)]
    _Walk(low, plan, plan.squares, plan.vector_dim, reads, body).outside(outer, {})


@dataclass(frozen=True)
class _Walk:
    low: Sweeper
    plan: Plan
    squares: Squares
    along: int
    reads: Sequence[Value]
    body: Callable[[Index], None]

    def outside(self, dims: Sequence[int], places: dict[int, Lanes]) -> None:
        """The loops around the squares, one for each of `dims`."""
        if not dims:
            self._rows(places)
            return
        axis, *more = dims

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.low.frame():
                self.outside(more, {**places, axis: Uniform(position)})
            return []

        self.low.b.counted_loop(self.plan.shape[axis], 1, [], inside)

    def _rows(self, places: dict[int, Lanes]) -> None:
        """The two loops over squares."""
        b, down, side = self.low.b, self.squares.down, self.plan.width
        parts = {dim: self._inside(dim, places) for dim in (down, self.along)}
        limits = self._limits()

        def over_rows(row: V, carried: list[V]) -> list[V]:
            with self.low.frame():
                rows = _from(b, row, side)
                for place in rows:
                    self.low.hoist(self.plan, self._ordered({**places, down: place}), self.reads)
                b.range_loop(_ZERO, limits[self.along], side, [], lambda column, carried: over_columns(rows, column))
            return []

        def over_columns(rows: list[Uniform], column: V) -> list[V]:
            columns = _from(b, column, side)
            starts = {down: rows[0].value, self.along: column}
            self._inside_or_not(parts, starts, lambda: self._square(places, rows, columns))
            return []

        b.range_loop(_ZERO, limits[down], side, [], over_rows)

    def _inside_or_not(
        self, parts: dict[int, edges.Stretch | None], starts: dict[int, V], square: Callable[[], None]
    ) -> None:
        """Write a square: twice, if there are masks, once for where all of them hold."""
        b, inside, facts = self.low.b, int_const(1, I1), dict[edges.Edge, Uniform]()
        for dim, part in parts.items():
            if part is not None:
                inside = b.binary("and", inside, b.icmp("slt", starts[dim], part.end))
                facts |= part.facts

        def knowing(known: edges.Facts) -> None:
            with self.low.knowing(known):
                square()

        if facts:
            b.either(inside, lambda: knowing(facts), lambda: knowing({}))
        else:
            knowing({})

    def _inside(self, dim: int, places: dict[int, Lanes]) -> edges.Stretch | None:
        """As far as all masks hold along a dimension, in whole squares, and what is known there; None: there are no
        masks."""
        size, other = self.plan.shape[dim], self.along if dim == self.squares.down else self.squares.down
        found = edges.along(self.low, self.reads, self.plan.shape, dim, unknown=other)
        if not found:
            return None
        return next(edges.stretches(self.low, found, self._index(places), dim, (0, size), self.plan.width, 1))

    def _limits(self) -> list[V]:
        """Behind the last square of each dimension in which there is anything to do."""
        b, side = self.low.b, self.plan.width
        limits = self.low.limits(self.plan)
        return [b.binary("and", b.add(limit, int_const(side - 1, I64)), int_const(-side, I64)) for limit in limits]

    def _square(self, places: dict[int, Lanes], rows: list[Uniform], columns: list[Uniform]) -> None:
        low, side, down, along = self.low, self.plan.width, self.squares.down, self.along
        found: list[list[V]] = [[] for _ in self.squares.reads]
        for column in columns:
            low.at(self._index({**places, down: _ramp(rows[0]), along: column}))
            for visit, vectors in zip(self.squares.reads, found, strict=True):
                vectors.append(to_vector(low.b, low.evaluate(visit.value, _own(visit, low.trip)), side))
        squares = [transpose(low.b, vectors) for vectors in found]
        for number, row in enumerate(rows):
            low.at(self._index({**places, down: row, along: _ramp(columns[0])}))
            for visit, vectors in zip(self.squares.reads, squares, strict=True):
                low.found(visit.value, _own(visit, low.trip), Vector(vectors[number]))
            self.body(low.trip)

    def _index(self, places: dict[int, Lanes]) -> Index:
        return tuple(places.get(dim, Uniform(_ZERO)) for dim in range(len(self.plan.shape)))

    def _ordered(self, places: dict[int, Lanes]) -> list[Lanes]:
        return [places[dim] for dim in self.plan.order if dim != self.along]


def _from(b: Builder, first: V, count: int) -> list[Uniform]:
    return [Uniform(b.add(first, int_const(number, I64))) for number in range(count)]


def _ramp(first: Uniform) -> Ramp:
    return Ramp(first.value, _ONE)


def _own(visit: reach.Visit, index: Index) -> Index:
    """Where a value is read at an index of the loops."""
    return tuple(index[d] if d is not None and d >= 0 else Uniform(_ZERO) for d in visit.dims)


def transpose(b: Builder, vectors: Sequence[V]) -> list[V]:
    """n vectors of n lanes, rows and columns exchanged: log₂ n rounds of perfect shuffles."""
    n, type = len(vectors), vectors[0].type
    half = n // 2
    # Half precision is shuffled as integers, which every target can.
    bits = type.with_scalar(f"i{type.bits}") if type.is_float else type
    current = [b.cast("bitcast", vector, bits) for vector in vectors]
    low_half = [i for pair in range(half) for i in (pair, n + pair)]
    high_half = [i + half for i in low_half]
    for _ in range(n.bit_length() - 1):
        following: list[V] = []
        for i in range(half):
            following.append(b.shuffle(current[i], current[i + half], low_half))
            following.append(b.shuffle(current[i], current[i + half], high_half))
        current = following
    return [b.cast("bitcast", vector, type) for vector in current]
