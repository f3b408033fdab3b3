"""Places that a kernel computes or reads: neighbours, one place, or neither, against PyTorch's own indexing."""

from __future__ import annotations

import mmap

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

TYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int8, torch.bool, torch.int64]
INDEX = [torch.int64, torch.int32, torch.int16]
SIZE = 128


def numbers(count: int, dtype: torch.dtype) -> torch.Tensor:
    return (torch.arange(count) % 113).to(dtype)


@triton.jit
def take(x, index, keep, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    places = tl.load(index + at)
    tl.store(out + at, tl.load(x + places))
    tl.store(out + BLOCK + at, tl.load(x + places, mask=tl.load(keep + at) != 0, other=1))


@triton.jit
def put(x, index, keep, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + tl.load(index + at), tl.load(x + at), mask=tl.load(keep + at) != 0)


def tables() -> dict[str, torch.Tensor]:
    """Places below `2 * SIZE`: in a row, in rows that begin anywhere, one, some equal, backwards, every second."""
    torch.manual_seed(0)
    at = torch.arange(SIZE)
    return {
        "a row": at + 5, "rows of 20": (at // 20) * 37 % 101 + at % 20, "rows of 3": (at // 3) * 31 % 199 + at % 3,
        "one": torch.full((SIZE,), 9), "one for 24": (at // 24) * 7,
        "backwards": 2 * SIZE - 1 - at, "every second": 2 * at,
        "each twice": at // 2 + 60, "each thrice": at // 3, "near the first": at // 16 * 11 + at * 7 % 16,
        "a table of 16": torch.randint(16, (SIZE,)), "a table of 17": torch.randint(17, (SIZE,)),
        "anywhere": torch.randint(2 * SIZE, (SIZE,)), "all but one": torch.where(at == 77, 3, at),
    }  # fmt: skip


KEPT = {
    "all": lambda at: at >= 0, "none": lambda at: at < 0,
    "the first": lambda at: at < 50, "but the first": lambda at: at > 2,
    "few": lambda at: at % 29 == 17,
}  # fmt: skip


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("name", tables())
def test_loads_and_stores(name: str, kept: str) -> None:
    at, places = torch.arange(SIZE), tables()[name]
    keep = KEPT[kept](at)
    for dtype in TYPES:
        for index_type in INDEX:
            # What does not count may point anywhere.
            index = torch.where(keep, places, 30_000).to(index_type) if kept != "all" else places.to(index_type)
            x, out = numbers(2 * SIZE, dtype), torch.zeros(2 * SIZE, dtype=dtype)
            if kept == "all":
                take[(1,)](x, index, keep, out, BLOCK=SIZE)
                assert torch.equal(out, x[places].repeat(2)), (dtype, index_type)
            else:
                load_kept[(1,)](x, index, keep, out, BLOCK=SIZE)
                assert torch.equal(out[:SIZE], torch.where(keep, x[places], torch.ones((), dtype=dtype)))
            x, out = numbers(SIZE, dtype), torch.full((2 * SIZE,), 1).to(dtype)
            wanted = out.clone()
            for one in at[keep].tolist():  # of several at one place the last one stays
                wanted[places[one]] = x[one]
            put[(1,)](x, index, keep, out, BLOCK=SIZE)
            assert torch.equal(out, wanted), (dtype, index_type)


@triton.jit
def load_kept(x, index, keep, out, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out + at, tl.load(x + tl.load(index + at), mask=tl.load(keep + at) != 0, other=1))


@pytest.mark.parametrize("columns", [1, 3, 16, 40, 128, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_flattened_block(columns: int, dtype: torch.dtype) -> None:
    @triton.jit
    def copy(x, scale, out, n, columns, stride, group, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        inside = at < n
        row, column = at // columns, at % columns
        value = tl.load(x + row * stride + column, mask=inside) * tl.load(scale + at // group, mask=inside)
        tl.store(out + row * stride + column, value, mask=inside)

    n, stride = 997, columns + 3
    rows = -(-n // columns)
    x, out = numbers(rows * stride, dtype), torch.zeros(rows * stride, dtype=dtype)
    scale = (torch.arange(n) % 5).to(dtype)
    copy[(4,)](x, scale, out, n, columns, stride, 24, BLOCK=256)
    at = torch.arange(n)
    places = at // columns * stride + at % columns
    wanted = torch.zeros_like(out)
    wanted[places] = x[places] * scale[at // 24]
    assert torch.equal(out, wanted)


def test_nothing_outside_is_read_or_written() -> None:
    """The elements are the last ones of memory that may be used; what does not count points behind them."""
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, page)
    x = torch.from_numpy(np.frombuffer(memory, dtype=np.float32))
    x.copy_(torch.arange(len(x)))
    at, out = torch.arange(SIZE), torch.zeros(SIZE)
    index = torch.where(at < 70, len(x) - 70 + at, 1 << 40)
    load_kept[(1,)](x, index, at < 70, out, BLOCK=SIZE)
    assert torch.equal(out, torch.where(at < 70, index.float(), 1.0))
    load_kept[(1,)](x, torch.full((SIZE,), 1 << 40), at < 0, out, BLOCK=SIZE)
    assert torch.equal(out, torch.ones(SIZE))
    put[(1,)](out, index, at < 70, x, BLOCK=SIZE)
    assert torch.equal(x[-70:], torch.ones(70)) and x[-71] == len(x) - 71


def test_a_short_table_at_either_end_of_memory() -> None:
    """A whole vector from its beginning, or from the first lane on, would reach behind memory that may be used."""
    page = mmap.PAGESIZE
    for dtype in (np.float32, np.int8):
        x = torch.from_numpy(np.frombuffer(mmap.mmap(-1, page), dtype=dtype))
        x.copy_(torch.arange(len(x)) % 100)
        for begin in (0, len(x) - 20, len(x) - 5):
            table, keep = x[begin:], torch.ones(SIZE, dtype=torch.bool)
            index, out = torch.arange(SIZE) * 5 // 3 % min(16, len(table)), torch.zeros(2 * SIZE, dtype=x.dtype)
            take[(1,)](table, index, keep, out, BLOCK=SIZE)
            assert torch.equal(out, table[index].repeat(2))


def test_places_on_both_sides_of_the_largest_integer() -> None:
    """Behind the largest 32-bit integer is the smallest, 4 GiB away; only a few pages are touched."""

    @triton.jit
    def read(x, index, out, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + tl.load(index + at)))

    @triton.jit
    def read_in_two_steps(x, index, out, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, tl.load(x + tl.load(index + at) + tl.load(index + BLOCK + at)))

    half = 1 << 31
    memory = torch.empty(2 * half + 64, dtype=torch.int8)
    memory[2 * half - 8 : 2 * half + 8] = torch.arange(16)
    memory[:8] = 50
    base, out, lanes = memory[half:], torch.zeros(16, dtype=torch.int8), torch.arange(16)
    index = torch.where(lanes < 8, half - 8 + lanes, lanes - 8 - half).int()
    read[(1,)](base, index, out, BLOCK=16)
    assert out.tolist() == [0, 1, 2, 3, 4, 5, 6, 7] + [50] * 8
    # Two indices that fit, whose sum does not: addresses have 64 bits.
    index = torch.cat([torch.full((16,), half - 8), lanes]).int()
    read_in_two_steps[(1,)](base, index, out, BLOCK=16)
    assert out.tolist() == lanes.tolist()
    # Sums that wrapped would be one place.
    index = torch.cat([torch.where(lanes < 8, half - 1, -half), torch.where(lanes < 8, 1, 0)]).int()
    read_in_two_steps[(1,)](base, index, out, BLOCK=16)
    assert out.tolist() == [8] * 8 + [50] * 8


@triton.jit
def add_strided(a, b, out, n, far, step_rows, step_columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    inside = columns < n
    x = tl.load(a + rows * COLUMNS + columns, mask=inside)
    y = tl.load(b + far + rows * step_rows + columns * step_columns, mask=inside, other=5.0)
    tl.store(out + rows * COLUMNS + columns, x + y, mask=columns < COLUMNS)


@pytest.mark.parametrize("n", [64, 37])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("shape", [(8, 1), (1, 64), (1, 1), (8, 64), (64, 8)], ids=str)
def test_a_step_given_to_the_kernel_may_be_zero(shape, dtype, n):
    a, b = ((torch.randn(size) * 9).to(dtype) for size in ((8, 64), shape))
    seen = b.T if shape == (64, 8) else b.expand(8, 64)
    out = torch.empty_like(a)
    add_strided[(1,)](a, b, out, n, 0, seen.stride(0), seen.stride(1), 8, 64)
    assert torch.equal(out[:, :n], (a + seen)[:, :n])


def test_what_no_lane_asks_for_is_not_read_at_a_step_of_zero():
    a, b, out = torch.randn(8, 64), torch.randn(1), torch.empty(8, 64)
    add_strided[(1,)](a, b, out, 0, 1 << 40, 0, 0, 8, 64)


@triton.jit
def walk(x, out, keep, start, step, STEP: tl.constexpr, BLOCK: tl.constexpr):
    """Lanes a step apart, that the text gives or the call."""
    at = tl.arange(0, BLOCK)
    kept = tl.load(keep + at) != 0
    move = step if STEP is None else STEP
    tl.store(out + at, tl.load(x + start + at * move))
    tl.store(out + BLOCK + at, tl.load(x + start + at * move, mask=kept, other=1))
    tl.store(out + 2 * BLOCK + start + at * move, tl.load(x + at), mask=kept)
    tl.store(out + 2 * BLOCK + 9 * BLOCK + start + at * move, tl.load(x + at))


@pytest.mark.parametrize("known", [True, False], ids=["in the text", "given"])
@pytest.mark.parametrize("step", [5, -3, -1, 0])
def test_lanes_a_step_apart(step: int, known: bool) -> None:
    at = torch.arange(SIZE)
    start = 0 if step >= 0 else -step * SIZE
    places = start + at * step
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int8):
        x, one = numbers(9 * SIZE, dtype), torch.ones((), dtype=dtype)
        for keep in (kept(at) for kept in KEPT.values()):
            out = torch.zeros(20 * SIZE, dtype=dtype)
            walk[(1,)](x, out, keep, start, step, step if known else None, SIZE)
            assert out[:SIZE].equal(x[places])
            assert out[SIZE : 2 * SIZE].equal(torch.where(keep, x[places], one))
            for begin, some in ((2 * SIZE, at[keep]), (11 * SIZE, at)):
                # Of several lanes at one place the last one stays.
                some = some[-1:] if step == 0 else some
                expected = torch.zeros(9 * SIZE, dtype=dtype)
                expected[places[some]] = x[some]
                assert out[begin : begin + 9 * SIZE].equal(expected)
