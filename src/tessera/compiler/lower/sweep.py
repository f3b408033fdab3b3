"""Loops over the index space of a block: which dimension runs through the vector, how wide, how often unrolled."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tessera.compiler.llvm.builder import I64, Builder, V, int_const
from tessera.compiler.lower import ahead, buffers, edges, squares
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.digits import delinearise
from tessera.compiler.lower.evaluate import Evaluator
from tessera.compiler.lower.lanes import Index, Lanes, Ramp, Uniform, ltype
from tessera.compiler.lower.memory import FEW_APART
from tessera.compiler.passes import reach
from tessera.compiler.passes.placement import COSTLY, cost_of_one
from tessera.compiler.passes.strides import Step, step
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, element_of, shape_of

# Expressions up to this many operations are worth several vectors a trip.
_LIGHT, _MEDIUM = 16, 48
# A block of up to so many vectors can be held in registers, and so many operations are worth being written out.
_REGISTERS, _WRITTEN_OUT = 16, 512
# How much more it matters how something is read at every element than how a row or a column is.
_EVERY_ELEMENT = 8


@dataclass(frozen=True)
class Plan:
    """How to walk a shape. `vector_dim` is None for a walk element by element. Nothing is done where `mask` does not
    hold."""

    shape: tuple[int, ...]
    vector_dim: int | None
    width: int
    unroll: int
    operations: int = 0
    mask: Value | None = None
    squares: squares.Squares | None = None

    @property
    def is_small(self) -> bool:
        """Does all of it, written out, fit into the registers, as far as the number of its vectors tells?"""
        vectors = math.prod(self.shape) // max(self.width, 1)
        return self.vector_dim is not None and vectors <= _REGISTERS and vectors * self.operations <= _WRITTEN_OUT

    def chunk(self, dim: int) -> int:
        """Elements of `dim` in one trip."""
        return self.width * self.unroll if dim == self.vector_dim else 1

    @property
    def order(self) -> list[int]:
        """The loops' dimensions, outermost first: the vector's dimension is innermost."""
        rest = [dim for dim in range(len(self.shape)) if dim != self.vector_dim]
        return rest if self.vector_dim is None else [*rest, self.vector_dim]


class Sweeper(Evaluator):
    """An evaluator that can walk whole blocks and compute values into scratch."""

    def __init__(self, builder: Builder, name: str, target: Target) -> None:
        super().__init__(builder, name)
        self.target = target
        # Values that belong in scratch and wait for the first sweep that reads them anyway.
        self.pending: dict[Value, None] = {}
        # Loads that every sweep performs itself, until the store that could overtake them.
        self.guarded: dict[Value, None] = {}
        # Sums that a loop carries in scratch, and whether they are still to be begun in this trip.
        self.fresh: dict[Value, V] = {}
        # Of stores that a product ends in: whether its last trip has written what they write. While a loop is lowered
        # that sums such a product, whether this trip does.
        self.stored: dict[Op, V] = {}
        # How often sweeps performed a load so far, and of how many blocks the kernel remembers the start; None in a
        # function, whose calls do not follow each other as the programs of a grid do.
        self.performed: dict[Op, int] = {}
        self.starts: int | None = None
        # What is known of masks and remainders all along the loop that is being written.
        self._facts: edges.Facts = {}

    # Planning ---------------------------------------------------------------------------------------------------

    def plan(
        self, shape: tuple[int, ...], reads: Sequence[Value], stored_to: Value | None = None, fixed: int | None = None,
        narrow: bool = False,
    ) -> Plan:  # fmt: skip
        """The best walk for evaluating `reads` and storing through the pointer block `stored_to`, all of `shape`.

        `fixed` is a dimension that may not run through the vector. `narrow`: vectors may be shorter than a register,
        where the machine reads memory better so.
        """
        long = [dim for dim, size in enumerate(shape) if size > 1 and dim != fixed]
        if not long:
            return Plan(shape, None, 0, 1)
        scores, operations = self._scores(shape, reads)
        if stored_to is not None:
            moves = [step(stored_to, dim, usual=True) for dim in range(len(shape))]
            scores = [score + 2 * _EVERY_ELEMENT * (move == 1) for score, move in zip(scores, moves, strict=True)]
        best = max(long, key=lambda dim: (min(shape[dim], 4), scores[dim], dim))
        lanes = self._lanes(reads) if narrow and operations <= _MEDIUM else self.target.lanes
        width = min(lanes, shape[best])
        unroll = 4 if operations <= _LIGHT else 2 if operations <= _MEDIUM else 1
        if self._goes_singly(shape, reads, stored_to, best):
            unroll = 1
        return Plan(shape, best, width, max(1, min(unroll, shape[best] // width)), operations)

    def _goes_singly(self, shape: tuple[int, ...], reads: Sequence[Value], stored_to: Value | None, dim: int) -> bool:
        """Does a walk along `dim` read or write lane by lane somewhere? Such vectors are long enough as they are."""
        moves = [] if stored_to is None else [step(stored_to, dim, usual=True)]
        for value in reads:
            stop = self._stored_except(value)
            whole = shape_of(value.type) == shape
            for visit in reach.visits(value, reach.identity(len(shape)), stop) if whole else ():
                load = visit.value.owner
                if isinstance(load, Op) and load.name == "load" and dim in visit.dims and not stop(visit):
                    moves.append(step(load.operands[0], visit.dims.index(dim), usual=True))
        return any(map(_is_spaced, moves))

    def _scores(self, shape: tuple[int, ...], values: Sequence[Value]) -> tuple[list[int], int]:
        """For each dimension how well memory accesses run along it, and the number of operations evaluated.

        What is read at every element counts most: what stands still along a dimension is read once before its loop.
        """
        scores, operations = [0] * len(shape), 0
        long = {dim for dim, size in enumerate(shape) if size > 1}
        for value in values:
            if shape_of(value.type) != shape:
                continue
            for visit in reach.visits(value, reach.identity(len(shape)), self._stored_except(value)):
                operations += 1
                weight = _EVERY_ELEMENT if long <= set(visit.dims) else 1
                scores = [score + weight * self._moves_along(visit, dim, value) for dim, score in enumerate(scores)]
        return scores, operations

    def _lanes(self, values: Sequence[Value]) -> int:
        """How many lanes a walk has that stores `values`: fewer than a register's, where its time goes into loads that
        the machine prefers so."""
        visits = [
            (visit.value.owner, self.is_stored(visit, value))
            for value in values
            for visit in reach.visits(value, reach.identity(len(shape_of(value.type))), self._stored_except(value))
            if isinstance(visit.value.owner, Op)
        ]
        far = [op for op, stored in visits if op.name == "load" and op not in self.performed and not stored]
        # What is costly and in scratch was written there a register at a time, and is read so.
        if not far or any(cost_of_one(op) >= COSTLY for op, _ in visits):
            return self.target.lanes
        widest = max(ltype(element_of(op.result.type)).bits for op in far)
        return min(self.target.lanes, self.target.loaded_bits // widest)

    def _stored_except(self, root: Value) -> Callable[[reach.Visit], bool]:
        return lambda visit: self.is_stored(visit, root)

    def is_stored(self, visit: reach.Visit, root: Value) -> bool:
        """Is or will it be read from scratch by a walk that evaluates `root`?"""
        return visit.value in self.buffers or (visit.value in self.pending and visit.value is not root)

    def _moves_along(self, visit: reach.Visit, dim: int, root: Value) -> int:
        """4 for a contiguous access along `dim`, 1 for one that stands still."""
        if self._stored_except(root)(visit):
            return 4 if visit.dims[-1] == dim else int(dim not in visit.dims)
        owner = visit.value.owner
        if not isinstance(owner, Op) or owner.name != "load":
            return 0
        if dim not in visit.dims:
            return 1
        moved = step(owner.operands[0], visit.dims.index(dim), usual=True)
        return 4 if moved == 1 else int(moved == 0)

    # Walking ----------------------------------------------------------------------------------------------------

    def sweep(self, plan: Plan, reads: Sequence[Value], body: Callable[[Index], None]) -> None:
        """Run `body` at every index of the plan. Pending values among `reads` go to scratch before, or on the way."""
        if self._is_better_flat(plan, reads):
            self._walk_flat(plan.shape, reads, body)
            return
        with self.walking(plan, reads):
            if plan.squares is not None:
                squares.walk(self, plan, reads, body)
            else:
                self._walk(plan, self.limits(plan), [], reads, body)

    def keep(self, buffer: Buffer, value: Value) -> None:
        """Write every element of `value` into scratch that a loop carries: without a loop where it is small, so that
        LLVM sees the same vectors in every trip of the loop around it, and holds them in registers."""
        plan = self.plan(shape_of(value.type), [value])
        if not plan.is_small or self._is_better_flat(plan, [value]):
            self.fill(buffer, value, plan)
            return

        def written_out() -> None:
            for places in itertools.product(*(range(0, plan.shape[dim], self._pace(plan, dim)) for dim in plan.order)):
                self.at(self.full_index(plan, [Uniform(int_const(place, I64)) for place in places], 0))
                buffers.write(self.b, buffer, self.trip, self.evaluate(value, self.trip), self.width)

        with self.walking(plan, [value]):
            self.whole_or_part([value], (_ZERO,) * len(plan.shape), written_out)

    def in_registers(self, value: Value) -> bool:
        """May LLVM hold a block of several rows that `keep` writes in registers? One of a single row needs no care."""
        shape = shape_of(value.type)
        return sum(size > 1 for size in shape) > 1 and self.plan(shape, [value]).is_small

    @staticmethod
    def _pace(plan: Plan, dim: int) -> int:
        return plan.width if dim == plan.vector_dim else 1

    @contextmanager
    def walking(self, plan: Plan, reads: Sequence[Value], reduced: bool = False) -> Iterator[None]:
        """Inside, `plan` is walked and `reads` are evaluated; `reduced`: nothing else is written meanwhile."""
        with self.filling(plan, reads), ahead.looking(self, plan, reads, reduced), self.lanes(plan.width):
            yield

    def _is_better_flat(self, plan: Plan, reads: Sequence[Value]) -> bool:
        """Are rows shorter than a vector, as those of a sorting network, and is memory reached through scratch or a
        reshape only, where one long row is as good?"""
        lanes, shape = self.target.lanes, plan.shape
        if plan.squares is not None or plan.vector_dim is None:
            return False
        if shape[-1] >= lanes or len(shape) < 3 or math.prod(shape) < lanes:
            return False
        if any(isinstance(value.type, BlockType) and shape_of(value.type) != plan.shape for value in reads):
            return False
        visits = (
            visit
            for value in reads
            for visit in reach.visits(value, reach.identity(len(plan.shape)), self._stored_except(value))
        )
        return not any(
            isinstance(visit.value.owner, Op) and visit.value.owner.name == "load" and None not in visit.dims
            for visit in visits
        )

    def _walk_flat(self, shape: tuple[int, ...], reads: Sequence[Value], body: Callable[[Index], None]) -> None:
        """One loop over all elements in row-major order; the index is the digits of the position."""
        count, width = math.prod(shape), self.target.lanes
        plan = Plan(shape, len(shape) - 1, width, max(1, min(2, count // width)))

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.frame():
                for number in range(plan.unroll):
                    base = self.b.add(position, int_const(number * width, I64))
                    self.at(delinearise(self.b, Ramp(base, int_const(1, I64)), shape, self.width))
                    body(self.trip)
            return []

        with self.filling(plan, reads), self.lanes(width):
            self.b.counted_loop(count, width * plan.unroll, [], inside)

    def limits(self, plan: Plan) -> list[V]:
        """Behind the last index of each dimension at which a walk has anything to do."""
        sizes = [int_const(size, I64) for size in plan.shape]
        # What goes to scratch on the way is needed everywhere.
        return sizes if plan.mask is None or self.storing else edges.reaches(self, plan.mask, sizes)

    def _walk(
        self, plan: Plan, limits: list[V], index: list[Lanes], reads: Sequence[Value], body: Callable[[Index], None]
    ) -> None:
        order = plan.order
        if len(index) == len(order):
            self._trips(plan, index, plan.unroll, body)
            return
        axis = order[len(index)]
        if len(index) == len(order) - 1:
            self.hoist(plan, index, reads)
            if axis == plan.vector_dim and self._stretched(plan, index, reads, body):
                return

        def inside(position: V, carried: list[V]) -> list[V]:
            with self.frame():
                self._walk(plan, limits, [*index, Uniform(position)], reads, body)
            return []

        if len(index) < len(order) - 1 and limits[axis].const is None:
            self.b.range_loop(_ZERO.value, limits[axis], plan.chunk(axis), [], inside)
        else:
            self.b.counted_loop(plan.shape[axis], plan.chunk(axis), [], inside)

    def _trips(self, plan: Plan, index: Sequence[Lanes], ways: int, body: Callable[[Index], None]) -> None:
        for number in range(ways):
            self.at(self.full_index(plan, index, number))
            body(self.trip)

    def _stretched(self, plan: Plan, outer: list[Lanes], reads: Sequence[Value], body: Callable[[Index], None]) -> bool:
        """The innermost loop in three, where masks end along it. Returns whether there was such a mask."""
        inner = plan.order[-1]
        found = edges.along(self, reads, plan.shape, inner) if plan.shape[inner] > plan.width else []
        if not found:
            return False
        places = self.full_index(plan, [*outer, _ZERO], 0)
        for stretch in edges.stretches(self, found, places, inner, (0, plan.shape[inner]), plan.width, plan.unroll):

            def inside(position: V, carried: list[V], stretch: edges.Stretch = stretch) -> list[V]:
                with self.knowing(stretch.facts):
                    self._trips(plan, [*outer, Uniform(position)], stretch.step // plan.width, body)
                return []

            self.b.range_loop(stretch.begin, stretch.end, stretch.step, [], inside)
        return True

    @contextmanager
    def knowing(self, facts: edges.Facts) -> Iterator[None]:
        """Inside, these facts hold at each trip."""
        before, self._facts = self._facts, facts
        try:
            with self.frame():
                yield
        finally:
            self._facts = before

    def at(self, index: Index) -> None:
        """The walk has come to `index`."""
        self.trip = index
        for edge, fact in self._facts.items():
            place = edge.at(index)
            self.assume(edge.value, place, edges.fact_at(self, edge, fact, place))

    def whole_or_part(
        self, values: Sequence[Value], start: Index, walk: Callable[[], None], sizes: Sequence[V] | None = None
    ) -> None:
        """Write `walk`, a walk over all of some blocks, or over `sizes` elements of them from `start` on: twice, if
        they have edges, once for where it lies inside."""
        found = edges.inside(self, values)
        if not found:
            walk()
            return
        b = self.b
        all_of_it = [int_const(size, I64) for size in shape_of(values[0].type)]
        condition, facts = edges.whole(self, found, start, sizes or all_of_it)
        whole, part, after = b.fresh("whole"), b.fresh("part"), b.fresh("walked")
        b.branch_if(condition, whole, part)
        for label, known in ((whole, facts), (part, {})):
            b.label(label)
            with self.knowing(known):
                walk()
            b.branch(after)
        b.label(after)

    def full_index(self, plan: Plan, places: Sequence[Lanes], number: int) -> Index:
        """The index of the `number`th vector of a trip, from the loops' positions in the order of the walk."""
        found: list[Lanes] = list(places)
        for place, dim in zip(places, plan.order, strict=True):
            assert isinstance(place, Uniform)
            found[dim] = place
            if dim == plan.vector_dim:
                base = self.b.add(place.value, int_const(number * plan.width, I64))
                found[dim] = Ramp(base, int_const(1, I64))
        return tuple(found)

    def hoist(self, plan: Plan, outer: Sequence[Lanes], reads: Sequence[Value]) -> None:
        """Before the innermost loop, evaluate what does not depend on it."""
        places = dict(zip(plan.order, outer, strict=False))
        inner = plan.order[-1]
        for value in reads:
            if not places or shape_of(value.type) != plan.shape:
                continue
            for dims, read in self._read_at(value, len(plan.shape)):
                known = [d for d in dims if d is not None and d >= 0]
                if known and None not in dims and inner not in dims:
                    self.evaluate(read, tuple(places[d] if d is not None and d >= 0 else _ZERO for d in dims))

    def _read_at(self, value: Value, rank: int) -> list[tuple[reach.Dims, Value]]:
        found = reach.visits(value, reach.identity(rank), lambda visit: visit.value in self.buffers)
        return [(visit.dims, visit.value) for visit in found]

    # Scratch ----------------------------------------------------------------------------------------------------

    def filling(self, plan: Plan, reads: Sequence[Value]) -> _Filling:
        """For the time of a walk: pending values that it computes at every index anyway are also written to scratch."""
        return _Filling(self, self._fusable(plan, reads))

    def _fusable(self, plan: Plan, reads: Sequence[Value]) -> list[Value]:
        """Pending values that the walk reads at its own index only. All others that it needs are computed here,
        before it."""
        whole = reach.identity(len(plan.shape))
        in_order = plan.vector_dim in (None, len(plan.shape) - 1)
        while True:
            fusable: dict[Value, None] = {}
            forced: list[Value] = []
            for value in reads:
                if not isinstance(value.type, BlockType):
                    continue
                same = shape_of(value.type) == plan.shape
                for visit in self._pending_reads(value):
                    on_the_way = same and in_order and visit.dims == whole
                    (fusable.setdefault(visit.value) if on_the_way else forced.append(visit.value))
            if not forced:
                return list(fusable)
            self.materialise(forced[-1])

    def _pending_reads(self, value: Value) -> list[reach.Visit]:
        """The pending values that computing `value` reads. Those that it reads elsewhere than at its own index are
        computed before, and what they read themselves is none of its business."""
        whole = reach.identity(len(shape_of(value.type)))

        def stop(visit: reach.Visit) -> bool:
            return visit.value in self.buffers or (visit.value in self.pending and visit.dims != whole)

        return [visit for visit in reach.visits(value, whole, stop) if visit.value in self.pending]

    def postpone(self, value: Value) -> None:
        """Leave `value`, which belongs in scratch, to the first sweep that reads it. What it reads from elsewhere than
        its own index goes to scratch now: a long chain of such values would be unravelled backwards later."""
        whole = reach.identity(len(shape_of(value.type)))
        for visit in self._pending_reads(value):
            if visit.dims != whole and visit.value in self.pending:
                self.materialise(visit.value)
        self.pending[value] = None

    def materialise(self, value: Value) -> None:
        """Compute a value that waits into scratch now."""
        plan = self.plan(shape_of(value.type), [value])
        buffer = self.scratch(value)
        self.pending.pop(value, None)
        self.guarded.pop(value, None)
        self.fill(buffer, value, plan)
        self.buffers[value] = buffer

    def scratch(self, value: Value) -> Buffer:
        """Fresh scratch for a block."""
        return buffers.allocate(self.b, ltype(element_of(value.type)), shape_of(value.type))

    @contextmanager
    def conditional(self) -> Iterator[None]:
        """What goes to scratch inside was perhaps never computed, and is not there for what follows."""
        before = dict(self.buffers)
        try:
            yield
        finally:
            self.buffers = before

    def in_scratch(self, value: Value) -> Buffer:
        """The scratch that holds a block, computed now if it was not yet."""
        if value not in self.buffers:
            buffer = self.scratch(value)
            self.fill(buffer, value)
            self.buffers[value] = buffer
        return self.buffers[value]

    def fill(self, buffer: Buffer, value: Value, plan: Plan | None = None) -> None:
        """Write every element of `value` into scratch."""
        shape = shape_of(value.type)
        plan = squares.turned(self, plan or self.plan(shape, [value]), [value], len(shape) - 1)
        self.sweep(
            plan, [value], lambda index: buffers.write(self.b, buffer, index, self.evaluate(value, index), self.width)
        )

    def flush(self) -> None:
        """Compute everything that waits: control flow or a write comes next."""
        while self.pending or self.guarded:
            self.materialise(next(iter(self.pending or self.guarded)))


_ZERO = Uniform(int_const(0, I64))


def _is_spaced(moved: Step) -> bool:
    """Are lanes that move so the ones that are read and written one by one?"""
    return isinstance(moved, str) or (moved is not None and abs(moved) > max(FEW_APART))


class _Filling:
    """`with` block around a walk that writes some of the values it computes to scratch."""

    def __init__(self, sweeper: Sweeper, values: Sequence[Value]) -> None:
        self._sweeper = sweeper
        self._storing = {value: sweeper.scratch(value) for value in values}

    def __enter__(self) -> None:
        self._before = self._sweeper.storing
        self._sweeper.storing = self._storing
        for value in self._storing:
            del self._sweeper.pending[value]

    def __exit__(self, *error: object) -> None:
        self._sweeper.storing = self._before
        self._sweeper.buffers.update(self._storing)
