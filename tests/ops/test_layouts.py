"""Layouts and numbers beyond what PyTorch's samples hold."""

from __future__ import annotations

import pytest
import torch

import tessera
from tests.ops.judged import assert_call, assert_same_layout, vendor_calls

dense = torch.randn(6, 5, 4)
LAYOUTS = {
    "contiguous": dense,
    "transposed": dense.transpose(0, 2),
    "permuted": dense.permute(1, 2, 0),
    "sliced": torch.randn(12, 10, 9)[::2, ::2, 1:5],
    "expanded": torch.randn(5, 1).expand(6, 5, 4),
    "one element": torch.randn(1, 1, 1),
    "zero dims": torch.randn(()),
    "empty": torch.randn(0, 5, 4),
    "channels last": torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_operand(name: str, dtype: torch.dtype) -> None:
    record = assert_call(torch.tanh, LAYOUTS[name].to(dtype))
    assert not vendor_calls(record)


@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_two_operands(first: str, second: str) -> None:
    try:
        torch.broadcast_shapes(LAYOUTS[first].shape, LAYOUTS[second].shape)
    except RuntimeError:
        with tessera.use("always"), pytest.raises(RuntimeError, match="must match the size"):
            torch.add(LAYOUTS[first], LAYOUTS[second])
        return
    assert not vendor_calls(assert_call(torch.add, LAYOUTS[first], LAYOUTS[second]))


@pytest.mark.parametrize("first", [torch.bool, torch.uint8, torch.int64, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("second", [torch.bool, torch.int32, torch.float16, torch.float32, 2, 2.5, True])
def test_promotion(first: torch.dtype, second: object) -> None:
    left = torch.arange(6).to(first)
    for right in (
        [torch.ones(6, dtype=second), torch.ones((), dtype=second)] if isinstance(second, torch.dtype) else [second]
    ):
        assert not vendor_calls(assert_call(torch.mul, left, right))


def test_six_dims_in_any_order() -> None:
    x, y = torch.randn(2, 3, 2, 3, 2, 3), torch.randn(3, 2, 3, 2, 3, 2)
    assert not vendor_calls(assert_call(torch.add, x.permute(5, 0, 3, 2, 1, 4), y.permute(0, 5, 2, 3, 4, 1)))


def test_in_place_with_overlap_is_pytorchs_business() -> None:
    x = torch.arange(8.0)
    with tessera.use("always") as record:
        x[1:].copy_(x[:-1].clone())
        x.add_(x)
    assert x.tolist() == [0, 0, 2, 4, 6, 8, 10, 12]
    assert not vendor_calls(record)


def test_result_into_given_memory() -> None:
    out, wanted, eye = torch.empty(4, 6).t(), torch.randn(6, 4), torch.eye(4)
    with tessera.use("always") as record:
        torch.add(wanted, 1, out=out)
        torch.mm(wanted, eye, out=out)
    assert torch.equal(out, wanted)
    assert not vendor_calls(record)


def test_in_place_needs_a_type_that_holds_the_result() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="can't be cast"):
        torch.ones(3, dtype=torch.int64).add_(1.5)


def test_a_bad_index_says_what_would_be_right() -> None:
    with tessera.use("always"), pytest.raises(IndexError, match=r"the indexed dim has 4 elements, .* in \[0, 4\)"):
        torch.embedding(torch.randn(4, 8), torch.tensor([1, 4]))
    with tessera.use("always"), pytest.raises(IndexError, match=r"\[-4, 4\)"):
        torch.randn(4, 8)[torch.tensor([-5])]
    with tessera.use("always"):
        assert torch.embedding(torch.eye(4), torch.tensor([3])).argmax().item() == 3


@pytest.mark.parametrize("n", [1, 7, 1000, 16384, 40000])
def test_rows_of_any_length(n: int) -> None:
    x = torch.randn(3, n)
    for call in (torch.softmax, torch.log_softmax):
        assert not vendor_calls(assert_call(call, x, -1))
        assert not vendor_calls(assert_call(call, x, 0))
    assert not vendor_calls(assert_call(torch.nn.functional.layer_norm, x, [n]))
    assert not vendor_calls(assert_call(torch.sum, x, 1))
    assert not vendor_calls(assert_call(torch.argmax, x, 1))


def test_a_row_of_minus_infinity() -> None:
    x = torch.full((2, 40000), -torch.inf)
    x[0, 7] = 0.0
    with tessera.use("always"):
        y = torch.softmax(x, -1)
    assert y[0].tolist() == [0.0] * 7 + [1.0] + [0.0] * (40000 - 8)
    assert bool(y[1].isnan().all())


@pytest.mark.parametrize("m", [1, 2, 65, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_matrix_products(m: int, dtype: torch.dtype) -> None:
    a, b, bias = torch.randn(m, 70).to(dtype), torch.randn(90, 70).to(dtype), torch.randn(90).to(dtype)
    assert not vendor_calls(assert_call(torch.mm, a, b.t()))
    assert not vendor_calls(assert_call(torch.mm, a, b.t().contiguous()))
    assert not vendor_calls(assert_call(torch.addmm, bias, a, b.t(), alpha=0.3, beta=1.7))


def test_numbers_in_double_are_exact() -> None:
    x = torch.zeros(3, dtype=torch.float64)
    with tessera.use("always"):
        y = x + 0.1
    assert_same_layout(y, x)
    assert y.tolist() == [0.1, 0.1, 0.1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_products_with_vectors(dtype: torch.dtype) -> None:
    """Rows or columns side by side, strided, and one row or column alone."""
    torch.manual_seed(0)
    wide = (4 * torch.randn(300, 130)).to(dtype)
    for a in (wide, wide.t(), wide[::2, 1::3], wide[:, :1], wide[:1]):
        m, k = a.shape
        v, added = (4 * torch.randn(2 * k)).to(dtype)[::2], (4 * torch.randn(m)).to(dtype)
        for call, args in (
            (torch.mv, (a, v)), (torch.addmv, (added, a, v)), (torch.mm, (v[None], a.t())),
        ):  # fmt: skip
            assert not vendor_calls(assert_call(call, *args)), (call, a.shape, a.stride())


@pytest.mark.parametrize("part", [(0, 1, 2), (-1, -2, 2), (1, 7, 0), (1, -7, 3)])
def test_a_part_is_copied_into_contiguous_memory(part: tuple[int, int, int]) -> None:
    x = torch.randn(5, 7, 3)
    for given, (dim, start, length) in ((x, part), (x.transpose(0, 2), (2 - part[0] % 3, *part[1:]))):
        record = assert_call(torch.narrow_copy, given, dim, start, length)
        assert not vendor_calls(record)
    with tessera.use("always"):
        assert torch.narrow_copy(x.transpose(0, 2), 1, 0, 4).is_contiguous()
        with pytest.raises(RuntimeError, match="exceeds dimension size"):
            torch.narrow_copy(x, 0, 4, 2)
        turned = torch.empty(2, 7, 3).permute(0, 2, 1)
        assert torch.equal(torch.narrow_copy(x.transpose(1, 2), 0, 3, 2, out=turned), x[3:].transpose(1, 2))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8], ids=str)
@pytest.mark.parametrize("call", [torch.max, torch.min])
def test_the_best_of_columns_stands_where_it_stands_first(call: object, dtype: torch.dtype) -> None:
    x = torch.randint(0, 4, (50, 3, 300)).to(dtype)
    for dim in (0, 1, -1):
        assert not vendor_calls(assert_call(call, x, dim))  # type: ignore[arg-type]
    if dtype.is_floating_point:
        x[7, 1, ::5], x[9, 1, ::10], x[:, 2] = torch.nan, torch.nan, -torch.inf
        assert not vendor_calls(assert_call(call, x, 0))  # type: ignore[arg-type]
        assert not vendor_calls(assert_call(call, x[:, :, ::2], 0))  # type: ignore[arg-type]


def test_gamma_functions_of_several_dims_are_contiguous() -> None:
    assert not vendor_calls(assert_call(torch.mvlgamma, (torch.rand(6, 5) + 2).t(), 3))


def test_copies_into_no_elements_keep_the_shape() -> None:
    x = torch.empty(0, 2, 2)
    with tessera.use("always"):
        assert x.copy_(torch.eye(2)).shape == (0, 2, 2)
        assert x.copy_(torch.ones(())).shape == (0, 2, 2)
        with pytest.raises(RuntimeError, match="must match"):
            x.copy_(torch.ones(3))
