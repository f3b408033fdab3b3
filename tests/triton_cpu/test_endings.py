"""A product that goes nowhere but to a store is stored from registers in the last trip of the loop that sums it."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def product(
    a, b, bias, out, M, N, K, stride_n,
    BIAS: tl.constexpr, ENDS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out = f(a @ b + bias) as tiles; `ENDS` is what happens to the sums besides."""
    rows = tl.program_id(0) * BM + tl.arange(0, BM)
    cols = tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], tl.float32)
    for k in range(0, K, BK):
        inside = depth < K - k
        x = tl.load(a + (rows * K)[:, None] + (k + depth)[None, :], (rows < M)[:, None] & inside[None, :], 0.0)
        y = tl.load(b + ((k + depth) * N)[:, None] + cols[None, :], (cols < N)[None, :] & inside[:, None], 0.0)
        acc = tl.dot(x, y, acc, input_precision="ieee")
    mask = (rows < M)[:, None] & (cols < N)[None, :]
    where = out + (rows * N * stride_n)[:, None] + (cols * stride_n)[None, :]
    if BIAS == "columns":
        acc += tl.load(bias + cols, cols < N, 0.0)[None, :]
    if BIAS == "matrix":
        acc += tl.load(bias + (rows * N)[:, None] + cols[None, :], mask, 0.0)
    if ENDS == "relu":
        acc = tl.maximum(acc * 0.5, 0.0)
    if ENDS == "seen before":
        tl.store(where, tl.full([BM, BN], 7.0, tl.float32), mask)
    if ENDS == "rows summed":
        acc += tl.sum(acc, 1)[:, None]
    tl.store(where, acc, mask)
    if ENDS == "stored twice":
        tl.store(where, acc * 2, mask)


def _run(a, b, *, bias=None, how="", ends="", out=None, sides=(32, 32, 16)):
    (m, k), n = a.shape, b.shape[1]
    out = torch.full((m, n), float("nan"), dtype=a.dtype) if out is None else out
    grid = (triton.cdiv(m, sides[0]), triton.cdiv(n, sides[1]))
    compiled = product[grid](a, b, bias, out, m, n, k, 1, BIAS=how, ENDS=ends, BM=sides[0], BN=sides[1], BK=sides[2])
    return out, "ending = store" in compiled.asm["tir"]


def _close(found, expected):
    away = 2e-2 if found.dtype is torch.bfloat16 else 1e-4
    torch.testing.assert_close(found.float(), expected.float(), rtol=away, atol=away)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("how", ["", "columns", "matrix"])
@pytest.mark.parametrize("ends", ["", "relu"])
@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 16), (64, 64, 64), (33, 47, 19), (1, 1, 1), (5, 70, 9), (40, 8, 0)])
def test_edges_trips_and_what_happens_to_the_sums(dtype, how, ends, m, n, k):
    a, b = torch.randn(m, k).to(dtype), torch.randn(k, n).to(dtype)
    bias = torch.randn(n if how == "columns" else (m, n)).to(dtype)
    expected = a.float() @ b.float() + (bias.float() if how else 0)
    found, ending = _run(a, b, bias=bias, how=how, ends=ends)
    _close(found, (expected * 0.5).relu() if ends else expected)
    # A whole matrix beside the sums is read row by row.
    assert ending == (how != "matrix") or m == 1


@pytest.mark.parametrize("ends", ["seen before", "rows summed", "stored twice"])
def test_sums_that_something_else_needs_or_comes_before(ends):
    a, b = torch.randn(40, 48), torch.randn(48, 32)
    expected = a @ b
    expected = expected + expected.sum(1, keepdim=True) if ends == "rows summed" else expected
    found, ending = _run(a, b, ends=ends)
    _close(found, expected * (2 if ends == "stored twice" else 1))
    assert not ending


def test_columns_that_lie_apart():
    a, b = torch.randn(32, 32), torch.randn(32, 32)
    out = torch.zeros(32, 64)
    product[(1, 1)](a, b, None, out, 32, 32, 32, 2, BIAS="", ENDS="", BM=32, BN=32, BK=16)
    _close(out[:, ::2], a @ b)
    assert not out[:, 1::2].any()


@pytest.mark.parametrize("moved", [0, 1, 40, -40])
@pytest.mark.parametrize("how", ["columns", "matrix"])
def test_a_bias_where_the_result_is_written_is_read_first(how, moved):
    a, b = torch.randn(32, 48), torch.randn(48, 32)
    memory = torch.randn(64 * 32)
    out = memory[512 : 512 + 1024].view(32, 32)
    bias = memory[512 + moved : 512 + moved + 1024]
    expected = a @ b + (bias[:32] if how == "columns" else bias.view(32, 32)).clone()
    _close(_run(a, b, bias=bias, how=how, out=out)[0], expected)


def test_a_result_that_takes_the_place_of_a_factor():
    a, b = torch.randn(32, 32), torch.randn(32, 32)
    expected = a @ b
    _close(_run(a, b, out=a)[0], expected)
    a = torch.randn(32, 32)
    expected = a @ b
    _close(_run(a, b, out=b)[0], expected)


def test_a_product_without_a_loop_and_one_in_the_loop_of_a_persistent_program():
    @triton.jit
    def persistent(a, b, out, tiles, steps, LOOP: tl.constexpr, N: tl.constexpr):
        at = (tl.arange(0, N) * N)[:, None] + tl.arange(0, N)[None, :]
        for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
            acc = tl.full([N, N], 1.0, tl.float32)
            if LOOP:
                for step in range(steps):
                    acc = tl.dot(tl.load(a + step * N * N + at), tl.load(b + tile * N * N + at), acc)
            else:
                acc = tl.dot(tl.load(a + at), tl.load(b + tile * N * N + at), acc)
            tl.store(out + tile * N * N + at, acc)

    a, b = torch.randint(-2, 3, (3, 32, 32)).float(), torch.randint(-2, 3, (5, 32, 32)).float()
    for loop, steps in ((True, 3), (True, 1), (True, 0), (False, 1)):
        out = torch.full((5, 32, 32), float("nan"))
        compiled = persistent[(2,)](a, b, out, 5, steps, LOOP=loop, N=32)
        assert "ending = store" in compiled.asm["tir"]
        torch.testing.assert_close(out, 1 + a[:steps].sum(0) @ b, rtol=0, atol=0)


def test_a_pointer_that_the_loop_moves():
    @triton.jit
    def moved(a, out, steps, N: tl.constexpr):
        at = (tl.arange(0, N) * N)[:, None] + tl.arange(0, N)[None, :]
        acc, where = tl.zeros([N, N], tl.float32), out
        for _ in range(steps):
            acc = tl.dot(tl.load(a + at), tl.load(a + at), acc)
            where += N * N
        tl.store(where + at, acc)

    a, out = torch.randn(16, 16), torch.zeros(4, 16, 16)
    moved[(1,)](a, out, 3, N=16)
    torch.testing.assert_close(out[3], 3 * (a @ a), rtol=1e-4, atol=1e-4)
    assert not out[:3].any()


def test_whole_numbers():
    @triton.jit
    def whole(a, b, out, scale, N: tl.constexpr, K: tl.constexpr):
        rows, depth = tl.arange(0, N), tl.arange(0, K)
        x = tl.load(a + (rows * K)[:, None] + depth[None, :])
        y = tl.load(b + (depth * N)[:, None] + rows[None, :])
        tl.store(out + (rows * N)[:, None] + rows[None, :], tl.dot(x, y).to(tl.float32) * tl.load(scale))

    a, b = torch.randint(-128, 128, (32, 64)).to(torch.int8), torch.randint(-128, 128, (64, 32)).to(torch.int8)
    out = torch.full((32, 32), float("nan"))
    whole[(1,)](a, b, out, torch.tensor([0.5]), N=32, K=64)
    torch.testing.assert_close(out, (a.int() @ b.int()).float() * 0.5, rtol=0, atol=0)
