"""Choices between a cheap and a costly formula, whose costly one runs only for vectors that need it."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice

nan, inf = float("nan"), float("inf")
SIZE = 256


@triton.jit
def choose(x, out, sums, n, FIRST: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    given = tl.load(x + at, mask=at < n, other=0.0)
    less = given * 0.5
    costly = libdevice.expm1(less) * 3.0 + less
    chosen = tl.where(given <= 0, costly, less) if FIRST else tl.where(given > 0, less, costly)
    # What leads to the costly arm is used outside of it, too.
    tl.store(out + at, chosen + less, mask=at < n)
    tl.store(sums + tl.arange(0, 1), tl.sum(tl.where(at < n, chosen, 0.0), axis=0)[None])


GIVEN = {
    "none needs it": torch.rand(SIZE) + 0.1,
    "all need it": -torch.rand(SIZE),
    "some lanes": torch.randn(SIZE),
    "one lane": torch.rand(SIZE).index_fill_(0, torch.tensor([37]), -0.7),
    "border and more": torch.tensor([0.0, -0.0, inf, -inf, nan, 1e-40, -1e-40, 5.0]).repeat(SIZE // 8),
}


@pytest.mark.parametrize("first", [True, False], ids=["first arm", "second arm"])
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
@pytest.mark.parametrize("n", [SIZE, SIZE - 19])
def test_each_element_has_its_formula(given: torch.Tensor, first: bool, n: int) -> None:
    out, sums = torch.zeros(SIZE), torch.zeros(1)
    choose[(1,)](given, out, sums, n, FIRST=first, BLOCK=SIZE)
    less = given[:n] * 0.5
    costly = torch.expm1(less) * 3.0 + less
    expected = torch.where(given[:n] <= 0, costly, less) if first else torch.where(given[:n] > 0, less, costly)
    torch.testing.assert_close(out[:n], expected + less, equal_nan=True)
    assert not out[n:].any()
    torch.testing.assert_close(sums[0], expected.double().sum().float(), rtol=1e-4, atol=1e-4, equal_nan=True)
