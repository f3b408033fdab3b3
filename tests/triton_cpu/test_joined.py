"""Blocks that are split and joined again: interleaved pairs, and the butterflies of Fourier and Hadamard transforms."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def butterfly(x, SIZE: tl.constexpr, STRIDE: tl.constexpr):
    pairs = tl.permute(tl.reshape(x, (SIZE // (2 * STRIDE), 2, STRIDE)), (0, 2, 1))
    a, b = tl.split(pairs)
    return tl.reshape(tl.permute(tl.join(a + b, a - b), (0, 2, 1)), (SIZE,))


@triton.jit
def hadamard(x, out, SIZE: tl.constexpr, STAGES: tl.constexpr):
    at = tl.arange(0, SIZE)
    y = tl.load(x + at)
    for stage in tl.static_range(STAGES):
        y = butterfly(y, SIZE, 1 << (STAGES - 1 - stage))
    tl.store(out + at, y)


def transformed(x: torch.Tensor) -> torch.Tensor:
    stride = 1
    while stride < x.numel():
        pairs = x.view(-1, 2, stride)
        x = torch.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], 1).reshape(-1)
        stride *= 2
    return x


@pytest.mark.parametrize("size", [2, 4, 16, 64, 256, 1024])
def test_a_hadamard_transform(size):
    x = torch.randint(-100, 100, (size,), dtype=torch.int32)
    out = torch.empty_like(x)
    hadamard[(1,)](x, out, size, size.bit_length() - 1)
    assert torch.equal(out, transformed(x))


def test_the_code_of_a_transform_grows_with_its_stages_not_with_its_size():
    def lines(size: int) -> int:
        x = torch.zeros(size)
        return hadamard.warmup(x, x, size, size.bit_length() - 1, grid=(1,)).asm["llir"].count("\n")

    assert lines(4096) < 2 * lines(256)


@triton.jit
def interleaved(x, y, out, n, SIZE: tl.constexpr):
    at, both = tl.arange(0, SIZE), tl.arange(0, 2 * SIZE)
    a, b = tl.load(x + at, mask=at < n, other=3), tl.load(y + at, mask=at < n, other=4)
    tl.store(out + both, tl.interleave(a + 1, b * 2), mask=both < 2 * n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.int8, torch.int64])
@pytest.mark.parametrize("n, size", [(1, 1), (2, 2), (13, 16), (64, 64), (100, 128)])
def test_two_blocks_are_interleaved(n, size, dtype):
    x, y = (torch.arange(n).remainder(50).to(dtype) + bias for bias in (0, 7))
    out = torch.full((2 * size,), -1, dtype=dtype)
    interleaved[(1,)](x, y, out, n, size)
    assert torch.equal(out[: 2 * n], torch.stack([x + 1, y * 2], 1).flatten()) and (out[2 * n :] == -1).all()


@triton.jit
def four_in_a_byte(packed, out, ROWS: tl.constexpr, SIZE: tl.constexpr):
    row = tl.arange(0, ROWS)[:, None]
    p = tl.load(packed + row * SIZE + tl.arange(0, SIZE)[None, :])
    numbers = tl.interleave(tl.interleave(p & 3, (p >> 4) & 3), tl.interleave((p >> 2) & 3, p >> 6))
    tl.store(out + row * (4 * SIZE) + tl.arange(0, 4 * SIZE)[None, :], numbers > 1)
    pairs = tl.join(p & 15, p >> 4)
    last = tl.arange(0, 2)[None, None, :]
    place = row[:, :, None] * (2 * SIZE) + tl.arange(0, SIZE)[None, :, None] * 2 + last
    tl.store(packed + ROWS * SIZE + place, pairs + last.to(tl.uint8))


@pytest.mark.parametrize("rows, size", [(1, 1), (2, 8), (4, 32)])
def test_joined_twice_and_in_rows(rows, size):
    packed = torch.randint(0, 256, (rows, size), dtype=torch.uint8)
    memory = torch.cat([packed.flatten(), torch.zeros(2 * packed.numel(), dtype=torch.uint8)])
    out = torch.zeros(rows, 4 * size, dtype=torch.bool)
    four_in_a_byte[(1,)](memory, out, rows, size)
    parts = torch.stack([(packed >> shift) & 3 for shift in (0, 2, 4, 6)], 2).flatten(1)
    assert torch.equal(out, parts > 1)
    assert torch.equal(memory[packed.numel() :], torch.stack([packed & 15, (packed >> 4) + 1], 2).flatten())


@triton.jit
def rotated(x, cos, sin, out, n, SIZE: tl.constexpr):
    pair, at = tl.arange(0, SIZE // 2), tl.arange(0, SIZE)
    a, b = tl.split(tl.reshape(tl.load(x + at, mask=at < n, other=0.0), (SIZE // 2, 2)))
    c, s = tl.load(cos + pair, mask=pair < n // 2), tl.load(sin + pair, mask=pair < n // 2)
    tl.store(out + at, tl.interleave(a * c - b * s, a * s + b * c), mask=at < n)


@pytest.mark.parametrize("n", [2, 30, 64, 120])
def test_rotary_pairs(n):
    x, angle = torch.randn(n), torch.randn(n // 2)
    out = torch.zeros(n + 8)
    rotated[(1,)](x, angle.cos(), angle.sin(), out, n, 128)
    want = torch.view_as_real(torch.view_as_complex(x.view(-1, 2)) * torch.polar(torch.ones_like(angle), angle))
    torch.testing.assert_close(out[:n], want.flatten())
    assert not out[n:].any()
