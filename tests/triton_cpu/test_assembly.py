"""Inline assembly for NVIDIA's GPUs, as authors of kernels write it, computes the same on the CPU."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.compiler import CompilationError

N = 256


@triton.jit
def one_of_one(x, out, ASM: tl.constexpr, CONSTRAINTS: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    value = tl.load(x + at)
    tl.store(out + at, tl.inline_asm_elementwise(ASM, CONSTRAINTS, [value], value.dtype, is_pure=True, pack=1))


@triton.jit
def one_of_three(x, y, z, out, ASM: tl.constexpr, CONSTRAINTS: tl.constexpr, N: tl.constexpr):
    at = tl.arange(0, N)
    a, b, c = tl.load(x + at), tl.load(y + at), tl.load(z + at)
    tl.store(out + at, tl.inline_asm_elementwise(ASM, CONSTRAINTS, [a, b, c], a.dtype, is_pure=True, pack=1))


@pytest.mark.parametrize(
    ("asm", "expected"),
    [
        ("tanh.approx.f32 $0, $1;", torch.tanh),
        ("cos.approx.f32 $0, $1;", torch.cos),
        ("sin.approx.ftz.f32 $0, $1;", torch.sin),
        ("ex2.approx.ftz.f32 $0, $1;", torch.exp2),
        ("abs.f32 $0, $1;  lg2.approx.f32 $0, $0;", lambda x: x.abs().log2()),
        ("rcp.approx.ftz.f32 $0, $1;", torch.reciprocal),
        ("{ .reg .f32 t;\n  mul.f32 t, $1, $1; // a square\n  sqrt.approx.f32 $0, t; }", lambda x: (x * x).sqrt()),
        ("mul.rn.f32 $0, $1, 0f3FB8AA3B;", lambda x: x * 1.44269502162933349609375),
        ("and.b32 $0, $1, 0x7fffffff;", torch.abs),
        ("max.f32 $0, $1, 0f00000000;", torch.relu),
    ],
)
def test_functions_and_sums_of_floats(asm, expected):
    x, out = torch.randn(N), torch.empty(N)
    one_of_one[(1,)](x, out, asm, "=f,f", N)
    torch.testing.assert_close(out, expected(x))


@pytest.mark.parametrize(
    ("asm", "expected"),
    [
        ("mad.lo.s32 $0, $1, $2, $3;", lambda a, b, c: a * b + c),
        ("lop3.b32 $0, $1, $2, $3, 0xEA;", lambda a, b, c: (a & b) | c),
        ("lop3.b32 $0, $1, $2, $3, 0x96;", lambda a, b, c: a ^ b ^ c),
        ("shl.b32 $0, $1, 3; xor.b32 $0, $0, $2;", lambda a, b, c: (a << 3) ^ b),
        ("shr.u32 $0, $1, 40;", lambda a, b, c: torch.zeros_like(a)),
        ("shr.s32 $0, $1, 7;", lambda a, b, c: a >> 7),
        ("{ .reg .b32 low; min.s32 low, $1, $2; max.s32 $0, low, $3; }", lambda a, b, c: a.minimum(b).maximum(c)),
        ("sub.u32 $0, $1, $2; not.b32 $0, $0;", lambda a, b, c: ~(a - b)),
        ("add.u32 $0, $1, 0xffffffff;", lambda a, b, c: a - 1),
    ],
)
def test_arithmetic_of_integers(asm, expected):
    a, b, c = (torch.randint(-(2**31), 2**31, (N,)).int() for _ in range(3))
    out = torch.empty_like(a)
    one_of_three[(1,)](a, b, c, out, asm, "=r,r,r,r", N)
    assert torch.equal(out, expected(a, b, c))


def test_several_results_and_registers_of_other_types():
    @triton.jit
    def kernel(x, bits, double, N: tl.constexpr):
        at = tl.arange(0, N)
        code, twice = tl.inline_asm_elementwise(
            "{ mov.b32 $0, $2; add.f32 $1, $2, $2; }", "=r,=f,f", [tl.load(x + at)], (tl.int32, tl.float32), True, 1
        )
        tl.store(bits + at, code)
        tl.store(double + at, twice)

    x, bits, double = torch.randn(N), torch.empty(N, dtype=torch.int32), torch.empty(N)
    kernel[(1,)](x, bits, double, N)
    assert torch.equal(bits, x.view(torch.int32)) and torch.equal(double, 2 * x)


@pytest.mark.parametrize(
    ("asm", "unknown"),
    [
        ("cvt.rna.tf32.f32 $0, $1;", "'cvt.rna.tf32.f32 $0, $1'"),
        ("add.rz.f32 $0, $1, $1;", "'add.rz.f32 $0, $1, $1'"),
        ("add.f32 $0, $1;", "'add.f32 $0, $1'"),
        ("@p mov.f32 $0, $1;", "'@p mov.f32 $0, $1'"),
        ("add.f32 $0, $1, t;", "the operand 't'"),
        ("add.f64 $0, $1, $1;", "a register of 32 bits for f64"),
        ("mov.f32 t, $1;", "a text that sets no $0"),
    ],
)
def test_other_instructions_are_named(asm, unknown):
    with pytest.raises(CompilationError) as caught:
        one_of_one[(1,)](torch.zeros(N), torch.zeros(N), asm, "=f,f", N)
    message = str(caught.value)
    assert f"not known here: {unknown}" in message
    assert "test_assembly.py" in message and message.rstrip().endswith("^")


def test_narrow_registers_are_named():
    x = torch.zeros(N, dtype=torch.int8)
    with pytest.raises(CompilationError, match="not known here: a register for i8"):
        one_of_one[(1,)](x, x.clone(), "mov.b32 $0, $1;", "=r,r", N)


def test_numbers_that_are_no_block():
    @triton.jit
    def kernel(out, n):
        tl.store(out, tl.inline_asm_elementwise("mad.lo.s32 $0, $1, $1, 1;", "=r,r", [n], tl.int32, True, 1))

    out = torch.empty(1, dtype=torch.int32)
    kernel[(1,)](out, 7)
    assert out.item() == 50
