"""Splits a walk along one dimension where its masks end.

Most of a block lies inside of masks such as `cols < n`, and of the rest most lies outside. Inside, accesses are plain
vectors; outside, there are none. Only the few vectors around the edge look at masks element by element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I1, I64, Builder, V, int_const
from tessera.compiler.lower import reach
from tessera.compiler.lower.lanes import Lanes, Uniform
from tessera.compiler.passes.prefixes import GROWING, is_mask, is_prefix, through
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.sweep import Sweeper

_ZERO = int_const(0, I64)
_HOLDS, _FAILS = Uniform(int_const(1, I1)), Uniform(int_const(0, I1))


@dataclass(frozen=True)
class Edge:
    """A mask and, for each of its dimensions, the dimension of the loops."""

    mask: Value
    dims: reach.Dims

    def at(self, index: Sequence[Lanes]) -> tuple[Lanes, ...]:
        """Where the mask is read at an index of the loops."""
        return tuple(index[d] if d is not None and d >= 0 else Uniform(_ZERO) for d in self.dims)


@dataclass(frozen=True)
class Stretch:
    """Part of a walk: from `begin` to before `end` in steps of `step`; what masks are there, if that is known."""

    begin: V
    end: V
    step: int
    masks: Lanes | None


def find(
    low: Sweeper, reads: Sequence[Value], shape: tuple[int, ...], dim: int, unknown: int | None = None
) -> list[Edge]:
    """The masks that end somewhere along loop dimension `dim`, none of which depends on dimension `unknown`."""
    found: dict[Edge, None] = {}

    def stop(visit: reach.Visit) -> bool:
        return visit.value in low.buffers or ends(visit)

    def ends(visit: reach.Visit) -> bool:
        if visit.dims.count(dim) != 1 or None in visit.dims or unknown in visit.dims or not is_mask(visit.value):
            return False
        return is_prefix(visit.value, visit.dims.index(dim))

    for value in reads:
        if shape_of(value.type) == shape:
            for visit in reach.visits(value, reach.identity(len(shape)), stop):
                if ends(visit):
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
    first, last = None, None
    for edge in edges:
        full, empty = _extent(low, edge.mask, edge.at(start), edge.dims.index(dim), size)
        first = full if first is None else _least(b, first, full)
        last = empty if last is None else b.intrinsic("umax", I64, [last, empty])
    assert first is not None and last is not None
    whole = b.binary("and", first, int_const(-width * ways, I64))
    # Rounded up, so that the rest is a number of whole trips, too.
    rest = b.binary("and", b.add(last, int_const(width * ways - 1, I64)), int_const(-width * ways, I64))
    if begin:
        whole, rest = (b.intrinsic("umax", I64, [place, int_const(begin, I64)]) for place in (whole, rest))
    yield Stretch(int_const(begin, I64), whole, width * ways, _HOLDS)
    yield Stretch(whole, rest, width, None)
    yield Stretch(rest, int_const(size, I64), width * ways, _FAILS)


def _extent(low: Sweeper, mask: Value, index: tuple[Lanes, ...], dim: int, size: int) -> tuple[V, V]:
    """How many elements along `dim` the mask holds for, and after how many it does not hold again."""
    b, owner = low.b, mask.owner
    assert isinstance(owner, Op)
    if step(mask, dim) == 0:
        holds = low.evaluate(mask, index)
        assert isinstance(holds, Uniform)
        count = b.select(holds.value, int_const(size, I64), _ZERO)
        return count, count
    if owner.name == "andi":
        left, right = (_extent(low, operand, index, dim, size) for operand in owner.operands)
        return _least(b, left[0], right[0]), _least(b, left[1], right[1])
    if owner.name == "cmpi":
        return _counted(low, owner, index, size)
    source = through(owner, dim)
    assert source is not None
    return _extent(low, source[0], _moved(owner, index), source[1], size)


def _moved(op: Op, index: tuple[Lanes, ...]) -> tuple[Lanes, ...]:
    """Where an operation that only moves elements takes the one at `index` from."""
    [(_, dims)] = reach.operands(op, reach.identity(len(index)))
    return tuple(index[d] if d is not None and d >= 0 else Uniform(_ZERO) for d in dims)


def _counted(low: Sweeper, op: Op, index: tuple[Lanes, ...], size: int) -> tuple[V, V]:
    """For `a < b`, a growing by one: b - a at the start. Where a would wrap round nothing is known."""
    b, predicate = low.b, op.attrs["words"][0]
    which, more = GROWING[predicate]
    growing, still = (low.evaluate(op.operands[i], index) for i in (which, 1 - which))
    assert isinstance(growing, Uniform) and isinstance(still, Uniform)
    a, limit, sign = growing.value, still.value, predicate[0]
    bits = a.type.bits
    most = (1 << (bits - (sign == "s"))) - size
    holds = b.icmp(f"{sign}{'le' if more else 'lt'}", a, limit)
    counted = _least(b, b.cast("zext", b.sub(limit, a), I64), int_const(size, I64))
    counted = _least(b, b.add(counted, int_const(more, I64)), int_const(size, I64))
    counted = b.select(holds, counted, _ZERO)
    straight = b.icmp(f"{sign}le", a, int_const(most, a.type))
    return b.select(straight, counted, _ZERO), b.select(straight, counted, int_const(size, I64))


def _least(b: Builder, x: V, y: V) -> V:
    return x if x == y else b.intrinsic("umin", I64, [x, y])
