"""Arithmetic and conversions rounded down, up and towards zero.

Chips have no instruction for them that all share, so the result to nearest is moved to its neighbour where it lies on
the wrong side: the sign of what rounding lost decides, and that is found exactly (ErrFmaNearest of S. Boldo and
J.-M. Muller, "Exact and Approximated Error of the FMA", IEEE Transactions on Computers 60(2), 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.llvm.mathlib.bits import ldexp
from tessera.compiler.llvm.mathlib.conversion import INTEGERS
from tessera.compiler.llvm.mathlib.division import exponent_of
from tessera.compiler.llvm.mathlib.number import Num, product, two_sum

Function = Callable[..., Num]
# So many binary orders below what is summed a number matters by its sign alone.
_FAR = 300


@dataclass(frozen=True)
class Direction:
    """Where results go: `d`own, `u`p or to `z`ero, the letters that CUDA's names end with."""

    letter: str

    def settle(self, nearest: Num, lost: Num) -> Num:
        """The result in this direction, from the one to nearest and a double with the sign of exact - nearest; NaN
        where nothing was lost that has a sign."""
        raw = nearest.bits()
        negative = nearest.is_negative()
        if self.letter == "z":
            wrong = (negative & (lost > 0.0)) | (negative.negated() & (lost < 0.0))
            moved = raw - 1
        elif self.letter == "u":
            wrong, moved = lost > 0.0, negative.pick(raw - 1, raw + 1)
        else:
            wrong, moved = lost < 0.0, negative.pick(raw + 1, raw - 1)
        return wrong.pick(moved, raw).as_float()

    def sum_of(self, nearest: Num, lost: Num, *signs: Num) -> Num:
        """`settle` for a sum of two terms: zero is negative if rounded down, unless both are positive."""
        settled = self.settle(nearest, lost)
        if self.letter != "d":
            return settled
        positive = (signs[0].is_negative() | signs[1].is_negative()).negated()
        cancelled = settled.equals(0.0) & lost.equals(0.0) & positive.negated()
        return cancelled.pick(-settled.abs(), settled)


def _lost_by_fma(a: Num, b: Num, c: Num, nearest: Num) -> Num:
    """A double with the sign of a·b + c - nearest; NaN or 0 for operands that are not finite."""
    if a.scalar == "float":
        return _lost(*(x.cast("fpext", "double") for x in (a, b, c, nearest)))
    a, a_order = _normal(a)
    b, b_order = _normal(b)
    small, c_order = _normal(c)
    order = a_order + b_order
    # A factor or a term of 0 has no order of its own.
    order = (a.equals(0.0) | b.equals(0.0)).pick(c_order, order)
    c_order = c.equals(0.0).pick(order, c_order)
    top = order.call("smax", c_order)
    b = ldexp(b, (order - top).at_least_int(-_FAR))
    small = ldexp(small, (c_order - top).at_least_int(-_FAR))
    return _lost(a, b, small, ldexp(nearest, -top))


def _normal(x: Num) -> tuple[Num, Num]:
    """A finite double as one in ±[1, 2), or 0, and the power of two that it was divided by, as i32."""
    order = exponent_of(x.abs()).to_int("i32")
    return ldexp(x, -order), order


def _lost(a: Num, b: Num, c: Num, nearest: Num) -> Num:
    """The sign of a·b + c - nearest, for doubles whose product neither overflows nor loses bits to underflow."""
    high, low = product(a, b)
    tail, rest = two_sum(c, low)
    head, middle = two_sum(high, tail)
    return ((head - nearest) + middle) + rest


def _fma(direction: Direction) -> Function:
    def fma(x: Num, y: Num, z: Num) -> Num:
        nearest = x.fma(y, z)
        sign = (x.bits() ^ y.bits()).as_float()
        return direction.sum_of(nearest, _lost_by_fma(x, y, z, nearest), sign, z)

    return fma


def _add(direction: Direction) -> Function:
    def add(x: Num, y: Num) -> Num:
        return direction.sum_of(x + y, _lost_by_fma(x, x.of(1.0), y, x + y), x, y)

    return add


def _subtract(direction: Direction) -> Function:
    return lambda x, y: _add(direction)(x, -y)


def _multiply(direction: Direction) -> Function:
    return lambda x, y: direction.settle(x * y, _lost_by_fma(x, y, x.of(0.0), x * y))


def _divide(direction: Direction) -> Function:
    def divide(x: Num, y: Num) -> Num:
        nearest = x / y
        if x.scalar == "float":
            above, below, quotient = (v.cast("fpext", "double") for v in (x, y, nearest))
        else:
            (above, x_order), (below, y_order) = _normal(x), _normal(y)
            quotient = ldexp(nearest, y_order - x_order)
        rest = (-quotient).fma(below, above)
        return direction.settle(nearest, below.is_negative().pick(-rest, rest))

    return divide


def _reciprocal(direction: Direction) -> Function:
    return lambda x: _divide(direction)(x.of(1.0), x)


def _sqrt(direction: Direction) -> Function:
    def sqrt(x: Num) -> Num:
        nearest = x.call("sqrt")
        if x.scalar == "float":
            square, root = x.cast("fpext", "double"), nearest.cast("fpext", "double")
        else:
            half = exponent_of(x.abs()).to_int("i32") >> 1
            square, root = ldexp(x, -(half + half)), ldexp(nearest, -half)
        return direction.settle(nearest, (-root).fma(root, square))

    return sqrt


def _narrow(direction: Direction) -> Function:
    def convert(x: Num) -> Num:
        nearest = x.cast("fptrunc", "float")
        return direction.settle(nearest, x - nearest.cast("fpext", "double"))

    return convert


def _from_integer(direction: Direction, scalar: str, signed: bool) -> Function:
    convert = "sitofp" if signed else "uitofp"

    def from_integer(x: Num) -> Num:
        nearest = x.cast(convert, scalar)
        wide = nearest if scalar == "double" else nearest.cast("fpext", "double")
        if x.type.bits == 32:
            return direction.settle(nearest, x.cast(convert, "double") - wide)
        high = (x >> 32 if signed else x.logical_shift_right(32)).cast(convert, "double")
        low = (x & 0xFFFFFFFF).cast("uitofp", "double")
        return direction.settle(nearest, (high * 2.0**32 - wide) + low)

    return from_integer


def rcp64h(x: Num) -> Num:
    """1/x of a double to the upper half of its bits, denormals taken for zeros."""
    tiny = 2.0**-1022
    flushed = (x.abs() < tiny).pick(x.of(0.0).with_sign_of(x), x)
    upper = ((1.0 / flushed).bits() & -(1 << 32)).as_float()
    return (upper.abs() < tiny).pick(upper.of(0.0).with_sign_of(upper), upper)


def functions() -> dict[str, Function]:
    """Every function by its name, such as `add_rz`."""
    families = {
        "fma": _fma, "add": _add, "sub": _subtract, "mul": _multiply, "div": _divide, "rcp": _reciprocal,
        "sqrt": _sqrt, "double2float": _narrow,
    }  # fmt: skip
    table: dict[str, Function] = {"rcp64h": rcp64h}
    for direction in (Direction("d"), Direction("u"), Direction("z")):
        table |= {f"{name}_r{direction.letter}": family(direction) for name, family in families.items()}
        for name, (integer, signed) in INTEGERS.items():
            # A double holds every integer of 32 bits.
            for kind in ("float", "double") if integer == "i64" else ("float",):
                table[f"{name}2{kind}_r{direction.letter}"] = _from_integer(direction, kind, signed)
    return table
