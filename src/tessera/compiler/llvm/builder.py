"""A writer of LLVM IR text: one function at a time, values as (type, reference) pairs, constants folded on the way.

llvmlite has a builder of its own, which knows neither bfloat nor masked intrinsics nor scalable vectors; text has
them all.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

# What one function may put on the stack of whatever thread a launch comes from. A program that takes more is so long
# that asking the heap costs it nothing.
STACK_BYTES = 1 << 20

_FLOATS = {"half": 16, "bfloat": 16, "float": 32, "double": 64}
_INT_BINARY: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "udiv": lambda a, b: a // b,
}


@dataclass(frozen=True)
class LType:
    """A first-class LLVM type: a scalar (`i1`, `i32`, `float`, `ptr`, …), or a fixed vector of `lanes` of them."""

    scalar: str
    lanes: int = 0

    def __str__(self) -> str:
        return f"<{self.lanes} x {self.scalar}>" if self.lanes else self.scalar

    @property
    def is_float(self) -> bool:
        return self.scalar in _FLOATS

    @property
    def bits(self) -> int:
        """Width of one element in bits; a pointer counts 64."""
        if self.scalar == "ptr":
            return 64
        return _FLOATS.get(self.scalar) or int(self.scalar[1:])

    @property
    def mangled(self) -> str:
        """The type as intrinsics spell it in their names, for example `v16f32`."""
        short = {"half": "f16", "bfloat": "bf16", "float": "f32", "double": "f64", "ptr": "p0"}.get(
            self.scalar, self.scalar
        )
        return f"v{self.lanes}{short}" if self.lanes else short

    def with_lanes(self, lanes: int) -> LType:
        return replace(self, lanes=lanes)

    def with_scalar(self, scalar: str) -> LType:
        return replace(self, scalar=scalar)


I1, I8, I16, I32, I64 = (LType(f"i{bits}") for bits in (1, 8, 16, 32, 64))
F16, BF16, F32, F64, PTR = (LType(name) for name in ("half", "bfloat", "float", "double", "ptr"))


@dataclass(frozen=True)
class V:
    """An LLVM value: its type and how an instruction refers to it. `const` is the Python value of an integer constant
    or splat."""

    type: LType
    ref: str
    const: int | None = None

    def __str__(self) -> str:
        return f"{self.type} {self.ref}"


def int_const(value: int, type: LType) -> V:
    """An integer constant, splat over the lanes of a vector type; wraps to the type's width."""
    value &= (1 << type.bits) - 1
    if type.bits > 1 and value >> (type.bits - 1):
        value -= 1 << type.bits
    text = ("true" if value else "false") if type.scalar == "i1" else str(value)
    return V(type, f"splat ({type.scalar} {text})" if type.lanes else text, value)


def float_const(value: float, type: LType) -> V:
    """A floating constant, rounded to the type, splat over the lanes of a vector type."""
    if type.scalar == "float":
        value = _round_to_single(value)
    if type.scalar == "bfloat":
        text = f"0xR{_bfloat_bits(value):04X}"
    elif type.scalar == "half":
        text = f"0xH{_half_bits(value):04X}"
    else:
        text = f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    return V(type, f"splat ({type.scalar} {text})" if type.lanes else text)


def const(value: float | int, type: LType) -> V:
    return float_const(float(value), type) if type.is_float else int_const(int(value), type)


def _round_to_single(value: float) -> float:
    if math.isfinite(value) and abs(value) > 3.4028235677973366e38:
        return math.copysign(math.inf, value)
    return float(struct.unpack("<f", struct.pack("<f", value))[0])


def _half_bits(value: float) -> int:
    try:
        return int(struct.unpack("<H", struct.pack("<e", value))[0])
    except OverflowError:
        return 0xFC00 if value < 0 else 0x7C00


def _bfloat_bits(value: float) -> int:
    bits = int(struct.unpack("<I", struct.pack("<f", _round_to_single(value)))[0])
    if value != value:
        return (bits >> 16) | 0x40
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) & 0xFFFF


def _fold_bits(both: bool, a: V, b: V) -> V | None:
    """`and` (both) or `or` of truth values, one of which is known."""
    for known, other in ((a, b), (b, a)):
        if known.const is not None:
            return other if bool(known.const) == both else known
    return None


class Builder:
    """Writes the body of one function. Blocks are opened by `label`; `declare`d intrinsics gather for the module's
    end."""

    def __init__(self, has_bfloat: bool = False, permute: str = "", has_strides: bool = False) -> None:
        # Does the target convert bfloat by instruction? Where it has not, LLVM would call a library for every element.
        self.has_bfloat = has_bfloat
        # The intrinsic that picks among 16 floats of a register by the low bits of 16 indices, where there is one.
        self.permute = permute
        # Does one instruction read or write lanes a step apart?
        self.has_strides = has_strides
        self.lines: list[str] = []
        self.entry: list[str] = []
        self.stack_bytes = self.heap_bytes = 0
        self.declarations: dict[str, str] = {}
        self.current = "entry"
        # Names of what was widened from half precision.
        self._widened: set[str] = set()
        self._next = 0

    # Names, blocks, raw text ------------------------------------------------------------------------------------

    def fresh(self, hint: str = "v") -> str:
        self._next += 1
        return f"{hint}.{self._next}"

    def raw(self, line: str) -> None:
        self.lines.append("  " + line)

    def emit(self, type: LType, text: str) -> V:
        """Write `%new = text` and return the new value of `type`."""
        name = f"%{self.fresh()}"
        self.lines.append(f"  {name} = {text}")
        return V(type, name)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")
        self.current = name

    def branch(self, target: str) -> None:
        self.raw(f"br label %{target}")

    def branch_if(self, condition: V, then: str, otherwise: str) -> None:
        self.raw(f"br {condition}, label %{then}, label %{otherwise}")

    def branch_rarely(self, condition: V, then: str, otherwise: str) -> None:
        """`branch_if` that keeps `then`, and the constants it needs, out of the way of the usual path."""
        weights = '!prof !{!"branch_weights", i32 1, i32 4000}'
        self.raw(f"br {condition}, label %{then}, label %{otherwise}, {weights}")

    def either(self, condition: V, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Two ways that come together again."""
        labels, after = (self.fresh("then"), self.fresh("else")), self.fresh("after")
        self.branch_if(condition, *labels)
        for label, way in zip(labels, (then, otherwise), strict=True):
            self.label(label)
            way()
            self.branch(after)
        self.label(after)

    def unless(self, usual: V, way: Callable[[], None]) -> None:
        """One way that is seldom taken: where the usual does not hold."""
        rare, after = self.fresh("unusual"), self.fresh("after")
        self.branch_rarely(self.binary("xor", usual, int_const(1, usual.type)), rare, after)
        self.label(rare)
        way()
        self.branch(after)
        self.label(after)

    def chosen(
        self, condition: V, then: Callable[[], Sequence[V]], otherwise: Callable[[], Sequence[V]]
    ) -> list[V]:
        """What one of two ways gives, as many values as the other one."""
        ends: list[tuple[Sequence[V], str]] = []
        self.either(
            condition, lambda: ends.append((then(), self.current)), lambda: ends.append((otherwise(), self.current))
        )
        (left, one), (right, other) = ends
        return [
            self.emit(a.type, f"phi {a.type} [ {a.ref}, %{one} ], [ {b.ref}, %{other} ]")
            for a, b in zip(left, right, strict=True)
        ]

    def alloca(self, type: LType, count: int) -> V:
        """Scratch for `count` elements, allocated once at the function's entry: on the stack as far as `STACK_BYTES`
        go, then on the heap."""
        name = f"%{self.fresh('buf')}"
        size = -(-count * max(type.bits, 8) // 8 // 64) * 64
        if self.stack_bytes + size <= STACK_BYTES:
            self.stack_bytes += size
            self.entry.append(f"  {name} = alloca [{count} x {type}], align 64")
        else:
            self.entry.append(f"  {name} = getelementptr i8, ptr %heap, i64 {self.heap_bytes}")
            self.heap_bytes += size
        return V(PTR, name)

    def body(self, first: str) -> list[str]:
        """All lines of the function from its label `entry` on, which goes on to the block `first`."""
        if not self.heap_bytes:
            return ["entry:", *self.entry, f"  br label %{first}", *self.lines]
        self.declarations["aligned_alloc"] = "declare noalias ptr @aligned_alloc(i64, i64)"
        self.declarations["free"] = "declare void @free(ptr)"
        self.declarations["abort"] = "declare void @abort() noreturn"
        opening = [
            "entry:",
            f"  %heap = call noalias ptr @aligned_alloc(i64 64, i64 {self.heap_bytes})",
            "  %none = icmp eq ptr %heap, null",
            "  br i1 %none, label %exhausted, label %begin",
            "exhausted:",
            "  call void @abort()",
            "  unreachable",
            "begin:",
        ]
        freed = "  call void @free(ptr %heap)"
        lines = [text for line in self.lines for text in ([freed, line] if line.startswith("  ret ") else [line])]
        return [*opening, *self.entry, f"  br label %{first}", *lines]

    def constant_array(self, name: str, type: LType, values: Sequence[V]) -> V:
        """The address of a table of constants in the module, written once however often it is asked for."""
        elements = ", ".join(map(str, values))
        self.declarations[name] = (
            f"@{name} = private unnamed_addr constant [{len(values)} x {type}] [{elements}], align 64"
        )
        return V(PTR, f"@{name}")

    # Arithmetic -------------------------------------------------------------------------------------------------

    def binary(self, op: str, a: V, b: V, flags: str = "") -> V:
        """`op` on two values of one type. Integer add, sub and mul of constants fold; neutral elements vanish."""
        folded = self._fold(op, a, b)
        if folded is not None:
            return folded
        return self.emit(a.type, f"{op} {flags + ' ' if flags else ''}{a}, {b.ref}")

    @staticmethod
    def _fold(op: str, a: V, b: V) -> V | None:
        if op in ("and", "or") and a.type.scalar == "i1":
            return _fold_bits(op == "and", a, b)
        if a.type.is_float or op not in _INT_BINARY:
            return None
        if a.const is not None and b.const is not None:
            return int_const(_INT_BINARY[op](a.const, b.const), a.type)
        if b.const == 0 and op in ("add", "sub"):
            return a
        if a.const == 0 and op == "add":
            return b
        if op == "mul" and 0 in (a.const, b.const):
            return int_const(0, a.type)
        if op in ("mul", "udiv") and b.const == 1:
            return a
        return b if op == "mul" and a.const == 1 else None

    def add(self, a: V, b: V) -> V:
        return self.binary("fadd" if a.type.is_float else "add", a, b)

    def sub(self, a: V, b: V) -> V:
        return self.binary("fsub" if a.type.is_float else "sub", a, b)

    def mul(self, a: V, b: V) -> V:
        return self.binary("fmul" if a.type.is_float else "mul", a, b)

    def fdiv(self, a: V, b: V) -> V:
        return self.binary("fdiv", a, b)

    def fneg(self, a: V) -> V:
        return self.emit(a.type, f"fneg {a}")

    def fma(self, a: V, b: V, c: V) -> V:
        """a·b + c, rounded once."""
        return self.intrinsic("fma", a.type, [a, b, c])

    def fmuladd(self, a: V, b: V, c: V) -> V:
        """a·b + c, rounded once where the target fuses."""
        return self.intrinsic("fmuladd", a.type, [a, b, c])

    def icmp(self, predicate: str, a: V, b: V) -> V:
        return self.emit(a.type.with_scalar("i1"), f"icmp {predicate} {a}, {b.ref}")

    def fcmp(self, predicate: str, a: V, b: V) -> V:
        return self.emit(a.type.with_scalar("i1"), f"fcmp {predicate} {a}, {b.ref}")

    def select(self, condition: V, a: V, b: V) -> V:
        if condition.const is not None:
            return a if condition.const else b
        return self.emit(a.type, f"select {condition}, {a}, {b}")

    def freeze(self, a: V) -> V:
        """The same value, which LLVM's rewriting does not see through."""
        return self.emit(a.type, f"freeze {a}")

    def cast(self, op: str, a: V, to: LType) -> V:
        """`op` is LLVM's: trunc, zext, sext, fptrunc, fpext, fptosi, sitofp, bitcast, ptrtoint, inttoptr, …"""
        if a.type == to:
            return a
        if a.const is not None and op in ("trunc", "sext"):
            return int_const(a.const, to)
        if a.const is not None and op == "zext":
            return int_const(a.const & ((1 << a.type.bits) - 1), to)
        if op == "fptrunc" and to.scalar == "bfloat" and not self.has_bfloat:
            return self._round_to_bfloat(a, to)
        if op == "fpext" and a.type.scalar == "bfloat" and not self.has_bfloat:
            return self._widen_bfloat(a, to)
        made = self.emit(to, f"{op} {a} to {to}")
        if op == "fpext" and a.type.bits == 16:
            self._widened.add(made.ref)
        return made

    def _widen_bfloat(self, a: V, to: LType) -> V:
        """A bfloat is the upper half of a float."""
        bits = self.cast("zext", self.cast("bitcast", a, a.type.with_scalar("i16")), a.type.with_scalar("i32"))
        single = self.cast("bitcast", self.binary("shl", bits, int_const(16, bits.type)), to.with_scalar("float"))
        return self.cast("fpext", single, to)

    def _round_to_bfloat(self, a: V, to: LType) -> V:
        """The upper half of a float's bits, rounded to nearest even; a NaN stays one."""
        single = self.cast("fptrunc", a, a.type.with_scalar("float")) if a.type.scalar == "double" else a
        wide, narrow = to.with_scalar("i32"), to.with_scalar("i16")
        bits = self.cast("bitcast", single, wide)
        odd = self.binary("and", self.binary("lshr", bits, int_const(16, wide)), int_const(1, wide))
        rounded = self.add(self.add(bits, int_const(0x7FFF, wide)), odd)
        quiet = self.binary("or", bits, int_const(0x400000, wide))
        kept = self.select(self.fcmp("uno", single, single), quiet, rounded)
        return self.cast("bitcast", self.cast("trunc", self.binary("lshr", kept, int_const(16, wide)), narrow), to)

    def intrinsic(
        self,
        name: str,
        result: LType,
        operands: Sequence[V],
        overloads: Sequence[LType] | None = None,
        flags: str = "",
    ) -> V:
        """Call `llvm.NAME.SUFFIX`. The suffix comes from `overloads`, by default from the result type."""
        suffix = "".join(f".{type.mangled}" for type in (overloads if overloads is not None else [result]))
        return self.call(f"llvm.{name}{suffix}", result, operands, flags)

    def rounded(self, name: str, value: V) -> V:
        """A rounding to whole numbers by its LLVM name."""
        return self.intrinsic(name, value.type, [self._fenced(value)])

    def extreme(self, name: str, a: V, b: V, flags: str = "") -> V:
        """The larger or the smaller of two by LLVM's name."""
        return self.intrinsic(name, a.type, [self._fenced(a) if a.ref in self._widened else a, b], flags=flags)

    def _fenced(self, value: V) -> V:
        """Keeps LLVM from computing in half precision with what was widened to float: it has no vectors for that, and
        would take them apart."""
        return self.intrinsic("arithmetic.fence", value.type, [value]) if value.type.scalar == "float" else value

    def call(self, symbol: str, result: LType | None, operands: Sequence[V], flags: str = "") -> V:
        """Call a function by symbol, declaring it once. A `None` result is void (the returned value is then
        unusable). flags: LLVM's fast-math flags."""
        returns = str(result) if result is not None else "void"
        self.declarations[symbol] = f"declare {returns} @{symbol}({', '.join(str(v.type) for v in operands)})"
        text = f"call {flags and flags + ' '}{returns} @{symbol}({', '.join(map(str, operands))})"
        if result is None:
            self.raw(text)
            return V(LType("void"), "void")
        return self.emit(result, text)

    # Vectors ----------------------------------------------------------------------------------------------------

    def splat(self, a: V, lanes: int) -> V:
        """A scalar repeated over `lanes`; no lanes leaves it a scalar."""
        if not lanes:
            return a
        to = a.type.with_lanes(lanes)
        if a.const is not None:
            return int_const(a.const, to)
        if not a.ref.startswith("%"):
            return V(to, f"splat ({a.type.scalar} {a.ref})")
        one = self.emit(to, f"insertelement {to} poison, {a}, i32 0")
        return self.emit(to, f"shufflevector {one}, {to} poison, <{lanes} x i32> zeroinitializer")

    def iota(self, type: LType) -> V:
        """The vector 0, 1, 2, … of an integer vector type."""
        return V(type, "<" + ", ".join(f"{type.scalar} {i}" for i in range(type.lanes)) + ">")

    @staticmethod
    def constant_vector(values: Sequence[int], type: LType) -> V:
        """A vector of integer constants."""
        return V(type.with_lanes(len(values)), "<" + ", ".join(f"{type} {value}" for value in values) + ">")

    def shuffle(self, a: V, b: V | None, indices: Sequence[int]) -> V:
        """Lanes of a‖b picked by `indices`."""
        to = a.type.with_lanes(len(indices))
        mask = ", ".join(f"i32 {i}" for i in indices)
        second = str(b) if b is not None else f"{a.type} poison"
        return self.emit(to, f"shufflevector {a}, {second}, <{len(indices)} x i32> <{mask}>")

    def interleave(self, vectors: Sequence[V]) -> V:
        """a₀ b₀ … a₁ b₁ … of a power of two of vectors; one vector is itself."""
        if len(vectors) == 1:
            return vectors[0]
        left, right = self.interleave(vectors[0::2]), self.interleave(vectors[1::2])
        lanes = left.type.lanes
        return self.shuffle(left, right, [i for pair in range(lanes) for i in (pair, lanes + pair)])

    def extract(self, a: V, lane: int) -> V:
        return self.emit(a.type.with_lanes(0), f"extractelement {a}, i32 {lane}")

    def gathered(self, lanes: Sequence[V]) -> V:
        """A vector of the scalars `lanes`."""
        to = lanes[0].type.with_lanes(len(lanes))
        vector = V(to, "poison")
        for number, lane in enumerate(lanes):
            vector = self.emit(to, f"insertelement {vector}, {lane}, i32 {number}")
        return vector

    # Memory -----------------------------------------------------------------------------------------------------

    def offset(self, pointer: V, index: V, scale_bytes: int) -> V:
        """pointer + index · scale_bytes; `index` is signed and any integer width, a vector index gives a vector of
        pointers."""
        wide = self.cast("sext", index, index.type.with_scalar("i64"))
        if wide.const == 0 and not wide.type.lanes:
            return pointer
        type = PTR.with_lanes(wide.type.lanes or pointer.type.lanes)
        if scale_bytes in (1, 2, 4, 8):
            return self.emit(type, f"getelementptr i{scale_bytes * 8}, {pointer}, {wide}")
        return self.emit(type, f"getelementptr i8, {pointer}, {self.mul(wide, int_const(scale_bytes, wide.type))}")

    def load(self, type: LType, pointer: V, align: int) -> V:
        return self.emit(type, f"load {type}, {pointer}, align {align}")

    def store(self, value: V, pointer: V, align: int) -> None:
        self.raw(f"store {value}, {pointer}, align {align}")

    # Loops ------------------------------------------------------------------------------------------------------

    def counted_loop(
        self, count: int, step: int, carried: Sequence[V], body: Callable[[V, list[V]], Sequence[V]], hint: str = ""
    ) -> list[V]:
        """for i in range(0, count, step): carried = body(i, carried). A single trip is written without a loop.

        `count` is a positive multiple of `step`; `i` is an i64; `body` may open blocks of its own. `hint` is the
        metadata reference of a loop attribute, such as `!llvm.loop !0`.
        """
        if count == step:
            return list(body(int_const(0, I64), list(carried)))
        head = self.fresh("loop")
        self.branch(head)
        bounds = int_const(0, I64), int_const(count, I64)
        return self._loop(head, self.fresh("done"), bounds, step, carried, body, hint)[0]

    def range_loop(
        self, begin: V, end: V, step: int, carried: Sequence[V], body: Callable[[V, list[V]], Sequence[V]]
    ) -> list[V]:
        """for i in range(begin, end, step): carried = body(i, carried), with bounds of type i64 known at run time."""
        head, leave, before = self.fresh("loop"), self.fresh("done"), self.current
        self.branch_if(self.icmp("slt", begin, end), head, leave)
        results, tail = self._loop(head, leave, (begin, end), step, carried, body, "")
        return [
            self.emit(v.type, f"phi {v.type} [ {first.ref}, %{before} ], [ {v.ref}, %{tail} ]")
            for first, v in zip(carried, results, strict=True)
        ]

    def limited_loop(
        self, count: int, limit: V, step: int, carried: Sequence[V], body: Callable[[V, list[V]], Sequence[V]]
    ) -> list[V]:
        """A counted loop that ends at `limit`, at most `count`, if that is known when it runs only. A single trip is
        written without a loop, whatever the limit."""
        if limit.const is not None or count == step:
            return self.counted_loop(count, step, carried, body)
        return self.range_loop(int_const(0, I64), limit, step, carried, body)

    def _loop(
        self, head: str, leave: str, bounds: tuple[V, V], step: int, carried: Sequence[V],
        body: Callable[[V, list[V]], Sequence[V]], hint: str,
    ) -> tuple[list[V], str]:  # fmt: skip
        """A loop that runs at least once, from the label `head` to the label `leave`; also the label of its end."""
        before = self.current
        self.label(head)
        start = len(self.lines)
        index = V(I64, f"%{self.fresh('i')}")
        inside = [V(v.type, f"%{self.fresh('c')}") for v in carried]
        results = list(body(index, inside))
        tail = self.current
        following = self.emit(I64, f"add nuw nsw {index}, {step}")
        phis = [f"  {index.ref} = phi i64 [ {bounds[0].ref}, %{before} ], [ {following.ref}, %{tail} ]"]
        phis += [
            f"  {phi.ref} = phi {phi.type} [ {first.ref}, %{before} ], [ {last.ref}, %{tail} ]"
            for phi, first, last in zip(inside, carried, results, strict=True)
        ]
        self.lines[start:start] = phis
        done = self.icmp("slt", following, bounds[1])
        self.raw(f"br {done}, label %{head}, label %{leave}{', ' + hint if hint else ''}")
        self.label(leave)
        return results, tail
