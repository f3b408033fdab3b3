"""Pointwise operators of numbers whose entry needs a word of its own: divisions, shifts, rounding, sums of products.

Entries take ATen's arguments and `out`, the tensor to write to (None: a new one). Integers have functions of their own
(`functions_integer.py`), which are exact.

Formula:
    out[i] = fn(a[i], b[i], …)    i runs over the broadcast shape; what fn is stands beside each operator
Shapes: operands of any shapes that broadcast, with any strides; the result has the strides that PyTorch gives it.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8 and uint8, as far as PyTorch defines the operator
for them; half types are computed in float32. Shifts take integers; hypot, logaddexp and round to decimals floating
types; nextafter float64 and float32.
Limits: of complex numbers the angle, rsub, lerp and sums of products alone; polygamma up to the 30th derivative. A
division of integers by 0 is left to PyTorch, which raises. lerp, heaviside and nextafter want operands of one type.
Source: the pages of torch.div, torch.remainder, torch.fmod, torch.bitwise_left_shift, torch.lerp, torch.polygamma and
the other operators in PyTorch's reference; IEEE 754-2019 for fmod, nextafter (nextUp) and rounding half to even;
Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 6.3 and 6.4, for polygamma
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from tessera.ops import functions as f
from tessera.ops import functions_gamma as gamma
from tessera.ops import functions_integer as integer
from tessera.ops import functions_math as m
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, Promotion, apply, common_type, compute_type, run, types
from tessera.ops.pointwise import not_boolean, number_fits, sub

Entry = Callable[..., torch.Tensor]
Out = torch.Tensor | None
_MOST_DERIVATIVES = 30  # beyond it the factorial is more than float32 holds


def castable(result: torch.dtype, out: Out) -> None:
    """Decline what PyTorch rejects: an output that cannot hold the result."""
    if out is not None and not torch.can_cast(result, out.dtype):
        raise Declined("the result type cannot be cast to the output's")


def _no_zero(divisor: Operand) -> None:
    """PyTorch raises for integers divided by 0; the vendor words the error."""
    if isinstance(divisor, torch.Tensor):
        if divisor.numel() and not bool(divisor.all()):
            raise Declined("an integer divided by zero")
    elif divisor == 0:
        raise Declined("an integer divided by zero")


def division(floating: Any, whole: Any) -> Entry:
    """A division or remainder with one function for floating types and one for integers."""

    def entry(self: Operand, other: Operand, *, out: Out = None) -> torch.Tensor:
        common = common_type((self, other))
        if common.is_floating_point:
            return apply(floating, (self, other), Promotion.SAME, out)
        if common is torch.bool:
            raise Declined("not defined for booleans")
        _no_zero(other)
        return apply(whole, (self, other), Promotion.SAME, out)

    return entry


_MODES: dict[str, Entry] = {
    "trunc": division(m.trunc_divide, integer.trunc_divide),
    "floor": division(m.floor_divide, integer.floor_divide),
}
fmod = division(m.fmod, integer.fmod)
remainder = division(m.remainder, integer.remainder)
floor_divide = _MODES["floor"]


def divide(self: Operand, other: Operand, *, rounding_mode: str | None, out: Out = None) -> torch.Tensor:
    """self / other, rounded down, towards 0 or not at all."""
    if rounding_mode is None:
        return apply(f.true_div, (self, other), Promotion.FLOAT, out)
    if rounding_mode not in _MODES:
        raise Declined("a rounding mode that is not there")
    return _MODES[rounding_mode](self, other, out=out)


def shift(fn: Any) -> Entry:
    """Bits moved; a count outside the type gives 0 (or -1 to the right of a negative number)."""

    def entry(self: Operand, other: Operand, *, out: Out = None) -> torch.Tensor:
        common = common_type((self, other))
        if common.is_floating_point or common is torch.bool:
            raise Declined("bitwise operators are for integers")
        return apply(fn, (self, other), Promotion.SAME, out)

    return entry


def rsub(self: Operand, other: Operand, *, alpha: Operand = 1, out: Out = None) -> torch.Tensor:
    """other - alpha · self; PyTorch rejects booleans."""
    result = common_type((self, other))
    not_boolean(self, other)
    castable(result, out)
    if result.is_complex:
        return sub(other, self, alpha=alpha, out=out)
    if alpha == 1:
        return apply(m.reversed_sub, (self, other), Promotion.SAME, out)
    number_fits(alpha, result)
    return run(m.reversed_sub_scaled, (self, other, alpha), compute_type(result), result, out)


def whole(fn: Any) -> Entry:
    """A rounding: integers are their own result."""

    def entry(self: torch.Tensor, *, out: Out = None) -> torch.Tensor:
        if self.dtype is torch.bool:
            raise Declined("not defined for booleans")
        return apply(fn if self.is_floating_point() else f.identity, (self,), Promotion.SAME, out)

    return entry


def round_decimals(self: torch.Tensor, *, decimals: int, out: Out = None) -> torch.Tensor:
    """Rounded half to even at 10^-decimals."""
    if not self.is_floating_point() or not -300 < decimals < 300:
        raise Declined("rounding to decimals of this kind")
    if decimals == 0:
        return apply(m.round_, (self,), Promotion.SAME, out)
    fn = m.scaled_round if decimals > 0 else m.coarse_round
    return apply(fn, (self, 10.0 ** abs(decimals)), Promotion.SAME, out)


def question(fn: Any, otherwise: Any) -> Entry:
    """A question about floating numbers whose answer for integers is another function's."""

    def entry(self: torch.Tensor, *, out: Out = None) -> torch.Tensor:
        if out is not None and out.dtype is not torch.bool:
            raise Declined("the output has another type")
        whole = not (self.is_floating_point() or self.is_complex())
        return apply(otherwise if whole else fn, (self,), Promotion.BOOL, out)

    return entry


def floating_pair(fn: Any) -> Entry:
    """An operator of two floating operands; integers are not promoted."""

    def entry(self: Operand, other: Operand, *, out: Out = None) -> torch.Tensor:
        if not common_type((self, other)).is_floating_point:
            raise Declined("defined for floating types only")
        return apply(fn, (self, other), Promotion.SAME, out)

    return entry


def extreme(floating: Any, whole: Any) -> Entry:
    """fmax and fmin: where one operand is NaN the other is the result."""

    def entry(self: torch.Tensor, other: torch.Tensor, *, out: Out = None) -> torch.Tensor:
        common = common_type((self, other))
        return apply(floating if common.is_floating_point else whole, (self, other), Promotion.SAME, out)

    return entry


def copysign(self: Operand, other: Operand, *, out: Out = None) -> torch.Tensor:
    """|self| with the sign of other."""
    return apply(m.copysign, (self, other), Promotion.FLOAT, out)


def nextafter(self: torch.Tensor, other: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """The next number of the type after self towards other."""
    common = common_type((self, other))
    if common not in (torch.float32, torch.float64):
        raise Declined("neighbours in half types")
    return apply(m.nextafter, (self, other), Promotion.SAME, out)


def heaviside(self: torch.Tensor, values: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """0 below 0, 1 above, values at 0."""
    if self.dtype is not values.dtype or (out is not None and out.dtype is not self.dtype):
        raise Declined("operands of two types")
    return run(m.heaviside, (self, values), compute_type(self.dtype), self.dtype, out)


def lerp(self: torch.Tensor, end: torch.Tensor, weight: Operand, *, out: Out = None) -> torch.Tensor:
    """self + weight · (end - self), from whichever end is nearer."""
    one_type = not isinstance(weight, torch.Tensor) or weight.dtype is self.dtype
    if not (self.is_floating_point() or self.is_complex()) or end.dtype is not self.dtype or not one_type:
        raise Declined("operands of two types")
    castable(self.dtype, out)
    number_fits(weight, self.dtype)
    if self.is_complex():
        way = apply(f.mul, (weight, apply(f.sub, (end, self), Promotion.SAME)), Promotion.SAME)
        return apply(f.add, (self, way), Promotion.SAME, out)
    return run(m.lerp, (self, end, weight), compute_type(self.dtype), self.dtype, out)


def _products(fn: Any, operands: tuple[torch.Tensor, ...], value: Operand, out: Out) -> torch.Tensor:
    result = common_type(operands)
    number_fits(value, result)
    if result is torch.bool:
        raise Declined("not defined for booleans")
    castable(result, out)
    if result.is_complex:
        combined = f.mul if fn is m.addcmul else f.true_div
        scaled = apply(f.mul, (value, operands[1]), Promotion.SAME)
        return apply(f.add, (operands[0], apply(combined, (scaled, operands[2]), Promotion.SAME)), Promotion.SAME, out)
    return run(fn, (*operands, value), compute_type(result), result, out)


def addcmul(
    self: torch.Tensor, tensor1: torch.Tensor, tensor2: torch.Tensor, *, value: Operand = 1, out: Out = None
) -> torch.Tensor:
    """self + value · tensor1 · tensor2."""
    return _products(m.addcmul, (self, tensor1, tensor2), value, out)


def addcdiv(
    self: torch.Tensor, tensor1: torch.Tensor, tensor2: torch.Tensor, *, value: Operand = 1, out: Out = None
) -> torch.Tensor:
    """self + value · tensor1 / tensor2."""
    common = common_type((self, tensor1, tensor2))
    if not (common.is_floating_point or common.is_complex):
        raise Declined("defined for floating types only")
    return _products(m.addcdiv, (self, tensor1, tensor2), value, out)


def logit(self: torch.Tensor, eps: float | None = None, *, out: Out = None) -> torch.Tensor:
    """log(x / (1 - x)), of x kept inside [eps, 1 - eps] where eps is given."""
    if eps is None or eps < 0:
        return apply(m.logit, (self,), Promotion.FLOAT, out)
    return _promoted(m.logit_clamped, self, (eps,), out)


def _promoted(fn: Any, self: torch.Tensor, numbers: tuple[float, ...], out: Out) -> torch.Tensor:
    compute, result = types(Promotion.FLOAT, (self,))
    castable(result, out)
    return run(fn, (self, *numbers), compute_type(compute), result, out)


def logit_backward(
    grad_output: torch.Tensor, self: torch.Tensor, eps: float | None = None, *, out: Out = None
) -> torch.Tensor:
    """grad / (x · (1 - x)), NaN outside [0, 1]; with eps 0 outside [eps, 1 - eps]."""
    if grad_output.dtype is not self.dtype or not self.is_floating_point():
        raise Declined("operands of two types")
    if eps is None or eps < 0:
        return apply(m.logit_backward, (grad_output, self), Promotion.SAME, out)
    return run(m.logit_clamped_backward, (grad_output, self, eps), compute_type(self.dtype), self.dtype, out)


def nan_to_num(
    self: torch.Tensor,
    nan: float | None = None,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: Out = None,
) -> torch.Tensor:
    """NaN becomes 0, infinities the type's largest numbers, unless others are given."""
    castable(self.dtype, out)
    if not self.is_floating_point():
        return apply(f.identity, (self,), Promotion.SAME, out)
    limits = torch.finfo(self.dtype)
    high = limits.max if posinf is None else posinf
    low = limits.min if neginf is None else neginf
    if any(math.isfinite(v) and abs(v) > limits.max for v in (nan or 0.0, high, low)):
        raise Declined("a number that the type cannot hold")
    numbers = (0.0 if nan is None else nan, high, low)
    return run(m.nan_to_num, (self, *numbers), compute_type(self.dtype), self.dtype, out)


def polygamma(n: int, self: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """The nth derivative of digamma, which is the derivative of the gamma function's logarithm."""
    if not 0 <= n <= _MOST_DERIVATIVES:
        raise Declined("a derivative of a high order")
    if n < 2:
        return apply(gamma.trigamma if n else gamma.digamma, (self,), Promotion.FLOAT, out)
    return _promoted(gamma.polygamma, self, (n + 1.0, (-1.0) ** (n + 1) * math.factorial(n)), out)


def mvlgamma(self: torch.Tensor, p: int, *, out: Out = None) -> torch.Tensor:
    """The logarithm of the multivariate gamma function of p dims; above (p - 1) / 2 it is one."""
    if p < 1 or self.dtype is torch.bool or self.is_complex():
        raise Declined("a gamma function of no dims, or of no numbers")
    if out is None:
        # PyTorch's sum over the dims leaves its result contiguous, whatever the order of self's dims.
        out = torch.empty(self.shape, dtype=types(Promotion.FLOAT, (self,))[1], device=self.device)
    return _promoted(gamma.mvlgamma, self, (float(p), 0.25 * p * (p - 1) * math.log(math.pi)), out)


def angle(self: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """0, π for negative numbers, NaN for NaN; of complex numbers the angle in radians, in a contiguous tensor."""
    if self.is_complex() and out is None:
        out = torch.empty(self.shape, dtype=self.dtype.to_real(), device=self.device)
    return apply(m.angle, (self,), Promotion.FLOAT, out)
