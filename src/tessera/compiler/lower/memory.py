"""Loads and stores of lanes: contiguous, the same address, or scattered; with and without a mask."""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler.llvm.builder import I1, I32, I64, Builder, LType, V, int_const
from tessera.compiler.lower import masked, scattered
from tessera.compiler.lower.lanes import Lanes, Ramp, Uniform, Vector, size_bytes, to_vector

# Half precision moves as integers: where LLVM must take a masked access apart it would round every element through
# float.
_HALVES = ("half", "bfloat")

TRUE = int_const(1, I1)
_LINE_BYTES = 64
# Distances of lanes in elements at which whole vectors are read and elements picked from them.
FEW_APART = (2, 3, 4)


def _as_bits(b: Builder, lanes: Lanes) -> Lanes:
    if isinstance(lanes, Ramp) or lanes.value.type.scalar not in _HALVES:
        return lanes
    return _cast(b, lanes, "i16")


def _cast(b: Builder, lanes: Lanes, scalar: str) -> Lanes:
    assert not isinstance(lanes, Ramp)
    value = b.cast("bitcast", lanes.value, lanes.value.type.with_scalar(scalar))
    return Vector(value) if isinstance(lanes, Vector) else Uniform(value)


def load(b: Builder, pointer: Lanes, mask: Lanes | None, other: Lanes | None, type: LType, width: int) -> Lanes:
    """Elements of `type` at `pointer` where `mask` holds, elsewhere `other` (zero if there is none)."""
    if type.scalar in _HALVES:
        bits = load(b, pointer, mask, None if other is None else _as_bits(b, other), type.with_scalar("i16"), width)
        return _cast(b, bits, type.scalar)
    mask = _simplify(mask)
    if is_nowhere(mask):
        return other if other is not None else Uniform(zero(type))
    if isinstance(pointer, Uniform) and not isinstance(mask, Vector):
        return Uniform(_load_scalar(b, pointer.value, mask, other, type))
    vector, align = type.with_lanes(width), size_bytes(type)
    passed = to_vector(b, other, width) if other is not None else V(vector, "zeroinitializer")
    if _contiguous(pointer, type):
        assert isinstance(pointer, Ramp)
        if mask is None:
            return Vector(b.load(vector, pointer.base, align))
        return Vector(_load_contiguous(b, pointer.base, to_vector(b, mask, width), passed, align))
    if isinstance(pointer, Ramp) and pointer.step.const == -size_bytes(type):
        return _load_backwards(b, pointer, mask, other, type, width)
    apart = _elements_apart(pointer, type, width)
    if apart and mask is None:
        assert isinstance(pointer, Ramp)
        return Vector(_load_apart(b, pointer.base, vector, apart))
    lanes = to_vector(b, mask, width) if mask is not None else None
    if apart and lanes is not None and isinstance(mask, Vector):
        return Vector(_load_apart_masked(b, pointer, lanes, passed, apart))
    if isinstance(pointer, Vector):
        return Vector(scattered.load(b, pointer, lanes, passed, align))
    if isinstance(pointer, Ramp):
        return Vector(scattered.load_spaced(b, pointer, lanes, passed, align))
    return Vector(masked.gather(b, to_vector(b, pointer, width), lanes or masked.everywhere(width), passed, align))


def store(b: Builder, value: Lanes, pointer: Lanes, mask: Lanes | None, width: int, streaming: bool = False) -> None:
    """Write `value` at `pointer` where `mask` holds. Of several lanes at one address the last one stays.

    streaming: past the caches, where whole vectors are written.
    """
    mask = _simplify(mask)
    if is_nowhere(mask):
        return
    value = _as_bits(b, value)
    if isinstance(pointer, Uniform) and not isinstance(mask, Vector) and isinstance(value, Uniform):
        store_scalar(b, value.value, pointer.value, mask)
        return
    data = to_vector(b, value, width)
    align = size_bytes(data.type)
    if _contiguous(pointer, data.type):
        assert isinstance(pointer, Ramp)
        whole = _stream if streaming else Builder.store
        if mask is None:
            whole(b, data, pointer.base, align)
        else:
            _store_contiguous(b, data, pointer.base, to_vector(b, mask, width), align, whole)
        return
    lanes = to_vector(b, mask, width) if mask is not None else None
    if isinstance(pointer, Vector):
        scattered.store(b, data, pointer, lanes, align)
    elif isinstance(pointer, Ramp):
        scattered.store_spaced(b, data, pointer, lanes, align)
    else:
        masked.scatter(b, data, to_vector(b, pointer, width), lanes or masked.everywhere(width), align)


def store_packed(b: Builder, value: Lanes, pointer: Vector, mask: Vector, register_bits: int) -> None:
    """Write what `mask` holds for one behind the other, where the first of them points to."""
    width = mask.value.type.lanes
    data = to_vector(b, _as_bits(b, value), width)
    size = size_bytes(data.type)
    before = b.cast("zext", b.icmp("eq", b.extract(mask.value, 0), int_const(0, I1)), I64)
    place = b.offset(b.extract(pointer.value, 0), before, size)
    lanes = min(width, register_bits // (8 * size))
    vector, bits = data.type.with_lanes(lanes), LType(f"i{width}")
    held = b.cast("bitcast", mask.value, bits)
    for begin in range(0, width, lanes):
        part, chosen = (b.shuffle(x, None, range(begin, begin + lanes)) for x in (data, mask.value))
        packed = b.intrinsic("experimental.vector.compress", vector, [part, chosen, V(vector, "poison")])
        here = b.binary("and", held, int_const(((1 << lanes) - 1) << begin, bits))
        count = b.cast("zext", b.intrinsic("ctpop", bits, [here]), I32)
        written = b.icmp("ult", b.constant_vector(range(lanes), I32), b.splat(count, lanes))
        store(b, Vector(packed), Ramp(place, int_const(size, I64)), Vector(written), lanes)
        place = b.offset(place, b.cast("zext", count, I64), size)


def _load_backwards(
    b: Builder, pointer: Ramp, mask: Lanes | None, other: Lanes | None, type: LType, width: int
) -> Vector:
    """A contiguous load of the vector that ends at `pointer`, turned round."""

    def turned(lanes: Lanes | None) -> Lanes | None:
        if not isinstance(lanes, Vector):
            return lanes
        return Vector(b.shuffle(lanes.value, None, range(width)[::-1]))

    begin = b.offset(pointer.base, int_const(1 - width, I64), size_bytes(type))
    forwards = Ramp(begin, int_const(size_bytes(type), I64))
    found = turned(load(b, forwards, turned(mask), turned(other), type, width))
    assert isinstance(found, Vector)
    return found


def _load_contiguous(b: Builder, pointer: V, mask: V, passed: V, align: int) -> V:
    """A masked load, as a plain one where the whole vector is read: prefetchers do not follow masked loads (half the
    bandwidth of memory was measured), and chips without mask registers take them apart."""
    whole, part, after = _whole_or_part(b, mask, "loaded")
    b.label(whole)
    plain = b.load(passed.type, pointer, align)
    b.branch(after)
    b.label(part)
    some = masked.load(b, pointer, mask, passed, align)
    b.branch(after)
    b.label(after)
    return b.emit(passed.type, f"phi {passed.type} [ {plain.ref}, %{whole} ], [ {some.ref}, %{part} ]")


def _elements_apart(pointer: Lanes, type: LType, width: int) -> int:
    """How many elements lie from one lane's to the next one's, where that is few; else 0."""
    if not isinstance(pointer, Ramp) or pointer.step.const is None or width < 2:
        return 0
    apart, rest = divmod(pointer.step.const, size_bytes(type))
    return apart if rest == 0 and apart in FEW_APART else 0


def _load_apart(b: Builder, base: V, vector: LType, apart: int) -> V:
    """Elements that lie `apart` elements from each other, picked from whole vectors.

    Nothing is read before the first or behind the last of them, and what lies between two of them is on the pages that
    they are on.
    """
    width, size = vector.lanes, size_bytes(vector)
    if apart == 2 and vector.scalar == "i16":
        return _load_halves(b, base, vector)
    # The last vector ends with the last element.
    starts = [min(part * width, apart * (width - 1) + 1 - width) for part in range(apart)]
    parts = [b.load(vector, b.offset(base, int_const(start, I64), size), size) for start in starts]
    found = parts[0]
    for part in range(1, apart):
        # Before this vector is looked at, lanes of earlier ones are in their places, but in the first vector itself.
        def lane(at: int, part: int = part) -> int:
            owner = apart * at // width
            if owner == part:
                return width + apart * at - starts[part]
            return apart * at if owner == 0 and part == 1 else at

        found = b.shuffle(found, parts[part], [lane(at) for at in range(width)])
    return found


def _load_halves(b: Builder, base: V, vector: LType) -> V:
    """Every second number of 16 bits: as halves of aligned words, whose other halves lie on the same pages."""
    words = vector.with_scalar("i32")
    start = b.call("llvm.ptrmask.p0.i64", base.type, [base, int_const(-4, I64)])
    behind = b.cast("trunc", b.binary("and", b.cast("ptrtoint", base, I64), int_const(2, I64)), LType("i32"))
    shift = b.splat(b.binary("shl", behind, int_const(3, behind.type)), vector.lanes)
    return b.cast("trunc", b.binary("lshr", b.load(words, start, 4), shift), vector)


def _load_apart_masked(b: Builder, pointer: Lanes, mask: V, passed: V, apart: int) -> V:
    """As `_load_apart` where all lanes are read, else lane by lane."""
    assert isinstance(pointer, Ramp)
    whole, part, after = _whole_or_part(b, mask, "picked")
    b.label(whole)
    plain = _load_apart(b, pointer.base, passed.type, apart)
    b.branch(after)
    b.label(part)
    gathered = masked.gather(b, to_vector(b, pointer, passed.type.lanes), mask, passed, size_bytes(passed.type))
    b.branch(after)
    b.label(after)
    return b.emit(passed.type, f"phi {passed.type} [ {plain.ref}, %{whole} ], [ {gathered.ref}, %{part} ]")


def _store_contiguous(
    b: Builder, data: V, pointer: V, mask: V, align: int, store_whole: Callable[[Builder, V, V, int], None]
) -> None:
    """A masked store, as a plain one where the whole vector is written."""
    whole, part, after = _whole_or_part(b, mask, "stored")
    b.label(whole)
    store_whole(b, data, pointer, align)
    b.branch(after)
    b.label(part)
    masked.store(b, data, pointer, mask, align)
    b.branch(after)
    b.label(after)


def _stream(b: Builder, data: V, pointer: V, align: int) -> None:
    """A store that goes round the caches: the line is not read before it is overwritten, and pushes nothing else out.
    Chips have it for aligned vectors."""
    natural = min(data.type.lanes * size_bytes(data.type), _LINE_BYTES)
    aligned, crooked, after = b.fresh("aligned"), b.fresh("crooked"), b.fresh("streamed")
    rest = b.binary("and", b.cast("ptrtoint", pointer, I64), int_const(natural - 1, I64))
    b.branch_rarely(b.icmp("ne", rest, int_const(0, I64)), crooked, aligned)
    b.label(aligned)
    b.raw(f"store {data}, {pointer}, align {natural}, !nontemporal !{{i32 1}}")
    b.branch(after)
    b.label(crooked)
    b.store(data, pointer, align)
    b.branch(after)
    b.label(after)


def _whole_or_part(b: Builder, mask: V, hint: str) -> tuple[str, str, str]:
    """Branch on whether a mask holds in every lane; the labels of the two ways and of where they meet."""
    whole, part, after = b.fresh("whole"), b.fresh("part"), b.fresh(hint)
    b.branch_rarely(b.binary("xor", masked.holds_everywhere(b, mask), TRUE), part, whole)
    return whole, part, after


def store_scalar(b: Builder, value: V, pointer: V, mask: Lanes | None) -> None:
    """One element, behind a branch where there is a mask."""
    if mask is None:
        b.store(value, pointer, size_bytes(value.type))
        return
    assert isinstance(mask, Uniform)
    then, after = b.fresh("then"), b.fresh("after")
    b.branch_if(mask.value, then, after)
    b.label(then)
    b.store(value, pointer, size_bytes(value.type))
    b.branch(after)
    b.label(after)


def _load_scalar(b: Builder, pointer: V, mask: Lanes | None, other: Lanes | None, type: LType) -> V:
    if mask is None:
        return b.load(type, pointer, size_bytes(type))
    assert isinstance(mask, Uniform)
    default = other.value if isinstance(other, Uniform) else zero(type)
    then, after, before = b.fresh("then"), b.fresh("after"), b.current
    b.branch_if(mask.value, then, after)
    b.label(then)
    loaded = b.load(type, pointer, size_bytes(type))
    b.branch(after)
    b.label(after)
    return b.emit(type, f"phi {type} [ {loaded.ref}, %{then} ], [ {default.ref}, %{before} ]")


def zero(type: LType) -> V:
    """Zero of any type."""
    if type.lanes or type.scalar == "ptr":
        return V(type, "zeroinitializer" if type.lanes else "null")
    return V(type, "0.0") if type.is_float else V(type, "false" if type.bits == 1 else "0", 0)


def _simplify(mask: Lanes | None) -> Lanes | None:
    """A mask that always holds is none."""
    return None if isinstance(mask, Uniform) and mask.value.const not in (None, 0) else mask


def is_nowhere(mask: Lanes | None) -> bool:
    """A mask that never holds."""
    return isinstance(mask, Uniform) and mask.value.const == 0


def _contiguous(pointer: Lanes, type: LType) -> bool:
    return isinstance(pointer, Ramp) and pointer.step.const == size_bytes(type)
