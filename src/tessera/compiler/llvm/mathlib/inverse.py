"""asin, acos, atan, atan2: an odd polynomial on part of the range, the rest by symmetry."""

from __future__ import annotations

import math

from tessera.compiler.llvm.mathlib.number import Num, horner

_hex = float.fromhex
# π/2 in two parts.
HALF_PI = {
    "float": (_hex("0x1.921fb6p+0"), _hex("-0x1.777a5cp-25")),
    "double": (_hex("0x1.921fb54442d18p+0"), _hex("0x1.1a62633145c07p-54")),
}
# (atan(t) - t)/t³ in t², relative to atan(t) on [0, 1].
ATAN_TAIL = {
    # 2^-28.5
    "float": (
        -0.33333298563957214,
        0.1999853104352951,
        -0.14264053106307983,
        0.10951163619756699,
        -0.08400335907936096,
        0.057901930063962936,
        -0.031120067462325096,
        0.010882406495511532,
        -0.0017861784435808659,
    ),
    # 2^-56.9
    "double": (
        -0.33333333333333287,
        0.19999999999990592,
        -0.1428571428504251,
        0.11111111086572903,
        -0.09090908548856098,
        0.076922997246335,
        -0.06666583786626129,
        0.05881716307798515,
        -0.052594334922827855,
        0.04744921689565558,
        -0.0428636965478306,
        0.03820940916365617,
        -0.032783977630356016,
        0.02614926098247435,
        -0.018611176859152506,
        0.011314779062916553,
        -0.005610353384601216,
        0.002150546075680323,
        -0.0005925282900681536,
        0.00010379366412803951,
        -8.64646360119849e-06,
    ),
}
# Above the split π/2 - asin(x) is under 1, which keeps the rounding of the difference small.
# (asin(t) - t)/t³ in t², relative to asin(t) on [0, 0.57].
ASIN_SPLIT = 0.5625
ASIN_TAIL = {
    # 2^-32.6
    "float": (
        0.16666670143604279,
        0.07499723881483078,
        0.044715967029333115,
        0.029477465897798538,
        0.0282269474118948,
        -0.0026215738616883755,
        0.04570651054382324,
    ),
    # 2^-57.8
    "double": (
        0.16666666666666316,
        0.07500000000098647,
        0.04464285704569738,
        0.03038194927434832,
        0.022372017047044383,
        0.01735545987557429,
        0.013930099453382722,
        0.011865269055689107,
        0.007753396974390751,
        0.01753003674419033,
        -0.02178746923490697,
        0.06880851200632519,
        -0.07695762379330492,
        0.05991632801438795,
    ),
}


def _atan_of_ratio(low: Num, high: Num) -> Num:
    """atan(low/high), 0 ≤ low ≤ high."""
    t = low / high
    square = t * t
    return (t * square).fma(horner(square, ATAN_TAIL[t.scalar]), t)


def _from_half_pi(multiple: float, angle: Num) -> Num:
    """multiple·π/2 - angle."""
    first, second = HALF_PI[angle.scalar]
    return (multiple * second - angle) + multiple * first


def atan(x: Num) -> Num:
    size = x.abs()
    steep = size > 1.0
    angle = _atan_of_ratio(steep.pick(size.of(1.0), size), steep.pick(size, 1.0))
    return steep.pick(_from_half_pi(1.0, angle), angle).with_sign_of(x)


def atan2(y: Num, x: Num) -> Num:
    """The angle of the point (x, y), in [-π, π]; signed zeros and infinities as IEEE 754 has them."""
    rise, run = y.abs(), x.abs()
    steep = rise > run
    low, high = steep.pick(run, rise), steep.pick(rise, run)
    angle = _atan_of_ratio(low, high)
    angle = low.equals(0.0).pick(angle.of(0.0), low.equals(math.inf).pick(angle.of(math.pi / 4), angle))
    angle = steep.pick(_from_half_pi(1.0, angle), angle)
    angle = x.is_negative().pick(_from_half_pi(2.0, angle), angle).with_sign_of(y)
    return x.compare("uno", y).pick(x + y, angle)


def _asin_parts(size: Num) -> tuple[Num, Num, Num]:
    """(far, t, asin t): t is |x|, or √((1 - |x|)/2) where |x| > 0.5625, with asin|x| = π/2 - 2·asin t."""
    far = size > ASIN_SPLIT
    square = far.pick((1.0 - size) * 0.5, size * size)
    t = far.pick(square.call("sqrt"), size)
    return far, t, (t * square).fma(horner(square, ASIN_TAIL[size.scalar]), t)


def asin(x: Num) -> Num:
    far, _, angle = _asin_parts(x.abs())
    return far.pick(_from_half_pi(1.0, angle + angle), angle).with_sign_of(x)


def acos(x: Num) -> Num:
    far, _, angle = _asin_parts(x.abs())
    double = angle + angle
    negative = x < 0.0
    near = _from_half_pi(1.0, angle.with_sign_of(x))
    return far.pick(negative.pick(_from_half_pi(2.0, double), double), near)
