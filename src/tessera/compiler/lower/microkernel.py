"""The innermost loops of a `dot`.

    for each panel of NR columns, for each MR rows:        sums = 0
        for k:  sums += A[MR, k] ⊗ B[k, NR]                one multiply-add a row and vector
        C[MR × NR] += sums                                 or, where only a store waits for them, the user's memory

The sums of one depth are added to C at its end, so that rounding grows with the depth and the number of depths, not
with their product. The loop order follows Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication"
(2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tessera.compiler.llvm.builder import I64, PTR, LType, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower.ahead import Coming
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.lanes import Index, Uniform, size_bytes
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


@dataclass(frozen=True)
class Part:
    """How much of a product is needed: numbers of type i64, which may be known when it runs only."""

    rows: V
    columns: V
    depth: V


@dataclass(frozen=True)
class Rows:
    """The rows of A. Those of `packed` follow one another; or `places` holds the address of each, wherever it is."""

    packed: Buffer
    places: Buffer | None = None

    @property
    def count(self) -> int:
        return self.packed.shape[0]


@dataclass(frozen=True)
class Direct:
    """Where `holds`, known now or when it runs, finished sums go to `write(tile, row, column, sums)` instead of C."""

    holds: V
    write: Callable[[Tile, V, V, Sequence[V]], None]


def multiply(
    low: Sweeper, tile: Tile, part: Part, a: Rows, b: Buffer, c: Buffer, prefix: Index, from_zero: V | bool | None,
    following: Sequence[Coming], direct: Direct | None = None,
) -> None:
    """C[prefix] + A · B into C, as far as it is needed; `from_zero`, known now or when it runs, takes C for 0 and never
    reads it. Meanwhile what is `following` is prefetched."""
    depth = low.b.binary("udiv", part.depth, int_const(tile.method.group, I64))

    def panel(column: V, carried: list[V]) -> list[V]:
        number = low.b.binary("udiv", column, int_const(tile.width, I64))
        wide = _Panel(low, tile, a, b, c, prefix, number, column, depth, from_zero, following, direct)
        if part.columns.const is None and tile.columns > 1:
            one = replace(wide, tile=replace(tile, columns=1), following=())
            few = low.b.icmp("ule", low.b.sub(part.columns, column), int_const(tile.lanes, I64))
            low.b.either(few, lambda: one.strips(part.rows), lambda: wide.strips(part.rows))
        else:
            wide.strips(part.rows)
        return []

    low.b.limited_loop(b.shape[0] * tile.width, part.columns, tile.width, [], panel)


def unrolled(method: Method, depth: int) -> int:
    """Elements of the depth in one trip of the innermost loop."""
    return min(_UNROLL * method.group, depth)


@dataclass(frozen=True)
class _Panel:
    """A · (the `number`th panel of B), which are columns of C[prefix] from `column` on, as many as the tile has: fewer
    than the panel, where no more are needed. `depth` counts in groups."""

    low: Sweeper
    tile: Tile
    a: Rows
    b: Buffer
    c: Buffer
    prefix: Index
    number: V
    column: V
    depth: V
    from_zero: V | bool | None
    following: Sequence[Coming]
    direct: Direct | None

    def strips(self, rows: V) -> None:
        """All rows that are needed, as many at a time as the tile has."""
        start = self._start()

        def strip(row: V, carried: list[V]) -> list[V]:
            self._prefetch(row)
            self._strip(row, start)
            return []

        self.low.b.limited_loop(self.a.count, rows, self.tile.rows, [], strip)

    def _prefetch(self, row: V) -> None:
        """This tile's part of what will be multiplied next."""
        b, strips = self.low.b, self.a.count // self.tile.rows
        strip = b.add(b.mul(self.number, int_const(strips, I64)), b.binary("udiv", row, int_const(self.tile.rows, I64)))
        for block in self.following:
            block.prefetch(self.low, strip, strips * self.b.shape[0])

    def _start(self) -> list[V]:
        """What the sums of the columns start with: 0, less what the method's offset adds to them."""
        builder, tile, method = self.low.b, self.tile, self.tile.method
        nothing = [zero(_vector(method.sums, tile.lanes))] * tile.columns
        if not method.offset:
            return nothing
        ones = int_const(1, method.operands.with_lanes(tile.lanes * method.group))
        first = self._first_row()

        def step(k: V, sums: list[V]) -> list[V]:
            right = self._right(first, k)
            return [self._multiply_add(ones, vector, total) for vector, total in zip(right, sums, strict=True)]

        sums = builder.limited_loop(self.b.shape[1], self.depth, 1, nothing, step)
        return [builder.mul(total, int_const(-method.offset, total.type)) for total in sums]

    def _strip(self, row: V, start: list[V]) -> None:
        """One tile of C."""
        builder, tile = self.low.b, self.tile
        places = [
            self._address(self.c, (*self.prefix, self._moved(row, i), self._moved(self.column, j * tile.lanes)))
            for i in range(tile.rows)
            for j in range(tile.columns)
        ]
        left, right = self._left(row), self._first_row()
        groups = self.b.shape[1]
        unroll = min(_UNROLL, groups)

        def step(k: V, sums: list[V]) -> list[V]:
            for deeper in range(unroll):
                sums = self._rank_one(sums, left, right, builder.add(k, int_const(deeper, I64)))
            return sums

        totals = builder.limited_loop(groups, self.depth, unroll, start * tile.rows, step)
        if self.direct is None:
            self._to_scratch(places, totals)
        else:
            self._directly(self.direct, row, places, totals)

    def _to_scratch(self, places: Sequence[V], totals: Sequence[V]) -> None:
        """C + the sums of a tile into C."""
        builder, align = self.low.b, size_bytes(self.tile.method.sums)

        def write(fresh: bool) -> None:
            for place, total in zip(places, totals, strict=True):
                builder.store(total if fresh else self._added(place, total), place, align)

        if isinstance(self.from_zero, V):
            builder.either(self.from_zero, lambda: write(True), lambda: write(False))
        else:
            write(bool(self.from_zero))

    def _directly(self, direct: Direct, row: V, places: Sequence[V], totals: Sequence[V]) -> None:
        """C + the sums of a tile to where they end, or into C as long as they are not finished."""
        builder, align = self.low.b, size_bytes(self.tile.method.sums)

        def added() -> list[V]:
            return [self._added(place, total) for place, total in zip(places, totals, strict=True)]

        if isinstance(self.from_zero, V):
            summed = builder.chosen(self.from_zero, lambda: totals, added)
        else:
            summed = list(totals) if self.from_zero else added()

        def keep() -> None:
            for place, total in zip(places, summed, strict=True):
                builder.store(total, place, align)

        if direct.holds.const == 1:
            direct.write(self.tile, row, self.column, summed)
        else:
            builder.either(direct.holds, lambda: direct.write(self.tile, row, self.column, summed), keep)

    def _added(self, place: V, total: V) -> V:
        return self.low.b.add(self.low.b.load(total.type, place, size_bytes(self.tile.method.sums)), total)

    def _left(self, row: V) -> list[V]:
        """Where the tile's rows of A begin: each, or the first of them where they follow one another."""
        b, places = self.low.b, self.a.places
        if places is None:
            return [self._address(self.a.packed, (Uniform(row), _ZERO))]
        slots = [self._address(places, (self._moved(row, i),)) for i in range(self.tile.rows)]
        return [b.load(PTR, slot, _POINTER_BYTES) for slot in slots]

    def _rank_one(self, sums: list[V], rows: list[V], b_row: V, k: V) -> list[V]:
        """sums + (a column of A) ⊗ (a row of B), for `group` values of k at once."""
        tile, method = self.tile, self.tile.method
        size = size_bytes(method.operands)
        right = self._right(b_row, k)
        column = [self.low.b.offset(row, k, size * method.group) for row in rows]
        if len(rows) < tile.rows:
            column = [self._ahead(column[0], i * self.a.packed.shape[1] * size) for i in range(tile.rows)]
        following = []
        for i, place in enumerate(column):
            left = self._repeated(place)
            for j in range(tile.columns):
                following.append(self._multiply_add(left, right[j], sums[i * tile.columns + j]))
        return following

    def _right(self, b_row: V, k: V) -> list[V]:
        """A row of the panel: `group` values of k."""
        tile, method = self.tile, self.tile.method
        size = size_bytes(method.operands)
        type = _vector(method.operands, tile.lanes * method.group)
        row = self.low.b.offset(b_row, self.low.b.mul(k, int_const(self.b.shape[2], I64)), size)
        places = (self._ahead(row, j * tile.lanes * method.group * size) for j in range(tile.columns))
        return [self.low.b.load(type, place, size) for place in places]

    def _repeated(self, place: V) -> V:
        """One group of A in every lane."""
        builder, lanes, method = self.low.b, self.tile.lanes, self.tile.method
        align = size_bytes(method.operands)
        if method.group == 1:
            return builder.splat(builder.load(method.operands, place, align), lanes if lanes > 1 else 0)
        group = builder.load(LType(f"i{method.operands.bits * method.group}"), place, align)
        return builder.cast("bitcast", builder.splat(group, lanes), method.operands.with_lanes(lanes * method.group))

    def _multiply_add(self, left: V, right: V, total: V) -> V:
        builder, instruction = self.low.b, self.tile.method.instruction
        if instruction:
            return builder.call(instruction, total.type, [total, left, right])
        if total.type.is_float:
            return builder.fma(left, right, total)
        return builder.add(total, builder.mul(left, right))

    def _first_row(self) -> V:
        return self._address(self.b, (Uniform(self.number), _ZERO, _ZERO))

    def _moved(self, start: V, count: int) -> Uniform:
        return Uniform(self.low.b.add(start, int_const(count, I64)))

    def _ahead(self, pointer: V, count_bytes: int) -> V:
        return self.low.b.offset(pointer, int_const(count_bytes, I64), 1)

    def _address(self, buffer: Buffer, index: Index) -> V:
        place = buffers.address(self.low.b, buffer, index, 0)
        assert isinstance(place, Uniform)
        return place.value


def _vector(type: LType, lanes: int) -> LType:
    return type.with_lanes(lanes if lanes > 1 else 0)


_ZERO = Uniform(int_const(0, I64))
_POINTER_BYTES = 8
# Trips along the depth that are written out.
_UNROLL = 4
