"""Bessel functions of any order n ≥ 0, from those of orders 0 and 1, by J(k+1) = (2k/x)·J(k) − J(k−1) and likewise Y.

Upwards, Y's recurrence is stable for every order and J's for n ≤ x. Beyond, J comes from far above n downwards, up to a
factor that J(0) + 2·(J(2) + J(4) + …) = 1 gives (J. C. P. Miller).

Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 9.1.27, 9.1.46 and 9.12.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

from tessera.compiler.llvm.mathlib.bessel import j0, j1, y0, y1
from tessera.compiler.llvm.mathlib.bits import ldexp
from tessera.compiler.llvm.mathlib.number import Num, while_any

# So far above n, in √n, J has lost some twenty digits. Below a size no order but 2 differs from 0.
_ABOVE, _TINY = 20.0, 1e-150
# What grows beyond 2^300 is scaled by 2^-600: a step's factor is at most 2^31 / _TINY = 2^530.
_LARGE, _SCALE = 2.0**300, -600


def _in_double(function: Callable[[Num, Num], Num]) -> Callable[[Num, Num], Num]:
    """Of an order as i32 and a float or double; NaN for an order below 0."""

    @functools.wraps(function)
    def widened(n: Num, x: Num) -> Num:
        wide = x if x.scalar == "double" else x.cast("fpext", "double")
        value = (n < 0).pick(wide.of(math.nan), function(n.cast("sitofp", "double"), wide))
        return value if x.scalar == "double" else value.cast("fptrunc", "float")

    return widened


def _upwards(order: Num, size: Num, zeroth: Num, first: Num) -> Num:
    """The recurrence from orders 0 and 1 on."""

    def step(k: Num, before: Num, now: Num) -> Sequence[Num]:
        following = (k + k) / size * now - before
        # -inf stays: the next difference would be NaN.
        goes_on = (k < order) & now.equals(-math.inf).negated()
        return [k + 1.0, goes_on.pick(now, before), goes_on.pick(following, now)]

    found = while_any(lambda k, *_: k < order, step, [size.of(1.0), zeroth, first])[2]
    return order.equals(0.0).pick(zeroth, found)


def _downwards(order: Num, size: Num) -> Num:
    """J for order > size ≥ _TINY; of no account elsewhere, where `order` is to be 0."""
    start = 2.0 * ((order + _ABOVE * order.call("sqrt")) * 0.5).call("floor")

    def step(k: Num, *state: Num) -> Sequence[Num]:
        above, now, total, found, scalings = state
        below = (k + k) / size * now - above
        here = k.equals(order)
        found, scalings = here.pick(now, found), here.pick(nothing, scalings)
        half = (k - 1.0) * 0.5
        total = half.call("floor").equals(half).pick(total + below, total)
        large = below.abs() > _LARGE
        scaled = [large.pick(value * 2.0**_SCALE, value) for value in (now, below, total)]
        after = [*scaled, found, large.pick(scalings + 1.0, scalings)]
        return [k - 1.0, *((k > 0.0).pick(value, kept) for value, kept in zip(after, state, strict=True))]

    nothing, one = size.of(0.0), size.of(1.0)
    first = [start, nothing, one, one, one, nothing]
    _, _, zeroth, total, found, scalings = while_any(lambda k, *_: k > 0.0, step, first)
    return ldexp(found / (total + total - zeroth), (scalings * float(_SCALE)).cast("fptosi", "i32"))


@_in_double
def jn(n: Num, x: Num) -> Num:
    size = x.abs()
    beyond = (n > size) & (n > 1.0)
    direct = _upwards(beyond.pick(n.of(0.0), n), size, j0(size), j1(size))
    indirect = _downwards((beyond & (size >= _TINY)).pick(n, 0.0), size.at_least(_TINY))
    tiny = n.equals(2.0).pick(size * size * 0.125, 0.0)
    value = beyond.pick((size < _TINY).pick(tiny, indirect), direct)
    half = n * 0.5
    odd = half.call("floor").equals(half).negated()
    value = (odd & x.is_negative()).pick(-value, value)
    return x.is_nan().pick(x, value)


@_in_double
def yn(n: Num, x: Num) -> Num:
    return _upwards(n, x, y0(x), y1(x))
