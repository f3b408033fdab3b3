"""Evaluates block values at an index: the heart of the lowering.

`Evaluator.evaluate(value, index)` writes, at the current place of the LLVM function, the code that computes the
elements of `value` at `index` and returns them as `Lanes`. Elementwise operations are applied here, by the rows of
`elementwise.py`; what else there is has a rule in `rules.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tessera.compiler.errors import LoweringError, fail
from tessera.compiler.llvm.builder import Builder, LType, V, const
from tessera.compiler.lower import arms, buffers, codes
from tessera.compiler.lower import lanes as ln
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.calls import call_by_lane
from tessera.compiler.lower.elementwise import ROWS
from tessera.compiler.lower.lanes import Index, Lanes, Ramp, Uniform, Vector, ltype, size_bytes, to_vector
from tessera.compiler.lower.rules import RULES
from tessera.ir.nodes import Op, Region, Value
from tessera.ir.types import BlockType, PointerType, element_of


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
        if value in self.buffers or not isinstance(op, Op) or (op.name in RULES and op.name != "load"):
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
        return not kept and isinstance(op, Op) and op.name not in RULES

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
        rule = RULES.get(op.name)
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
    if "unknown" in op.attrs:
        why += f" (not known here: {op.attrs['unknown']})"
    return fail(f"the operation {op.name!r} is not supported on the CPU{why}", op.location)


# By operation or by dialect.
_ONLY_ON_GPUS = {
    "elementwise_inline_asm": "inline assembly is written in a GPU's instruction set, of which the CPU knows a part; "
    "use tl.math, tl.extra.libdevice or plain arithmetic",
    "ttg": "it names a GPU's layouts",
    "ttng": "it is an NVIDIA instruction",
    "nvvm": "it is an NVIDIA instruction",
    "rocdl": "it is an AMD instruction",
}
