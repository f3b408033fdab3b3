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


def test_a_mask_is_filled_with_one_value_and_with_a_source_in_order() -> None:
    def fill(a: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
        a = a.clone()
        a[m] = 3.0
        a.t()[(~m).t()] = 4.0
        return a

    wide, where_wide = torch.randn(300, 700), torch.rand(300, 700) > 0.3
    assert not vendor_calls(assert_call(fill, wide, where_wide))
    source = torch.arange(wide.numel()).float()
    assert not vendor_calls(assert_call(torch.masked_scatter, wide, where_wide, source))
    in_columns = assert_call(lambda a, m: a.clone().t().masked_scatter_(m.t(), source), wide, where_wide)
    assert not vendor_calls(in_columns)
    assert not vendor_calls(assert_call(torch.masked_select, wide.t(), where_wide[0, :, None]))


def test_a_source_that_is_too_short_is_refused_and_the_next_call_is_not() -> None:
    with tessera.use("always"):
        for _ in range(3):
            with pytest.raises(RuntimeError, match="more true places than the source has elements, which are 5"):
                torch.zeros(9000).masked_scatter_(torch.ones(9000, dtype=torch.bool), torch.ones(5))
            few = torch.tensor([True, False, True, False])
            assert torch.zeros(4).masked_scatter_(few, torch.arange(1.0, 3.0)).tolist() == [1.0, 0.0, 2.0, 0.0]


def test_a_mask_of_another_shape_is_refused() -> None:
    with tessera.use("always"), pytest.raises(IndexError, match="The shape of the mask"):
        x[mask[:, :5]]
