"""`dot`: operands are packed into scratch, then multiplied by a micro-kernel that keeps a tile of the result in
registers.

    for each panel of NR columns, for each MR rows:        accumulators = C[MR × NR]
        for k:  accumulators += A[MR, k] ⊗ B[k, NR]        one fused multiply-add a row and vector

A lies row-major, so that the rows are reached from one address; B in panels of NR columns, so that k walks memory in
order.
(The loop order follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import F32, F64, I32, I64, LType, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.conversions import convert_float
from tessera.compiler.lower.evaluate import Index, digit
from tessera.compiler.lower.lanes import Lanes, Ramp, Uniform, Vector, ltype, size_bytes, to_vector
from tessera.compiler.lower.memory import zero
from tessera.compiler.lower.sweep import Sweeper
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of, shape_of


@dataclass(frozen=True)
class Tile:
    """The micro-kernel's shape: `rows` × (`columns` vectors of `lanes`), computing in `type`."""

    rows: int
    columns: int
    lanes: int
    type: LType

    @property
    def width(self) -> int:
        return self.columns * self.lanes


def dot(low: Sweeper, op: Op) -> None:
    """C[…, M, N] + A[…, M, K] · B[…, K, N] into scratch."""
    a, b, c = op.operands[:3]
    low.flush()
    compute = _compute_type(op)
    result = _destination(low, op, compute)
    shape = shape_of(op.result.type)
    tile = _tile(low, shape, compute)
    depth = shape_of(a.type)[-1]
    packed_a = _ready_a(low, a, compute) or buffers.allocate(low.b, compute, shape_of(a.type)[-2:])
    packed_b = buffers.allocate(low.b, compute, (shape[-1] // tile.width, depth, tile.width))

    def one(prefix: Index) -> None:
        if a not in low.buffers or low.buffers[a] is not packed_a:
            _pack(low, a, prefix, compute, packed_a, lambda i, k: (i, k))
        _pack(low, b, prefix, compute, packed_b, lambda k, n: _panel_index(low, k, n, tile.width, shape[-1]))
        _multiply(low, tile, packed_a, packed_b, result, prefix, _starts_at_zero(low, c, op))

    _batches(low, shape[:-2], (), one)
    _publish(low, op, result)


def _batches(low: Sweeper, sizes: tuple[int, ...], prefix: Index, one: Callable[[Index], None]) -> None:
    if not sizes:
        one(prefix)
        return

    def inside(position: V, carried: list[V]) -> list[V]:
        with low.frame():
            _batches(low, sizes[1:], (*prefix, Uniform(position)), one)
        return []

    low.b.counted_loop(sizes[0], 1, [], inside)


def _compute_type(op: Op) -> LType:
    element = element_of(op.result.type)
    assert isinstance(element, ScalarType)
    operand = element_of(op.operands[0].type)
    assert isinstance(operand, ScalarType)
    if operand.name.startswith("f8"):
        raise fail("dot of 8-bit floats is not supported on the CPU yet", op.location)
    if element.is_float:
        return F64 if element.name == "f64" else F32
    return I32


def _tile(low: Sweeper, shape: tuple[int, ...], compute: LType) -> Tile:
    rows, columns = low.target.tile
    lanes = min(low.target.vector_bits // compute.bits, shape[-1])
    columns = max(1, min(columns, shape[-1] // lanes))
    return Tile(min(rows, shape[-2]), columns, lanes, compute)


# The result -------------------------------------------------------------------------------------------------


def _destination(low: Sweeper, op: Op, compute: LType) -> Buffer:
    """Where the result is accumulated, already holding C unless the accumulators start at zero."""
    c = op.operands[2]
    arg = op.attrs.get("carried")
    if isinstance(arg, Value) and low.buffers[arg].element == compute:
        if c is not arg:
            low.fill(low.buffers[arg], c)
        return low.buffers[arg]
    result = buffers.allocate(low.b, compute, shape_of(op.result.type))
    if not _starts_at_zero(low, c, op):
        _fill_converted(low, result, c)
    return result


def _starts_at_zero(low: Sweeper, c: Value, op: Op) -> bool:
    owner = c.owner
    return (
        isinstance(owner, Op) and owner.name == "constant" and owner.attrs["value"] == 0 and "carried" not in op.attrs
    )


def _fill_converted(low: Sweeper, result: Buffer, value: Value) -> None:
    def body(index: Index) -> None:
        buffers.write(low.b, result, index, _converted(low, low.evaluate(value, index), result.element), low.width)

    low.sweep(low.plan(shape_of(value.type), [value]), [value], body)


def _publish(low: Sweeper, op: Op, result: Buffer) -> None:
    """Hand the result over in its own type, which may be narrower than what was computed in."""
    element = ltype(element_of(op.result.type))
    if element == result.element:
        low.buffers[op.result] = result
        return
    wide = Value(f"{op.result.name}.wide", BlockType(result.shape, ScalarType("f32")))
    low.buffers[wide] = result
    narrow = buffers.allocate(low.b, element, result.shape)

    def body(index: Index) -> None:
        buffers.write(low.b, narrow, index, _converted(low, low.evaluate(wide, index), element), low.width)

    low.sweep(low.plan(result.shape, [wide]), [wide], body)
    low.buffers[op.result] = narrow


def _converted(low: Sweeper, lanes: Lanes, to: LType) -> Lanes:
    vector = isinstance(lanes, (Vector, Ramp))
    value = to_vector(low.b, lanes, low.width if vector else 0)
    if value.type.scalar != to.scalar:
        target = to.with_lanes(value.type.lanes)
        value = convert_float(low.b, value, target) if to.is_float else low.b.cast("sext", value, target)
    return Vector(value) if vector else Uniform(value)


# Packing ----------------------------------------------------------------------------------------------------


def _ready_a(low: Sweeper, a: Value, compute: LType) -> Buffer | None:
    """A itself, if it lies in scratch just as the micro-kernel wants it."""
    found = low.buffers.get(a)
    return found if found is not None and found.element == compute and len(found.shape) == 2 else None


def _panel_index(low: Sweeper, k: Lanes, n: Lanes, width: int, size: int) -> Index:
    return (digit(low, n, width, size // width), k, digit(low, n, 1, width))


def _pack(
    low: Sweeper, value: Value, prefix: Index, to: LType, target: Buffer, place: Callable[[Lanes, Lanes], Index]
) -> None:
    """Write the matrix `value[prefix]` in type `to`; memory runs along its columns."""
    shape = shape_of(value.type)
    rows, columns = shape[-2:]
    rank = len(shape)
    square = min(low.target.lanes, rows, columns)
    if low.plan(shape, [value]).vector_dim == rank - 2 and square > 1:
        _pack_transposed(low, value, prefix, to, target, place, square)
        return
    width = min(low.target.lanes, columns)
    ways = max(1, min(4, columns // width))

    def inner(column: V, carried: list[V], row: Lanes) -> list[V]:
        for way in range(ways):
            start = low.b.add(column, int_const(way * width, I64))
            along: Lanes = Ramp(start, int_const(1, I64)) if width > 1 else Uniform(start)
            found = low.evaluate(value, (*prefix, row, along))
            buffers.write(low.b, target, place(row, along), _converted(low, found, to), low.width)
        return []

    def outer(row: V, carried: list[V]) -> list[V]:
        with low.frame():
            low.b.counted_loop(columns, width * ways, [], lambda column, _: inner(column, _, Uniform(row)))
        return []

    with low.lanes(width if width > 1 else 0):
        low.b.counted_loop(rows, 1, [], outer)


def _pack_transposed(low: Sweeper, value: Value, prefix: Index, to: LType, target: Buffer,
                     place: Callable[[Lanes, Lanes], Index], size: int) -> None:  # fmt: skip
    """The same where memory runs along the rows: read size × size squares and turn them in registers."""
    rows, columns = shape_of(value.type)[-2:]

    def square(row: V, column: V) -> None:
        down = Ramp(row, int_const(1, I64))
        vectors = []
        for number in range(size):
            across = Uniform(low.b.add(column, int_const(number, I64)))
            lanes = _converted(low, low.evaluate(value, (*prefix, down, across)), to)
            vectors.append(to_vector(low.b, lanes, size))
        for number, vector in enumerate(transpose(low, vectors)):
            at = Uniform(low.b.add(row, int_const(number, I64)))
            buffers.write(low.b, target, place(at, Ramp(column, int_const(1, I64))), Vector(vector), size)

    # Squares along a row of memory follow one another, which is what a prefetcher sees.
    def outer(column: V, carried: list[V]) -> list[V]:
        def inner(row: V, carried: list[V]) -> list[V]:
            with low.frame():
                square(row, column)
            return []

        low.b.counted_loop(rows, size, [], inner)
        return []

    with low.lanes(size):
        low.b.counted_loop(columns, size, [], outer)


def transpose(low: Sweeper, vectors: Sequence[V]) -> list[V]:
    """n vectors of n lanes, rows and columns exchanged: log₂ n rounds of perfect shuffles."""
    n = len(vectors)
    half = n // 2
    current = list(vectors)
    low_half = [i for pair in range(half) for i in (pair, n + pair)]
    high_half = [i + half for i in low_half]
    for _ in range(n.bit_length() - 1):
        following: list[V] = []
        for i in range(half):
            following.append(low.b.shuffle(current[i], current[i + half], low_half))
            following.append(low.b.shuffle(current[i], current[i + half], high_half))
        current = following
    return current


# The micro-kernel -------------------------------------------------------------------------------------------


def _multiply(low: Sweeper, tile: Tile, a: Buffer, b: Buffer, c: Buffer, prefix: Index, from_zero: bool) -> None:
    panels, depth = b.shape[0], b.shape[1]
    rows = a.shape[0]

    def panel(number: V, carried: list[V]) -> list[V]:
        def strip(row: V, carried: list[V]) -> list[V]:
            _tile_product(low, tile, a, b, c, prefix, number, row, depth, from_zero)
            return []

        low.b.counted_loop(rows, tile.rows, [], strip)
        return []

    low.b.counted_loop(panels, 1, [], panel)


def _tile_product(low: Sweeper, tile: Tile, a: Buffer, b: Buffer, c: Buffer, prefix: Index,
                  panel: V, row: V, depth: int, from_zero: bool) -> None:  # fmt: skip
    builder, vector = low.b, tile.type.with_lanes(tile.lanes if tile.lanes > 1 else 0)
    column = builder.mul(panel, int_const(tile.width, I64))
    places = [
        _element(low, c, (*prefix, Uniform(builder.add(row, int_const(i, I64))),
                          Uniform(builder.add(column, int_const(j * tile.lanes, I64)))))
        for i in range(tile.rows) for j in range(tile.columns)
    ]  # fmt: skip
    align = size_bytes(tile.type)
    # Sums of one depth are added to C at the end: rounding then grows with the depth and the number of depths, not with
    # their product.
    start = [zero(vector) for _ in places]
    a_row = _element(low, a, (Uniform(row), Uniform(int_const(0, I64))))
    b_row = _element(low, b, (Uniform(panel), Uniform(int_const(0, I64)), Uniform(int_const(0, I64))))

    def step(k: V, sums: list[V]) -> list[V]:
        for deeper in range(unroll):
            at = builder.add(k, int_const(deeper, I64))
            sums = _rank_one(low, tile, sums, builder.offset(a_row, at, align), a.shape[1], b_row, at)
        return sums

    unroll = min(4, depth)
    for place, total in zip(places, builder.counted_loop(depth, unroll, start, step), strict=True):
        builder.store(total if from_zero else builder.add(builder.load(vector, place, align), total), place, align)


def _rank_one(low: Sweeper, tile: Tile, sums: list[V], a_column: V, a_stride: int, b_row: V, k: V) -> list[V]:
    """accumulators + column of A ⊗ row of B"""
    builder, vector = low.b, tile.type.with_lanes(tile.lanes if tile.lanes > 1 else 0)
    align = size_bytes(tile.type)
    row = builder.offset(b_row, builder.mul(k, int_const(tile.width, I64)), align)
    right = [builder.load(vector, _ahead(low, row, j * tile.lanes * align), align) for j in range(tile.columns)]
    following = []
    for i in range(tile.rows):
        scalar = builder.load(tile.type, _ahead(low, a_column, i * a_stride * align), align)
        left = builder.splat(scalar, vector.lanes)
        for j in range(tile.columns):
            following.append(_multiply_add(low, left, right[j], sums[i * tile.columns + j]))
    return following


def _multiply_add(low: Sweeper, x: V, y: V, total: V) -> V:
    return low.b.fma(x, y, total) if total.type.is_float else low.b.add(total, low.b.mul(x, y))


def _ahead(low: Sweeper, pointer: V, count_bytes: int) -> V:
    return low.b.offset(pointer, int_const(count_bytes, I64), 1)


def _element(low: Sweeper, buffer: Buffer, index: Index) -> V:
    place = buffers.address(low.b, buffer, index, 0)
    assert isinstance(place, Uniform)
    return place.value
