"""Masks: where they are true, what they select, and writing there."""

from __future__ import annotations

import pytest
import torch

import tessera
from tests.ops.judged import assert_call, vendor_calls

x = torch.randn(7, 300, 3)
mask = x > 0.5
long = torch.randn(20000).relu()
long[3000:6000] = 1.0


@pytest.mark.parametrize("given", [mask, x.relu(), mask[0, 0], torch.tensor(True), torch.zeros(0, 3), long, long + 1])
def test_where_a_tensor_is_not_zero(given: torch.Tensor) -> None:
    assert not vendor_calls(assert_call(torch.nonzero, given))


def test_what_a_mask_selects() -> None:
    assert not vendor_calls(assert_call(torch.masked_select, x, mask))
    assert not vendor_calls(assert_call(torch.masked_select, x, mask[0, 0]))
    assert not vendor_calls(assert_call(torch.masked_select, long, long > 0))
    assert not vendor_calls(assert_call(lambda a, m: a[m], x, mask))
    assert not vendor_calls(assert_call(lambda a, m: a[:, m], x, mask[0]))
    assert not vendor_calls(assert_call(lambda a, m: a[m, 1], x, mask[:, :, 0]))


def test_writing_where_a_mask_is_true() -> None:
    def put(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        a = a.clone()
        a[m] = a[m] * 2
        a[m] += 1
        return a

    assert not vendor_calls(assert_call(put, x, mask))
    assert not vendor_calls(assert_call(torch.masked_scatter, x, mask, torch.arange(x.numel()).float()))


def test_a_mask_of_another_shape_is_refused() -> None:
    with tessera.use("always"), pytest.raises(IndexError, match="The shape of the mask"):
        x[mask[:, :5]]
