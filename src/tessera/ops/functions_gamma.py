"""Scalar functions around the logarithm of the gamma function: its derivatives, and the zeta function.

In:  floating values. Out: one of their type, computed in float64, because recurrences cancel, but trigamma.
digamma:  ψ(x) = ψ(x + 1) - 1/x up to 10, there ln x - 1/2x - Σ_k B_2k / (2k x^2k); below 0 ψ(1 - x) - π / tan(πx)
trigamma: ψ'(x) = ψ'(x + 1) + 1/x² six times, there the same series' derivative; below 1/2 π² / sin²(πx) - ψ'(1 - x)
zeta:     ζ(s, q) = Σ_{k≥0} (q + k)^-s
polygamma: ψ^(n)(x) = (-1)^(n + 1) n! ζ(n + 1, x)
mvlgamma: log Γ_p(x) = p (p - 1) / 4 · log π + Σ_{j<p} log Γ(x - j / 2), in the type of x
Source: torch.digamma, torch.polygamma, torch.mvlgamma, torch.special.zeta; Abramowitz and Stegun, Handbook of
Mathematical Functions, 6.3, 6.4 and 23.1.30.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language.extra import libdevice

PI = tl.constexpr(3.141592653589793)


@triton.jit
def digamma(x):
    """ψ(x), the derivative of log Γ(x)."""
    given = x.to(tl.float64)
    y = tl.where(given < 0, 1.0 - given, given)
    total = tl.zeros_like(y)
    for _ in tl.static_range(10):
        small = y < 10.0
        total -= tl.where(small, 1.0 / tl.where(small, y, 1.0), 0.0)
        y += tl.where(small, 1.0, 0.0)
    z = 1.0 / (y * y)
    series = ((1.0 / 12.0 * z - 691.0 / 32760.0) * z + 1.0 / 132.0) * z - 1.0 / 240.0
    series = (((series * z + 1.0 / 252.0) * z - 1.0 / 120.0) * z + 1.0 / 12.0) * z
    found = tl.log(y) - 0.5 / y - series + total
    whole = libdevice.trunc(given)
    mirrored = found - PI / libdevice.tan(PI * (given - whole))
    below = tl.where(given == whole, float("nan"), mirrored)
    pole = -libdevice.copysign(tl.zeros_like(y) + float("inf"), given)
    return tl.where(given == 0, pole, tl.where(given < 0, below, found)).to(x.dtype)


@triton.jit
def trigamma(x):
    # In the type of x: near a pole below 0 the result is what rounding leaves of sin(πx).
    low = x < 0.5
    y = tl.where(low, 1.0 - x, x)
    total = tl.zeros_like(y)
    for _ in tl.static_range(6):
        total += 1.0 / (y * y)
        y += 1.0
    z = 1.0 / (y * y)
    total += (1.0 + 0.5 / y + z * (1.0 / 6.0 - z * (1.0 / 30.0 - z * (1.0 / 42.0)))) / y
    sine = tl.sin(x * PI)
    return tl.where(low, PI * PI / (sine * sine) - total, total).to(x.dtype)


@triton.jit
def next_term(total, factor, power, s, w, K: tl.constexpr, DIVISOR: tl.constexpr):
    """The Kth term of the sum's end: s (s + 1) … (s + 2K) w^(-s - 2K - 1) · B / (2K + 2)!; nothing once it is small."""
    factor *= s + 2 * K
    power /= w
    term = factor * power / DIVISOR
    total += tl.where(tl.abs(term) < tl.abs(total), term, 0.0)
    return total, factor * (s + (2 * K + 1)), power / w


@triton.jit
def zeta_above(s, q):
    """Σ_{k≥0} (q + k)^-s of s > 1 and q > 0: ten terms, and the rest by Euler and Maclaurin."""
    total = tl.zeros_like(q)
    power = total
    # A loop, not its steps written out: compiling a power takes long.
    for k in range(10):
        power = libdevice.pow(q + k, -s)
        total += power
    w = q + 9.0
    total += power * w / (s - 1.0) - 0.5 * power
    factor = tl.zeros_like(s) + 1.0
    total, factor, power = next_term(total, factor, power, s, w, 0, 12.0)
    total, factor, power = next_term(total, factor, power, s, w, 1, -720.0)
    total, factor, power = next_term(total, factor, power, s, w, 2, 30240.0)
    total, factor, power = next_term(total, factor, power, s, w, 3, -1209600.0)
    total, factor, power = next_term(total, factor, power, s, w, 4, 47900160.0)
    total, factor, power = next_term(total, factor, power, s, w, 5, -1.8924375803183791606e9)
    total, factor, power = next_term(total, factor, power, s, w, 6, 7.47242496e10)
    total, factor, power = next_term(total, factor, power, s, w, 7, -2.950130727918164224e12)
    return total


@triton.jit
def special_zeta(s, q):
    """Σ_{k≥0} (q + k)^-s."""
    return zeta(s.to(tl.float64), q.to(tl.float64)).to(q.dtype)


@triton.jit
def some(condition):
    """Whether it holds for any element of a block."""
    return tl.max(tl.reshape(condition.to(tl.int32), [condition.numel]), 0) != 0


@triton.jit
def zeta(s, q):
    # Where no element of a block has a finite sum, or none lies below 0, a branch leaves out the many powers.
    found = tl.zeros_like(q)
    if some((s > 1.0) & ((q > 0) | (tl.floor(s) == s))):
        found = zeta_finite(s, q)
    left = tl.where(tl.floor(q) == q, float("inf"), tl.where(tl.floor(s) != s, float("nan"), found))
    found = tl.where(q <= 0, left, found)
    found = tl.where(s > 1.0, found, tl.where(s == 1.0, float("inf"), float("nan")))
    return tl.where((s != s) | (q != q), float("nan"), found).to(q.dtype)


@triton.jit
def zeta_finite(s, q):
    """Zeta of s > 1, and a whole number where q < 0."""
    # Below 0 the sum runs over numbers on both sides of 0: -q - k on one, those above on the other.
    below = q < 0
    up = tl.floor(q) + 1.0 - q
    up = tl.where(below & (up < 1.0), up, 0.5).to(q.dtype)
    found = zeta_above(s, tl.where(below, 1.0 - up, tl.where(q > 0, q, 1.0)).to(q.dtype))
    if some(below & (s > 1.0)):
        others = zeta_above(s, up) - zeta_above(s, tl.where(below, 1.0 - q, 1.0).to(q.dtype))
        odd = tl.floor(s * 0.5) * 2.0 != s
        found += tl.where(below, tl.where(odd, -others, others), 0.0)
    return found


@triton.jit
def mvlgamma(x, p, constant):
    """The logarithm of the multivariate gamma function of p dims, which is the same for all elements."""
    total = constant
    for j in range(tl.max(tl.reshape(p, [p.numel]), 0).to(tl.int32)):
        total += libdevice.lgamma(x - 0.5 * j)
    return total


@triton.jit
def polygamma(x, s, factor):
    return (factor.to(tl.float64) * zeta(s.to(tl.float64), x.to(tl.float64))).to(x.dtype)
