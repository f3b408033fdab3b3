"""`tl.sum` of a long block rounds as little as PyTorch's own sum of the same numbers."""

import pytest
import torch
import triton
import triton.language as tl


@triton.jit
def along_rows(values, sums, num_columns, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    block = tl.load(values + rows * num_columns + columns, mask=columns < num_columns, other=0.0)
    tl.store(sums + tl.arange(0, ROWS), tl.sum(block, 1))


@triton.jit
def along_columns(values, sums, num_rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    rows, columns = tl.arange(0, ROWS)[:, None], tl.arange(0, COLUMNS)[None, :]
    block = tl.load(values + rows * COLUMNS + columns, mask=rows < num_rows, other=0.0)
    tl.store(sums + tl.arange(0, COLUMNS), tl.sum(block, 0))


@pytest.mark.parametrize("length", [256, 1000, 4096, 16384])
@pytest.mark.parametrize("dim", [0, 1])
def test_a_long_sum_loses_no_more_than_pytorchs(dim, length):
    torch.manual_seed(0)
    values = torch.randn((64, length) if dim else (length, 64))
    sums, padded = torch.empty(64), triton.next_power_of_2(length)
    if dim:
        along_rows[(1,)](values, sums, length, 64, padded)
    else:
        along_columns[(1,)](values, sums, length, padded, 64)
    exact = values.double().sum(dim)

    def lost(found):
        return (found - exact).square().mean().sqrt().item()

    # The accuracy rule: at most twice what PyTorch loses.
    assert lost(sums) <= 2 * lost(values.sum(dim))


def test_parts_of_a_sum_keep_zeros_signs_and_infinities():
    values = torch.full((4096, 64), -0.0)
    values[:, 1], values[:, 2], values[7, 3], values[9, 4] = 0.0, 1.0, float("inf"), float("nan")
    sums = torch.empty(64)
    along_columns[(1,)](values, sums, 4096, 4096, 64)
    torch.testing.assert_close(sums, values.sum(0), rtol=0, atol=0, equal_nan=True)
    assert sums[0].signbit() and not sums[1].signbit()
