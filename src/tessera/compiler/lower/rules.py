"""How the elements of a value at an index are found, for operations that are not elementwise.

An operation that moves elements evaluates its operands at other indices; a load reads memory there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I64, LType, V, const, int_const
from tessera.compiler.lower import ahead, buffers, float8, memory
from tessera.compiler.lower import lanes as ln
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.digits import ZERO, delinearise, digit, linearise, narrow
from tessera.compiler.lower.lanes import Digit, Index, Lanes, Ramp, Uniform, Vector, ltype, to_vector
from tessera.ir.nodes import Op, Value
from tessera.ir.types import element_of, shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.evaluate import Evaluator

Rule = Callable[["Evaluator", Op, Index, Value], Lanes]


def _constant(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    to = ltype(element_of(value.type))
    number = op.attrs["value"]
    if not isinstance(number, list):
        return Uniform(const(number, to))
    pointer = ev.table(number, to)
    return buffers.read(ev.b, Buffer(pointer, to, shape_of(value.type)), index, ev.width)


def _splat(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    return Uniform(ev.scalar(op.operands[0]))


def _make_range(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    to = ltype(element_of(value.type))
    position = narrow(ev.b, index[0], to)
    return ln.add(ev.b, position, Uniform(int_const(op.attrs["start"], to)), ev.width)


def _expand_dims(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    axis = op.attrs["axis"]
    return ev.evaluate(op.operands[0], index[:axis] + index[axis + 1 :])


def _broadcast(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    source = op.operands[0]
    inner = tuple(ZERO if size == 1 else i for size, i in zip(shape_of(source.type), index, strict=True))
    return ev.evaluate(source, inner)


def _trans(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    inner: list[Lanes] = [ZERO] * len(index)
    for position, origin in enumerate(op.attrs["order"]):
        inner[origin] = index[position]
    return ev.evaluate(op.operands[0], tuple(inner))


def _reshape(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    source = op.operands[0]
    linear = linearise(ev.b, index, shape_of(value.type), ev.width)
    return ev.evaluate(source, delinearise(ev.b, linear, shape_of(source.type), ev.width))


def _load(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    pointer, *rest = (ev.evaluate(operand, index) for operand in op.operands)
    mask = rest[0] if rest else None
    other = rest[1] if len(rest) > 1 else None
    if op in ev.moved and not memory.is_nowhere(mask):
        ahead.prefetch(ev.b, pointer, ev.moved[op])
    return memory.load(ev.b, pointer, mask, other, ltype(element_of(value.type)), ev.width)


def _join(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    which = index[-1]
    if isinstance(which, Uniform) and which.value.const is not None:
        return ev.evaluate(op.operands[which.value.const], index[:-1])
    halved = _halved(ev, index)
    if halved is not None:
        with ev.lanes(ev.width // 2):
            sides = [to_vector(ev.b, ev.evaluate(operand, halved), ev.width) for operand in op.operands]
        return Vector(ev.b.interleave(sides))
    left, right = (ev.evaluate(operand, index[:-1]) for operand in op.operands)
    return _choose(ev, which, left, right)


def _halved(ev: Evaluator, index: Index) -> Index | None:
    """The index without its last number where that is 0, 1, 0, 1, …: then half as many lanes say all of it."""
    *places, which = index
    last = which.digit
    if last is None or (last.stride, last.size) != (1, 2) or not isinstance(last.linear, Ramp) or ev.width < 4:
        return None
    base, step = last.linear.base, last.linear.step
    parts = [place.digit if place.digit and place.digit.linear == last.linear else None for place in places]
    others = [place for place, part in zip(places, parts, strict=True) if part is None]
    if step.const != 1 or not all(isinstance(place, Uniform) for place in others):
        return None
    with ev.lanes(ev.width // 2):
        linear = Ramp(ev.b.binary("lshr", base, int_const(1, base.type)), step)
        for at, part in enumerate(parts):
            if part is not None:
                half = Digit(linear, part.stride // 2, part.size, part.count // 2)
                places[at] = replace(digit(ev.b, linear, half.stride, half.size, ev.width), digit=half)
    return tuple(places)


def _choose(ev: Evaluator, which: Lanes, left: Lanes, right: Lanes) -> Lanes:
    """`left` where `which` is 0, else `right`."""
    width = 0 if all(isinstance(x, Uniform) for x in (which, left, right)) else ev.width
    selector = to_vector(ev.b, which, width)
    condition = ev.b.icmp("eq", selector, int_const(0, selector.type))
    chosen = ev.b.select(condition, to_vector(ev.b, left, width), to_vector(ev.b, right, width))
    return Vector(chosen) if width else Uniform(chosen)


def _split(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    side = Uniform(int_const(op.results.index(value), I64))
    return ev.evaluate(op.operands[0], (*index, side))


def _cat(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    size = shape_of(op.operands[0].type)[0]
    within = digit(ev.b, index[0], 1, size, ev.width)
    left, right = (ev.evaluate(operand, (within, *index[1:])) for operand in op.operands)
    return _choose(ev, digit(ev.b, index[0], size, 2, ev.width), left, right)


def _gather(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    """`source[…, indices[…], …]`. An index outside, which Triton leaves undefined, wraps and stays inside the block."""
    source, indices = op.operands
    axis = op.attrs["axis"]
    found = ev.evaluate(indices, index)
    if isinstance(found, Ramp):
        found = Vector(to_vector(ev.b, found, ev.width))
    to = I64.with_lanes(found.value.type.lanes)
    wrapped = ev.b.binary("and", ev.b.cast("sext", found.value, to), int_const(shape_of(source.type)[axis] - 1, to))
    along: Lanes = Vector(wrapped) if to.lanes else Uniform(wrapped)
    return ev.evaluate(source, (*index[:axis], along, *index[axis + 1 :]))


def _fp4_to_fp(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    """Two 4-bit floats lie in a byte, the first one in its lower half."""
    axis, source = op.attrs["axis"], op.operands[0]
    place = index[axis]
    if isinstance(place, Ramp) and place.step.const == 1 and ev.width > 1:
        half = Ramp(ev.b.binary("lshr", place.base, int_const(1, I64)), place.step)
        with ev.lanes(ev.width // 2):
            pairs = to_vector(ev.b, ev.evaluate(source, (*index[:axis], half, *index[axis + 1 :])), ev.width)
        low, high = (ev.b.binary(name, pairs, int_const(bits, pairs.type)) for name, bits in (("and", 15), ("lshr", 4)))
        return Vector(float8.decode_e2m1(ev.b, ev.b.interleave([low, high])))
    pair = digit(ev.b, place, 2, shape_of(source.type)[axis], ev.width)
    code = ev.evaluate(source, (*index[:axis], pair, *index[axis + 1 :]))
    which = narrow(ev.b, digit(ev.b, place, 1, 2, ev.width), LType("i8"))
    width = 0 if isinstance(code, Uniform) and isinstance(which, Uniform) else ev.width
    found, shift = to_vector(ev.b, code, width), to_vector(ev.b, which, width)
    shifted = ev.b.binary("lshr", found, ev.b.mul(shift, int_const(4, shift.type)))
    decoded = float8.decode_e2m1(ev.b, ev.b.binary("and", shifted, int_const(15, shifted.type)))
    return Vector(decoded) if width else Uniform(decoded)


def _map_elementwise(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    """A function of scalars on every element; with `pack` the function takes so many neighbours at once."""
    args = [ev.evaluate(operand, index) for operand in op.operands]
    width = 0 if all(isinstance(arg, Uniform) for arg in args) else ev.width
    vectors = [to_vector(ev.b, arg, width) for arg in args]
    results = map_elements(ev, op, vectors)
    found = results[op.results.index(value)]
    return Vector(found) if width else Uniform(found)


def map_elements(ev: Evaluator, op: Op, vectors: Sequence[V]) -> list[V]:
    """All results of a `map_elementwise` on vectors (or scalars) of its operands.

    Which elements are packed together is Triton's choice, so that a function may not tell them apart; a vector that is
    shorter than the pack passes each element as all of its neighbours.
    """
    pack, lanes = op.attrs.get("pack", 1), vectors[0].type.lanes
    if pack == 1 or lanes < pack:
        results = ev.combine(op.regions[0], [vector for vector in vectors for _ in range(pack)])
        return results[::pack]
    parts = [ev.b.shuffle(vector, None, range(at, lanes, pack)) for vector in vectors for at in range(pack)]
    results = ev.combine(op.regions[0], parts)
    return [ev.b.interleave(results[at : at + pack]) for at in range(0, len(results), pack)]


def _exchange(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    """The neighbour along an axis of two elements."""
    axis, source = op.attrs["axis"], op.operands[0]
    place, one = index[axis], int_const(1, I64)
    if isinstance(place, Uniform):
        return ev.evaluate(source, _moved(ev, index, axis, ev.b.binary("xor", place.value, one)))
    distance = _lanes_between(place)
    if not distance or 2 * distance > ev.width:
        other = ev.b.binary("xor", to_vector(ev.b, place, ev.width), int_const(1, I64.with_lanes(ev.width)))
        return ev.evaluate(source, (*index[:axis], Vector(other), *index[axis + 1 :]))
    here = ev.evaluate(source, index)
    if isinstance(here, Uniform):
        return here
    return Vector(ev.b.shuffle(to_vector(ev.b, here, ev.width), None, [lane ^ distance for lane in range(ev.width)]))


def _lanes_between(place: Lanes) -> int:
    """How many lanes lie between the two elements of a pair along an axis of two; 0 where they are not in one vector,
    or their lanes do not follow from their distance."""
    if place.digit is None:
        return 1 if isinstance(place, Ramp) else 0
    linear = place.digit.linear
    step = linear.step.const if isinstance(linear, Ramp) else None
    return place.digit.stride // step if step and step > 0 and place.digit.stride % step == 0 else 0


def _moved(ev: Evaluator, index: Index, axis: int, to: V) -> Index:
    """An index with another number at one place; digits stay those of one position."""
    digit_ = index[axis].digit
    if digit_ is None or not isinstance(digit_.linear, Ramp):
        return (*index[:axis], Uniform(to), *index[axis + 1 :])
    base = digit_.linear.base
    linear = Ramp(ev.b.binary("xor", base, int_const(digit_.stride, base.type)), digit_.linear.step)
    moved: list[Lanes] = []
    for place in index:
        part = place.digit
        if part is None or part.linear != digit_.linear:
            moved.append(place)
        else:
            lanes = digit(ev.b, linear, part.stride, part.size, ev.width)
            moved.append(replace(lanes, digit=replace(part, linear=linear)))
    return tuple(moved)


RULES: dict[str, Rule] = {
    "constant": _constant,
    "splat": _splat,
    "unsplat": _splat,
    "make_range": _make_range,
    "expand_dims": _expand_dims,
    "broadcast": _broadcast,
    "trans": _trans,
    "reshape": _reshape,
    "load": _load,
    "join": _join,
    "split": _split,
    "cat": _cat,
    "gather": _gather,
    "exchange": _exchange,
    "fp4_to_fp": _fp4_to_fp,
    "map_elementwise": _map_elementwise,
}
