"""Weights of 4 bits, unpacked in all the ways that kernels do: each is the number that the arithmetic says."""

import pytest
import torch
import triton
import triton.language as tl

HOW = ["low", "high", "signed low", "signed high", "centred", "centred as integers", "scaled", "of int32", "moved"]
SIZE = 64


@triton.jit
def unpacked(packed, HOW: tl.constexpr):
    if HOW == "low":
        x = (packed & 0xF).to(tl.float32)
    elif HOW == "high":
        x = (packed >> 4).to(tl.float32)
    elif HOW == "signed low":
        x = (((packed.to(tl.int8, bitcast=True)) << 4).to(tl.int8) >> 4).to(tl.float32)
    elif HOW == "signed high":
        x = (packed.to(tl.int8, bitcast=True) >> 4).to(tl.float32)
    elif HOW == "centred":
        x = (packed & 0xF).to(tl.float32) - 8
    elif HOW == "centred as integers":
        x = ((packed & 0xF).to(tl.int8) - 8).to(tl.float32)
    elif HOW == "scaled":
        x = 1.5 - (packed >> 4).to(tl.float32) * 0.1
    elif HOW == "of int32":
        x = ((packed.to(tl.int32) * 65793 >> 8) & 0xF).to(tl.float32) - 7.5
    else:
        x = (packed.to(tl.int32) & 0xF).to(tl.float32) * 3.0 + 100.0
    return x


@triton.jit
def unpack(packed, out, n, HOW: tl.constexpr, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    tl.store(out + i, unpacked(tl.load(packed + i, mask=i < n, other=0), HOW), mask=i < n)


@triton.jit
def unpack_twice(packed, out, sums, HOW: tl.constexpr, SIZE: tl.constexpr):
    """The codes are overwritten between their two uses, and read as integers as well."""
    i = tl.arange(0, SIZE)
    codes = tl.load(packed + i)
    tl.store(packed + i, codes * 0 + 1)
    x = unpacked(codes, HOW)
    tl.store(out + i, x * codes.to(tl.float32))
    tl.store(sums, tl.sum(x, 0))


def expected(how: str, packed: torch.Tensor) -> torch.Tensor:
    low, high = (packed & 15).long(), (packed >> 4).long()
    values = {
        "low": low.float(),
        "high": high.float(),
        "signed low": (low - 16 * (low > 7)).float(),
        "signed high": (high - 16 * (high > 7)).float(),
        "centred": low.float() - 8,
        "centred as integers": low.float() - 8,
        "scaled": 1.5 - high.float() * torch.tensor(0.1),
        "of int32": low.float() - 7.5,
        "moved": low.float() * 3 + 100,
    }
    return values[how]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("n", [256, 200, 3])
def test_codes_become_their_numbers(how, n):
    packed = torch.arange(256, dtype=torch.uint8)
    out = torch.full((256,), -1.0)
    unpack[(1,)](packed, out, n, how, 256)
    torch.testing.assert_close(out[:n], expected(how, packed)[:n], rtol=0, atol=0)
    assert bool((out[n:] == -1).all())


@pytest.mark.parametrize("how", HOW)
def test_codes_that_are_overwritten_are_those_that_were_read(how):
    packed = torch.arange(256, dtype=torch.uint8).flip(0).contiguous()
    numbers, out, sums = expected(how, packed), torch.zeros(256), torch.zeros(1)
    given = packed.float()
    unpack_twice[(1,)](packed, out, sums, how, 256)
    torch.testing.assert_close(out, numbers * given, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(sums[0], numbers.sum(), rtol=1e-6, atol=1e-3)
    assert bool((packed == 1).all())


def test_a_code_takes_one_instruction_where_registers_can_be_picked_from():
    packed, out = torch.arange(64, dtype=torch.uint8), torch.zeros(64)
    kernel = unpack[(1,)](packed, out, 64, "centred", 64)
    text = kernel.asm["asm"]
    if "zmm" not in text:
        pytest.skip("the processor does not pick among 16 floats")
    assert ("vpermps" in text or "vpermd" in text) and "vcvt" not in text


@triton.jit
def many_steps(x, out, STEPS: tl.constexpr):
    i = tl.arange(0, 16)
    v = tl.load(x + i)
    for _ in tl.static_range(STEPS):
        v = v * 0.5 + 1.0
    tl.store(out + i, v)


def test_a_long_chain_of_constants_is_no_code():
    """It is walked from its end, without one call inside another for each of thousands of operations."""
    x, out = torch.randn(16), torch.zeros(16)
    many_steps[(1,)](x, out, 1200)
    torch.testing.assert_close(out, torch.full((16,), 2.0))
