"""Splits walks where masks end and remainders wrap round.

Most of a block lies inside of masks such as `cols < n`, and of the rest most lies outside. Inside, accesses are plain
vectors; outside, there are none. Only the few vectors around the edge look at masks element by element. In the same way
`cols % n` runs on by one nearly everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I1, I64, Builder, V, int_const
from tessera.compiler.lower.lanes import Lanes, Uniform
from tessera.compiler.passes import reach
from tessera.compiler.passes.prefixes import GROWING, counts, ends, is_corner, is_mask, is_prefix, moving, through
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.sweep import Sweeper

_ZERO, _ONE = int_const(0, I64), int_const(1, I64)
_TRUE, _FALSE = int_const(1, I1), int_const(0, I1)


@dataclass(frozen=True)
class Edge:
    """A mask or a remainder and, for each of its dimensions, the dimension of the loops."""

    value: Value
    dims: reach.Dims

    def at(self, index: Sequence[Lanes]) -> tuple[Lanes, ...]:
        """Where the value is read at an index of the loops."""
        return tuple(index[d] if d is not None and d >= 0 else Uniform(_ZERO) for d in self.dims)


# What is known in part of a walk: the value of a mask, or what a remainder adds to its dividend.
Facts = Mapping[Edge, Uniform]


@dataclass(frozen=True)
class Stretch:
    """Part of a walk: from `begin` to before `end` in steps of `step`, and what is known there."""

    begin: V
    end: V
    step: int
    facts: Facts


def along(
    low: Sweeper, reads: Sequence[Value], shape: tuple[int, ...], dim: int, unknown: int | None = None
) -> list[Edge]:
    """What ends somewhere along loop dimension `dim` and does not depend on dimension `unknown`."""

    def ends(visit: reach.Visit) -> bool:
        if visit.dims.count(dim) != 1 or None in visit.dims or unknown in visit.dims:
            return False
        position = visit.dims.index(dim)
        return (is_mask(visit.value) and is_prefix(visit.value, position)) or counts(visit.value, position)

    return _edges(low, [value for value in reads if shape_of(value.type) == shape], ends)


def inside(low: Sweeper, values: Sequence[Value]) -> list[Edge]:
    """What ends somewhere in blocks of one shape, along any of their dimensions."""

    def ends(visit: reach.Visit) -> bool:
        if None in visit.dims or not isinstance(visit.value.owner, Op):
            return False
        if is_mask(visit.value):
            return is_corner(visit.value) and bool(moving(visit.value))
        dims = moving(visit.value.owner.operands[0]) if visit.value.owner.operands else []
        return len(dims) == 1 and counts(visit.value, dims[0])

    return _edges(low, values, ends)


def _edges(low: Sweeper, values: Sequence[Value], ends: reach.Stop) -> list[Edge]:
    found: dict[Edge, None] = {}
    for value in values:
        whole = reach.identity(len(shape_of(value.type)))
        for visit in reach.visits(value, whole, lambda visit: visit.value in low.buffers or ends(visit)):
            if visit.value not in low.buffers and ends(visit):
                found[Edge(visit.value, visit.dims)] = None
    return list(found)


def stretches(
    low: Sweeper,
    edges: Sequence[Edge],
    index: Sequence[Lanes],
    dim: int,
    bounds: tuple[int, int],
    width: int,
    ways: int,
) -> Iterator[Stretch]:
    """The parts of a walk within bounds: all masks hold (`ways` vectors a trip), some, none.

    `bounds` are multiples of a trip. `index` is where the loops stand; its entry for `dim` is of no account.
    """
    b, (begin, size) = low.b, bounds
    start = tuple(Uniform(_ZERO) if d == dim else place for d, place in enumerate(index))
    first, last = int_const(size, I64), _ZERO
    holding: dict[Edge, Uniform] = {}
    for edge in edges:
        if is_mask(edge.value):
            full, empty = _extent(low, edge.value, edge.at(start), edge.dims.index(dim), size)
            holding[edge] = Uniform(_TRUE)
        else:
            full, holding[edge] = _unwrapped(low, edge.value, edge.at(start), size)
            empty = int_const(size, I64)
        first, last = least(b, first, full), b.intrinsic("umax", I64, [last, empty])
    whole = b.binary("and", first, int_const(-width * ways, I64))
    # Rounded up, so that the rest is a number of whole trips, too.
    rest = b.binary("and", b.add(last, int_const(width * ways - 1, I64)), int_const(-width * ways, I64))
    if begin:
        whole, rest = (b.intrinsic("umax", I64, [place, int_const(begin, I64)]) for place in (whole, rest))
    yield Stretch(int_const(begin, I64), whole, width * ways, holding)
    yield Stretch(whole, rest, width, {})
    failing = {edge: Uniform(_FALSE) for edge in edges if is_mask(edge.value)}
    yield Stretch(rest, int_const(size, I64), width * ways, failing)


def whole(low: Sweeper, edges: Sequence[Edge], index: Sequence[Lanes], sizes: Sequence[V]) -> tuple[V, Facts]:
    """Whether the first `sizes` elements of a block lie inside of all its edges, and what is then known there. `index`
    is the block's start."""
    b, condition = low.b, _TRUE
    facts: dict[Edge, Uniform] = {}
    for edge in edges:
        place = edge.at(index)
        if is_mask(edge.value):
            lengths = [sizes[d] if d is not None and d >= 0 else _ONE for d in edge.dims]
            holds, facts[edge] = _everywhere(low, edge.value, place, lengths), Uniform(_TRUE)
        else:
            size = shape_of(edge.value.type)[moving(_dividend(edge.value))[0]]
            full, facts[edge] = _unwrapped(low, edge.value, place, size)
            holds = b.icmp("eq", full, int_const(size, I64))
        condition = b.binary("and", condition, holds)
    return condition, facts


def fact_at(low: Sweeper, edge: Edge, fact: Uniform, index: tuple[Lanes, ...]) -> Lanes:
    """The value of an edge, by what is known of it."""
    from tessera.compiler.lower import lanes

    if is_mask(edge.value):
        return fact
    return lanes.add(low.b, low.evaluate(_dividend(edge.value), index), fact, low.width)


def _dividend(remainder: Value) -> Value:
    assert isinstance(remainder.owner, Op)
    return remainder.owner.operands[0]


def _extent(low: Sweeper, mask: Value, index: tuple[Lanes, ...], dim: int, size: int) -> tuple[V, V]:
    """How many elements along `dim` the mask holds for, and after how many it does not hold again."""
    b, owner = low.b, mask.owner
    assert isinstance(owner, Op)
    if step(mask, dim) == 0:
        count = b.select(_scalar(low, mask, index), int_const(size, I64), _ZERO)
        return count, count
    if owner.name == "andi":
        left, right = (_extent(low, operand, index, dim, size) for operand in owner.operands)
        return least(b, left[0], right[0]), least(b, left[1], right[1])
    if owner.name == "cmpi":
        return _counted(low, owner, index, size)
    source = through(owner, dim)
    assert source is not None
    return _extent(low, source[0], _moved(owner, index), source[1], size)


def _everywhere(low: Sweeper, mask: Value, index: tuple[Lanes, ...], sizes: Sequence[V]) -> V:
    """Does a mask hold for the first `sizes` elements of its block? `index` is the block's start."""
    owner, dims = mask.owner, moving(mask)
    assert isinstance(owner, Op)
    if not dims:
        return _scalar(low, mask, index)
    if owner.name == "andi":
        left, right = (_everywhere(low, operand, index, sizes) for operand in owner.operands)
        return low.b.binary("and", left, right)
    if owner.name == "cmpi":
        count = _counted(low, owner, index, shape_of(mask.type)[dims[0]])[0]
        return low.b.icmp("uge", count, sizes[dims[0]])
    [(source, origin)] = reach.operands(owner, reach.identity(len(index)))
    lengths = [sizes[d] if d is not None and d >= 0 else _ONE for d in origin]
    return _everywhere(low, source, _moved(owner, index), lengths)


def reaches(low: Sweeper, mask: Value, sizes: list[V]) -> list[V]:
    """How far along each dimension of a block a mask may hold: at most `sizes`, at least 1."""
    for comparison, dim in ends(mask, reach.identity(len(sizes))):
        count = low.b.intrinsic("umax", I64, [reached(low, comparison), int_const(1, I64)])
        sizes[dim] = least(low.b, sizes[dim], count)
    return sizes


def reached(low: Sweeper, comparison: Value) -> V:
    """Behind the last element for which a comparison along one dimension may hold."""
    owner, shape = comparison.owner, shape_of(comparison.type)
    assert isinstance(owner, Op)
    return _counted(low, owner, (Uniform(_ZERO),) * len(shape), shape[moving(comparison)[0]])[1]


def _moved(op: Op, index: tuple[Lanes, ...]) -> tuple[Lanes, ...]:
    """Where an operation that only moves elements takes the one at `index` from."""
    [(_, dims)] = reach.operands(op, reach.identity(len(index)))
    return tuple(index[d] if d is not None and d >= 0 else Uniform(_ZERO) for d in dims)


def _scalar(low: Sweeper, value: Value, index: tuple[Lanes, ...]) -> V:
    lanes = low.evaluate(value, index)
    assert isinstance(lanes, Uniform), "one element is the same in every lane"
    return lanes.value


def _counted(low: Sweeper, op: Op, index: tuple[Lanes, ...], size: int) -> tuple[V, V]:
    """For `a < b`, a growing by one: b - a at the start. Where a would wrap round nothing is known."""
    b, predicate = low.b, op.attrs["words"][0]
    which, more = GROWING[predicate]
    a, limit = (_scalar(low, op.operands[i], index) for i in (which, 1 - which))
    sign, length = predicate[0], int_const(size, I64)
    most = (1 << (a.type.bits - (sign == "s"))) - size
    holds = b.icmp(f"{sign}{'le' if more else 'lt'}", a, limit)
    counted = least(b, b.cast("zext", b.sub(limit, a), I64), length)
    counted = b.select(holds, least(b, b.add(counted, int_const(more, I64)), length), _ZERO)
    straight = b.icmp(f"{sign}le", a, int_const(most, a.type))
    return b.select(straight, counted, _ZERO), b.select(straight, counted, length)


def _unwrapped(low: Sweeper, remainder: Value, index: tuple[Lanes, ...], size: int) -> tuple[V, Uniform]:
    """For `a % d`, a growing by one: how many elements come before d, and what the remainder adds to a till then."""
    b, owner = low.b, remainder.owner
    assert isinstance(owner, Op)
    a, d = (_scalar(low, operand, index) for operand in owner.operands)
    zero, one = int_const(0, a.type), int_const(1, a.type)
    usual = b.binary("and", b.icmp("sge", a, zero), b.icmp("sgt", d, zero))
    # Where nothing is known the division must still be a defined one.
    rest = b.binary("urem", a, b.select(usual, d, one))
    left = least(b, b.cast("zext", b.sub(d, rest), I64), int_const(size, I64))
    return b.select(usual, left, _ZERO), Uniform(b.sub(rest, a))


def least(b: Builder, x: V, y: V) -> V:
    return x if x == y else b.intrinsic("umin", I64, [x, y])


def most(b: Builder, x: V, y: V) -> V:
    return x if x == y or y == _ZERO else y if x == _ZERO else b.intrinsic("umax", I64, [x, y])
