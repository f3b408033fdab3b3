"""Pointwise operators: arithmetic, comparisons, bits, elementary functions, GELU and SiLU, `where`, copies and fills.

Each is a scalar function of `functions.py` or `functions_math.py` and a rule of promotion, which `generate.py` makes
an operator of. What is computed stands beside each operator. Entries take ATen's arguments and `out`, the tensor to
write to (None: a new one).

Formula:
    out[i] = fn(a[i], b[i], …)    i runs over the broadcast shape; a number stands for a tensor of one element
Shapes: operands of any shapes that broadcast, with any strides; the result has the broadcast shape and the strides
that PyTorch's TensorIterator gives it.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8, uint8 and bool, as far as PyTorch defines the
operator for them. Operands are promoted as PyTorch promotes them; half types are computed in float32, and functions of
floating numbers give integers the default floating type. Complex numbers have neg, add, sub, mul, div, reciprocal,
powers, roots, exponentials, logarithms, the functions of angles and hyperbolas with their inverses, sigmoid, sgn, abs,
equality, logical operators, where, copies and fills; a complex result is computed part by part.
Limits: no negative powers of integers; other functions of complex numbers are PyTorch's.
Source: the pages of torch.add and the other operators in PyTorch's reference; Hendrycks and Gimpel, "Gaussian Error
Linear Units (GELUs)", 2016, arXiv:1606.08415; Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural
Network Function Approximation in Reinforcement Learning", 2017, arXiv:1702.03118 (SiLU); tanh near 0: the rational
approximations of the Cephes library; Abramowitz and Stegun, "Handbook of Mathematical Functions", 1964, 6.3 and 23.1.30
(digamma and zeta)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tessera.ops import functions as f
from tessera.ops import functions_integer as integer
from tessera.ops import functions_math as m
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, Promotion, apply, compute_type, run, run_parts, storage_type
from tessera.ops.layout import broadcast_shape

Entry = Callable[..., torch.Tensor]


def pointwise(fn: Any, promotion: Promotion) -> Entry:
    """An operator whose arguments are exactly the operands of `fn`."""

    def entry(*operands: Operand, out: torch.Tensor | None = None) -> torch.Tensor:
        return apply(fn, operands, promotion, out)

    return entry


def same(fn: Any) -> Entry:
    return pointwise(fn, Promotion.SAME)


def floating(fn: Any) -> Entry:
    return pointwise(fn, Promotion.FLOAT)


def comparison(fn: Any) -> Entry:
    return pointwise(fn, Promotion.BOOL)


def number_fits(alpha: Operand, dtype: torch.dtype) -> None:
    """Decline what PyTorch rejects: a fractional or boolean factor for types that cannot hold it."""
    if isinstance(alpha, complex) and not dtype.is_complex:
        raise Declined("a complex number for a result that is not")
    if isinstance(alpha, float) and not dtype.is_floating_point and not dtype.is_complex:
        raise Declined("a fractional number for an integer result")
    if isinstance(alpha, bool) and dtype is not torch.bool:
        raise Declined("a boolean factor for a result that is not")


def add(self: Operand, other: Operand, *, alpha: Operand = 1, out: torch.Tensor | None = None) -> torch.Tensor:
    """self + alpha · other."""
    return _scaled(f.add, f.add_scaled, self, other, alpha, out)


def not_boolean(*operands: Operand) -> None:
    """Decline a difference of booleans, which PyTorch rejects."""
    if any(x.dtype is torch.bool if isinstance(x, torch.Tensor) else isinstance(x, bool) for x in operands):
        raise Declined("subtraction of booleans")


def sub(self: Operand, other: Operand, *, alpha: Operand = 1, out: torch.Tensor | None = None) -> torch.Tensor:
    """self - alpha · other; PyTorch rejects booleans."""
    not_boolean(self, other)
    return _scaled(f.sub, f.sub_scaled, self, other, alpha, out)


def _scaled(
    plain: Any, scaled: Any, self: Operand, other: Operand, alpha: Operand, out: torch.Tensor | None
) -> torch.Tensor:
    if alpha == 1:
        return apply(plain, (self, other), Promotion.SAME, out)
    result = torch.result_type(self, other)
    number_fits(alpha, result)
    if result.is_complex:
        return apply(plain, (self, apply(f.mul, (other, alpha), Promotion.SAME)), Promotion.SAME, out)
    if out is not None and not torch.can_cast(result, out.dtype):
        raise Declined("the result type cannot be cast to the output's")
    return run(scaled, (self, other, alpha), compute_type(result), result, out)


def signed(fn: Any) -> Entry:
    """An operator that PyTorch does not define on booleans."""

    def entry(self: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        if self.dtype is torch.bool:
            raise Declined("not defined for booleans")
        return apply(fn, (self,), Promotion.SAME, out)

    return entry


def only_floating(fn: Any) -> Entry:
    """An operator that PyTorch defines on floating types only."""

    def entry(*operands: Operand, out: torch.Tensor | None = None) -> torch.Tensor:
        if any(isinstance(x, torch.Tensor) and not (x.is_floating_point() or x.is_complex()) for x in operands):
            raise Declined("defined for floating types only")
        return apply(fn, operands, Promotion.SAME, out)

    return entry


def bitwise(fn: Any) -> Entry:
    def entry(*operands: Operand, out: torch.Tensor | None = None) -> torch.Tensor:
        if torch.result_type(operands[0], operands[-1]).is_floating_point:
            raise Declined("bitwise operators are for integers")
        return apply(fn, operands, Promotion.SAME, out)

    return entry


def bitwise_not(self: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """Each bit inverted; of booleans the other one."""
    if self.is_floating_point():
        raise Declined("bitwise operators are for integers")
    return apply(f.logical_not if self.dtype is torch.bool else f.bitwise_not, (self,), Promotion.SAME, out)


def whole(fn: Any) -> Entry:
    """floor and ceil: integers are their own result."""

    def entry(self: torch.Tensor, *, out: torch.Tensor | None = None) -> torch.Tensor:
        if self.dtype is torch.bool:
            raise Declined("not defined for booleans")
        return apply(fn if self.is_floating_point() else f.identity, (self,), Promotion.SAME, out)

    return entry


_POWERS: dict[float, Any] = {1: f.identity, 2: f.square, 3: f.cube}
_FLOAT_POWERS: dict[float, Any] = {0.5: f.sqrt, -0.5: f.rsqrt, -1: f.reciprocal, -2: f.reciprocal_square}


def power(self: Operand, exponent: Operand, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """self ** exponent."""
    result = torch.result_type(self, exponent)
    if result.is_complex:
        if not isinstance(exponent, torch.Tensor) and exponent == 2:
            return apply(f.square, (self,), Promotion.SAME, out)
        if not isinstance(exponent, torch.Tensor) and exponent == 1 and out is None:
            return run_parts((f.identity, f.identity), (self,), result)
        return apply(f.power, (self, exponent), Promotion.SAME, out)
    if not isinstance(exponent, torch.Tensor) and isinstance(self, torch.Tensor):
        special = _POWERS.get(exponent) or (_FLOAT_POWERS.get(exponent) if result.is_floating_point else None)
        if special is not None and result is not torch.bool:
            if out is not None and not torch.can_cast(result, out.dtype):
                raise Declined("the result type cannot be cast to the output's")
            return run(special, (self,), compute_type(result), result, out)
    if result is torch.bool:
        raise Declined("not defined for booleans")
    if not result.is_floating_point:
        if not isinstance(exponent, torch.Tensor) and exponent < 0:
            raise Declined("a negative power of integers")
        return apply(integer.power, (self, exponent), Promotion.SAME, out)
    return apply(m.power if result is torch.float64 else f.power, (self, exponent), Promotion.SAME, out)


def where(condition: torch.Tensor, self: Operand, other: Operand, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """self where condition, else other."""
    if condition.dtype is not torch.bool:
        raise Declined("the condition is not boolean")
    result = torch.result_type(self, other)
    if out is not None and out.dtype is not result:
        raise Declined("the output has another type")
    if result.is_complex:
        return run_parts((f.where, f.where), (self, other), result, out, shared=(condition,))
    return run(f.where, (condition, self, other), compute_type(result), result, out)


def masked_fill_(
    self: torch.Tensor, mask: torch.Tensor, value: Operand, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """value where mask, else self; in place `out` is self, a new tensor has the shape that both broadcast to."""
    if mask.dtype is not torch.bool:
        raise Declined("the mask is not boolean")
    if isinstance(value, torch.Tensor) and (value.dim() or not torch.can_cast(value.dtype, self.dtype)):
        raise Declined("the value is not a scalar of the tensor's type")
    if self.is_complex():
        return run_parts((f.where, f.where), (value, self), self.dtype, out, shared=(mask,))
    if isinstance(value, complex):
        raise Declined("a complex number for a result that is not")
    if isinstance(value, float):
        number_fits(value, self.dtype)
    return run(f.masked_fill, (self, mask, value), compute_type(self.dtype), self.dtype, out)


def clamp(
    self: torch.Tensor, min: Operand | None = None, max: Operand | None = None, *, out: torch.Tensor | None = None
) -> torch.Tensor:
    """min(max(self, min), max); a NaN stays."""
    if self.dtype is torch.bool:
        raise Declined("not defined for booleans")
    if min is not None and max is not None:
        return apply(f.clamp, (self, min, max), Promotion.SAME, out)
    if max is not None:
        return apply(f.minimum, (self, max), Promotion.SAME, out)
    if min is None:
        raise Declined("neither a lower nor an upper bound")
    return apply(f.maximum, (self, min), Promotion.SAME, out)


def clamp_min(self: torch.Tensor, min: Operand, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """max(self, min)."""
    return clamp(self, min, None, out=out)


def clamp_max(self: torch.Tensor, max: Operand, *, out: torch.Tensor | None = None) -> torch.Tensor:
    """min(self, max)."""
    return clamp(self, None, max, out=out)


def gelu(self: torch.Tensor, *, approximate: str = "none", out: torch.Tensor | None = None) -> torch.Tensor:
    """x · Φ(x), or its approximation by tanh."""
    return only_floating(_approximated(approximate, f.gelu, f.gelu_tanh))(self, out=out)


def _approximated(approximate: str, exact: Any, by_tanh: Any) -> Any:
    if approximate not in ("none", "tanh"):
        raise Declined("an approximation that is not there")
    return exact if approximate == "none" else by_tanh


def gelu_backward(
    grad_output: torch.Tensor, self: torch.Tensor, *, approximate: str = "none", out: torch.Tensor | None = None
) -> torch.Tensor:
    """grad · (Φ(x) + x · φ(x)), or the slope of the approximation."""
    return only_floating(_approximated(approximate, f.gelu_backward, f.gelu_tanh_backward))(grad_output, self, out=out)


def copy_(self: torch.Tensor, src: Operand, non_blocking: bool = False, *, out: torch.Tensor) -> torch.Tensor:
    """Write src into self, cast and broadcast; `out` is self. PyTorch hands a number that it wrapped on as a number."""
    if not isinstance(src, torch.Tensor):
        return fill_(self, src, out=out)
    if src.device != self.device:
        raise Declined("a copy between devices")
    if self.is_conj() or self.is_neg() or src.is_neg():
        raise Declined("a view that is read or written conjugated or negated")
    if self.numel() == 0:
        # What is written keeps its shape, where an empty result would take that of the operands.
        if broadcast_shape((tuple(src.shape), tuple(self.shape))) != self.shape:
            raise Declined("shapes do not broadcast")
        return self
    if self.is_complex():
        part = f.neg if src.is_conj() else f.identity
        return run_parts((f.identity, part), (src.conj() if src.is_conj() else src,), self.dtype, out)
    if src.is_complex():
        raise Declined("a copy that drops the imaginary part")
    return run(f.identity, (src,), storage_type(src.dtype), self.dtype, out)


def clone(self: torch.Tensor, *, memory_format: torch.memory_format | None = None) -> torch.Tensor:
    """The same numbers in new memory: dense, in the given order of dims or, where there is none, in self's."""
    if self.is_neg():
        raise Declined("a view that is read negated")
    new = torch.empty_like(self, memory_format=memory_format or torch.preserve_format)
    return copy_(new, self, out=new)


def to_copy(
    self: torch.Tensor,
    *,
    dtype: torch.dtype | None = None,
    layout: torch.layout | None = None,
    device: torch.device | None = None,
    pin_memory: bool | None = None,
    non_blocking: bool = False,
    memory_format: torch.memory_format | None = None,
) -> torch.Tensor:
    """`clone` in another type."""
    if device not in (None, self.device) or layout not in (None, torch.strided) or pin_memory:
        raise Declined("a copy to another device or layout")
    if self.is_conj() or self.is_neg():
        raise Declined("a view that is read conjugated or negated")
    new = torch.empty_like(self, dtype=dtype, memory_format=memory_format or torch.preserve_format)
    return copy_(new, self, out=new)


def fill_(self: torch.Tensor, value: Operand, *, out: torch.Tensor) -> torch.Tensor:
    """Write one value everywhere; `out` is self."""
    if isinstance(value, torch.Tensor) and value.dim():
        raise Declined("the value is not a scalar")
    if self.is_complex():
        return run_parts((f.identity, f.identity), (value,), self.dtype, out)
    if isinstance(value, complex) or (isinstance(value, torch.Tensor) and value.is_complex()):
        raise Declined("a complex number for a result that is not")
    if isinstance(value, float) and not self.is_floating_point():
        value = bool(value) if self.dtype is torch.bool else _whole(value)
    if self.dtype is torch.bool and not isinstance(value, torch.Tensor):
        value = bool(value)
    return run(f.identity, (value,), compute_type(self.dtype), self.dtype, out)


def _whole(value: float) -> int:
    if value != value or abs(value) >= 2**63:
        raise Declined("a number beyond int64")
    return int(value)


def zero_(self: torch.Tensor, *, out: torch.Tensor) -> torch.Tensor:
    """Write 0 everywhere; `out` is self."""
    return fill_(self, 0, out=out)
