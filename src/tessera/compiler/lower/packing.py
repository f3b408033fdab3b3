"""Lays the operands of a `dot` out as the micro-kernel reads them.

A lies row-major, so that all rows are reached from one address. B lies in panels of NR columns, so that walking along k
walks memory in order; where one instruction takes a group of products, `group` neighbours in k lie beside each other:

    A[m][k]        B[n // NR][k // group][(n % NR) · group + k % group]

Rows of A that are memory from end to end may stay where they are, wherever that is: the micro-kernel is given their
addresses.
"""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler.llvm.builder import I1, I64, PTR, LType, V, int_const
from tessera.compiler.lower import buffers, edges, float8
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.conversions import convert_float
from tessera.compiler.lower.digits import digit
from tessera.compiler.lower.lanes import Index, Lanes, Ramp, Uniform, Vector, ltype, to_vector
from tessera.compiler.lower.microkernel import Method, Part, Tile
from tessera.compiler.lower.squares import transpose
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import ScalarType, element_of, shape_of

# Where the vector of elements [row, column…] of an operand goes.
Keep = Callable[[V, V, V], None]


def panels(low: Sweeper, tile: Tile, depth: int, columns: int) -> Buffer:
    """Scratch for B."""
    group = tile.method.group
    return buffers.allocate(low.b, tile.method.operands, (columns // tile.width, depth // group, tile.width * group))


def rows(low: Sweeper, value: Value, prefix: Index, target: Buffer, method: Method, part: Part) -> None:
    """Write the matrix `value[prefix]` row-major, raised by the method's offset."""

    def keep(row: V, column: V, vector: V) -> None:
        if method.offset:
            vector = low.b.add(vector, int_const(method.offset, vector.type))
        index = (Uniform(row), Ramp(column, int_const(1, I64)) if vector.type.lanes else Uniform(column))
        lanes: Lanes = Vector(vector) if vector.type.lanes else Uniform(vector)
        buffers.write(low.b, target, index, lanes, vector.type.lanes)

    _walk(low, value, prefix, target.element, 1, (part.rows, part.depth), keep)


def places(low: Sweeper, value: Value, method: Method) -> Buffer | None:
    """Scratch for the address of each row of a matrix that may be multiplied where it lies: a load of what the method
    takes, whose rows are memory from end to end."""
    load, shape = value.owner, shape_of(value.type)
    if not isinstance(load, Op) or load.name != "load" or value in low.buffers or len(shape) != 2:
        return None
    if method.offset or ltype(element_of(value.type)) != method.operands or step(load.operands[0], 1) != 1:
        return None
    return buffers.allocate(low.b, PTR, shape[:1])


def in_place(low: Sweeper, value: Value, copy: Buffer, places: Buffer, tile: Tile, part: Part) -> None:
    """Write the address of each row of a matrix where it lies, or in a copy of it if masks leave some of it out."""
    b, load, zero = low.b, value.owner, Uniform(int_const(0, I64))
    assert isinstance(load, Op)
    reached = _reached(low, places.shape[0], part.rows, tile.rows)

    def each(address: Callable[[Index], Lanes]) -> None:
        def row(number: V, carried: list[V]) -> list[V]:
            with low.frame():
                buffers.write(b, places, (Uniform(number),), address((Uniform(number), zero)), 0)
            return []

        with low.lanes(0):
            b.limited_loop(places.shape[0], reached, 1, [], row)

    def to_copy() -> None:
        rows(low, value, (), copy, tile.method, part)
        each(lambda index: buffers.address(b, copy, index, 0))

    whole = _is_whole(low, load, (reached, part.depth))
    b.either(whole, lambda: each(lambda index: low.evaluate(load.operands[0], index)), to_copy)


def _is_whole(low: Sweeper, load: Op, sizes: tuple[V, V]) -> V:
    """Whether the mask of a load leaves out nothing of so many rows and columns."""
    start = (Uniform(int_const(0, I64)), Uniform(int_const(0, I64)))
    condition, facts = edges.whole(low, edges.inside(low, [load.result]), start, sizes)
    if len(load.operands) > 1:
        with low.knowing(facts), low.lanes(0):
            low.at(start)
            held = low.evaluate(load.operands[1], start)
        # A mask that depends on more than where it ends.
        if not isinstance(held, Uniform) or held.value.const != 1:
            return int_const(0, I1)
    return condition


def columns(low: Sweeper, value: Value, prefix: Index, tile: Tile, target: Buffer, part: Part) -> None:
    """Write the matrix `value[prefix]` in panels."""
    group, width = tile.method.group, tile.width
    count = shape_of(value.type)[-1] // width

    def keep(row: V, column: V, vector: V) -> None:
        panel = digit(low.b, Uniform(column), width, count, low.width)
        within = digit(low.b, Uniform(column), 1, width, low.width)
        assert isinstance(within, Uniform) and isinstance(panel, Uniform)
        start = low.b.mul(within.value, int_const(group, I64))
        lanes: Lanes = Vector(vector) if vector.type.lanes else Uniform(vector)
        along: Lanes = Ramp(start, int_const(1, I64)) if vector.type.lanes else Uniform(start)
        depth = Uniform(_halved(low, row, group))
        buffers.write(low.b, target, (panel, depth, along), lanes, vector.type.lanes)

    _walk(low, value, prefix, target.element, group, (part.depth, part.columns), keep)


def _halved(low: Sweeper, row: V, group: int) -> V:
    if row.const is not None:
        return int_const(row.const // group, I64)
    return row if group == 1 else low.b.binary("lshr", row, int_const(group.bit_length() - 1, I64))


def _walk(
    low: Sweeper, value: Value, prefix: Index, to: LType, group: int, limits: tuple[V, V], keep: Keep
) -> None:
    """Call `keep(row, column, vector)` for a matrix up to its limits: `group` rows at a time, interleaved, memory along
    columns."""
    shape = shape_of(value.type)
    rank, depth, across = len(shape), shape[-2], shape[-1]
    size = min(low.target.lanes, depth // group, across)
    along_rows = low.plan(shape, [value]).vector_dim == rank - 2

    turned = along_rows and size > 1
    width = min(low.target.vector_bits // to.bits // group, across)
    # Up to a limit few at a time: it may be the edge of memory.
    most = 4 if limits[1].const is not None else min(group, 2)
    ways = max(1, min(most, across // width))
    steps = (size * group, size) if turned else (group, width * ways)

    def walk() -> None:
        if turned:
            _turned(low, value, prefix, to, group, size, limits, keep)
        else:
            _straight(low, value, prefix, to, group, (width, ways), limits, keep)

    one, zero = int_const(1, I64), Uniform(int_const(0, I64))
    reached = [_reached(low, *side) for side in zip((depth, across), limits, steps, strict=True)]
    low.whole_or_part([value], (*prefix, zero, zero), walk, [*(one for _ in prefix), *reached])


def _reached(low: Sweeper, count: int, limit: V, step: int) -> V:
    """How far a limited loop gets."""
    if limit.const is not None or count == step:
        return int_const(count, I64)
    return low.b.binary("and", low.b.add(limit, int_const(step - 1, I64)), int_const(-step, I64))


def _straight(
    low: Sweeper, value: Value, prefix: Index, to: LType, group: int, trip: tuple[int, int], limits: tuple[V, V],
    keep: Keep,
) -> None:  # fmt: skip
    """Row by row, `trip` being the length of a vector and how many of them follow one another."""
    depth, across = shape_of(value.type)[-2:]
    width, ways = trip

    def inner(column: V, carried: list[V], row: V) -> list[V]:
        for way in range(ways):
            start = low.b.add(column, int_const(way * width, I64))
            along: Lanes = Ramp(start, int_const(1, I64)) if width > 1 else Uniform(start)
            places = [Uniform(low.b.add(row, int_const(number, I64))) for number in range(group)]
            vectors = [_element_vector(low, value, (*prefix, place, along), to) for place in places]
            keep(row, start, low.b.interleave(vectors))
        return []

    def outer(row: V, carried: list[V]) -> list[V]:
        with low.frame():
            low.b.limited_loop(across, limits[1], width * ways, [], lambda column, carried: inner(column, carried, row))
        return []

    with low.lanes(width if width > 1 else 0):
        low.b.limited_loop(depth, limits[0], group, [], outer)


def _turned(
    low: Sweeper, value: Value, prefix: Index, to: LType, group: int, size: int, limits: tuple[V, V], keep: Keep
) -> None:
    """The same where memory runs along the rows: read squares and turn them in registers.

    A group of neighbours in memory is turned as one number of `group` times the width.
    """
    depth, across = shape_of(value.type)[-2:]
    length = size * group

    def square(row: V, column: V) -> None:
        down = Ramp(row, int_const(1, I64))
        vectors = []
        for number in range(size):
            place = Uniform(low.b.add(column, int_const(number, I64)))
            vectors.append(_as_groups(low, _element_vector(low, value, (*prefix, down, place), to), group))
        for number, turned in enumerate(transpose(low.b, vectors)):
            vector = low.b.cast("bitcast", turned, to.with_lanes(length))
            keep(low.b.add(row, int_const(number * group, I64)), column, vector)

    # Squares along a row of memory follow one another, which is what a prefetcher sees.
    def outer(column: V, carried: list[V]) -> list[V]:
        def inner(row: V, carried: list[V]) -> list[V]:
            with low.frame():
                square(row, column)
            return []

        low.b.limited_loop(depth, limits[0], length, [], inner)
        return []

    with low.lanes(length):
        low.b.limited_loop(across, limits[1], size, [], outer)


def _as_groups(low: Sweeper, vector: V, group: int) -> V:
    if group == 1:
        return vector
    whole = LType(f"i{vector.type.bits * group}", vector.type.lanes // group)
    return low.b.cast("bitcast", vector, whole)


def _element_vector(low: Sweeper, value: Value, index: Index, to: LType) -> V:
    low.at(index)
    element = element_of(value.type)
    kind = float8.KINDS.get(element.name) if isinstance(element, ScalarType) else None
    return to_vector(low.b, converted(low, low.evaluate(value, low.trip), to, kind), low.width)


def converted(low: Sweeper, lanes: Lanes, to: LType, kind: float8.Kind | None = None) -> Lanes:
    """Lanes in another type of number; `kind` tells the 8-bit float that they are codes of."""
    vector = isinstance(lanes, (Vector, Ramp))
    value = to_vector(low.b, lanes, low.width if vector else 0)
    if kind is not None:
        value = float8.decode(low.b, value, kind)
    if value.type.scalar != to.scalar:
        target = to.with_lanes(value.type.lanes)
        value = convert_float(low.b, value, target) if to.is_float else low.b.cast("sext", value, target)
    return Vector(value) if vector else Uniform(value)
