"""`dot`: operands are packed into scratch, but for rows of A that are read about once, then multiplied by a
micro-kernel that keeps a tile of the result in registers.

In:  an operation `dot a, b, c` of shapes […, M, K], […, K, N], […, M, N].
Out: its result in scratch. `packing.py` lays the operands out, `microkernel.py` multiplies.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from tessera.compiler.llvm.builder import BF16, F32, F64, I8, I32, I64, LType, V, int_const
from tessera.compiler.lower import ahead, apart, buffers, edges, microkernel, packing, stores
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.lanes import Index, Ramp, Uniform, Vector, ltype
from tessera.compiler.lower.microkernel import Direct, Method, Part, Rows, Tile
from tessera.compiler.lower.packing import converted
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes.ending import Ending
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of, shape_of

# Panels of B up to which rows of A are multiplied where they lie, though each panel reads them again.
_FEW_PANELS = 2


def dot(low: Sweeper, op: Op) -> None:
    """C + A · B. The result is summed in float (double for double, i32 for integers), then rounded to its own type."""
    a, b, c = op.operands[:3]
    low.flush()
    method = _method(low, op)
    result = _destination(low, op, method.sums)
    from_zero = low.fresh.get(c) if accumulator(low, op) is c else _starts_at_zero(c, op)
    shape = shape_of(op.result.type)
    tile = microkernel.tile_for(low.target, method, shape)
    depth = shape_of(a.type)[-1]
    part = _part(low, op, method)
    ready = None if method.offset else _ready_a(low, a, method.operands)
    packed_a = ready or buffers.allocate(low.b, method.operands, (shape[-2], depth))
    direct = _direct(low, op, result)
    # A store from registers could overtake rows that are still to be read.
    once = ready is None and direct is None and shape[-1] // tile.width <= _FEW_PANELS
    places = packing.places(low, a, method) if once else None
    packed_b = packing.panels(low, tile, depth, shape[-1])

    following = ahead.coming(low, [a, b] if ready is None else [b]) if len(shape) == 2 else []

    def one(prefix: Index) -> None:
        if places is not None:
            packing.in_place(low, a, packed_a, places, tile, part)
        elif ready is None:
            packing.rows(low, a, prefix, packed_a, method, part)
        packing.columns(low, b, prefix, tile, packed_b, part)
        left = Rows(packed_a, places)
        microkernel.multiply(low, tile, part, left, packed_b, result, prefix, from_zero, following, direct)

    _batches(low, shape[:-2], (), one)
    _publish(low, op, result)


def ending(low: Sweeper, op: Op) -> Ending | None:
    """The store that the product ends in, if its sums are as the store wants them and in vectors."""
    found = op.attrs.get("ending")
    method, shape = _method(low, op), shape_of(op.result.type)
    if not isinstance(found, Ending) or method.sums != ltype(element_of(op.result.type)):
        return None
    return found if microkernel.tile_for(low.target, method, shape).lanes > 1 else None


def _direct(low: Sweeper, op: Op, result: Buffer) -> Direct | None:
    """How finished sums are stored from registers, if they can be."""
    found = ending(low, op)
    if found is None:
        return None
    store = found.store
    if found.sums is op.result:
        low.stored[store] = apart.harmless(low, store, found.guarded)
    # The sums are at hand, and how they came about is none of the store's business.
    low.buffers[found.sums] = result
    write_at = stores.writer(low, store)

    def write(tile: Tile, row: V, column: V, sums: Sequence[V]) -> None:
        b = low.b
        rows = [Uniform(b.add(row, int_const(i, I64))) for i in range(tile.rows)]
        starts = [b.add(column, int_const(j * tile.lanes, I64)) for j in range(tile.columns)]
        places = [(place, Ramp(start, int_const(1, I64))) for place in rows for start in starts]

        def walk() -> None:
            for index, total in zip(places, sums, strict=True):
                low.at(index)
                low.assume(found.sums, index, Vector(total))
                write_at(index)

        with low.lanes(tile.lanes):
            sides = [int_const(tile.rows, I64), int_const(tile.width, I64)]
            low.whole_or_part(store.operands[1:], (Uniform(row), Uniform(column)), walk, sides)

    return Direct(low.stored[store], write)


def _part(low: Sweeper, op: Op, method: Method) -> Part:
    """How much of the product is needed; the depth in whole trips of the innermost loop."""
    b, extents = low.b, op.attrs["extents"]
    *_, rows, depth = shape_of(op.operands[0].type)
    needed = (_needed(low, extents.rows, rows), _needed(low, extents.columns, shape_of(op.result.type)[-1]))
    pace = microkernel.unrolled(method, depth)
    trips = b.binary("udiv", b.add(_needed(low, extents.depth, depth), int_const(pace - 1, I64)), int_const(pace, I64))
    return Part(*needed, b.mul(trips, int_const(pace, I64)))


def _needed(low: Sweeper, ways: Sequence[Sequence[Value]], size: int) -> V:
    """How far along a dimension anything is needed."""
    whole, furthest = int_const(size, I64), int_const(0, I64)
    for way in ways:
        reached = [edges.reached(low, comparison) for comparison in way]
        furthest = edges.most(low.b, furthest, functools.reduce(functools.partial(edges.least, low.b), reached))
    return edges.least(low.b, furthest, whole) if ways else whole


def _batches(low: Sweeper, sizes: tuple[int, ...], prefix: Index, one: Callable[[Index], None]) -> None:
    if not sizes:
        one(prefix)
        return

    def inside(position: V, carried: list[V]) -> list[V]:
        with low.frame():
            _batches(low, sizes[1:], (*prefix, Uniform(position)), one)
        return []

    low.b.counted_loop(sizes[0], 1, [], inside)


def _method(low: Sweeper, op: Op) -> Method:
    """How to multiply: with the chip's own instruction for groups where there is one, else one product a lane."""
    kinds = {str(element_of(operand.type)) for operand in op.operands[:2]}
    result = element_of(op.result.type)
    assert isinstance(result, ScalarType)
    depth, wide = shape_of(op.operands[0].type)[-1], shape_of(op.result.type)[-1] >= low.target.lanes
    vectors = wide and low.target.vector_bits == 512
    if kinds == {"i8"} and depth % 4 == 0 and vectors and low.target.has("avx512vnni"):
        return Method(I8, I32, 4, "llvm.x86.avx512.vpdpbusd.512", offset=128)
    if not result.is_float:
        return Method(I32, I32, 1)
    if result.name == "f64":
        return Method(F64, F64, 1)
    if kinds == {"bf16"} and depth % 2 == 0 and vectors and low.target.has("avx512bf16"):
        return Method(BF16, F32, 2, "llvm.x86.avx512bf16.dpbf16ps.512")
    return Method(F32, F32, 1)


def accumulator(low: Sweeper, op: Op) -> Value | None:
    """The block that a loop carries and that a dot adds its product to and nothing else, if there is one."""
    carried = op.attrs.get("carried")
    sums = _method(low, op).sums
    same = isinstance(carried, Value) and op.operands[2] is carried and ltype(element_of(carried.type)) == sums
    return carried if same else None


def is_zero(value: Value) -> bool:
    """Is this a constant block of zeros?"""
    owner = value.owner
    return isinstance(owner, Op) and owner.name == "constant" and owner.attrs["value"] == 0


def _destination(low: Sweeper, op: Op, sums: LType) -> Buffer:
    """Where the result is accumulated, already holding C unless the sums start at zero."""
    c = op.operands[2]
    arg = op.attrs.get("carried")
    if isinstance(arg, Value) and low.buffers[arg].element == sums:
        if c is not arg:
            low.fill(low.buffers[arg], c)
        return low.buffers[arg]
    result = buffers.allocate(low.b, sums, shape_of(op.result.type))
    if not _starts_at_zero(c, op):
        _copy_converted(low, c, result)
    return result


def _starts_at_zero(c: Value, op: Op) -> bool:
    return is_zero(c) and "carried" not in op.attrs


def _copy_converted(low: Sweeper, value: Value, target: Buffer) -> None:
    def body(index: Index) -> None:
        buffers.write(low.b, target, index, converted(low, low.evaluate(value, index), target.element), low.width)

    low.sweep(low.plan(shape_of(value.type), [value]), [value], body)


def _publish(low: Sweeper, op: Op, result: Buffer) -> None:
    """Hand the result over in its own type, which may be narrower than what was summed in."""
    element = ltype(element_of(op.result.type))
    if element == result.element:
        low.buffers[op.result] = result
        return
    wide = Value(f"{op.result.name}.wide", BlockType(result.shape, ScalarType("f32")))
    low.buffers[wide] = result
    narrow = buffers.allocate(low.b, element, result.shape)
    _copy_converted(low, wide, narrow)
    low.buffers[op.result] = narrow


def _ready_a(low: Sweeper, a: Value, operands: LType) -> Buffer | None:
    """A itself, if it lies in scratch just as the micro-kernel wants it."""
    found = low.buffers.get(a)
    return found if found is not None and found.element == operands and len(found.shape) == 2 else None
