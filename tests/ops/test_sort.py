"""Sorting, the largest, distinct elements, running extremes, places in order."""

from __future__ import annotations

import functools

import pytest
import torch

import tessera
from tests.ops.judged import assert_call, assert_calls, vendor_calls


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1000, 5000])
@pytest.mark.parametrize("descending", [False, True])
def test_equal_elements_keep_their_order(n: int, descending: bool) -> None:
    x = torch.randint(0, 7, (3, n)).float()
    x[1, n // 2] = torch.nan
    record = assert_call(torch.sort, x, stable=True, dim=1, descending=descending)
    assert not vendor_calls(record)


def test_any_dim_and_layout() -> None:
    x = torch.randn(5, 70, 6)
    given = [((y,), {"dim": dim}) for y in (x, x.permute(2, 0, 1), x[::2, ::3]) for dim in (0, 1, 2)]
    assert not any(vendor_calls(record) for record in assert_calls(torch.sort, given))


@pytest.mark.parametrize(("n", "k"), [(8, 2), (100, 100), (3000, 50), (3000, 1)])
def test_the_largest(n: int, k: int) -> None:
    x = torch.randn(4, n)
    assert not vendor_calls(assert_call(torch.topk, x, k))
    assert not vendor_calls(assert_call(torch.topk, x.t(), k, 0, largest=False))
    assert not vendor_calls(assert_call(torch.kthvalue, x, k))


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64, torch.bfloat16, torch.bool])
def test_rows_longer_than_a_run_of_any_type(dtype: torch.dtype) -> None:
    x = (torch.randn(2, 2500) * 3).to(dtype)
    record = assert_call(torch.sort, x, stable=True, dim=1, descending=True)
    assert not vendor_calls(record)


@pytest.mark.parametrize("k", [3, 60])
def test_the_first_of_long_rows_of_equal_elements(k: int) -> None:
    """Of equal elements those that come first are taken, also where a bound lets them all through."""
    x = torch.randint(0, 3, (2, 3000)).float()
    x[0, 1::7], x[1, 5] = -0.0, torch.nan
    order, places = x.sort(stable=True)
    with tessera.use("always"):
        found = torch.topk(x, k, largest=False)
        place = torch.kthvalue(x, k).indices
    assert torch.equal(found.indices, places[:, :k]) and torch.equal(found.values, order[:, :k])
    assert torch.equal(place, places[:, k - 1])


@pytest.mark.parametrize("rows", [40, 700])
def test_distinct_elements(rows: int) -> None:
    x = torch.randint(0, 50, (rows, 30))
    x[-300:] = torch.arange(x[-300:].numel()).view(-1, 30)
    options = {"return_inverse": True, "return_counts": True}
    assert not vendor_calls(assert_call(torch.unique, x, **options))
    assert not vendor_calls(assert_call(torch.unique_consecutive, x // 25, **options))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0, 3)])
@pytest.mark.parametrize("inverse", [False, True])
def test_no_elements_are_no_groups(shape: tuple[int, ...], inverse: bool) -> None:
    x = torch.empty(shape)
    assert not vendor_calls(assert_call(torch.ops.aten._unique2, x, True, inverse))
    assert not vendor_calls(assert_call(torch.ops.aten.unique_consecutive, x, inverse))
    assert not vendor_calls(assert_call(torch.ops.aten.unique_consecutive, x, inverse, True, shape.index(0)))


def test_slices_of_no_elements_are_pytorchs_error() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="unique cannot be applied"):
        torch.unique_consecutive(torch.empty(3, 0), dim=0)


@pytest.mark.parametrize("size", [0, 5, 5000, 100_000])
@pytest.mark.parametrize("ends", [(0, 0), (-1.5, 2.25), (5, 5)])
@pytest.mark.parametrize("bins", [1, 7, 300])
def test_bins_between_two_ends(size: int, ends: tuple[float, float], bins: int) -> None:
    x = torch.randn(size)
    if ends != (0, 0):
        x[::7] = torch.nan
    if ends == (5, 5):
        x = x.nan_to_num(5.0) * 0 + 5
    assert not vendor_calls(assert_call(torch.histc, x, bins, *ends))


def test_bins_of_half_types_are_counted_exactly() -> None:
    x = torch.zeros(5000, dtype=torch.bfloat16)
    with tessera.use("always"):
        assert torch.histc(x, 2, 0, 1).tolist() == [torch.tensor(5000.0).bfloat16().item(), 0.0]
        for bad, message in (((4, 2, 1), "max must be larger"), ((0, 0, 1), "bins must be > 0")):
            with pytest.raises(RuntimeError, match=message):
                torch.histc(x.float(), *bad)


@pytest.mark.parametrize("call", [torch.cummax, torch.cummin])
def test_running_extremes(call: object) -> None:
    x = torch.randint(-9, 9, (3, 5000)).float()
    x[1, 4000] = torch.nan
    assert not vendor_calls(assert_call(call, x, 1))  # type: ignore[arg-type]
    assert not vendor_calls(assert_call(call, x, 0))  # type: ignore[arg-type]
    assert not vendor_calls(assert_call(call, x[:, :1], 1))  # type: ignore[arg-type]


def test_places_in_sorted_rows() -> None:
    rows = torch.randn(4, 100).sort()[0]
    for right in (False, True):
        assert not vendor_calls(assert_call(torch.searchsorted, rows, rows[:, ::3].contiguous(), right=right))
        assert not vendor_calls(assert_call(torch.bucketize, torch.randn(50), rows[0], right=right))


def test_more_than_there_are_is_refused() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="out of range"):
        torch.topk(torch.randn(3), 4)


@pytest.mark.parametrize("dim", [0, 1, -1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_runs_of_equal_slices(dim: int, dtype: torch.dtype) -> None:
    x = torch.randint(0, 2, (4, 5, 300)).to(dtype)
    x[2], x[:, 3] = x[1], x[:, 2]
    call = functools.partial(torch.unique_consecutive, return_inverse=True, return_counts=True, dim=dim)
    assert not vendor_calls(assert_call(call, x))
    assert not vendor_calls(assert_call(call, torch.where(x != 0, torch.nan, 0.0) if dtype.is_floating_point else x))


def test_equality_of_whole_tensors() -> None:
    x = torch.randn(300, 70)
    other = x.clone()
    other[299, 69] += 1
    with tessera.use("always") as record:
        for _ in range(3):
            assert torch.equal(x, x.clone())
            assert not torch.equal(x, other)
            assert not torch.equal(x, x[:299])
            assert not torch.equal(x / 0, x / 0 * torch.nan)
            assert torch.equal(x[:0], other[:0])
    assert record.calls["equal"].ours == 15
