"""Loops that read several rows at once. Rows are read one after the other where nothing tells the difference: what a
row gives is, to the last bit, what a program of that row alone gives."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def product(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    acc = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        cols = at + tl.arange(0, PIECE)
        v = tl.load(x + cols, mask=cols < k, other=0.0)
        mask = (rows[:, None] < n) & (cols[None, :] < k)
        acc += tl.load(w + rows[:, None] * k + cols[None, :], mask=mask, other=0.0) * v
    tl.store(out + rows, tl.sum(acc, 1), mask=rows < n)


@triton.jit
def advanced(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """Pointers advance, and the sum is taken in the loop."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    cols = tl.arange(0, PIECE)
    places, xs = w + rows[:, None] * k + cols[None, :], x + cols
    acc = tl.zeros((ROWS,), tl.float32)
    for left in range(k, 0, -PIECE):
        v = tl.load(xs, mask=cols < left, other=0.0)
        acc += tl.sum(tl.load(places, mask=(rows < n)[:, None] & (cols < left)[None, :], other=0.0) * v[None, :], 1)
        places += PIECE
        xs += PIECE
    tl.store(out + rows, acc, mask=rows < n)


@triton.jit
def spread(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """Three loops, each of which needs what the one before found of its row."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    first = tl.load(w + rows * k, mask=(rows < n) & (k > 0), other=0.0)
    total = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        cols = at + tl.arange(0, PIECE)
        mask = (rows[:, None] < n) & (cols[None, :] < k)
        total += tl.where(mask, tl.load(w + rows[:, None] * k + cols[None, :], mask=mask) - first[:, None], 0.0)
    mean = first + tl.sum(total, 1) / k
    squares, largest = tl.zeros((ROWS, PIECE), tl.float32), tl.full((ROWS,), float("-inf"), tl.float32)
    for at in range(0, k, PIECE):
        cols = at + tl.arange(0, PIECE)
        mask = (rows[:, None] < n) & (cols[None, :] < k)
        apart = tl.where(mask, tl.load(w + rows[:, None] * k + cols[None, :], mask=mask) - mean[:, None], 0.0)
        squares += apart * apart
        largest = tl.maximum(largest, tl.max(apart, 1))
    variance = tl.sum(squares, 1) / k
    total = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        cols = at + tl.arange(0, PIECE)
        mask = (rows[:, None] < n) & (cols[None, :] < k)
        apart = tl.load(w + rows[:, None] * k + cols[None, :], mask=mask, other=float("-inf")) - mean[:, None]
        total += tl.exp(apart - largest[:, None])
    tl.store(out + rows, variance + largest + tl.log(tl.sum(total, 1)), mask=rows < n)


@triton.jit
def listed(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """Which rows there are is read from memory, and they are read backwards."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    table = (x + k).to(tl.pointer_type(tl.int32))
    found = n - 1 - tl.load(table + rows, mask=rows < n, other=0)
    acc = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        cols = at + tl.arange(0, PIECE)
        v = tl.load(w + found[:, None].to(tl.int64) * k + cols[None, :], mask=cols[None, :] < k, other=0.0)
        acc = tl.where(v > acc, v, acc)
    tl.store(out + rows, tl.max(acc, 1), mask=rows < n)


@triton.jit
def in_groups(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """A loop in the loop, a branch, a scan along the row, and halves that are joined."""
    rows = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    acc = tl.zeros((ROWS,), tl.float32)
    for group in range(0, k, 4 * PIECE):
        part = tl.zeros((ROWS, PIECE), tl.float32)
        for at in range(group, min(group + 4 * PIECE, k), PIECE):
            cols = at + tl.arange(0, PIECE)
            mask = (rows[:, None] < n) & (cols[None, :] < k)
            v = tl.load(w + rows[:, None] * k + cols[None, :], mask=mask, other=0.0)
            if at % (2 * PIECE) == 0:
                v = tl.cumsum(v, 1)
            part += tl.sum(tl.reshape(tl.join(v, 2 * v), (ROWS, PIECE, 2)), 2)
        acc = 0.5 * acc + tl.sum(part, 1)
    tl.store(out + rows, acc, mask=rows < n)


@triton.jit
def kept_whole(w, x, out, n, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """It is the blocks themselves that are needed behind the loop."""
    rows, lanes = tl.program_id(0) * ROWS + tl.arange(0, ROWS), tl.arange(0, PIECE)
    acc = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        mask = (rows[:, None] < n) & (at + lanes[None, :] < k)
        acc += tl.load(w + rows[:, None] * k + at + lanes[None, :], mask=mask, other=0.0)
    tl.store(out + rows, tl.sum(tl.where(lanes[None, :] % 3 == 0, acc, 1.0), 1) - tl.max(acc, 1), mask=rows < n)


TURNED = [product, advanced, spread, listed, in_groups, kept_whole]


def run(kernel, num_rows, length, rows, piece):
    torch.manual_seed(0)
    w = torch.randn(num_rows, length)
    table = torch.randperm(num_rows, dtype=torch.int32)
    x = torch.cat([torch.randn(length), table.view(torch.float32)])
    out = torch.full((num_rows,), float("nan"))
    compiled = kernel[(triton.cdiv(num_rows, rows),)](w, x, out, num_rows, length, rows, piece)
    return w, x[:length], table, out, compiled


@pytest.mark.parametrize("shape", [(48, 512), (37, 301), (5, 7), (3, 0)], ids=str)
@pytest.mark.parametrize("kernel", TURNED, ids=lambda kernel: kernel.__name__)
def test_a_row_gives_what_it_gives_alone(kernel, shape):
    *_, alone, _ = run(kernel, *shape, 1, 64)
    for rows in (2, 16):
        *_, out, compiled = run(kernel, *shape, rows, 64)
        assert out.equal(alone) or out.nan_to_num(7.0).equal(alone.nan_to_num(7.0))
        assert "insert" in compiled.asm["tir"]


def test_the_rows_are_right():
    for kernel in (product, advanced):
        w, x, _, out, _ = run(kernel, 37, 301, 16, 64)
        torch.testing.assert_close(out, w @ x)
    w, _, _, out, _ = run(spread, 37, 301, 16, 64)
    apart = w - w.mean(1, keepdim=True)
    torch.testing.assert_close(out, apart.square().mean(1) + apart.amax(1) + (apart - apart.amax(1, True)).logsumexp(1))
    w, _, table, out, _ = run(listed, 37, 301, 16, 64)
    torch.testing.assert_close(out, w.flip(0)[table.long()].amax(1), rtol=0, atol=0)


@triton.jit
def shifted(w, out, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """Writes to the row behind the one that it reads."""
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PIECE)
    acc = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        v = tl.load(w + rows[:, None] * k + at + lanes[None, :])
        tl.store(w + (rows[:, None] + 1) * k + at + lanes[None, :], v + 1)
        acc += v
    tl.store(out + rows, tl.sum(acc, 1))


@triton.jit
def taken_together(w, out, k, WAY: tl.constexpr, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """A row's sum takes in the rows before it, or each trip takes the mean of all rows from every row."""
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PIECE)
    acc = tl.zeros((ROWS, PIECE), tl.float32)
    for at in range(0, k, PIECE):
        v = tl.load(w + rows[:, None] * k + at + lanes[None, :])
        if WAY == "before it":
            acc += tl.cumsum(v, 0)
        else:
            acc += v - (tl.sum(v, 0) / ROWS)[None, :]
    tl.store(out + rows, tl.sum(acc, 1))


@triton.jit
def turned_about(w, out, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """What a row gives ends up in another one."""
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PIECE)
    acc = tl.zeros((ROWS,), tl.float32)
    for at in range(0, k, PIECE):
        acc += tl.flip(tl.sum(tl.load(w + rows[:, None] * k + at + lanes[None, :]), 1), 0)
    tl.store(out + rows, acc)



APART = [
    (shifted, (), lambda w: w.sum(1)),
    (taken_together, ("before it",), lambda w: w.cumsum(0).sum(1)),
    (taken_together, ("all",), lambda w: (w - w.mean(0)).sum(1)),
    (turned_about, (), lambda w: w.flip(0).sum(1)),
]


@pytest.mark.parametrize(("kernel", "way", "expected"), APART, ids=lambda each: getattr(each, "__name__", ""))
def test_rows_that_know_of_each_other_stay_together(kernel, way, expected):
    torch.manual_seed(0)
    w = torch.randn(17, 256)
    out, right = torch.empty(16), expected(w[:16].clone())
    kernel[(1,)](w, out, 256, *way, 16, 64)
    torch.testing.assert_close(out, right)
    if kernel is shifted:
        torch.manual_seed(0)
        torch.testing.assert_close(w[1:], torch.randn(17, 256)[:16] + 1)


@triton.jit
def what_all_share(w, x, out, total, k, ROWS: tl.constexpr, PIECE: tl.constexpr):
    """The sum of `x` is asked for, too, once for all rows."""
    rows, lanes = tl.arange(0, ROWS), tl.arange(0, PIECE)
    acc, every = tl.zeros((ROWS, PIECE), tl.float32), tl.zeros((PIECE,), tl.float32)
    for at in range(0, k, PIECE):
        v = tl.load(x + at + lanes)
        every += v
        acc += tl.load(w + rows[:, None] * k + at + lanes[None, :]) * v
    tl.store(out + rows, tl.sum(acc, 1))
    tl.store(total, tl.sum(every, 0))


def test_what_all_rows_share_is_there_behind_the_loop():
    torch.manual_seed(0)
    w, x, out, total = torch.randn(8, 192), torch.randn(192), torch.empty(8), torch.empty(1)
    what_all_share[(1,)](w, x, out, total, 192, 8, 64)
    torch.testing.assert_close(out, w @ x)
    torch.testing.assert_close(total[0], x.sum())


@triton.jit
def of_planes(w, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr, K: tl.constexpr, PIECE: tl.constexpr):
    """Blocks of three dimensions, two of which are rows; their sizes are the same."""
    planes, rows, lanes = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, PIECE)
    acc = tl.zeros((ROWS, COLUMNS, PIECE), tl.float32)
    for at in range(0, K, PIECE):
        place = (planes[:, None, None] * COLUMNS + rows[None, :, None]) * K + at + lanes[None, None, :]
        acc += tl.load(w + place)
    tl.store(out + planes[:, None] * COLUMNS + rows[None, :], tl.sum(acc, 2))


def test_blocks_of_three_dimensions():
    torch.manual_seed(0)
    w, out = torch.randn(8, 8, 320), torch.empty(8, 8)
    of_planes[(1,)](w, out, 8, 8, 320, 64)
    torch.testing.assert_close(out, w.sum(2))
