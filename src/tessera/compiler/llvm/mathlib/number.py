"""Values that are written like formulas: `x * y + 1.0` emits instructions through the `Builder`, for scalars and
vectors alike.

Nothing is re-associated or contracted behind the author's back: what is to be rounded once is written `x.fma(y, z)`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tessera.compiler.llvm.builder import I1, Builder, LType, V, const

SIGNIFICAND_BITS = {"float": 23, "double": 52}
EXPONENT_BIAS = {"float": 127, "double": 1023}


@dataclass(frozen=True, eq=False)
class Num:
    """A value and the builder that continues it. Python numbers beside it become constants of its type."""

    b: Builder
    v: V

    # Where it stands ------------------------------------------------------------------------------------------------

    @property
    def type(self) -> LType:
        return self.v.type

    @property
    def scalar(self) -> str:
        return self.v.type.scalar

    @property
    def significand_bits(self) -> int:
        return SIGNIFICAND_BITS[self.scalar]

    @property
    def bias(self) -> int:
        return EXPONENT_BIAS[self.scalar]

    def of(self, other: Num | float) -> Num:
        """`other` as a value of this type."""
        return other if isinstance(other, Num) else Num(self.b, const(other, self.type))

    def _binary(self, float_op: str, int_op: str, other: Num | float) -> Num:
        return Num(self.b, self.b.binary(float_op if self.type.is_float else int_op, self.v, self.of(other).v))

    # Arithmetic -----------------------------------------------------------------------------------------------------

    def __add__(self, other: Num | float) -> Num:
        return self._binary("fadd", "add", other)

    def __sub__(self, other: Num | float) -> Num:
        return self._binary("fsub", "sub", other)

    def __rsub__(self, other: float) -> Num:
        return self.of(other) - self

    def __mul__(self, other: Num | float) -> Num:
        return self._binary("fmul", "mul", other)

    __radd__ = __add__
    __rmul__ = __mul__

    def __truediv__(self, other: Num | float) -> Num:
        return Num(self.b, self.b.fdiv(self.v, self.of(other).v))

    def __rtruediv__(self, other: float) -> Num:
        return self.of(other) / self

    def __neg__(self) -> Num:
        return Num(self.b, self.b.fneg(self.v)) if self.type.is_float else 0 - self

    def fma(self, factor: Num | float, addend: Num | float) -> Num:
        """self·factor + addend, rounded once."""
        return Num(self.b, self.b.fma(self.v, self.of(factor).v, self.of(addend).v))

    def call(self, intrinsic: str, *others: Num | float) -> Num:
        """`llvm.INTRINSIC` on this and further operands of the same type."""
        operands = [self.v, *(self.of(other).v for other in others)]
        return Num(self.b, self.b.intrinsic(intrinsic, self.type, operands))

    def abs(self) -> Num:
        return self.call("fabs")

    def rint(self) -> Num:
        """The nearest integer, ties to even."""
        return self.call("rint")

    def with_sign_of(self, other: Num) -> Num:
        return self.call("copysign", other)

    # Bits -----------------------------------------------------------------------------------------------------------

    def bits(self) -> Num:
        """The representation as an integer of the same width."""
        return self.cast("bitcast", f"i{self.type.bits}")

    def as_float(self) -> Num:
        """The floating value that has these bits."""
        return self.cast("bitcast", {32: "float", 64: "double"}[self.type.bits])

    def gather(self, table: V, index: Num) -> Num:
        """table[index], for an array of this type in memory and indices within it."""
        b = self.b
        places = b.offset(table, index.v, self.type.bits // 8)
        if not self.type.lanes:
            return Num(b, b.load(self.type, places, self.type.bits // 8))
        every = const(1, self.type.with_scalar("i1"))
        operands = [places, every, V(self.type, "poison")]
        return Num(b, b.intrinsic("masked.gather", self.type, operands, [self.type, places.type]))

    def cast(self, op: str, scalar: str) -> Num:
        """LLVM's conversion `op` to another element type."""
        return Num(self.b, self.b.cast(op, self.v, self.type.with_scalar(scalar)))

    def to_int(self, scalar: str) -> Num:
        """An integer sign-extended or cut to another width."""
        return self.cast("sext" if int(scalar[1:]) > self.type.bits else "trunc", scalar)

    def is_negative(self) -> Num:
        """The sign bit, also of zeros and NaN."""
        return self.bits() < 0

    def at_least_int(self, limit: int) -> Num:
        return self.call("smax", limit)

    def at_most_int(self, limit: int) -> Num:
        return self.call("smin", limit)

    def __lshift__(self, count: Num | int) -> Num:
        return self._binary("", "shl", count)

    def __rshift__(self, count: Num | int) -> Num:
        """Arithmetic shift: the sign is kept."""
        return self._binary("", "ashr", count)

    def logical_shift_right(self, count: Num | int) -> Num:
        return self._binary("", "lshr", count)

    def __and__(self, other: Num | int) -> Num:
        return self._binary("", "and", other)

    def __or__(self, other: Num | int) -> Num:
        return self._binary("", "or", other)

    def __xor__(self, other: Num | int) -> Num:
        return self._binary("", "xor", other)

    # Comparison -----------------------------------------------------------------------------------------------------

    def compare(self, predicate: str, other: Num | float) -> Num:
        """LLVM's predicate: `olt`, `ule`, `uno`, … for floats, `slt`, `ult`, `eq`, … for integers."""
        emit = self.b.fcmp if self.type.is_float else self.b.icmp
        return Num(self.b, emit(predicate, self.v, self.of(other).v))

    def __lt__(self, other: Num | float) -> Num:
        return self.compare("olt" if self.type.is_float else "slt", other)

    def __gt__(self, other: Num | float) -> Num:
        return self.compare("ogt" if self.type.is_float else "sgt", other)

    def __le__(self, other: Num | float) -> Num:
        return self.compare("ole" if self.type.is_float else "sle", other)

    def __ge__(self, other: Num | float) -> Num:
        return self.compare("oge" if self.type.is_float else "sge", other)

    def equals(self, other: Num | float) -> Num:
        return self.compare("oeq" if self.type.is_float else "eq", other)

    def negated(self) -> Num:
        """The opposite of a condition."""
        return self ^ self.of(1)

    def is_nan(self) -> Num:
        return self.compare("uno", self)

    def pick(self, yes: Num, no: Num | float) -> Num:
        """Lane by lane: where this condition holds `yes`, else `no`."""
        return Num(self.b, self.b.select(self.v, yes.v, yes.of(no).v))

    def at_most(self, limit: float) -> Num:
        """min(self, limit) that passes NaN on. The order of operands is that of x86's `min`, one instruction."""
        bound = self.of(limit)
        return (bound < self).pick(bound, self)

    def at_least(self, limit: float) -> Num:
        """max(self, limit) that passes NaN on."""
        bound = self.of(limit)
        return (bound > self).pick(bound, self)


def in_double(function: Callable[..., Num]) -> Callable[..., Num]:
    """Compute a function of floats in double, rounded once: for those that deserve no float version of their own."""

    @functools.wraps(function)
    def widened(*operands: Num) -> Num:
        if operands[0].scalar == "double":
            return function(*operands)
        return function(*(x.cast("fpext", "double") for x in operands)).cast("fptrunc", "float")

    return widened


def two_sum(a: Num, b: Num) -> tuple[Num, Num]:
    """a + b as (rounded sum, what rounding lost), exact for any magnitudes."""
    total = a + b
    b_part = total - a
    return total, (a - (total - b_part)) + (b - b_part)


def fast_two_sum(a: Num, b: Num) -> tuple[Num, Num]:
    """`two_sum` where |a| ≥ |b| or a is 0."""
    total = a + b
    return total, b - (total - a)


def product(a: Num, b: Num) -> tuple[Num, Num]:
    """a·b as (rounded product, what rounding lost), exact unless it underflows."""
    rounded = a * b
    return rounded, a.fma(b, -rounded)


def horner(x: Num, coefficients: Sequence[float]) -> Num:
    """c0 + x·(c1 + x·(c2 + …)), every step fused. At least two coefficients."""
    *rest, last = coefficients
    result = x.fma(last, rest.pop())
    while rest:
        result = result.fma(x, rest.pop())
    return result


def where_any(condition: Num, slow: Callable[[], Sequence[Num]], fast: Sequence[Num]) -> list[Num]:
    """`slow()` in the lanes where `condition` holds, `fast` elsewhere; one branch skips `slow` if no lane needs it."""
    b = condition.b
    rare, done, before = b.fresh("rare"), b.fresh("done"), b.current
    b.branch_rarely(_any(condition), rare, done)
    b.label(rare)
    picked = [condition.pick(there, here) for there, here in zip(slow(), fast, strict=True)]
    after = b.current
    b.branch(done)
    b.label(done)
    return [
        Num(b, b.emit(x.type, f"phi {x.type} [ {x.v.ref}, %{before} ], [ {y.v.ref}, %{after} ]"))
        for x, y in zip(fast, picked, strict=True)
    ]


def _any(condition: Num) -> V:
    b = condition.b
    if not condition.type.lanes:
        return condition.v
    return b.intrinsic("vector.reduce.or", I1, [condition.v], [condition.type])


def while_any(
    condition: Callable[..., Num], step: Callable[..., Sequence[Num]], first: Sequence[Num]
) -> list[Num]:
    """state = step(*state) while `condition` holds in any lane; lanes that are done must be left alone by `step`."""
    b = first[0].b
    loop, done, before = b.fresh("while"), b.fresh("done"), b.current
    b.branch_if(_any(condition(*first)), loop, done)
    b.label(loop)
    place = len(b.lines)
    state = [Num(b, V(x.type, f"%{b.fresh('x')}")) for x in first]
    following = step(*state)
    again, after = _any(condition(*following)), b.current
    ends = [f"[ {x.v.ref}, %{before} ], [ {y.v.ref}, %{after} ]" for x, y in zip(first, following, strict=True)]
    b.lines[place:place] = [f"  {x.v.ref} = phi {x.type} {end}" for x, end in zip(state, ends, strict=True)]
    b.branch_if(again, loop, done)
    b.label(done)
    return [Num(b, b.emit(x.type, f"phi {x.type} {end}")) for x, end in zip(first, ends, strict=True)]
