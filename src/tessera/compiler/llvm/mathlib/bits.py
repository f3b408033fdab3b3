"""Signs, neighbours and exponents of floating numbers, and integers seen as bits."""

from __future__ import annotations

import math

from tessera.compiler.llvm.builder import I1, V
from tessera.compiler.llvm.mathlib.division import exponent_of
from tessera.compiler.llvm.mathlib.number import Num, in_double

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1


def absolute(x: Num) -> Num:
    """|x| of a float or a signed integer; the most negative integer stays."""
    if x.type.is_float:
        return x.abs()
    return Num(x.b, x.b.intrinsic("abs", x.type, [x.v, V(I1, "false")]))


def isnan(x: Num) -> Num:
    return x.is_nan()


def isinf(x: Num) -> Num:
    return x.abs().equals(math.inf)


def isfinite(x: Num) -> Num:
    return x.abs() < math.inf


def signbit(x: Num) -> Num:
    """1 where the sign bit is set, as i32."""
    return x.is_negative().cast("zext", "i32")


def copysign(x: Num, y: Num) -> Num:
    return x.with_sign_of(y)


def fma(x: Num, y: Num, z: Num) -> Num:
    return x.fma(y, z)


def add(x: Num, y: Num) -> Num:
    return x + y


def subtract(x: Num, y: Num) -> Num:
    return x - y


def multiply(x: Num, y: Num) -> Num:
    return x * y


def divide(x: Num, y: Num) -> Num:
    return x / y


def reciprocal(x: Num) -> Num:
    return 1.0 / x


def fdim(x: Num, y: Num) -> Num:
    """x - y where that is positive, else 0; NaN if either is."""
    return (x <= y).pick(x.of(0.0), x - y)


def saturate(x: Num) -> Num:
    """x limited to [0, 1]; NaN gives 0."""
    return x.call("maxnum", 0.0).call("minnum", 1.0)


def nextafter(x: Num, y: Num) -> Num:
    """The neighbour of x in the direction of y."""
    raw = x.bits()
    away = (x < y) ^ x.is_negative()
    stepped = away.pick(raw + 1, raw - 1).as_float()
    smallest = raw.of(1).as_float().with_sign_of(y)
    moved = x.equals(0.0).pick(smallest, stepped)
    return x.compare("uno", y).pick(x + y, x.equals(y).pick(y, moved))


def ldexp(x: Num, n: Num) -> Num:
    """x·2^n for any i32 n, rounded once."""
    wide = x.cast("fpext", "double")
    # Two steps bring n into the range of exponents; 2^-969 leaves the rounding of a denormal to the last product.
    for _ in range(2):
        low, high = n < -1022, n > 1023
        wide = low.pick(wide * 2.0**-969, high.pick(wide * 2.0**1023, wide))
        n = low.pick(n + 969, high.pick(n - 1023, n))
    n = n.at_least_int(-1022).at_most_int(1023)
    factor = ((n + 1023).to_int("i64") << 52).as_float()
    return (wide * factor).cast("fptrunc", x.scalar)


def ilogb(x: Num) -> Num:
    """The exponent of x as i32; 0 and NaN give the smallest integer, infinity the largest."""
    size = x.cast("fpext", "double").abs()
    exponent = exponent_of(size).to_int("i32")
    border = size.equals(math.inf).pick(exponent.of(_INT32_MAX), _INT32_MIN)
    return ((size > 0.0) & (size < math.inf)).pick(exponent, border)


@in_double
def logb(x: Num) -> Num:
    """The exponent of x as a floating number; 0 gives -inf."""
    size = x.abs()
    exponent = exponent_of(size).to_int("i32").cast("sitofp", "double")
    return (size < math.inf).pick(size.equals(0.0).pick(size.of(-math.inf), exponent), size)


# Integers --------------------------------------------------------------------------------------------------------


def _count(x: Num, intrinsic: str) -> Num:
    """Leading or trailing zeros; the width for 0."""
    return Num(x.b, x.b.intrinsic(intrinsic, x.type, [x.v, V(I1, "false")]))


def clz(x: Num) -> Num:
    return _count(x, "ctlz").to_int("i32")


def popc(x: Num) -> Num:
    return x.call("ctpop").to_int("i32")


def ffs(x: Num) -> Num:
    """The place of the lowest set bit, counted from 1; 0 for 0."""
    return x.equals(0).pick(x.of(0), _count(x, "cttz") + 1).to_int("i32")


def brev(x: Num) -> Num:
    return x.call("bitreverse")


def _multiply_high(x: Num, y: Num, extend: str) -> Num:
    bits = x.type.bits
    product = x.cast(extend, f"i{2 * bits}") * y.cast(extend, f"i{2 * bits}")
    return product.logical_shift_right(bits).cast("trunc", x.scalar)


def mulhi(x: Num, y: Num) -> Num:
    """The upper half of a signed product."""
    return _multiply_high(x, y, "sext")


def umulhi(x: Num, y: Num) -> Num:
    return _multiply_high(x, y, "zext")


def mul24(x: Num, y: Num) -> Num:
    """The lower 32 bits of the product of two signed 24-bit integers."""
    return ((x << 8) >> 8) * ((y << 8) >> 8)


def umul24(x: Num, y: Num) -> Num:
    return (x & 0xFFFFFF) * (y & 0xFFFFFF)


def sad(x: Num, y: Num, z: Num) -> Num:
    """|x - y| + z of signed integers, modulo 2^32."""
    return x.call("smax", y) - x.call("smin", y) + z


def usad(x: Num, y: Num, z: Num) -> Num:
    return x.call("umax", y) - x.call("umin", y) + z


def hadd(x: Num, y: Num) -> Num:
    """⌊(x + y)/2⌋ without overflow."""
    return (x & y) + ((x ^ y) >> 1)


def uhadd(x: Num, y: Num) -> Num:
    return (x & y) + (x ^ y).logical_shift_right(1)


def rhadd(x: Num, y: Num) -> Num:
    """⌈(x + y)/2⌉ without overflow."""
    return (x | y) - ((x ^ y) >> 1)


def urhadd(x: Num, y: Num) -> Num:
    return (x | y) - (x ^ y).logical_shift_right(1)


def byte_perm(x: Num, y: Num, selector: Num) -> Num:
    """Four bytes picked from the eight of y‖x by the low three bits of each of the selector's four low digits."""
    pool = y.cast("zext", "i64") << 32 | x.cast("zext", "i64")
    digits = selector.cast("zext", "i64")
    result = pool.of(0)
    for place in range(4):
        shift = (digits.logical_shift_right(4 * place) & 7) << 3
        result = result | (pool.logical_shift_right(shift) & 0xFF) << (8 * place)
    return result.to_int("i32")
