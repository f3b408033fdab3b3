"""Loads and stores keep the order of the program, however they are fused into loops."""

import pytest
import torch
import triton
import triton.language as tl


def test_a_block_is_shifted_in_place():
    @triton.jit
    def shift(p, BLOCK: tl.constexpr, BY: tl.constexpr):
        at = tl.arange(0, BLOCK)
        inside = (at + BY >= 0) & (at + BY < BLOCK)
        moved = tl.load(p + at + BY, mask=inside)
        tl.store(p + at, moved, mask=inside)

    for by in (1, -1, 5):
        x = torch.arange(256.0)
        expected = x.clone()
        low, high = max(0, -by), 256 - max(0, by)
        expected[low:high] = x[low + by : high + by]
        shift[(1,)](x, BLOCK=256, BY=by)
        assert torch.equal(x, expected), by


def test_a_block_is_reversed_in_place():
    @triton.jit
    def reverse(p, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(p + BLOCK - 1 - at, tl.load(p + at))

    x = torch.arange(128.0)
    reverse[(1,)](x, BLOCK=128)
    assert torch.equal(x, torch.arange(128.0).flip(0))


def test_a_square_is_transposed_in_place():
    @triton.jit
    def turn(p, q, N: tl.constexpr):
        rows, cols = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
        tl.store(q + cols * N + rows, tl.load(p + rows * N + cols))

    x = torch.randn(32, 32)
    expected = x.t().clone()
    turn[(1,)](x, x, N=32)
    assert torch.equal(x, expected)


def test_a_square_is_turned_in_registers_and_stored_where_it_was():
    @triton.jit
    def turn(p, q, N: tl.constexpr):
        at = tl.arange(0, N)[:, None] * N + tl.arange(0, N)[None, :]
        tl.store(q + at, tl.trans(tl.load(p + at)))

    for x in (torch.randn(64, 64), torch.randn(4, 4)):
        expected = x.t().clone()
        turn[(1,)](x, x, N=len(x))
        assert torch.equal(x, expected)


def test_a_block_is_flipped_in_place():
    @triton.jit
    def flip(p, N: tl.constexpr):
        tl.store(p + tl.arange(0, N), tl.flip(tl.load(p + tl.arange(0, N)), 0))

    x = torch.arange(128.0)
    flip[(1,)](x, N=128)
    assert torch.equal(x, torch.arange(128.0).flip(0))


def test_a_scalar_store_does_not_reach_an_earlier_load():
    @triton.jit
    def overwrite(p, out, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        before = tl.load(p + at)
        tl.store(p + 3, 7.0)
        tl.store(out + at, before)

    x, out = torch.zeros(64), torch.ones(64)
    overwrite[(1,)](x, out, BLOCK=64)
    assert not out.any() and x[3] == 7


def test_an_atomic_does_not_reach_an_earlier_load():
    @triton.jit
    def count(p, out, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        before = tl.load(p + at)
        tl.atomic_add(p + 3, 7.0)
        tl.atomic_add(p + at, 1.0)
        tl.store(out + at, before)

    x, out = torch.zeros(64), torch.ones(64)
    count[(1,)](x, out, BLOCK=64)
    assert not out.any() and x[3] == 8 and x[4] == 1


def test_one_load_feeds_two_stores_of_which_the_first_overwrites_it():
    @triton.jit
    def both(x, y, z, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        value = tl.load(x + at)
        tl.store(y + at, value + 1)
        tl.store(z + at, value * 2)

    x, z = torch.randn(64), torch.empty(64)
    expected = x * 2
    both[(1,)](x, x, z, BLOCK=64)
    assert torch.equal(z, expected)


@pytest.mark.parametrize("steps", [1, 4])
def test_a_load_before_a_loop_keeps_what_it_read(steps):
    @triton.jit
    def loop(x, out, n, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        first = tl.load(x + at)
        total = tl.zeros((BLOCK,), tl.float32)
        for _ in range(n):
            total += first
            tl.store(x + at, total * 10)
        tl.store(out + at, total)

    x, out = torch.randn(64), torch.empty(64)
    expected = x * steps
    loop[(1,)](x, out, steps, BLOCK=64)
    torch.testing.assert_close(out, expected)


def test_two_carried_blocks_change_places():
    @triton.jit
    def swap(x, y, n, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        a, b = tl.load(x + at), tl.load(y + at)
        for _ in range(n):
            a, b = b, a + b
        tl.store(x + at, a)
        tl.store(y + at, b)

    x, y = torch.ones(64), torch.ones(64)
    swap[(1,)](x, y, 5, BLOCK=64)
    assert x.eq(8).all() and y.eq(13).all()


@pytest.mark.parametrize("flag", [1, 0])
def test_both_branches_scan_the_same_block(flag):
    @triton.jit
    def scan(x, out, flag, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        value = tl.load(x + at) + 1
        total = tl.cumsum(value, 0) if flag > 0 else -tl.cumsum(value, 0)
        tl.store(out + at, total)

    x, out = torch.ones(64), torch.empty(64)
    scan[(1,)](x, out, flag, BLOCK=64)
    assert torch.equal(out, torch.arange(2.0, 130, 2) * (1 if flag else -1))


@pytest.mark.parametrize(("n", "m"), [(0, 0), (1, 0), (1, 1)])
def test_a_block_is_changed_before_an_early_return(n, m):
    @triton.jit
    def leave(x, out, n, m, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        value = tl.load(x + at)
        if n > 0:
            value = value * 2
            if m > 0:
                tl.store(out + at, value)
                return
            value = value + 1
        tl.store(out + at, -value)

    x, out = torch.randn(64), torch.empty(64)
    leave[(1,)](x, out, n, m, BLOCK=64)
    assert torch.equal(out, {(0, 0): -x, (1, 0): -(2 * x + 1), (1, 1): 2 * x}[n, m])


@triton.jit
def doubled(x, y, rows, cols, x_stride, y_stride, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
    inside = (r < rows) & (c < cols)
    tl.store(y + r * y_stride + c, tl.load(x + r * x_stride + c, mask=inside) * 2, mask=inside)


@pytest.mark.parametrize("shift", [-300, -33, -16, -1, 0, 1, 16, 17, 40, 300])
@pytest.mark.parametrize("strides", [(40, 40), (40, 33), (33, 40), (1, 33), (0, 33)])
def test_a_block_is_read_whole_before_it_is_written_however_both_overlap(shift, strides):
    memory = torch.arange(2000.0)
    x, y = (memory.as_strided((8, 33), (stride, 1), at) for stride, at in zip(strides, (500, 500 + shift), strict=True))
    expected = memory.clone()
    # Where rows of the target overlap the last one stays.
    for row, values in enumerate(x.clone() * 2):
        expected[500 + shift + row * strides[1] : 500 + shift + row * strides[1] + 33] = values
    doubled[(1,)](x, y, 8, 33, *strides, ROWS=8, COLS=64)
    assert torch.equal(memory, expected)


def test_a_row_that_is_read_by_all_rows_may_be_one_of_them():
    @triton.jit
    def add_row(x, row, N: tl.constexpr):
        r, c = tl.arange(0, N)[:, None], tl.arange(0, N)[None, :]
        tl.store(x + r * N + c, tl.load(x + r * N + c) + tl.load(row + tl.arange(0, N))[None, :])

    for number in range(3):
        x = torch.randn(32, 32)
        expected = x + x[number]
        add_row[(1,)](x, x[number], N=32)
        assert torch.equal(x, expected)


def test_what_is_stored_reads_a_sum_of_rows_that_were_loaded_before():
    @triton.jit
    def scale(x, y, out, rows, R: tl.constexpr, C: tl.constexpr):
        r, c = tl.program_id(0) * R + tl.arange(0, R)[:, None], tl.arange(0, C)[None, :]
        total = tl.sum(tl.load(x + r * C + c, r < rows, other=0.0), 1)[:, None]
        v = tl.load(y + r * C + c, r < rows, other=0.0)
        tl.store(out + r * C + c, v - 2 * v * total, r < rows)

    x, y = torch.randint(-9, 9, (7, 64)).float(), torch.randint(-9, 9, (7, 64)).float()
    expected = y - 2 * y * x.sum(1, keepdim=True)
    for out in (torch.empty_like(y), y):
        scale[(4,)](x, y, out, 7, R=2, C=64)
        assert torch.equal(out, expected)


@triton.jit
def centre(x, y, n, BLOCK: tl.constexpr):
    row, at = tl.program_id(0), tl.arange(0, BLOCK)
    value = tl.load(x + row * n + at, mask=at < n, other=0.0)
    off = tl.where(at < n, value - tl.sum(value, axis=0) / n, 0.0)
    tl.store(y + row * n + at, off / tl.sqrt(tl.sum(off * off, axis=0)), mask=at < n)


@pytest.mark.parametrize("ahead", [0, 1, 16, 300, -1, -16])
def test_a_row_is_read_three_times_and_written_over_itself(ahead):
    memory = torch.randn(1000)
    x, y = memory[16:316], memory[16 + ahead : 316 + ahead]
    off = x.double() - x.double().mean()
    expected = off / off.norm()
    centre[(1,)](x, y, 300, BLOCK=512)
    torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 7), (5, 300), (64, 2048), (3, 40000)])
def test_rows_that_are_read_several_times_follow_each_other(shape):
    x = torch.randn(shape)
    y = torch.empty_like(x)
    compiled = centre[(shape[0],)](x, y, shape[1], BLOCK=triton.next_power_of_2(shape[1]))
    off = x.double() - x.double().mean(1, keepdim=True)
    torch.testing.assert_close(y.double(), off / off.norm(dim=1, keepdim=True), rtol=1e-4, atol=1e-5)
    assert ("llvm.prefetch" in compiled.asm["llir"]) == (shape[1] >= 300)


@pytest.mark.parametrize(("stride", "width"), [(2048, 2048), (2100, 2047), (0, 2048), (-2048, 2048), (64, 64)])
def test_rows_that_are_summed_once_are_fetched_one_ahead(stride, width):
    @triton.jit
    def sum_rows(x, y, stride, width, ROWS: tl.constexpr, BLOCK: tl.constexpr):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        at = tl.arange(0, BLOCK)
        value = tl.load(x + (row * stride)[:, None] + at[None, :], mask=(at < width)[None, :], other=0.0)
        tl.store(y + row, tl.sum(value, 1))

    memory = torch.randn(8 * 2100)
    start = 7 * 2048 if stride < 0 else 0
    y = torch.empty(8)
    compiled = sum_rows[(2,)](memory[start:], y, stride, width, ROWS=4, BLOCK=triton.next_power_of_2(width))
    expected = [memory[start + row * stride :][:width].double().sum() for row in range(8)]
    torch.testing.assert_close(y.double(), torch.stack(expected), rtol=1e-5, atol=1e-4)
    assert ("llvm.prefetch" in compiled.asm["llir"]) == (width > 1000)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.int8, torch.int64, torch.bool])
@pytest.mark.parametrize("start", [0, 1, 16])
def test_stores_past_the_caches_write_what_others_write(dtype, start):
    @triton.jit
    def copy(x, y, n, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        tl.store(y + at, tl.load(x + at, mask=at < n), mask=at < n, cache_modifier=".cs")
        if tl.program_id(0) == 0:
            tl.store(y - 1, tl.load(x), cache_modifier=".cs")

    n = 5003
    x, y = (torch.randn(n) * 50).to(dtype), torch.zeros(n + 100, dtype=dtype)
    compiled = copy[(triton.cdiv(n, 1024),)](x, y[start + 1 :], n, BLOCK=1024)
    assert "!nontemporal" in compiled.asm["llir"] and "fence" in compiled.asm["llir"]
    assert torch.equal(y[start + 1 : start + 1 + n], x) and y[start] == x[0] and not y[start + 1 + n :].any()


@triton.jit
def take_rows(x, index, out, count, width, R: tl.constexpr, N: tl.constexpr):
    rows, cols = tl.arange(0, R), tl.arange(0, N)
    mask = (rows < count)[:, None] & (cols < width)[None, :]
    found = tl.load(index + rows, rows < count)
    taken = tl.load(x + (found * width)[:, None] + cols[None, :], mask)
    tl.store(out + (rows * width)[:, None] + cols[None, :], taken, mask)


@pytest.mark.parametrize("moved", [None, 0, -3, 64, 130, 1000])
@pytest.mark.parametrize("index", [[0, 1, 2, 3], [3, 2, 1, 0], [9, 9, 0, 4], [5, 0, 11], [7]])
def test_rows_taken_by_index_may_lie_where_they_are_written(index, moved):
    memory = torch.arange(3000.0)
    out = torch.zeros(1000) if moved is None else memory[500 + moved :]
    x, index = memory[500:1700].view(12, 100), torch.tensor(index)
    expected = x[index].clone()
    take_rows[(1,)](x, index, out, len(index), 100, R=4, N=128)
    assert torch.equal(out[: expected.numel()].view_as(expected), expected)
