"""Products whose blocks reach beyond the matrices: what masks leave out is left out, and nothing else."""

import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl

from tessera.compiler.targets.rows import ROWS

from .protected import before_the_end

TYPES = [torch.float32, torch.bfloat16, torch.float64, torch.int8]
SHAPES = [(1, 1, 1), (4, 17, 33), (33, 5, 40), (64, 32, 64), (65, 33, 66), (16, 64, 100), (0, 8, 8), (8, 8, 0)]


@triton.jit
def product(
    a, b, out, M, N, K, WRAP: tl.constexpr, HOW: tl.constexpr, ACC: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """As authors write it: offsets that wrap round, or masks; the store's mask made before the loop or after it."""
    pid_m, pid_n = tl.program_id(0), tl.program_id(1)
    if HOW == "early return":  # noqa: SIM102 (one is decided when it is compiled, the other when it runs)
        if pid_m * BM >= M:
            return
    rows, cols, depth = pid_m * BM + tl.arange(0, BM), pid_n * BN + tl.arange(0, BN), tl.arange(0, BK)
    a_rows, b_cols = (rows % M, cols % N) if WRAP else (rows, cols)
    a_at, b_at = a + a_rows[:, None] * K + depth[None, :], b + depth[:, None] * N + b_cols[None, :]
    acc = tl.zeros([BM, BN], ACC)
    for k in range(0, K, BK):
        a_mask, b_mask = depth[None, :] < K - k, depth[:, None] < K - k
        if not WRAP:
            a_mask, b_mask = a_mask & (rows[:, None] < M), b_mask & (cols[None, :] < N)
        acc = tl.dot(tl.load(a_at, mask=a_mask, other=0), tl.load(b_at, mask=b_mask, other=0), acc, out_dtype=ACC)
        a_at += BK
        b_at += BK * N
    if HOW == "twice":
        tl.store(out + M * N + rows[:, None] * N + cols[None, :], acc * 2, mask=(rows[:, None] < M - 3) & (cols < N))
    if HOW == "transposed":
        tl.store(out + cols[:, None] * M + rows[None, :], acc.trans(), mask=(cols[:, None] < N) & (rows[None, :] < M))
    else:
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
        limit = tl.minimum(M, (pid_m + 1) * BM)
        tl.store(out + rows[:, None] * N + cols[None, :], acc, mask=(rows[:, None] < limit) & (cols[None, :] < N))


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("wrap", [False, True], ids=["masks", "wraps"])
@pytest.mark.parametrize("how", ["after", "twice", "transposed", "early return"])
def test_a_product_of_any_shape(dtype, wrap, how):
    torch.manual_seed(0)
    sums = {torch.float64: tl.float64, torch.int8: tl.int32}.get(dtype, tl.float32)
    wide = {torch.float64: torch.float64, torch.int8: torch.int32}.get(dtype, torch.float32)
    for m, n, k in SHAPES:
        if wrap and 0 in (m, n):
            continue  # a remainder of zero
        a, b = torch.randint(-4, 5, (m, k)).to(dtype), torch.randint(-4, 5, (k, n)).to(dtype)
        out = torch.full((2 * m * n + 5,), 99).to(wide)
        grid = (triton.cdiv(m, 32) + 1, max(1, triton.cdiv(n, 64)))
        product[grid](a, b, out, m, n, k, wrap, how, sums, 32, 64, 32)
        expected = (a.double() @ b.double()).to(wide)
        if how == "transposed":
            expected = expected.t()
        assert torch.equal(out[: m * n], expected.reshape(-1)), (m, n, k)
        twice = out[m * n : 2 * m * n].view(m, n)
        seen = max(m - 3, 0) if how == "twice" else 0
        if how == "twice":
            assert torch.equal(twice[:seen], 2 * expected[:seen])
        assert bool((twice[seen:] == 99).all()) and bool((out[2 * m * n :] == 99).all())


@triton.jit
def with_sums(a, b, out, M, N, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, AXIS: tl.constexpr):
    rows, cols, depth = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    x = tl.load(a + rows[:, None] * BK + depth[None, :], mask=rows[:, None] < M, other=0.0)
    y = tl.load(b + depth[:, None] * BN + cols[None, :], mask=cols[None, :] < N, other=0.0)
    acc = tl.dot(x, y)
    if AXIS == 0:
        tl.store(out + cols, tl.sum(acc, axis=0), mask=cols < N)
    else:
        tl.store(out + rows, tl.sum(acc, axis=1), mask=rows < M)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_is_summed_over_is_computed_whole(axis):
    """A row of zeros times an infinity is NaN: the operands' masks alone leave nothing out."""
    a, b = torch.ones(32, 32), torch.ones(32, 64)
    out = torch.zeros(64)
    (b if axis == 0 else a)[3, 5] = float("inf")
    with_sums[(1,)](a, b, out, 20, 40, 32, 64, 32, axis)
    x, y = a.clone(), b.clone()
    x[20:], y[:, 40:] = 0, 0
    expected = (x @ y).sum(axis)
    seen = 40 if axis == 0 else 20
    torch.testing.assert_close(out[:seen], expected[:seen], equal_nan=True)
    assert out[:seen].isnan().any()


@triton.jit
def one_side_masked(a, b, out, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    rows, cols, depth = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    x = tl.load(a + rows[:, None] * BK + depth[None, :], mask=depth[None, :] < K, other=0.0)
    y = tl.load(b + depth[:, None] * BN + cols[None, :])
    tl.store(out + rows[:, None] * BN + cols[None, :], tl.dot(x, y))


def test_depth_that_one_operand_masks_is_multiplied_all_the_same():
    a, b, out = torch.ones(16, 32), torch.ones(32, 16), torch.zeros(16, 16)
    b[31, 3] = float("nan")
    one_side_masked[(1,)](a, b, out, 10, 16, 16, 32)
    assert out[:, 3].isnan().all() and torch.equal(out[:, :3], torch.full((16, 3), 10.0))


@triton.jit
def filled(a, b, out, K, BM: tl.constexpr, BK: tl.constexpr):
    rows, depth = tl.arange(0, BM), tl.arange(0, BK)
    x = tl.load(a + rows[:, None] * BK + depth[None, :], mask=depth[None, :] < K, other=1.0)
    y = tl.load(b + depth[:, None] * BM + rows[None, :], mask=depth[:, None] < K, other=2.0)
    tl.store(out + rows[:, None] * BM + rows[None, :], tl.dot(x, y))


def test_depth_filled_with_something_else_counts():
    a, b, out = torch.ones(16, 32), torch.ones(32, 16), torch.zeros(16, 16)
    filled[(1,)](a, b, out, 10, 16, 32)
    assert torch.equal(out, torch.full((16, 16), 10.0 + 22 * 2))


@triton.jit
def triangle(a, b, out, STEPS: tl.constexpr, BM: tl.constexpr):
    """In each trip more rows of what the trips before have summed are stored."""
    rows = tl.arange(0, BM)
    where = rows[:, None] * BM + rows[None, :]
    acc = tl.zeros([BM, BM], tl.float32)
    x, y = tl.load(a + where), tl.load(b + where)
    for step in range(STEPS):
        tl.store(out + step * BM * BM + where, acc, mask=(rows[:, None] < step * 7) & (rows[None, :] < step * 9))
        acc = tl.dot(x, y, acc)


def test_the_mask_of_a_later_trip_is_not_that_of_this_one():
    size, steps = 32, 5
    a, b = torch.randint(-3, 4, (2, size, size)).float()
    out = torch.full((steps, size, size), -1.0)
    triangle[(1,)](a, b, out, steps, size)
    for step in range(steps):
        expected = torch.full((size, size), -1.0)
        expected[: step * 7, : step * 9] = (a @ b)[: step * 7, : step * 9] * step
        assert torch.equal(out[step], expected), step


@triton.jit
def attention(q, k, v, out, N, LATE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, D: tl.constexpr):
    """Scores beyond the keys are replaced before they are looked at; the mask is made after the product."""
    rows, cols, d = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, D)
    x = tl.load(q + rows[:, None] * D + d[None, :], mask=rows[:, None] < N, other=0.0)
    top, total = tl.full([BM], -float("inf"), tl.float32), tl.zeros([BM], tl.float32)
    acc = tl.zeros([BM, D], tl.float32)
    for start in range(0, N, BN):
        y = tl.load(k + (start + cols)[None, :] * D + d[:, None], mask=(start + cols)[None, :] < N, other=0.0)
        z = tl.load(v + (start + cols)[:, None] * D + d[None, :], mask=(start + cols)[:, None] < N, other=0.0)
        scores = tl.dot(x, y)
        scores = tl.where((start + cols)[None, :] < N, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        p = tl.exp(scores - higher[:, None])
        scale = tl.exp(top - higher)
        total = total * scale + tl.sum(p, 1)
        acc = tl.dot(p, z, acc * scale[:, None])
        top = higher
    if LATE:
        rows = tl.program_id(0) * BM + tl.arange(0, BM)
    tl.store(out + rows[:, None] * D + d[None, :], acc / total[:, None], mask=rows[:, None] < N)


@pytest.mark.parametrize("n", [1, 17, 32, 33, 70])
def test_attention_over_any_number_of_keys(n):
    torch.manual_seed(n)
    q, k, v = torch.randn(3, n, 32)
    out = torch.full((n + 1, 32), 7.0)
    attention[(triton.cdiv(n, 32),)](q, k, v, out, n, True, 32, 32, 32)
    expected = torch.softmax(q @ k.T, -1) @ v
    torch.testing.assert_close(out[:n], expected, rtol=1e-5, atol=1e-5)
    assert bool((out[n] == 7).all())


@triton.jit
def late_mask(a, b, out, n, STEPS: tl.constexpr, SIZE: tl.constexpr):
    i = tl.arange(0, SIZE)
    at = i[:, None] * SIZE + i[None, :]
    acc = tl.dot(tl.load(a + at), tl.load(b + at))
    limit = n
    for _ in tl.static_range(STEPS):
        limit = (limit + limit) % 17 + tl.minimum(limit, n)
    tl.store(out + at, acc, mask=(i[:, None] < limit) & (i[None, :] < limit))


@pytest.mark.parametrize("steps", [0, 3, 30, 400])
def test_a_mask_that_takes_long_to_make(steps):
    a, b = torch.randint(-3, 4, (2, 32, 32)).float()
    out, n = torch.full((32, 32), -1.0), 9
    late_mask[(1,)](a, b, out, n, steps, 32)
    limit = n
    for _ in range(steps):
        limit = (limit + limit) % 17 + min(limit, n)
    expected = torch.full((32, 32), -1.0)
    expected[:limit, :limit] = (a @ b)[:limit, :limit]
    assert torch.equal(out, expected)


def test_the_tile_ir_says_how_much_of_a_product_is_needed():
    a, b, out = torch.ones(40, 40), torch.ones(40, 40), torch.zeros(40, 40)
    kernel = product[(2, 1)](a, b, out, 40, 40, 40, True, "after", tl.float32, 32, 64, 32)
    [line] = [line for line in kernel.asm["tir"].splitlines() if " dot " in line]
    for side in ("rows ", "columns ", "depth "):
        assert side in line, line


@pytest.mark.parametrize("target", ROWS, ids=lambda target: target.name)
def test_tiles_of_registers_fit_into_blocks(target):
    """A tile that is no part of a block would be written beyond its end."""
    assert all(side & (side - 1) == 0 for side in target.tile)


def _products_at_the_end_of_memory():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        for m, n, k in [(32, 64, 24), (17, 64, 32), (32, 48, 32), (9, 33, 96), (40, 80, 100), (64, 65, 56), (3, 5, 7)]:
            for turned in (False, True):
                a = before_the_end(m, k, dtype)
                b = before_the_end(n, k, dtype).t() if turned else before_the_end(k, n, dtype)
                out = torch.full((m, n), -1.0)
                grid = (triton.cdiv(m, 32), triton.cdiv(n, 64))
                strided[grid](a, b, out, m, n, k, *a.stride(), *b.stride(), 32, 64, 64)
                assert torch.equal(out, a.float() @ b.float()), (dtype, m, n, k, turned)


@triton.jit
def strided(
    a, b, out, M, N, K, a_m, a_k, b_k, b_n, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    rows, cols = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN)
    depth = tl.arange(0, BK)
    acc = tl.zeros([BM, BN], tl.float32)
    for k in range(0, K, BK):
        x_at, y_at = rows[:, None] * a_m + (k + depth)[None, :] * a_k, (k + depth)[:, None] * b_k + cols[None, :] * b_n
        x = tl.load(a + x_at, mask=(rows < M)[:, None] & (depth < K - k)[None, :], other=0.0)
        y = tl.load(b + y_at, mask=(depth < K - k)[:, None] & (cols < N)[None, :], other=0.0)
        acc = tl.dot(x, y, acc)
    tl.store(out + rows[:, None] * N + cols[None, :], acc, mask=(rows[:, None] < M) & (cols[None, :] < N))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is protected by Linux's own call")
def test_nothing_behind_the_end_of_memory_is_read():
    """In a process of its own, which a read behind the end ends."""
    call = f"from {__name__} import _products_at_the_end_of_memory as run; run(); print('all right')"
    found = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert found.stdout == "all right\n", (found.returncode, found.stderr[-2000:])


@triton.jit
def called(a_at, b_at, out_at):
    tl.store(out_at, tl.dot(tl.load(a_at), tl.load(b_at)))


@triton.jit
def one_product(a, b, out, INSIDE: tl.constexpr, N: tl.constexpr):
    at = tl.program_id(0) * N * N + tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
    if INSIDE:
        tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at).trans()))
    else:
        called(a + at, b + at.trans(), out + at)


@pytest.mark.parametrize("inside", [True, False])
def test_what_the_next_product_reads_is_fetched_ahead(inside):
    a, b = torch.randint(-3, 4, (2, 5, 64, 64)).float()
    out = torch.zeros(5, 64, 64)
    kernel = one_product[(5,)](a, b, out, inside, 64)
    assert torch.equal(out, a @ b.transpose(1, 2))
    assert "llvm.prefetch" in kernel.asm["llir"]
