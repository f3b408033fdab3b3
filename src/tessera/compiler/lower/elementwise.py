"""Elementwise operations: one row each, the same for scalars and vectors.

A row takes the builder, the operation, its operands (all of one width) and the LLVM type of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import Builder, LType, V, const, float_const, int_const
from tessera.compiler.llvm.mathlib import FUNCTIONS
from tessera.compiler.lower import conversions
from tessera.ir.nodes import Op, Value

Row = Callable[[Builder, Op, Sequence[V], LType], V]

_NARROW = ("half", "bfloat")


def widen(b: Builder, value: V) -> V:
    """Half precision as float; anything else as it is."""
    return b.cast("fpext", value, value.type.with_scalar("float")) if value.type.scalar in _NARROW else value


def in_float(compute: Callable[[Builder, Sequence[V]], V]) -> Row:
    """Half precision is computed in float and rounded once."""

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        if to.scalar not in _NARROW:
            return compute(b, args)
        return b.cast("fptrunc", compute(b, [widen(b, arg) for arg in args]), to)

    return row


def _float_binary(name: str, contract: bool) -> Row:
    return in_float(lambda b, args: b.binary(name, args[0], args[1], "contract" if contract else ""))


def _intrinsic(name: str) -> Row:
    return in_float(lambda b, args: b.intrinsic(name, args[0].type, args))


def _extreme(name: str) -> Row:
    return in_float(lambda b, args: b.extreme(name, args[0], args[1]))


def _rounded(name: str) -> Row:
    return in_float(lambda b, args: b.rounded(name, args[0]))


def _nan_wins(b: Builder, args: Sequence[V], name: str) -> V:
    """The `maximum` or the `minimum` of two, or the NaN if there is one.

    Zeros of either sign are equal, as in the form that skips NaN; ordering them takes twice as long.
    """
    return b.extreme(name, args[0], args[1], flags="nsz")


def _integer(name: str) -> Row:
    return lambda b, op, args, to: b.binary(name, args[0], args[1])


def _integer_intrinsic(name: str) -> Row:
    return lambda b, op, args, to: b.intrinsic(name, to, args)


def _compare_ints(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.icmp(op.attrs["words"][0], args[0], args[1])


def _compare_floats(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.fcmp(op.attrs["words"][0], widen(b, args[0]), widen(b, args[1]))


def _divide(name: str) -> Row:
    """Integer division. Vectors divide in double, which is many times faster than one element after the other.

    A division by zero, or of the smallest number by −1, has no defined result, but must not end the process, as the
    processor's own instruction would: lanes behind a mask often hold a zero.
    """
    signed, remainder = name[0] == "s", name.endswith("rem")

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        a, d = args
        if not to.lanes or d.const is not None:
            return b.binary(name, a, _harmless(b, a, d, signed))
        divide = _divide_long if to.bits > 32 else _divide_short
        return divide(b, a, d, signed, remainder)

    return row


# Four roundings to double change a quotient by less.
_ABOVE_ONE, _BELOW_ONE = 1.0 + 2.0**-50, 1.0 - 2.0**-50


def _divide_short(b: Builder, a: V, d: V, signed: bool, remainder: bool) -> V:
    """Division of vectors of up to 32 bits, by a quotient in double that is never too small.

    A quotient |a / d| that is no integer is smaller than the next one by 1 / |d|; one that is too large by |a / d|·2⁻⁴⁹
    does not reach it for |a| < 2³². So truncation gives the integer quotient.
    """
    wide, (extend, back) = a.type.with_scalar("double"), ("sitofp", "fptosi") if signed else ("uitofp", "fptoui")
    reciprocal = b.fdiv(float_const(_ABOVE_ONE, wide), b.cast(extend, d, wide))
    whole = b.cast(back, b.binary("fmul", b.cast(extend, a, wide), reciprocal), a.type)
    return b.sub(a, b.mul(whole, d)) if remainder else whole


def _divide_long(b: Builder, a: V, d: V, signed: bool, remainder: bool) -> V:
    """Division of vectors of 64 bits, by estimates in double that are never too large.

    With n = |a| and m = |d|: an estimate e of n / m, rounded down, leaves n − e·m, which is not negative and below
    n·2⁻⁴⁹ + 2m. So a second estimate, of what the first one leaves, leaves less than 2m, and one comparison is left.
    Being too small, an estimate is below 2⁶⁴ for the largest n as well; what a division by zero gives is not defined.
    The reciprocal is the same in all trips of a loop where the divisor is.
    """
    to, wide = a.type, a.type.with_scalar("double")
    n, m = (_magnitude(b, a), _magnitude(b, d)) if signed else (a, d)
    reciprocal = b.fdiv(float_const(_BELOW_ONE, wide), b.cast("uitofp", m, wide))

    def estimate(rest: V) -> tuple[V, V]:
        product = b.binary("fmul", b.cast("uitofp", rest, wide), reciprocal)
        whole = b.cast("fptoui", product, to)
        return whole, b.sub(rest, b.mul(whole, m))

    first, rest = estimate(n)
    second, rest = estimate(rest)
    over = b.icmp("uge", rest, m)
    if remainder:
        found = b.select(over, b.sub(rest, m), rest)
        return _with_sign(b, found, a) if signed else found
    found = b.add(b.add(first, second), b.cast("zext", over, to))
    return _with_sign(b, found, b.binary("xor", a, d)) if signed else found


def _magnitude(b: Builder, value: V) -> V:
    """The absolute value as an unsigned number, which holds that of the smallest number as well."""
    return b.intrinsic("abs", value.type, [value, V(LType("i1"), "false")])


def _with_sign(b: Builder, magnitude: V, like: V) -> V:
    """The number of that magnitude with the sign that `like` has."""
    sign = b.binary("ashr", like, int_const(like.type.bits - 1, like.type))
    return b.sub(b.binary("xor", magnitude, sign), sign)


def _harmless(b: Builder, a: V, d: V, signed: bool) -> V:
    """A divisor that the processor does not trap on: 1 instead of 0, and instead of −1 where the quotient overflows."""
    if d.const not in (None, 0, -1):
        return d
    one = int_const(1, d.type)
    traps = b.icmp("eq", d, int_const(0, d.type))
    if signed:
        smallest = b.icmp("eq", a, int_const(-(1 << (a.type.bits - 1)), a.type))
        overflows = b.binary("and", smallest, b.icmp("eq", d, int_const(-1, d.type)))
        traps = b.binary("or", traps, overflows)
    return b.select(traps, one, d)


def _round_division(upward: bool) -> Row:
    """Signed division rounded to −∞ or +∞."""

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        a, d = args
        quotient, rest = (_divide(name)(b, op, args, to) for name in ("sdiv", "srem"))
        inexact = b.icmp("ne", rest, int_const(0, to))
        differ = b.icmp("slt", b.binary("xor", a, d), int_const(0, to))
        adjust = b.binary("and", inexact, b.binary("xor", differ, int_const(1, differ.type)) if upward else differ)
        return b.binary("add" if upward else "sub", quotient, b.cast("zext", adjust, to))

    return row


def _shift(name: str) -> Row:
    """Shifts by at least the width give 0 (or the sign), as on a GPU, where LLVM leaves them undefined."""

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        a, count = args
        if count.const is not None and 0 <= count.const < to.bits:
            return b.binary(name, a, count)
        limit = int_const(to.bits - 1, to)
        small = b.icmp("ule", count, limit)
        shifted = b.binary(name, a, b.select(small, count, limit))
        return shifted if name == "ashr" else b.select(small, shifted, int_const(0, to))

    return row


def _select(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    condition, *arms = args
    if to.lanes:
        # LLVM would make loads of loads under the condition, which wait until it is known: out of memory, half as fast.
        arms = [b.freeze(arm) if _is_loaded(value) else arm for value, arm in zip(op.operands[1:], arms, strict=True)]
    return b.select(condition, *arms)


def _is_loaded(value: Value) -> bool:
    """Was it read from memory, and changed in its type at most?"""
    while isinstance(value.owner, Op) and value.owner.name in conversions.ROWS:
        value = value.owner.operands[0]
    return isinstance(value.owner, Op) and value.owner.name == "load"


def _negate(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.fneg(args[0])


def _absolute_float(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.intrinsic("fabs", to, args)


def _absolute_int(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.intrinsic("abs", to, [args[0], V(LType("i1"), "false")])


def _multiply_high(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    """The upper half of an unsigned product."""
    wide = to.with_scalar(f"i{to.bits * 2}")
    product = b.mul(b.cast("zext", args[0], wide), b.cast("zext", args[1], wide))
    return b.cast("trunc", b.binary("lshr", product, const(to.bits, wide)), to)


def _clamp(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    x, minimum, maximum = (widen(b, arg) for arg in args)
    if op.attrs.get("propagateNan") == "all":
        clamped = _nan_wins(b, [_nan_wins(b, [x, minimum], "maximum"), maximum], "minimum")
    else:
        clamped = b.extreme("minnum", b.extreme("maxnum", x, minimum), maximum)
    return conversions.convert_float(b, clamped, to)


def _extern(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    symbol = op.attrs.get("symbol", "")
    name = symbol.removeprefix("tessera_")
    if not symbol.startswith("tessera_") or name not in FUNCTIONS:
        raise fail(
            f"the external function {symbol!r} is not known on the CPU; use tl.math or tl.extra.libdevice", op.location
        )
    return FUNCTIONS[name](b, args)


def _poison(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return V(to, "zeroinitializer" if to.lanes or to.scalar == "ptr" else ("0.0" if to.is_float else "0"))


def _maths(name: str) -> Row:
    return in_float(FUNCTIONS[name])


def _sqrt(b: Builder, args: Sequence[V]) -> V:
    return b.intrinsic("sqrt", args[0].type, args)


def _rsqrt(b: Builder, args: Sequence[V]) -> V:
    return b.fdiv(float_const(1.0, args[0].type), _sqrt(b, args))


def _count(name: str) -> Row:
    return lambda b, op, args, to: b.intrinsic(name, to, [args[0], V(LType("i1"), "false")])


ROWS: dict[str, Row] = {
    "addi": _integer("add"), "subi": _integer("sub"), "muli": _integer("mul"),
    "andi": _integer("and"), "ori": _integer("or"), "xori": _integer("xor"),
    "divsi": _divide("sdiv"), "divui": _divide("udiv"), "remsi": _divide("srem"), "remui": _divide("urem"),
    "ceildivsi": _round_division(True), "floordivsi": _round_division(False),
    "shli": _shift("shl"), "shrsi": _shift("ashr"), "shrui": _shift("lshr"),
    "minsi": _integer_intrinsic("smin"), "maxsi": _integer_intrinsic("smax"),
    "minui": _integer_intrinsic("umin"), "maxui": _integer_intrinsic("umax"),
    "mulhiui": _multiply_high, "absi": _absolute_int,
    "ctpop": _integer_intrinsic("ctpop"), "ctlz": _count("ctlz"), "cttz": _count("cttz"),
    "cmpi": _compare_ints, "cmpf": _compare_floats, "select": _select,
    "addf": _float_binary("fadd", True), "subf": _float_binary("fsub", True), "mulf": _float_binary("fmul", True),
    "divf": _float_binary("fdiv", False), "precise_divf": _float_binary("fdiv", False),
    "remf": _maths("fmod"), "negf": _negate, "absf": _absolute_float, "fma": _intrinsic("fma"), "clampf": _clamp,
    "maxnumf": _extreme("maxnum"), "minnumf": _extreme("minnum"),
    "maximumf": in_float(lambda b, args: _nan_wins(b, args, "maximum")),
    "minimumf": in_float(lambda b, args: _nan_wins(b, args, "minimum")),
    "floor": _rounded("floor"), "ceil": _rounded("ceil"), "trunc": _rounded("trunc"),
    "roundeven": _rounded("roundeven"), "round": _rounded("round"), "copysign": _intrinsic("copysign"),
    "sqrt": in_float(_sqrt), "precise_sqrt": in_float(_sqrt), "rsqrt": in_float(_rsqrt),
    "powf": _maths("pow"),
    **{name: _maths(name) for name in (
        "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh", "erf", "atan2")},
    "extern_elementwise": _extern, "poison": _poison,
    **conversions.ROWS,
}  # fmt: skip
