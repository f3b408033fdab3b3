"""fmod and remainder, exact for any operands; rounding to integers; the parts of a floating number."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.number import Num, in_double, while_any

# Bits of quotient that one step of the division takes off; a double's quotient is a whole number up to 53.
_STEP_BITS = 50
# The two factors of 2^shift must both be normal numbers. The longest distance, 2097, leaves a quotient of 53 bits.
_LARGEST_SHIFT = 2045


def exponent_of(x: Num) -> Num:
    """floor(log2 x) of a double x > 0, also of a denormal, as i64."""
    denormal = x < 2.0**-1022
    raw = denormal.pick(x * 2.0**54, x).bits().logical_shift_right(52)
    return denormal.pick(raw - (1023 + 54), raw - 1023)


def _modulo(x: Num, y: Num) -> Num:
    """x mod y of doubles 0 ≤ x < inf, 0 < y: subtracts y·2^k times a quotient until less than y is left."""
    y_exponent = exponent_of(y)

    def step(rest: Num) -> list[Num]:
        shift = (exponent_of(rest) - y_exponent - _STEP_BITS).at_least_int(0).at_most_int(_LARGEST_SHIFT)
        # Two factors, as 2^shift itself may be out of range.
        half = shift.logical_shift_right(1)
        factors = [((part + 1023) << 52).as_float() for part in (half, shift - half)]
        divisor = y * factors[0] * factors[1]
        quotient = (rest / divisor).call("trunc")
        less = (-quotient).fma(divisor, rest)
        less = (less < 0.0).pick(less + divisor, less)
        return [(rest < y).pick(rest, less)]

    return while_any(lambda rest: rest >= y, step, [x])[0]


def _valid(x: Num, y: Num) -> Num:
    return (x < math.inf) & (y > 0.0)


@in_double
def fmod(x: Num, y: Num) -> Num:
    """x - y·trunc(x/y) exactly, with the sign of x; NaN for x infinite or y = 0."""
    size, divisor = x.abs(), y.abs()
    valid = _valid(size, divisor)
    rest = _modulo(valid.pick(size, 0.0), valid.pick(divisor, 1.0))
    return valid.pick(rest, math.nan).with_sign_of(x)


@in_double
def remainder(x: Num, y: Num) -> Num:
    """x - y·n exactly, with n the nearest integer to x/y, ties to even; NaN for x infinite or y = 0."""
    size, divisor = x.abs(), y.abs()
    valid = _valid(size, divisor)
    double = divisor + divisor
    rest = _modulo(valid.pick(size, 0.0), valid.pick(double, 1.0))
    over = (rest + rest) > divisor
    once = rest - divisor
    twice = ((once + once) >= divisor).pick(once - divisor, once)
    rest = over.pick(twice, rest)
    signed = (rest.bits() ^ (x.bits() & -(1 << 63))).as_float()
    return valid.pick(signed, math.nan)
