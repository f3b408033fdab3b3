"""The innermost loops of a `dot`.

    for each panel of NR columns, for each MR rows:        sums = 0
        for k:  sums += A[MR, k] ⊗ B[k, NR]                one multiply-add a row and vector
        C[MR × NR] += sums

The sums of one depth are added to C at its end, so that rounding grows with the depth and the number of depths, not
with
their product. The loop order follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.llvm.builder import I64, LType, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.evaluate import Index
from tessera.compiler.lower.lanes import Uniform, size_bytes
from tessera.compiler.lower.memory import zero
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.targets.rows import Target


@dataclass(frozen=True)
class Method:
    """How products are summed: `operands` times `operands` into `sums`, `group` products a lane in one `instruction`.

    Without an instruction a lane takes one product by a fused multiply-add. `offset` is what the instruction wants A's
    elements raised by, because it takes them for unsigned: (a + offset)·b summed is a·b summed and offset · Σ b.
    """

    operands: LType
    sums: LType
    group: int
    instruction: str = ""
    offset: int = 0


@dataclass(frozen=True)
class Tile:
    """The shape of what is held in registers: `rows` × (`columns` vectors of `lanes` sums)."""

    rows: int
    columns: int
    lanes: int
    method: Method

    @property
    def width(self) -> int:
        return self.columns * self.lanes


def tile_for(target: Target, method: Method, shape: tuple[int, ...]) -> Tile:
    """The target's tile, cut down to a small result."""
    rows, columns = target.tile
    lanes = min(target.vector_bits // method.sums.bits, shape[-1])
    return Tile(min(rows, shape[-2]), max(1, min(columns, shape[-1] // lanes)), lanes, method)


def multiply(
    low: Sweeper, tile: Tile, a: Buffer, b: Buffer, c: Buffer, prefix: Index, from_zero: V | bool | None
) -> None:
    """C[prefix] + A · B into C; `from_zero`, known now or when it runs, takes C for 0 and never reads it."""

    def panel(number: V, carried: list[V]) -> list[V]:
        start = _start(low, tile, b, number)

        def strip(row: V, carried: list[V]) -> list[V]:
            _strip(low, tile, a, b, c, prefix, number, row, start, from_zero)
            return []

        low.b.counted_loop(a.shape[0], tile.rows, [], strip)
        return []

    low.b.counted_loop(b.shape[0], 1, [], panel)


def _start(low: Sweeper, tile: Tile, b: Buffer, panel: V) -> list[V]:
    """What the sums of a panel's columns start with: 0, less what the method's offset adds to them."""
    builder, method = low.b, tile.method
    nothing = [zero(_vector(method.sums, tile.lanes))] * tile.columns
    if not method.offset:
        return nothing
    ones = int_const(1, method.operands.with_lanes(tile.lanes * method.group))
    row = _address(low, b, (Uniform(panel), _ZERO, _ZERO))

    def step(k: V, sums: list[V]) -> list[V]:
        right = _right(low, tile, row, k)
        return [_multiply_add(low, method, ones, vector, total) for vector, total in zip(right, sums, strict=True)]

    sums = builder.counted_loop(b.shape[1], 1, nothing, step)
    return [builder.mul(total, int_const(-method.offset, total.type)) for total in sums]


def _strip(
    low: Sweeper, tile: Tile, a: Buffer, b: Buffer, c: Buffer, prefix: Index, panel: V, row: V, start: list[V],
    from_zero: V | bool | None,
) -> None:  # fmt: skip
    """One tile of C."""
    builder, sums_type = low.b, _vector(tile.method.sums, tile.lanes)
    column = builder.mul(panel, int_const(tile.width, I64))
    places = [
        _address(low, c, (*prefix, _moved(low, row, i), _moved(low, column, j * tile.lanes)))
        for i in range(tile.rows)
        for j in range(tile.columns)
    ]
    a_row = _address(low, a, (Uniform(row), _ZERO))
    b_row = _address(low, b, (Uniform(panel), _ZERO, _ZERO))
    depth = b.shape[1]
    unroll = min(4, depth)

    def step(k: V, sums: list[V]) -> list[V]:
        for deeper in range(unroll):
            sums = _rank_one(low, tile, sums, a_row, a.shape[1], b_row, builder.add(k, int_const(deeper, I64)))
        return sums

    align = size_bytes(tile.method.sums)
    totals = builder.counted_loop(depth, unroll, start * tile.rows, step)

    def write(fresh: bool) -> None:
        for place, total in zip(places, totals, strict=True):
            builder.store(total if fresh else builder.add(builder.load(sums_type, place, align), total), place, align)

    if isinstance(from_zero, V):
        builder.either(from_zero, lambda: write(True), lambda: write(False))
    else:
        write(bool(from_zero))


def _rank_one(low: Sweeper, tile: Tile, sums: list[V], a_row: V, a_stride: int, b_row: V, k: V) -> list[V]:
    """sums + (a column of A) ⊗ (a row of B), for `group` values of k at once."""
    builder, method = low.b, tile.method
    size = size_bytes(method.operands) * method.group
    right = _right(low, tile, b_row, k)
    left_column = builder.offset(a_row, k, size)
    following = []
    for i in range(tile.rows):
        left = _repeated(low, tile, _ahead(low, left_column, i * a_stride * size_bytes(method.operands)))
        for j in range(tile.columns):
            following.append(_multiply_add(low, method, left, right[j], sums[i * tile.columns + j]))
    return following


def _right(low: Sweeper, tile: Tile, b_row: V, k: V) -> list[V]:
    """A row of a panel of B: `group` values of k."""
    method = tile.method
    size = size_bytes(method.operands) * method.group
    type = _vector(method.operands, tile.lanes * method.group)
    row = low.b.offset(b_row, low.b.mul(k, int_const(tile.width, I64)), size)
    places = (_ahead(low, row, j * tile.lanes * size) for j in range(tile.columns))
    return [low.b.load(type, place, size_bytes(method.operands)) for place in places]


def _repeated(low: Sweeper, tile: Tile, place: V) -> V:
    """One group of A in every lane."""
    method = tile.method
    align = size_bytes(method.operands)
    if method.group == 1:
        return low.b.splat(low.b.load(method.operands, place, align), tile.lanes if tile.lanes > 1 else 0)
    group = low.b.load(LType(f"i{method.operands.bits * method.group}"), place, align)
    return low.b.cast("bitcast", low.b.splat(group, tile.lanes), method.operands.with_lanes(tile.lanes * method.group))


def _multiply_add(low: Sweeper, method: Method, left: V, right: V, total: V) -> V:
    if method.instruction:
        return low.b.call(method.instruction, total.type, [total, left, right])
    return low.b.fma(left, right, total) if total.type.is_float else low.b.add(total, low.b.mul(left, right))


def _vector(type: LType, lanes: int) -> LType:
    return type.with_lanes(lanes if lanes > 1 else 0)


_ZERO = Uniform(int_const(0, I64))


def _moved(low: Sweeper, start: V, count: int) -> Uniform:
    return Uniform(low.b.add(start, int_const(count, I64)))


def _ahead(low: Sweeper, pointer: V, count_bytes: int) -> V:
    return low.b.offset(pointer, int_const(count_bytes, I64), 1)


def _address(low: Sweeper, buffer: Buffer, index: Index) -> V:
    place = buffers.address(low.b, buffer, index, 0)
    assert isinstance(place, Uniform)
    return place.value
