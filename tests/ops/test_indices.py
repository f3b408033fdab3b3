"""Reads and writes by index where the innermost dims are short, strided, shared or many."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

import tessera
from tests.ops.judged import assert_gradients, vendor_calls

x = torch.randn(6, 5, 4, 3)
square = torch.randn(40, 70)
places = torch.randint(70, (40, 70))
column = torch.tensor([3, -1, 0, 3])
ends = torch.randperm(40)

CALLS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "gather, transposed": lambda y: y.t().gather(0, places.t()),
    "gather of whole rows": lambda y: y.gather(1, places),
    "gather of fewer than a row": lambda y: y.gather(1, places[:, :33]),
    "gather of more than a row, of halves": lambda y: y.bfloat16().gather(-1, places.repeat(1, 3)[:, :200]),
    "gather of whole rows of integers in a batch": lambda y: y.view(5, 8, 70).int().gather(2, places.view(5, 8, 70)),
    "gather of whole rows of truth values": lambda y: (y > 0).gather(1, places),
    "gather of a part": lambda y: y[:, ::2].gather(1, places[:20, :30] % 35),
    "an index beside a slice": lambda y: x.permute(3, 1, 0, 2)[:, column, ::2],
    "two indices apart": lambda y: x[column, :, column % 4],
    "rows and columns": lambda y: y[ends[:, None], places[0]],
    "slices inside": lambda y: x.index_select(2, column % 4),
    "scatter along rows": lambda y: y.scatter(1, places, square),
    "scatter along columns": lambda y: y.scatter(0, places % 40, square.double().float()),
    "scatter, transposed": lambda y: y.t().clone().scatter(0, places.t(), 2.5),
    "sums in the last dim": lambda y: x.index_add(3, torch.tensor([2, 2, 0]), x),
    "sums in a middle dim": lambda y: x.index_add(1, torch.tensor([4, 4, 0]), x[:, :3], alpha=2),
    "sums in one place": lambda y: y[:1].index_add(0, torch.zeros(40, dtype=torch.int64), y),
    "one slice of a long row": lambda y: y.view(1, -1).index_copy(0, torch.tensor([0]), -y.view(1, -1)),
    "fills from the end": lambda y: y.index_fill(0, column, 1.5),
    "puts two indices": lambda y: y.index_put((ends[:, None], places[0][:9]), torch.ones(()), accumulate=True),
    "puts a row": lambda y: y.index_put((column,), square[0], accumulate=True),
    "long and no repeats": lambda y: torch.repeat_interleave(torch.tensor([0, 2000, 1, 0, 9])),
}


@pytest.mark.parametrize("name", CALLS)
def test_indices_in_any_layout(name: str) -> None:
    expected = CALLS[name](square.clone())
    with tessera.use("always"):
        found = CALLS[name](square.clone())
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("index", [-1, 70, 2**33], ids=str)
def test_a_gather_outside_of_its_row_is_an_error(index: int) -> None:
    outside = places.clone()
    outside[17, 4] = index
    with tessera.use("always"), pytest.raises(RuntimeError, match=r"70 elements, so an index must lie in \[0, 70\)"):
        square.gather(1, outside)


def test_sums_along_a_row_are_the_same_for_any_number_of_threads() -> None:
    threads, found = torch.get_num_threads(), []
    index, values = torch.randint(50, (300, 4000)), torch.randn(300, 4000)
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            with tessera.use("always"):
                found.append(torch.zeros(300, 50).scatter_add_(1, index, values))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.parametrize("slices", [1, 2, 17, 500])
def test_sums_of_slices_are_the_same_for_any_number_of_threads(slices: int) -> None:
    threads, found = torch.get_num_threads(), []
    index, values = torch.randint(slices, (300,)), torch.randn(300, 700)
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            with tessera.use("always"):
                found.append(torch.ones(slices, 700).index_add_(0, index, values))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    torch.testing.assert_close(found[0], torch.ones(slices, 700).index_add_(0, index, values))


def test_one_of_several_indices_outside_is_named() -> None:
    with tessera.use("always"), pytest.raises(IndexError, match=r"has 70 elements, .* in \[-70, 70\)"):
        square.clone().index_put_((ends, torch.full((40,), 70)), torch.zeros(40))


def test_writes_outside_are_left_out() -> None:
    y = torch.zeros(3, 4)
    with tessera.use("always"), pytest.raises(IndexError, match=r"the indexed dim has 3 elements"):
        y.index_add_(0, torch.tensor([1, 3]), torch.ones(2, 4))
    assert y.sum() == 4


@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"scale_grad_by_freq": True}])
def test_a_tables_gradient_is_summed_where_its_rows_were_read(options: dict[str, Any]) -> None:
    """Of a row that is read often, of one that is read once, and of rows that no index names."""
    table = torch.randn(40, 600, requires_grad=True)
    places = torch.cat([torch.full((50,), 7), torch.arange(30), torch.tensor([39, 3])]).view(2, -1)
    (record,) = assert_gradients(lambda w: functional.embedding(places, w, **options), [((table,), {})])
    assert record.calls["embedding_dense_backward"].ours and not vendor_calls(record)


@pytest.mark.parametrize("repeats", [[5, -3], [-5, 2], [2, -1, 3], [-1]])
def test_negative_repeats_are_an_error_and_write_nothing_outside(repeats: list[int]) -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="repeats can not be negative"):
        torch.repeat_interleave(torch.tensor(repeats))
