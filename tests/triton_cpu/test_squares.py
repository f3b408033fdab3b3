"""Blocks that are read along one dimension and written along another: against PyTorch's own transposition."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

TYPES = [torch.int8, torch.bfloat16, torch.float16, torch.int32, torch.float32, torch.int64, torch.float64, torch.bool]
SIZES = [(64, 64), (1, 1), (33, 17), (5, 64), (64, 7), (100, 130)]


@triton.jit
def turn(x, out, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
    """out[r, c] = x[c, r]"""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    c = tl.program_id(1) * COLS + tl.arange(0, COLS)
    mask = (r < rows)[:, None] & (c < cols)[None, :]
    tl.store(out + r[:, None] * cols + c[None, :], tl.load(x + r[:, None] + c[None, :] * rows, mask=mask), mask=mask)


def numbers(rows: int, cols: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(rows * cols) % 119).view(rows, cols).to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize(("rows", "cols"), SIZES)
def test_a_transposed_copy(rows: int, cols: int, dtype: torch.dtype) -> None:
    x = numbers(cols, rows, dtype)
    # What lies around the output stays.
    room = torch.full((rows * cols + 128,), 1, dtype=dtype)
    out = room[64:-64].view(rows, cols)
    compiled = turn[(triton.cdiv(rows, 64), triton.cdiv(cols, 32))](x, out, rows, cols, ROWS=64, COLS=32)
    assert torch.equal(out, x.t())
    assert "masked.gather" not in compiled.asm["llir"] and "masked.scatter" not in compiled.asm["llir"]
    assert (room[:64] == 1).all() and (room[-64:] == 1).all()


@pytest.mark.parametrize(("rows", "cols"), [(4, 4), (8, 64), (64, 8), (2, 128), (16, 16)])
def test_blocks_without_a_mask(rows: int, cols: int) -> None:
    @triton.jit
    def turn_whole(x, out, ROWS: tl.constexpr, COLS: tl.constexpr):
        r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
        tl.store(out + r * COLS + c, tl.load(x + r + c * ROWS))

    x, out = numbers(cols, rows, torch.float32), torch.empty(rows, cols)
    turn_whole[(1,)](x, out, ROWS=rows, COLS=cols)
    assert torch.equal(out, x.t())


def test_trans_of_what_was_loaded_in_order_and_a_block_with_its_own_transpose() -> None:
    @triton.jit
    def both(x, out, total, N: tl.constexpr):
        i, j = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
        v = tl.load(x + i * N + j)
        tl.store(out + i * N + j, tl.trans(v))
        tl.store(total + i * N + j, v + 2 * tl.trans(v))

    x = numbers(64, 64, torch.float32)
    out, total = torch.empty(64, 64), torch.empty(64, 64)
    both[(1,)](x, out, total, N=64)
    assert torch.equal(out, x.t())
    assert torch.equal(total, x + 2 * x.t())


def test_operands_of_other_types_masks_rows_and_columns() -> None:
    @triton.jit
    def mixed(x, y, row, col, out, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
        r, c = tl.arange(0, ROWS), tl.arange(0, COLS)
        mask = (r < rows)[:, None] & (c < cols)[None, :]
        a = tl.load(x + r[:, None] + c[None, :] * rows, mask=mask & (r[:, None] >= c[None, :]), other=-1)
        b = tl.load(y + r[:, None] * cols + c[None, :], mask=mask, other=0)
        by_row = tl.load(row + r, mask=r < rows)
        by_col = tl.load(col + c, mask=c < cols)
        total = a.to(tl.float32) * by_row[:, None] + b + by_col[None, :]
        tl.store(out + r[:, None] * cols + c[None, :], total, mask=mask)

    rows, cols = 50, 37
    x, y = numbers(cols, rows, torch.bfloat16), numbers(rows, cols, torch.float32)
    row, col, out = torch.arange(float(rows)), torch.arange(float(cols)), torch.empty(rows, cols)
    mixed[(1,)](x, y, row, col, out, rows, cols, ROWS=64, COLS=64)
    below = torch.ones(rows, cols, dtype=torch.bool).tril()
    assert torch.equal(out, torch.where(below, x.t().float(), -1.0) * row[:, None] + y + col)


def test_what_is_left_out_of_the_load_is_written_all_the_same() -> None:
    @triton.jit
    def padded(x, out, rows, cols, ROWS: tl.constexpr, COLS: tl.constexpr):
        r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
        v = tl.load(x + r + c * rows, mask=(r < rows) & (c < cols), other=7)
        tl.store(out + r * COLS + c, v)

    x, out = numbers(13, 21, torch.float32), torch.empty(32, 64)
    padded[(1,)](x, out, 21, 13, ROWS=32, COLS=64)
    expected = torch.full((32, 64), 7.0)
    expected[:21, :13] = x.t()
    assert torch.equal(out, expected)


def test_the_squares_of_a_stack_of_matrices() -> None:
    @triton.jit
    def stack(x, out, n, N: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
        i = tl.arange(0, N)[:, None, None]
        r, c = tl.arange(0, ROWS)[None, :, None], tl.arange(0, COLS)[None, None, :]
        at = i * ROWS * COLS
        tl.store(out + at + r * COLS + c, tl.load(x + at + r + c * ROWS, mask=i < n, other=0), mask=i < n)

    x, out = numbers(4 * 32, 16, torch.float16).view(4, 32, 16), torch.zeros(4, 16, 32, dtype=torch.float16)
    stack[(1,)](x, out, 3, N=4, ROWS=16, COLS=32)
    assert torch.equal(out[:3], x[:3].transpose(1, 2))
    assert (out[3] == 0).all()


def test_a_matrix_transposed_into_itself() -> None:
    x = numbers(48, 48, torch.float32)
    expected = x.t().clone()
    turn[(1, 1)](x, x, 48, 48, ROWS=64, COLS=64)
    assert torch.equal(x, expected)


def test_a_value_that_a_second_sink_reads_is_whole_though_the_store_ends_at_its_mask() -> None:
    @triton.jit
    def twice(x, out, sums, rows, ROWS: tl.constexpr, COLS: tl.constexpr):
        r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
        v = tl.exp(tl.load(x + r + c * ROWS))
        tl.store(out + r * COLS + c, v, mask=r < rows)
        tl.store(sums + tl.arange(0, ROWS), tl.sum(v, axis=1))

    x = torch.randn(64, 32)
    out, sums = torch.zeros(32, 64), torch.empty(32)
    twice[(1,)](x, out, sums, 5, ROWS=32, COLS=64)
    torch.testing.assert_close(out[:5], x.t()[:5].exp())
    assert (out[5:] == 0).all()
    torch.testing.assert_close(sums, x.exp().sum(0))
