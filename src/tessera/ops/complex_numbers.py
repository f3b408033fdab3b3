"""Complex numbers made of two real tensors, and their conjugate.

What complex numbers have of the operators of real ones is in the table of `generate.py`, and on those operators' pages.

Formula:
    complex: a + bi;  polar: r · (cos t + i sin t);  conj_physical: a - bi
Shapes: operands that broadcast, with any strides; the result has the strides that PyTorch gives it.
Types: complex32, complex64 and complex128 of parts in float16, float32 and float64; conj_physical also of real numbers,
which are their own conjugates.
Limits: parts of one type.
Source: the pages of torch.complex, torch.polar and torch.conj_physical
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton

from tessera.ops import functions as f
from tessera.ops import functions_complex as fc
from tessera.ops.declined import Declined
from tessera.ops.generate import Promotion, apply, compute_type, run, run_parts
from tessera.ops.layout import plan

Out = torch.Tensor | None


@triton.jit
def conjugate_32(z):
    return z ^ -0x80000000


@triton.jit
def conjugate_64(z):
    return z ^ -0x8000000000000000


@triton.jit
def join_16(real, imag):
    return (imag << 16) | (real & 0xFFFF)


@triton.jit
def join_32(real, imag):
    return (imag << 32) | (real & 0xFFFFFFFF)


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A complex number as one integer, its real part in the lower half: what moves it as contiguous memory."""

    dtype: torch.dtype
    part: torch.dtype
    conjugate: Any
    join: Any


_WHOLE = {
    torch.complex32: Whole(dtype=torch.int32, part=torch.int16, conjugate=conjugate_32, join=join_16),
    torch.complex64: Whole(dtype=torch.int64, part=torch.int32, conjugate=conjugate_64, join=join_32),
}
_OF = {torch.float16: torch.complex32, torch.float32: torch.complex64, torch.float64: torch.complex128}


def conj_physical(self: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """The complex conjugate, written down; real numbers are their own."""
    if not self.is_complex():
        return apply(f.identity, (self,), Promotion.SAME, out)
    if out is not None and not torch.can_cast(self.dtype, out.dtype):
        raise Declined("the result type cannot be cast to the output's")
    if self.dtype in _WHOLE and (out is None or out.dtype is self.dtype):
        out = torch.empty_like(self) if out is None else out
        if out.shape != self.shape:
            out.resize_(self.shape)
        fn, whole = _WHOLE[self.dtype].conjugate, _WHOLE[self.dtype].dtype
        run(fn, (self.view(whole),), compute_type(whole), whole, out.view(whole))
        return out
    return run_parts((f.identity, f.neg), (self,), self.dtype, out)


def resolved(x: torch.Tensor) -> torch.Tensor:
    """x, written down where it is a view that is to be read conjugated."""
    return conj_physical(x.conj()) if x.is_conj() else x


def _joined(functions: tuple[Any, Any], first: torch.Tensor, second: torch.Tensor, out: Out) -> torch.Tensor:
    if first.dtype is not second.dtype or first.dtype not in _OF:
        raise Declined("parts of two types, or of a type that complex numbers are not made of")
    result = _OF[first.dtype]
    if out is not None and out.dtype is not result:
        raise Declined("the output has another type")
    loops = plan(tuple((tuple(x.shape), x.stride()) for x in (first, second)), None)
    if out is None:
        out = torch.empty_strided(loops.shape, loops.out_strides, dtype=result, device=first.device)
    elif out.shape != loops.shape:
        out.resize_(loops.shape)
    if functions[0] is f.identity and result in _WHOLE:
        whole, part = _WHOLE[result].dtype, _WHOLE[result].part
        pair = (first.view(part), second.view(part))
        run(_WHOLE[result].join, pair, compute_type(whole), whole, out.view(whole))
        return out
    for i, fn in enumerate(functions):
        to = torch.view_as_real(out).select(-1, i)
        given = (first, second) if functions[0] is not f.identity else ((first, second)[i],)
        run(fn, given, compute_type(first.dtype), first.dtype, to)
    return out


def complex_(real: torch.Tensor, imag: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """real + i · imag, both of one floating type, broadcast: complex64 of float32, complex128 of float64."""
    return _joined((f.identity, f.identity), real, imag, out)


def polar(abs: torch.Tensor, angle: torch.Tensor, *, out: Out = None) -> torch.Tensor:
    """abs · (cos(angle) + i · sin(angle)), both of one floating type, broadcast."""
    return _joined((fc.polar_real, fc.polar_imaginary), abs, angle, out)
