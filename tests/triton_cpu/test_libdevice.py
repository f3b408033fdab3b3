"""Kernels that call `tl.extra.libdevice`, as users write them, on the CPU."""

from __future__ import annotations

import inspect
from fractions import Fraction

import pytest
import torch
import triton
import triton.language as tl
from triton.compiler.errors import CompilationError
from triton.language.extra import libdevice
from triton.language.extra.cuda import libdevice as of_nvidia
from triton.language.extra.cuda.libdevice import pow as power

from tessera.compiler.llvm.mathlib import FUNCTIONS as LOWERED
from tessera.triton_cpu import libdevice as ours

BLOCK = 256


@triton.jit
def floats(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    v = tl.load(x + place)
    result = libdevice.tanh(v) + libdevice.pow(v, 3) + libdevice.hypot(v, 2.0 * v)
    result = tl.where(libdevice.isnan(v), 7.0, result + libdevice.fmod(v, v * 0 + 0.25))
    tl.store(out + place, libdevice.copysign(result, v))


@triton.jit
def integers(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    v = tl.load(x + place)
    bits = libdevice.float_as_int(v)
    tl.store(out + place, libdevice.float2int_rn(v) * 64 + libdevice.popc(bits) + libdevice.signbit(v))


@triton.jit
def one_number(x, out):
    tl.store(out, libdevice.erf(tl.load(x)))


@triton.jit
def half(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    tl.store(out + place, libdevice.sinh(tl.load(x + place)))


@triton.jit
def of_gpus(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    v = tl.load(x + place)
    imported = of_nvidia.tanh(v) + power(v, 2)
    tl.store(out + place, imported + tl.extra.cuda.libdevice.rint(v) + tl.extra.hip.libdevice.erf(v))


# What a kernel's file imports and does not call must not matter; every kernel here is compiled with this beside it.
imported_and_not_called = libdevice.j1


@triton.jit
def rounded(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    v = tl.load(x + place)
    tl.store(out + place, libdevice.div_ru(v, (v * 0 + 3)))
    tl.store(out + n + place, libdevice.div_rz(v, (v * 0 + 3)))


@triton.jit
def of_order(x, out, n: tl.constexpr):
    place = tl.arange(0, n)
    tl.store(out + place, libdevice.yn(2, tl.load(x + place)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_float_functions_agree_with_torch(dtype: torch.dtype) -> None:
    x = torch.randn(BLOCK, dtype=dtype) * 4
    x[3] = float("nan")
    out = torch.empty_like(x)
    floats[(1,)](x, out, BLOCK)
    want = x.tanh() + x**3 + torch.hypot(x, 2 * x) + torch.fmod(x, torch.tensor(0.25, dtype=dtype))
    torch.testing.assert_close(out, torch.where(x.isnan(), 7.0, want).copysign(x), rtol=2e-6, atol=1e-6)


def test_the_modules_of_gpus_are_understood() -> None:
    x = torch.randn(BLOCK)
    out = torch.empty_like(x)
    of_gpus[(1,)](x, out, BLOCK)
    torch.testing.assert_close(out, x.tanh() + x**2 + x.round() + x.erf(), rtol=2e-6, atol=1e-6)


def test_integer_functions_agree_with_torch() -> None:
    x = torch.randn(BLOCK) * 100
    out = torch.empty(BLOCK, dtype=torch.int32)
    integers[(1,)](x, out, BLOCK)
    ones = torch.tensor([int(bits).bit_count() if bits >= 0 else (int(bits) + 2**32).bit_count()
                         for bits in x.view(torch.int32).tolist()])  # fmt: skip
    assert torch.equal(out, (x.round().int() * 64 + ones + x.signbit()).int())


def test_a_single_number() -> None:
    x, out = torch.tensor([0.5]), torch.empty(1)
    one_number[(1,)](x, out)
    torch.testing.assert_close(out, x.erf())


def test_a_type_that_does_not_fit_names_those_that_do() -> None:
    x = torch.zeros(BLOCK, dtype=torch.float16)
    with pytest.raises(CompilationError, match=r"libdevice\.sinh got \(fp16\) but takes \(fp32\) or \(fp64\)"):
        half[(1,)](x, x.clone(), BLOCK)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_up_and_towards_zero(dtype: torch.dtype) -> None:
    x = torch.randn(BLOCK, dtype=dtype)
    out = torch.empty(2, BLOCK, dtype=dtype)
    rounded[(1,)](x, out, BLOCK)
    torch.testing.assert_close(out, (x / 3).expand(2, BLOCK))
    third = [Fraction(v) / 3 for v in x.tolist()]
    for up, towards_zero, exact in zip(*out.tolist(), third, strict=True):
        assert abs(Fraction(towards_zero)) <= abs(exact)
        assert Fraction(up) >= exact


def test_bessel_functions_take_an_order() -> None:
    x = torch.rand(BLOCK) * 8 + 0.5
    out = torch.empty(BLOCK)
    of_order[(1,)](x, out, BLOCK)
    torch.testing.assert_close(out, 2 / x * torch.special.bessel_y1(x) - torch.special.bessel_y0(x))


def test_a_misspelt_name_gets_the_nearest() -> None:
    with pytest.raises(AttributeError, match=r"libdevice\.tahn has no CPU version.*nearest: .*tanh"):
        ours.tahn  # noqa: B018


def test_every_symbol_is_lowered() -> None:
    symbols = {symbol for overloads in ours.FUNCTIONS.values() for symbol, _ in overloads.values()}
    assert symbols <= set(LOWERED)


def test_the_names_are_tritons() -> None:
    portable = {name for name, value in inspect.getmembers(libdevice, inspect.isfunction)}
    assert set(ours.FUNCTIONS) == portable
