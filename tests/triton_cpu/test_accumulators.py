"""A product that a loop sums up: `acc = zeros; for …: acc = dot(x, y, acc)`."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def summed(a, b, out, steps, scale, K: tl.constexpr, N: tl.constexpr, READ: tl.constexpr):
    rows, depth = tl.arange(0, N), tl.arange(0, K)
    acc = tl.zeros([N, N], tl.float32)
    for _ in range(1, steps + 1):
        x = tl.load(a + (rows * K)[:, None] + depth[None, :])
        y = tl.load(b + (depth * N)[:, None] + rows[None, :])
        if READ:
            acc = acc * scale
        acc = tl.dot(x, y, acc)
    tl.store(out + (rows * N)[:, None] + rows[None, :], acc)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("read", [False, True])
@pytest.mark.parametrize("steps", [-1, 0, 1, 2, 5])
def test_sums_begin_at_zero_however_often_the_loop_runs(dtype, read, steps):
    a, b, out = torch.randn(32, 16).to(dtype), torch.randn(16, 32).to(dtype), torch.full((32, 32), float("nan"))
    summed[(1,)](a, b, out, steps, 2.0, K=16, N=32, READ=read)
    times = (2 ** max(steps, 0) - 1) if read else max(steps, 0)
    torch.testing.assert_close(out, times * (a.float() @ b.float()), rtol=1e-4, atol=1e-3)


def test_the_same_loop_run_again_begins_again():
    @triton.jit
    def twice(a, out, n, N: tl.constexpr):
        at = (tl.arange(0, N) * N)[:, None] + tl.arange(0, N)[None, :]
        x = tl.load(a + at)
        for turn in range(2):
            acc = tl.zeros([N, N], tl.float32)
            for _ in range(n):
                acc = tl.dot(x, x, acc)
            tl.store(out + turn * N * N + at, acc)

    a, out = torch.randn(32, 32), torch.full((2, 32, 32), float("nan"))
    twice[(1,)](a, out, 3, N=32)
    torch.testing.assert_close(out, (3 * (a @ a)).expand(2, 32, 32), rtol=1e-4, atol=1e-3)


@triton.jit
def nested(a, out, first, outer, inner, BESIDE: tl.constexpr, N: tl.constexpr):
    """Sums that two loops carry; `BESIDE`: what else the outer one does with them."""
    at = (tl.arange(0, N) * N)[:, None] + tl.arange(0, N)[None, :]
    x, acc, kept = tl.load(a + at), tl.load(first + at), tl.zeros([N, N], tl.float32)
    for _ in range(outer):
        before = acc
        if BESIDE == "doubled before":
            before = acc * 2
        after = before
        for _ in range(inner):
            after = tl.dot(x, x, after)
        if BESIDE == "read after":
            after += acc
        if BESIDE == "swapped":
            acc, kept = kept, after
        elif BESIDE == "kept":
            kept += acc
            acc = after
        else:
            acc = after
    tl.store(out + at, acc)
    tl.store(out + N * N + at, kept)


@pytest.mark.parametrize("beside", ["", "doubled before", "read after", "swapped", "kept"])
@pytest.mark.parametrize(("outer", "inner"), [(0, 3), (1, 0), (3, 0), (2, 1), (3, 2)])
@pytest.mark.parametrize("size", [16, 64])
def test_sums_that_two_loops_carry(beside, outer, inner, size):
    torch.manual_seed(0)
    a, first = torch.randint(-1, 2, (2, size, size)).float()
    out = torch.full((2, size, size), float("nan"))
    nested[(1,)](a, out, first, outer, inner, beside, size)
    acc, kept = first, torch.zeros_like(first)
    for _ in range(outer):
        after = (acc * 2 if beside == "doubled before" else acc) + inner * (a @ a)
        if beside == "read after":
            after = after + acc
        if beside == "swapped":
            acc, kept = kept, after
        else:
            kept = kept + acc if beside == "kept" else kept
            acc = after
    assert torch.equal(out, torch.stack([acc, kept]))
