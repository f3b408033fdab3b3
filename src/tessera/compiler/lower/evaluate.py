"""Evaluates block values at an index: the heart of the lowering.

`Evaluator.evaluate(value, index)` writes, at the current place of the LLVM function, the code that computes the
elements of
`value` at `index` (one i64 `Lanes` a dimension) and returns them as `Lanes`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from tessera.compiler.errors import LoweringError, fail
from tessera.compiler.llvm.builder import I64, Builder, LType, V, const, int_const
from tessera.compiler.lower import ahead, arms, buffers, codes, float8, memory
from tessera.compiler.lower import lanes as ln
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.calls import call_by_lane
from tessera.compiler.lower.elementwise import ROWS
from tessera.compiler.lower.lanes import Digit, Lanes, Ramp, Uniform, Vector, ltype, size_bytes, to_vector
from tessera.ir.nodes import Op, Region, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of

Index = tuple[Lanes, ...]


class Evaluator:
    """The state that expressions are evaluated in: scalars known so far, blocks in scratch, what this loop body has
    computed."""

    def __init__(self, builder: Builder, name: str) -> None:
        self.b = builder
        self.name = name
        self.scalars: dict[Value, V] = {}
        self.buffers: dict[Value, Buffer] = {}
        self.width = 0
        # Values that the sweep in progress also writes to scratch, and the index of its current trip.
        self.storing: dict[Value, Buffer] = {}
        self.trip: Index = ()
        # Loads that the sweep in progress also prefetches for the next block, and how far that is.
        self.moved: dict[Op, tuple[V, int]] = {}
        self._frames: list[dict[tuple[Value, int], Lanes]] = [{}]
        self._numbers: dict[Index, int] = {}
        # The arms of choices that are computed in a branch.
        self.branched: dict[Op, Value | None] = {}
        self.globals: list[str] = []

    @contextmanager
    def frame(self) -> Iterator[None]:
        """What is computed inside is forgotten at the end, because its code does not dominate what follows."""
        self._frames.append({})
        try:
            yield
        finally:
            self._frames.pop()

    @contextmanager
    def lanes(self, width: int) -> Iterator[None]:
        """Evaluate with vectors of `width` lanes (0: scalars)."""
        before, self.width = self.width, width
        saved, self._frames = self._frames, [{}]
        try:
            yield
        finally:
            self.width, self._frames = before, saved

    def evaluate(self, value: Value, index: Index) -> Lanes:
        """The elements of `value` at `index`; a scalar is itself everywhere.

        Chains of elementwise operations are walked without recursion: an unrolled loop makes them thousands long.
        """
        if not isinstance(value.type, BlockType):
            return Uniform(self.scalar(value))
        number = self._number(index)
        waiting = [value]
        while waiting:
            current = waiting[-1]
            missing = [] if self._evaluated(current, number) else self._missing(current, number)
            waiting += reversed(missing)
            if not missing:
                waiting.pop()
                result = self._evaluated(current, number) or self._evaluate_now(current, index)
        return result

    def _number(self, index: Index) -> int:
        """A number that stands for an index, which is long to compare."""
        return self._numbers.setdefault(index, len(self._numbers))

    def _evaluated(self, value: Value, number: int) -> Lanes | None:
        key = (value, number)
        # What is known further inside, such as that a mask holds, is more.
        for known in reversed(self._frames):
            if key in known:
                return known[key]
        return None

    def _missing(self, value: Value, number: int) -> list[Value]:
        """The operands that an elementwise operation takes at its own index and that are not evaluated yet."""
        op = value.owner
        if value in self.buffers or not isinstance(op, Op) or (op.name in _RULES and op.name != "load"):
            return []
        coded = codes.find(self, value)
        if coded is not None:
            return [] if self._evaluated(coded.source, number) else [coded.source]
        arm = arms.costly_arm(self, op)
        blocks = [operand for operand in op.operands if isinstance(operand.type, BlockType) and operand is not arm]
        missing = [operand for operand in blocks if self._evaluated(operand, number) is None]
        if arm is None or missing:
            return missing
        begins = arms.begins_with(arm, lambda x: self.is_expression(x) and self._evaluated(x, number) is None)
        return [operand for operand in begins if self._evaluated(operand, number) is None]

    def is_evaluated(self, value: Value, index: Index) -> bool:
        return self._evaluated(value, self._number(index)) is not None

    def is_expression(self, value: Value) -> bool:
        """Whether a value is computed from others at the same index, and nowhere kept."""
        op = value.owner
        kept = value in self.buffers or value in self.storing
        return not kept and isinstance(op, Op) and op.name not in _RULES

    def _evaluate_now(self, value: Value, index: Index) -> Lanes:
        result = self._compute(value, index)
        self.found(value, index, result)
        return result

    def found(self, value: Value, index: Index, result: Lanes) -> None:
        """`value` at `index` was computed: kept for this frame, and written where the sweep also writes it."""
        if value in self.storing and index == self.trip:
            buffers.write(self.b, self.storing[value], index, result, self.width)
        self.assume(value, index, result)

    def assume(self, value: Value, index: Index, lanes: Lanes) -> None:
        """In this frame, `value` at `index` is known to be `lanes`."""
        self._frames[-1][value, self._number(index)] = lanes

    def scalar(self, value: Value) -> V:
        """The LLVM value of a scalar."""
        if value not in self.scalars:
            owner = value.owner
            raise fail(
                f"%{value.name} is used before it is computed", owner.location if isinstance(owner, Op) else None
            )
        return self.scalars[value]

    def _compute(self, value: Value, index: Index) -> Lanes:
        if value in self.buffers:
            return buffers.read(self.b, self.buffers[value], index, self.width)
        op = value.owner
        assert isinstance(op, Op), f"%{value.name} has no definition that can be evaluated"
        rule = _RULES.get(op.name)
        try:
            if rule is not None:
                return rule(self, op, index, value)
            coded = codes.find(self, value)
            chosen = codes.look_up(self, coded, index) if coded else arms.chosen(self, op, index)
            return chosen or self.apply(op, [self.evaluate(operand, index) for operand in op.operands])
        except LoweringError as error:
            if error.faults[0].location is None:
                raise fail(error.faults[0].message, op.location) from error
            raise

    def apply(self, op: Op, args: Sequence[Lanes]) -> Lanes:
        """An elementwise operation on lanes."""
        if op.name == "select" and isinstance(args[0], Uniform) and args[0].value.const is not None:
            return args[1] if args[0].value.const else args[2]
        kept = self._evenly_spaced(op, args)
        if kept is not None:
            return kept
        row = ROWS.get(op.name)
        if row is None:
            raise unsupported(op)
        to = ltype(element_of(op.result.type))
        if all(isinstance(arg, Uniform) for arg in args):
            return Uniform(row(self.b, op, [arg.value for arg in args if isinstance(arg, Uniform)], to))
        vectors = [to_vector(self.b, arg, self.width) for arg in args]
        return Vector(row(self.b, op, vectors, to.with_lanes(self.width)))

    def _evenly_spaced(self, op: Op, args: Sequence[Lanes]) -> Lanes | None:
        """Integer and pointer arithmetic that keeps ramps ramps."""
        if op.name in ("addi", "subi", "muli"):
            combine = {"addi": ln.add, "subi": ln.sub, "muli": ln.mul}[op.name]
            return combine(self.b, args[0], args[1], self.width)
        if op.name == "addptr":
            pointer = element_of(op.result.type)
            assert isinstance(pointer, PointerType)
            return ln.add_pointer(self.b, args[0], args[1], size_bytes(ltype(pointer.pointee)), self.width)
        source = args[0] if args else None
        if isinstance(source, Ramp) and op.name in ("extsi", "trunci", "index_cast"):
            to = ltype(element_of(op.result.type))
            cast = "sext" if to.bits > source.base.type.bits else "trunc"
            return Ramp(self.b.cast(cast, source.base, to), self.b.cast(cast, source.step, to))
        if isinstance(source, Ramp) and op.name == "bitcast" and source.base.type.scalar == "ptr":
            return source
        return None

    def combine(self, region: Region, args: Sequence[V]) -> list[V]:
        """The body of a reduction or scan on values of any one width: scalars or vectors."""
        block = region.block
        known = dict(zip(block.args, args, strict=True))
        width = args[0].type.lanes
        for op in block.ops[:-1]:
            if op.name == "constant":
                known[op.result] = const(op.attrs["value"], ltype(element_of(op.result.type)).with_lanes(width))
                continue
            operands = [known[v] if v in known else self.b.splat(self.scalar(v), width) for v in op.operands]
            if op.name == "call":
                results = call_by_lane(self.b, op.attrs["callee"], operands, [result.type for result in op.results])
                known.update(zip(op.results, results, strict=True))
                continue
            row = ROWS.get(op.name)
            if row is None:
                raise unsupported(op)
            to = ltype(element_of(op.result.type)).with_lanes(width)
            known[op.result] = row(self.b, op, operands, to)
        return [known[v] if v in known else self.b.splat(self.scalar(v), width) for v in block.terminator.operands]

    def text(self, content: str) -> V:
        """A zero-terminated string in the module's data."""
        raw = content.encode() + b"\0"
        name = f'@"{self.name}.text.{len(self.globals)}"'
        quoted = "".join(chr(c) if 32 <= c < 127 and chr(c) not in '"\\' else f"\\{c:02X}" for c in raw)
        self.globals.append(f'{name} = private unnamed_addr constant [{len(raw)} x i8] c"{quoted}"')
        return V(LType("ptr"), name)

    def table(self, values: Sequence[float | int], element: LType) -> V:
        """A constant array in the module's data."""
        name = f'@"{self.name}.table.{len(self.globals)}"'
        stored = element if element.bits > 1 else LType("i8")
        items = ", ".join(str(const(value, stored)) for value in values)
        self.globals.append(f"{name} = private unnamed_addr constant [{len(values)} x {stored}] [{items}], align 64")
        return V(LType("ptr"), name)


def unsupported(op: Op) -> LoweringError:
    """The error for an operation that the compiler does not know, with the reason where there is one."""
    reason = _ONLY_ON_GPUS.get(op.name) or _ONLY_ON_GPUS.get(op.name.split(".")[0])
    why = f": {reason}" if reason else ""
    return fail(f"the operation {op.name!r} is not supported on the CPU{why}", op.location)


# By operation or by dialect.
_ONLY_ON_GPUS = {
    "elementwise_inline_asm": "inline assembly is written in a GPU's instruction set; use tl.math, tl.extra.libdevice "
    "or plain arithmetic",
    "ttg": "it names a GPU's layouts",
    "ttng": "it is an NVIDIA instruction",
    "nvvm": "it is an NVIDIA instruction",
    "rocdl": "it is an AMD instruction",
}

Rule = Callable[[Evaluator, Op, Index, Value], Lanes]


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


def narrow(b: Builder, index: Lanes, to: LType) -> Lanes:
    """An i64 index in a smaller integer type."""
    if isinstance(index, Ramp):
        return Ramp(b.cast("trunc", index.base, to), b.cast("trunc", index.step, to))
    if isinstance(index, Vector):
        return Vector(b.cast("trunc", index.value, to.with_lanes(index.value.type.lanes)))
    return Uniform(b.cast("trunc", index.value, to))


def _expand_dims(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    axis = op.attrs["axis"]
    return ev.evaluate(op.operands[0], index[:axis] + index[axis + 1 :])


_ZERO = Uniform(int_const(0, I64))


def _broadcast(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    source = op.operands[0]
    inner = tuple(_ZERO if size == 1 else i for size, i in zip(shape_of(source.type), index, strict=True))
    return ev.evaluate(source, inner)


def _trans(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    inner: list[Lanes] = [_ZERO] * len(index)
    for position, origin in enumerate(op.attrs["order"]):
        inner[origin] = index[position]
    return ev.evaluate(op.operands[0], tuple(inner))


def _reshape(ev: Evaluator, op: Op, index: Index, value: Value) -> Lanes:
    source = op.operands[0]
    linear = linearise(ev, index, shape_of(value.type))
    return ev.evaluate(source, delinearise(ev, linear, shape_of(source.type)))


def linearise(ev: Evaluator, index: Index, shape: tuple[int, ...]) -> Lanes:
    """The row-major position of an index."""
    return ln.position(ev.b, index, buffers.buffer_strides(shape), ev.width)


def delinearise(ev: Evaluator, linear: Lanes, shape: tuple[int, ...]) -> Index:
    """The index of a row-major position. Sizes are powers of two."""
    count = math.prod(shape)
    found: list[Lanes] = []
    for stride, size in zip(buffers.buffer_strides(shape), shape, strict=True):
        part = digit(ev, linear, stride, size)
        found.append(part if size == 1 else replace(part, digit=Digit(linear, stride, size, count)))
    return tuple(found)


def digit(ev: Evaluator, linear: Lanes, stride: int, size: int) -> Lanes:
    """(linear // stride) % size"""
    if size == 1:
        return _ZERO
    b, width = ev.b, ev.width
    if isinstance(linear, Ramp):
        # A vector starts at a multiple of its width, so that it cannot straddle a multiple of something larger.
        if linear.step.const == 1 and stride % width == 0:
            return Uniform(_shift_and_mask(b, linear.base, stride, size))
        if linear.step.const == 1 and stride == 1 and size % width == 0:
            return Ramp(_shift_and_mask(b, linear.base, stride, size), linear.step)
        if linear.step.const == 1 and width % (stride * size) == 0:
            return Vector(b.constant_vector([lane // stride % size for lane in range(width)], I64))
        return Vector(_shift_and_mask(b, to_vector(b, linear, width), stride, size))
    digit = _shift_and_mask(b, linear.value, stride, size)
    return Vector(digit) if isinstance(linear, Vector) else Uniform(digit)


def _shift_and_mask(b: Builder, value: V, stride: int, size: int) -> V:
    type = value.type
    if value.const is not None:
        return int_const(value.const // stride % size, type)
    if stride > 1:
        value = b.binary("lshr", value, int_const(stride.bit_length() - 1, type))
    return b.binary("and", value, int_const(size - 1, type))


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
                places[at] = replace(digit(ev, linear, half.stride, half.size), digit=half)
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
    within = digit(ev, index[0], 1, size)
    left, right = (ev.evaluate(operand, (within, *index[1:])) for operand in op.operands)
    return _choose(ev, digit(ev, index[0], size, 2), left, right)


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
    pair = digit(ev, place, 2, shape_of(source.type)[axis])
    code = ev.evaluate(source, (*index[:axis], pair, *index[axis + 1 :]))
    which = narrow(ev.b, digit(ev, place, 1, 2), LType("i8"))
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
            lanes = digit(ev, linear, part.stride, part.size)
            moved.append(replace(lanes, digit=replace(part, linear=linear)))
    return tuple(moved)


_RULES: dict[str, Rule] = {
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
