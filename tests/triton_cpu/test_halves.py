"""What is read in half precision and computed in float stays in vectors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl

HALVES = [torch.float16, torch.bfloat16]
ROWS, SIZE = 5, 64
nan, inf = float("nan"), float("inf")


@triton.jit
def largest(x, out, n, MOST: tl.constexpr, NAN: tl.constexpr, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    row = tl.program_id(0)
    given = tl.load(x + row * n + at).to(tl.float32)
    if NAN:
        other = tl.load(x + row * n + n - 1 - at).to(tl.float32)
        both = tl.maximum(given, other, tl.PropagateNan.ALL) if MOST else tl.minimum(given, other, tl.PropagateNan.ALL)
        tl.store(out + row * SIZE + at, both)
    else:
        tl.store(out + row, tl.max(given, 0) if MOST else tl.min(given, 0))


def in_half_precision(kernel: Any) -> list[str]:
    """Lines of LLVM IR that compare vectors of half precision."""
    names = ("maxnum", "minnum", "maximum", "minimum")
    return [line for line in kernel.asm["llir"].split("\n") if any(f"{n}.v" in line for n in names) and "16(" in line]


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("most", [True, False], ids=["largest", "smallest"])
def test_extremes_of_rows(dtype: torch.dtype, most: bool) -> None:
    x = torch.randn(ROWS, SIZE).to(dtype)
    x[1, 3], x[2, 7], x[3] = inf, -inf, -0.0
    out = torch.empty(ROWS)
    kernel = largest[(ROWS,)](x, out, SIZE, MOST=most, NAN=False, SIZE=SIZE)
    assert torch.equal(out, x.float().amax(1) if most else x.float().amin(1))
    assert not in_half_precision(kernel)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("most", [True, False], ids=["larger", "smaller"])
def test_extremes_of_two(dtype: torch.dtype, most: bool) -> None:
    x = torch.randn(ROWS, SIZE).to(dtype)
    x[1, 3], x[2, 7], x[3, ::5] = inf, -inf, nan
    out = torch.empty(ROWS, SIZE)
    kernel = largest[(ROWS,)](x, out, SIZE, MOST=most, NAN=True, SIZE=SIZE)
    of_two = torch.maximum if most else torch.minimum
    torch.testing.assert_close(out, of_two(x.float(), x.float().flip(1)), rtol=0, atol=0, equal_nan=True)
    assert not in_half_precision(kernel)


@triton.jit
def keep(x, y, out, n, low, high, SIZE: tl.constexpr):
    at = tl.program_id(0) * SIZE + tl.arange(0, SIZE)
    given = tl.load(x + at, mask=at < n)
    tl.store(out + at, tl.where((given > low) & (given < high), tl.load(y + at, mask=at < n), 0.0), mask=at < n)


@pytest.mark.parametrize("n", [4 * SIZE, 4 * SIZE - 9])
def test_choosing_between_loads_leaves_them_loads(n: int) -> None:
    """Loads under a condition that is computed wait for it."""
    x, y, out = torch.randn(4 * SIZE), torch.randn(4 * SIZE), torch.full((4 * SIZE,), 7.0)
    kernel = keep[(4,)](x, y, out, n, -0.5, 0.5, SIZE=SIZE)
    expected = torch.where((x > -0.5) & (x < 0.5), y, 0.0)
    assert torch.equal(out[:n], expected[:n])
    assert (out[n:] == 7.0).all()
    frozen = [line for line in kernel.asm["llir"].split("\n") if "freeze <" in line]
    assert frozen
