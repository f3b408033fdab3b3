"""Elements that lie a few elements from each other, and blocks that a loop carries: against PyTorch's own indexing."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int8, torch.uint8, torch.int16, torch.int64]


def numbers(count: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(count) % 113).to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("apart", [-3, -2, -1, 2, 3, 4, 5])
@pytest.mark.parametrize("block", [2, 16, 128])
def test_every_nth_element(apart: int, dtype: torch.dtype, block: int) -> None:
    @triton.jit
    def pick(x, out, APART: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + at * APART))

    x, out = numbers(abs(apart) * (block - 1) + 1, dtype), torch.empty(block, dtype=dtype)
    start = 0 if apart > 0 else len(x) - 1
    pick[(1,)](x[start:], out, APART=apart, BLOCK=block)
    assert torch.equal(out, x[:: abs(apart)].flip(0) if apart < 0 else x[::apart])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8], ids=str)
@pytest.mark.parametrize("apart", [-1, 2, 3, 4])
@pytest.mark.parametrize("n", [0, 1, 63, 64, 65, 100, 128])
def test_every_nth_element_behind_a_mask(apart: int, dtype: torch.dtype, n: int) -> None:
    @triton.jit
    def pick(x, keep, out, n, APART: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + at * APART, at < n, other=7))
        kept = tl.load(keep + at) != 0
        tl.store(out + BLOCK + at, tl.load(x + at * APART, kept & (at < n), other=9))

    x, keep = numbers(4 * 128, dtype), torch.arange(128) % 3
    out = torch.empty(256, dtype=dtype)
    start = 0 if apart > 0 else 200
    pick[(1,)](x[start:], keep, out, n, APART=apart, BLOCK=128)
    at = torch.arange(128)
    taken = x[start + apart * at]
    assert torch.equal(out[:128], torch.where(at < n, taken, torch.tensor(7, dtype=dtype)))
    assert torch.equal(out[128:], torch.where((at < n) & (keep != 0), taken, torch.tensor(9, dtype=dtype)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int16], ids=str)
@pytest.mark.parametrize("end", ["at the end", "before the end", "at the start"])
@pytest.mark.parametrize("apart", [-1, 2, 3, 4])
def test_nothing_outside_is_read(apart: int, end: str, dtype: torch.dtype) -> None:
    """The elements lie at the very end, or from the very start on, of memory that may be read."""

    @triton.jit
    def pick(x, out, APART: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + at * APART))

    page = mmap.PAGESIZE
    with mmap.mmap(-1, 3 * page) as memory:
        whole = np.frombuffer(memory, dtype=np.uint8)
        base = whole.ctypes.data
        protect(base, page, 0)
        protect(base + 2 * page, page, 0)
        middle = torch.from_numpy(whole[page : 2 * page]).view(dtype)
        middle.copy_(torch.arange(len(middle)))
        out = torch.empty(64, dtype=dtype)
        first = len(middle) - 1 - (end == "before the end") - max(apart, 0) * 63
        if end == "at the start":
            first = 63 if apart < 0 else 0
        pick[(1,)](middle[first:], out, APART=apart, BLOCK=64)
        assert torch.equal(out, middle[first + apart * torch.arange(64)])
        protect(base, page, 3)
        protect(base + 2 * page, page, 3)
        del middle, whole


def protect(address: int, size: int, how: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), how):
        pytest.skip("this system does not protect pages")


def carried_sum(rows: int, cols: int) -> Callable[..., None]:
    @triton.jit
    def kernel(x, out, largest, num_rows, num_cols, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
        rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
        total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        most = tl.full((BLOCK_M, BLOCK_N), -float("inf"), tl.float32)
        for first in range(0, num_cols, BLOCK_N):
            cols = first + tl.arange(0, BLOCK_N)
            inside = (rows[:, None] < num_rows) & (cols[None, :] < num_cols)
            value = tl.load(x + rows[:, None] * num_cols + cols[None, :], inside, other=0.0)
            total += value
            most = tl.maximum(most, tl.where(inside, value, -float("inf")))
        tl.store(out + rows, tl.sum(total, 1), rows < num_rows)
        tl.store(largest + rows, tl.max(most, 1), rows < num_rows)

    return kernel


@pytest.mark.parametrize("block", [(1, 16), (1, 64), (1, 256), (2, 64), (4, 64), (8, 32), (16, 16), (4, 8)])
@pytest.mark.parametrize("shape", [(1, 1), (5, 63), (8, 64), (9, 200), (3, 1000)])
def test_blocks_that_a_loop_carries(block: tuple[int, int], shape: tuple[int, int]) -> None:
    x = torch.randint(-9, 10, shape).float()
    out, largest = torch.empty(shape[0]), torch.empty(shape[0])
    kernel = carried_sum(*block)
    kernel[(triton.cdiv(shape[0], block[0]),)](x, out, largest, *shape, BLOCK_M=block[0], BLOCK_N=block[1])
    assert torch.equal(out, x.sum(1)) and torch.equal(largest, x.amax(1))


def test_small_sums_stay_in_registers() -> None:
    """A row times a vector, as a decode step has it: the loop over columns stores nothing."""
    kernel = carried_sum(1, 64)
    x, out, largest = torch.randn(4, 512), torch.empty(4), torch.empty(4)
    compiled = kernel.warmup(x, out, largest, 4, 512, BLOCK_M=1, BLOCK_N=64, grid=(4,))
    vectors = [line for line in compiled.asm["llir"].splitlines() if " = phi <" in line and "float>" in line]
    assert len(vectors) >= 2 and "alloca" not in compiled.asm["llir"]
