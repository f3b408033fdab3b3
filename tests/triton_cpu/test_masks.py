"""Masks of every form, in stores and reductions: loops are split where a mask ends, and must not move the end."""

import pytest
import torch
import triton
import triton.language as tl

BLOCK = 256
HOW = ["below", "below from", "up to", "above", "not below", "suffix", "two", "either", "flag", "wide", "unsigned"]
# Before the first element, at it, inside a vector, at its edges, at the block's end and beyond.
ENDS = [-5, 0, 1, 15, 16, 17, 63, 64, 65, 100, 255, 256, 300, 2**31 - 1]


@triton.jit
def copy_where(x, y, first, n, HOW: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    if HOW == "below":
        mask = i < n
    elif HOW == "below from":
        mask = first + i < n
    elif HOW == "up to":
        mask = i <= n
    elif HOW == "above":
        mask = n > i
    elif HOW == "not below":
        mask = n >= i
    elif HOW == "suffix":
        mask = i >= n
    elif HOW == "two":
        mask = (i < n) & (i < n - 20)
    elif HOW == "either":
        mask = (i < n) | (i == 200)
    elif HOW == "flag":
        mask = (i < n) & (first == 0)
    elif HOW == "wide":
        mask = i.to(tl.int64) < n
    elif HOW == "unsigned":
        mask = i.to(tl.uint32) < tl.cast(n, tl.uint32)
    tl.store(y + i, tl.load(x + i, mask=mask, other=-7.0) * 2, mask=mask)


def holds(how: str, i: torch.Tensor, first: int, n: int) -> torch.Tensor:
    return {
        "below": i < n,
        "below from": first + i < n,
        "up to": i <= n,
        "above": n > i,
        "not below": n >= i,
        "suffix": i >= n,
        "two": (i < n) & (i < n - 20),
        "either": (i < n) | (i == 200),
        "flag": (i < n) & (first == 0),
        "wide": i < n,
        "unsigned": i < n % 2**32,
    }[how]


@pytest.mark.parametrize("how", HOW)
def test_a_masked_copy_touches_what_the_mask_says(how):
    x = torch.randn(BLOCK)
    for first in (0, 37):
        for n in ENDS:
            y = torch.full((BLOCK,), 5.0)
            copy_where[(1,)](x, y, first, n, how, BLOCK)
            expected = torch.where(holds(how, torch.arange(BLOCK), first, n), x * 2, 5.0)
            assert torch.equal(y, expected), (how, first, n)


@triton.jit
def rows_sum(x, y, rows, n, stride, KIND: tl.constexpr, AXIS: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr):
    r, c = tl.arange(0, ROWS)[:, None], tl.arange(0, COLS)[None, :]
    mask = (r < rows) & (c < n)
    if KIND == "sum":
        v = tl.load(x + r * stride + c, mask=mask, other=0.0)
        z = tl.sum(v, axis=AXIS)
    elif KIND == "max":
        v = tl.load(x + r * stride + c, mask=mask, other=-float("inf"))
        z = tl.max(v, axis=AXIS)
    elif KIND == "argmax":
        v = tl.load(x + r * stride + c, mask=mask, other=-float("inf"))
        z = tl.argmax(v, axis=AXIS)
    elif KIND == "shifted":
        v = tl.where(mask, tl.load(x + r * stride + c, mask=mask, other=3.0) - 1.0, 10.0)
        z = tl.sum(v, axis=AXIS)
    tl.store(y + tl.arange(0, ROWS if AXIS == 1 else COLS), z.to(tl.float32))


@pytest.mark.parametrize("kind", ["sum", "max", "argmax", "shifted"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_reduction_counts_what_the_mask_says(kind, axis):
    shape = (16, 128)
    x = torch.randn(shape)
    i, j = torch.arange(shape[0])[:, None], torch.arange(shape[1])[None, :]
    for rows in (0, 1, 5, 16):
        for n in (0, 1, 16, 31, 64, 77, 127, 128, 1000):
            y = torch.full((shape[1 - axis],), 5.0)
            rows_sum[(1,)](x, y, rows, n, shape[1], kind, axis, *shape)
            mask = (i < rows) & (j < n)
            if kind == "sum":
                expected = torch.where(mask, x, 0).double().sum(axis)
            elif kind == "shifted":
                expected = torch.where(mask, x - 1, 10).double().sum(axis)
            else:
                masked = torch.where(mask, x, -torch.inf)
                expected = masked.amax(axis).double() if kind == "max" else masked.argmax(axis).double()
            torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5, msg=f"{rows} {n}")


@triton.jit
def whole_row(x, y, n, KIND: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    v = tl.load(x + i, mask=i < n, other=float("nan") if KIND == "max" else 0.0)
    tl.store(y, tl.max(v, axis=0) if KIND == "max" else tl.sum(v, axis=0))


def test_a_maximum_passes_over_nan_and_is_nan_where_there_is_nothing_else():
    y = torch.empty(1)
    x = torch.full((64,), torch.nan)
    whole_row[(1,)](x, y, 40, "max", 64)
    assert y.isnan().all()
    x[17] = -3.0
    whole_row[(1,)](x, y, 40, "max", 64)
    assert y.item() == -3.0
    x[18] = -torch.inf
    whole_row[(1,)](x, y, 40, "max", 64)
    assert y.item() == -3.0


def test_a_sum_of_negative_zeros_is_one():
    x, y = torch.full((64,), -0.0), torch.empty(1)
    whole_row[(1,)](x, y, 64, "sum", 64)
    assert y.item() == 0.0 and torch.signbit(y).all()


@triton.jit
def near_the_largest(y, start, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(y + i, tl.full([BLOCK], 1, tl.int8), mask=start + i < n)


def test_a_comparison_that_wraps_round_is_taken_element_by_element():
    y = torch.zeros(BLOCK, dtype=torch.int8)
    start, n = 2**31 - 100, 2**31 - 50
    near_the_largest[(1,)](y, start, n, BLOCK)
    wrapped = (start + torch.arange(BLOCK)).to(torch.int32) < n
    assert torch.equal(y.bool(), wrapped)


@triton.jit
def copy_round(x, y, start, n, UNSIGNED: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = (start + i).to(tl.uint32) % tl.cast(n, tl.uint32) if UNSIGNED else (start + i) % n
    tl.store(y + i, tl.load(x + at))


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("start", [0, 5, 200, 1000])
def test_a_remainder_wraps_round_where_it_should(start, unsigned):
    x = torch.randn(BLOCK)
    for n in (1, 2, 15, 16, 17, 64, 100, 255, 256):
        y = torch.empty(BLOCK)
        copy_round[(1,)](x, y, start, n, unsigned, BLOCK)
        assert torch.equal(y, x[(start + torch.arange(BLOCK)) % n]), n


def test_a_remainder_of_negative_numbers_is_taken_element_by_element():
    x, y = torch.randn(2 * BLOCK), torch.empty(BLOCK)
    copy_round[(1,)](x[BLOCK:], y, -100, 64, False, BLOCK)
    assert torch.equal(y, x[BLOCK + torch.fmod(-100 + torch.arange(BLOCK), 64)])


@triton.jit
def product_of_squares(x, y, n, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = i % n
    v = tl.load(x + at[:, None] * BLOCK + at[None, :], mask=(i < 2 * n)[:, None] & (i < 3 * n)[None, :], other=0.0)
    tl.store(y + i[:, None] * BLOCK + i[None, :], tl.dot(v, v, input_precision="ieee"))


@pytest.mark.parametrize("n", [7, 16, 20, 32, 40, 64])
def test_operands_of_a_product_wrap_round_and_end_where_they_should(n):
    size = 64
    x, y = torch.randn(size, size), torch.empty(size, size)
    product_of_squares[(1,)](x, y, n, size)
    i = torch.arange(size)
    v = x[(i % n)[:, None], (i % n)[None, :]] * (i < 2 * n)[:, None] * (i < 3 * n)[None, :]
    torch.testing.assert_close(y.double(), v.double() @ v.double(), rtol=1e-4, atol=1e-4)
