"""Scalar functions of orthogonal polynomials, by their recurrences and, for high degrees, as angles.

In:  x, and the degree n of its type, whose whole part counts; computed in that type, angles in float64. Out: 0 for
     n < 0.
Chebyshev: p' = 2x·q - p, from 1 and x (first kind), 2x (second), 2x - 1 (third), 2x + 1 (fourth). With x = cos φ they
    are cos nφ, sin (n + 1)φ / sin φ, cos (n + ½)φ / cos ½φ and sin (n + ½)φ / sin ½φ. Shifted: of 2x - 1
Hermite:   p' = 2x·q - 2k·p from 1 and 2x (physicists'); p' = x·q - k·p from 1 and x (probabilists')
Laguerre:  p' = ((2k + 1 - x)·q - k·p) / (k + 1) from 1 and 1 - x
Legendre:  p' = ((2k + 1)·x·q - k·p) / (k + 1) from 1 and x
Degrees above 2^20 give NaN where a recurrence would be walked so far, so that no call takes for ever.
Source: torch.special.chebyshev_polynomial_t and its like; Abramowitz and Stegun, Handbook of Mathematical Functions,
22.3 and 22.7.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

from tessera.ops.functions_gamma import some

CHEBYSHEV, PHYSICISTS, PROBABILISTS, LAGUERRE, LEGENDRE = (tl.constexpr(kind) for kind in range(5))
# Degrees beyond which a Chebyshev polynomial inside (-1, 1) is taken as an angle, and beyond which Hermite's overflow.
HIGH = tl.constexpr(8)
HIGHEST_HERMITE = tl.constexpr(512)
HIGHEST = tl.constexpr(1 << 20)


@triton.jit
def degree_of(n):
    """The whole part; what no int64 holds is below 0, as a conversion on the CPU has it."""
    whole = libdevice.trunc(n)
    return tl.where(tl.abs(whole) < 9.2e18, whole, -1.0)


@triton.jit
def member(x, n, first, wanted, KIND: tl.constexpr):
    """Number n of a sequence that begins with 1 and `first`, where it is `wanted`; it ends at what is no number."""
    p = tl.zeros_like(first) + 1.0
    q = first
    found = tl.where(n == 0, p, tl.where(n > HIGHEST, float("nan"), first))
    going = wanted & (n > 1) & (n <= HIGHEST)
    k = tl.zeros([], x.dtype) + 1.0
    while some(going):
        if KIND == CHEBYSHEV:
            r = (x + x) * q - p
        elif KIND == PHYSICISTS:
            r = (x + x) * q - 2.0 * k * p
        elif KIND == PROBABILISTS:
            r = x * q - k * p
        elif KIND == LAGUERRE:
            r = ((k + k + 1.0 - x) * q - k * p) / (k + 1.0)
        else:
            r = ((k + k + 1.0) * x * q - k * p) / (k + 1.0)
        found = tl.where(going, r, found)
        p = q
        q = r
        k += 1.0
        going = going & (k < n) & (r == r)
    return tl.where(n < 0, 0.0, found)


@triton.jit
def high_degree(x, n, NTH: tl.constexpr):
    """The nth kind inside (-1, 1), as an angle, of which n is a multiple that few bits could not hold."""
    x, n = x.to(tl.float64), n.to(tl.float64)
    angle = libdevice.acos(x)
    if NTH == 1:
        found = libdevice.cos(n * angle)
    elif NTH == 2:
        found = libdevice.sin((n + 1.0) * angle) / libdevice.sin(angle)
    elif NTH == 3:
        found = libdevice.cos((n + 0.5) * angle) / libdevice.cos(angle * 0.5)
    else:
        found = libdevice.sin((n + 0.5) * angle) / libdevice.sin(angle * 0.5)
    return found


@triton.jit
def chebyshev(x, n, first, at_end, NTH: tl.constexpr):
    """The nth kind, of which number 1 is `first`; `at_end` where x is 1 or -1."""
    inside = (n > HIGH) & (tl.abs(x) < 1.0)
    end = tl.abs(x) == 1.0
    found = tl.where(end, at_end, member(x, n, first, (inside | end) == 0, CHEBYSHEV))
    # Angles take long: a branch leaves them out where no element of a block needs one.
    if some(inside):
        found = tl.where(inside, high_degree(x, n, NTH).to(x.dtype), found)
    return tl.where(n < 0, 0.0, found)


@triton.jit
def sign_at(x, n):
    """1 at x = 1 and for even n, else -1."""
    even = tl.floor(n * 0.5) * 2.0 == n
    return tl.where((x > 0) | even, 1.0, -1.0).to(x.dtype)


@triton.jit
def first_kind(x, n):
    return chebyshev(x, n, x, sign_at(x, n), 1)


@triton.jit
def second_kind(x, n):
    return chebyshev(x, n, x + x, sign_at(x, n) * (n + 1.0), 2)


@triton.jit
def third_kind(x, n):
    return chebyshev(x, n, x + x - 1.0, tl.where(x > 0, 1.0, sign_at(x, n) * (n + n + 1.0)), 3)


@triton.jit
def fourth_kind(x, n):
    return chebyshev(x, n, x + x + 1.0, tl.where(x > 0, n + n + 1.0, sign_at(x, n)), 4)


@triton.jit
def special_chebyshev_polynomial_t(x, n):
    """T_n(x)."""
    return first_kind(x, degree_of(n))


@triton.jit
def special_chebyshev_polynomial_u(x, n):
    """U_n(x)."""
    return second_kind(x, degree_of(n))


@triton.jit
def special_chebyshev_polynomial_v(x, n):
    """V_n(x)."""
    return third_kind(x, degree_of(n))


@triton.jit
def special_chebyshev_polynomial_w(x, n):
    """W_n(x)."""
    return fourth_kind(x, degree_of(n))


@triton.jit
def special_shifted_chebyshev_polynomial_t(x, n):
    """T_n(2x - 1)."""
    return first_kind(x * 2.0 - 1.0, degree_of(n))


@triton.jit
def special_shifted_chebyshev_polynomial_u(x, n):
    """U_n(2x - 1)."""
    return second_kind(x * 2.0 - 1.0, degree_of(n))


@triton.jit
def special_shifted_chebyshev_polynomial_v(x, n):
    """V_n(2x - 1)."""
    return third_kind(x * 2.0 - 1.0, degree_of(n))


@triton.jit
def special_shifted_chebyshev_polynomial_w(x, n):
    """W_n(2x - 1)."""
    return fourth_kind(x * 2.0 - 1.0, degree_of(n))


@triton.jit
def special_hermite_polynomial_h(x, n):
    """H_n(x), the physicists'."""
    degree = degree_of(n)
    found = member(x, degree, x + x, degree <= HIGHEST_HERMITE, PHYSICISTS)
    return tl.where(degree > HIGHEST_HERMITE, float("nan"), found)


@triton.jit
def special_hermite_polynomial_he(x, n):
    """He_n(x), the probabilists'."""
    degree = degree_of(n)
    found = member(x, degree, x, degree <= HIGHEST_HERMITE, PROBABILISTS)
    return tl.where(degree > HIGHEST_HERMITE, float("nan"), found)


@triton.jit
def special_laguerre_polynomial_l(x, n):
    """L_n(x)."""
    return member(x, degree_of(n), 1.0 - x, x == x, LAGUERRE)


@triton.jit
def special_legendre_polynomial_p(x, n):
    """P_n(x)."""
    return member(x, degree_of(n), x, x == x, LEGENDRE)
