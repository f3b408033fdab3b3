"""Sorting networks: they exchange neighbours in blocks of many dimensions of two."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def sort_rows(x, out, N: tl.constexpr, M: tl.constexpr, DESCENDING: tl.constexpr):
    at = tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :]
    tl.store(out + at, tl.sort(tl.load(x + at), descending=DESCENDING))


@triton.jit
def largest(x, out, N: tl.constexpr, M: tl.constexpr, K: tl.constexpr):
    at = tl.arange(0, N)[:, None] * M + tl.arange(0, M)[None, :]
    tl.store(out + tl.arange(0, N)[:, None] * K + tl.arange(0, K)[None, :], tl.topk(tl.load(x + at), K))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.int32, torch.int64, torch.int8])
@pytest.mark.parametrize("shape", [(1, 2), (1, 64), (4, 4), (64, 8), (8, 256)])
def test_rows_are_sorted(shape, dtype):
    x = torch.randn(shape).mul(50).to(dtype)
    out = torch.empty_like(x)
    for descending in (False, True):
        sort_rows[(1,)](x, out, *shape, descending)
        assert torch.equal(out, x.sort(1, descending=descending)[0])


@pytest.mark.parametrize("k", [1, 2, 8, 32])
def test_the_largest_of_every_row(k):
    x = torch.randn(16, 64)
    out = torch.empty(16, k)
    largest[(1,)](x, out, 16, 64, k)
    assert torch.equal(out, x.topk(k, 1)[0])


def test_a_sort_of_a_thousand_compiles_to_little_code():
    x = torch.randn(4, 1024)
    out = torch.empty_like(x)
    compiled = sort_rows[(1,)](x, out, 4, 1024, False)
    assert torch.equal(out, x.sort(1)[0])
    assert "reduce" not in compiled.asm["tir"] and "exchange" in compiled.asm["tir"]
    assert len(compiled.asm["llir"].splitlines()) < 5000


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_neighbours_of_a_small_cube_are_exchanged(axis):
    @triton.jit
    def exchange(x, out, AXIS: tl.constexpr):
        at = tl.reshape(tl.arange(0, 32), (2, 2, 2, 2, 2))
        value = tl.load(x + at) + 1
        other = value ^ tl.xor_sum(value, AXIS, keep_dims=True)
        tl.store(out + at, other * 100 + value)

    x = torch.arange(32, dtype=torch.int32)
    out = torch.empty_like(x)
    exchange[(1,)](x, out, axis)
    cube = x.reshape(2, 2, 2, 2, 2) + 1
    assert torch.equal(out.reshape(cube.shape), cube.flip(axis) * 100 + cube)


def test_a_reshape_of_scratch_is_read_in_order():
    """Rows of one shape are read as rows of another without taking addresses apart element by element."""

    @triton.jit
    def reshape(x, out):
        at = tl.arange(0, 64)[:, None] * 64 + tl.arange(0, 64)[None, :]
        total = tl.cumsum(tl.load(x + at), 1)
        flat = tl.reshape(total, (4, 8, 128))
        place = tl.reshape(tl.arange(0, 4096), (4, 8, 128))
        tl.store(out + place, flat)

    x = torch.randint(-9, 9, (64, 64), dtype=torch.int32)
    out = torch.empty_like(x)
    compiled = reshape[(1,)](x, out)
    assert torch.equal(out, x.cumsum(1).int()) and "masked.gather" not in compiled.asm["llir"]
