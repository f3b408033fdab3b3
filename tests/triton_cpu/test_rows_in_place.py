"""A product that reads each row of its left matrix once reads it where it lies, if rows are memory from end to end."""

import subprocess
import sys

import pytest
import torch
import triton
import triton.language as tl

from .protected import before_the_end


@triton.jit
def by_rows(a, starts, b, out, M, N, K, runs, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """out[m] = Σ of `runs` products of K elements of a, from starts[m] on and one row of a further each, with b."""
    rows, cols, depth = tl.program_id(0) * BM + tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    start = tl.load(starts + rows, mask=rows < M, other=0)
    acc = tl.zeros([BM, BN], tl.float32)
    for run in range(runs):
        for k in range(0, K, BK):
            inside = depth < K - k
            x_at = a + start[:, None] + (run * K + k + depth)[None, :]
            x = tl.load(x_at, mask=(rows < M)[:, None] & inside[None, :], other=0.0)
            y_at = b + ((run * K + k + depth) * N)[:, None] + cols[None, :]
            y = tl.load(y_at, mask=inside[:, None] & (cols < N)[None, :], other=0.0)
            acc = tl.dot(x, y, acc, input_precision="ieee")
    tl.store(out + (rows * N)[:, None] + cols[None, :], acc, mask=(rows < M)[:, None] & (cols < N)[None, :])


def _whole(*shape, dtype):
    return torch.randint(-4, 5, shape).to(dtype)


def _run(a, starts, b, k, sides=(32, 64, 32)):
    """a: a row of numbers; b: [runs · k, n]."""
    (m,), n = starts.shape, b.shape[1]
    out = torch.full((m, n), -1.0)
    grid = (triton.cdiv(m, sides[0]),)
    by_rows[grid](a, starts, b, out, m, n, k, b.shape[0] // k, BM=sides[0], BN=sides[1], BK=sides[2])
    rows = torch.stack([a[start : start + b.shape[0]] for start in starts.tolist()])
    assert torch.equal(out, rows.float() @ b.float()), (m, n, k, sides)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [16, 32, 64])
@pytest.mark.parametrize("k", [5, 8, 32, 96])
def test_rows_that_lie_anywhere(dtype, columns, k):
    torch.manual_seed(0)
    for m, n, runs in ((1, columns, 1), (32, columns, 3), (45, columns - 3, 2)):
        a, b = _whole(1000, dtype=dtype), _whole(runs * k, n, dtype=dtype)
        # Odd places too, and rows that share elements.
        _run(a, torch.randint(0, 1000 - runs * k, (m,)), b, k, (32, columns, 32))


def test_rows_of_the_narrowest_products():
    for columns in (1, 2, 8):
        _run(_whole(500, dtype=torch.float32), torch.arange(40) * 7, _whole(24, columns, dtype=torch.float32), 12)


@triton.jit
def over_itself(x, w, M, BM: tl.constexpr, N: tl.constexpr):
    """x[m] = x[m] @ w, of all rows in one program; the sums of each tile are finished before all of x is read."""
    rows, cols = tl.arange(0, BM), tl.arange(0, N)
    where = x + (rows * N)[:, None] + cols[None, :]
    acc = tl.dot(tl.load(where), tl.load(w + (cols * N)[:, None] + cols[None, :]), input_precision="ieee")
    # What row m becomes is written where the last rows are read from.
    tl.store(x + ((M - 1 - rows) * N)[:, None] + cols[None, :], acc)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("columns", [32, 64])
def test_rows_are_read_before_they_are_overwritten(dtype, columns):
    x, w = _whole(64, columns, dtype=dtype), _whole(columns, columns, dtype=dtype)
    expected = (x.float() @ w.float()).to(dtype).flip(0)
    over_itself[(1,)](x, w, 64, BM=64, N=columns)
    assert torch.equal(x, expected)


def _rows_at_the_end_of_memory():
    torch.manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        for m, n, k, runs in [(32, 32, 32, 1), (32, 64, 24, 2), (17, 32, 30, 1), (40, 16, 7, 3), (33, 32, 33, 1)]:
            a = before_the_end(1, 300, dtype)[0]
            b = before_the_end(runs * k, n, dtype)
            starts = torch.randint(0, 300 - runs * k, (m,))
            starts[-1] = 300 - runs * k
            _run(a, starts, b, k)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is protected by Linux's own call")
def test_nothing_behind_the_last_row_is_read():
    """In a process of its own, which a read behind the end ends."""
    call = f"from {__name__} import _rows_at_the_end_of_memory as run; run(); print('all right')"
    found = subprocess.run([sys.executable, "-c", call], capture_output=True, text=True, check=False)
    assert found.stdout == "all right\n", (found.returncode, found.stderr[-2000:])
