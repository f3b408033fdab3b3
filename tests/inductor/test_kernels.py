"""Kinds of kernels that Inductor writes: each is another part of the language that our compiler must have right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.inductor.compiled import assert_equal_to_eager, compiled, gradients

TYPES = [torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """What an earlier test has compiled is not used again."""
    torch.compiler.reset()


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_statistics_by_welfords_recurrence(dtype: torch.dtype) -> None:
    x = 3.0 + torch.randn(6, 1500)
    assert_equal_to_eager(lambda x: torch.var_mean(x, dim=1), x.to(dtype))


def test_one_sum_over_many_is_split_over_programs() -> None:
    x = torch.randn(700, 1000)
    assert_equal_to_eager(lambda x: (x.sum(), x.sum(0), x.amax(), x.double().mean()), x)


def test_arguments_of_extremes_take_the_first_of_equals_and_nan() -> None:
    x = torch.randint(0, 5, (40, 300)).float()
    x[3, 17] = x[3, 200] = torch.nan
    assert_equal_to_eager(lambda x: (x.argmax(1), x.argmin(1), x.argmax(0)), x)


def test_sort_is_stable_and_returns_places() -> None:
    x = torch.randint(0, 9, (30, 13)).float()
    assert_equal_to_eager(lambda x: torch.sort(x, dim=1, descending=True, stable=True), x)


@pytest.mark.parametrize("scan", [torch.cumsum, torch.cumprod, torch.cummax], ids=lambda scan: scan.__name__)
def test_scans(scan: Callable[..., Any]) -> None:
    """In bfloat16: float32 is what PyTorch adds up in float64 here, and a Triton kernel in what it is given."""
    x = (1.0 + 0.1 * torch.randn(5, 333)).bfloat16()
    assert_equal_to_eager(lambda x: scan(x, 1), x)


def test_a_scan_of_whole_numbers_is_exact_in_float32() -> None:
    x = torch.randint(-9, 9, (5, 3000)).float()
    assert torch.equal(compiled(lambda x: torch.cumsum(x, 1))(x), torch.cumsum(x, 1))


def test_scattered_additions_meet_in_one_place() -> None:
    place, x = torch.randint(0, 7, (500,)), torch.randn(500, 24)
    assert_equal_to_eager(lambda x: torch.zeros(7, 24, dtype=x.dtype).index_add(0, place, x), x)

    def look_up(table: torch.Tensor) -> torch.Tensor:
        return F.embedding(place, table)

    assert_equal_to_eager(lambda x: gradients(look_up, [x]), x[:7], run=lambda x: gradients(compiled(look_up), [x]))


def test_functions_that_inductor_takes_from_libdevice() -> None:
    x = torch.linspace(-0.99, 0.99, 999)
    assert_equal_to_eager(lambda x: (torch.erfinv(x), torch.lgamma(8 * x), torch.special.i0(x), torch.expm1(x)), x)


def test_convolution_pooling_and_normalisation_train() -> None:
    x, weight = torch.randn(2, 3, 12, 12), torch.randn(8, 3, 3, 3)

    def block(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.gelu(F.group_norm(F.max_pool2d(F.conv2d(x, weight, padding=1), 2), 4))

    assert_equal_to_eager(lambda *a: gradients(block, a), x, weight, run=lambda *a: gradients(compiled(block), a))


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, torch.optim.SGD, torch.optim.RMSprop])
def test_one_step_of_an_optimizer_over_many_weights(optimizer: type[torch.optim.Optimizer]) -> None:
    """Inductor fuses the steps of all weights into kernels of its own kind."""
    start = [torch.randn(shape) for shape in ((5, 7), (64,), (33, 3), (1,))]
    slope = [torch.randn_like(value) for value in start]

    def step(weights: list[torch.Tensor], slopes: list[torch.Tensor], run: Callable[..., Any]) -> list[torch.Tensor]:
        leaves = [weight.clone().requires_grad_() for weight in weights]
        for leaf, grad in zip(leaves, slopes, strict=True):
            leaf.grad = grad.clone()
        run(optimizer(leaves, lr=0.01).step)()
        return [leaf.detach() for leaf in leaves]

    def compile_step(function: Callable[[], Any]) -> Callable[[], Any]:
        return torch.compile(function, options={"cpu_backend": "triton"})

    assert_equal_to_eager(lambda w, s: step(w, s, lambda f: f), start, slope, run=lambda w, s: step(w, s, compile_step))


def test_shapes_may_change_without_another_compilation() -> None:
    def function(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.softmax(x @ y.T, dim=-1).sum(0) * x.shape[0]

    run = compiled(function, dynamic=True)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for rows, inner in ((40, 24), (7, 130), (257, 3)):
            assert_equal_to_eager(function, torch.randn(rows, inner), torch.randn(rows + 5, inner), run=run)


def test_dropout_keeps_its_share_and_repeats_with_the_seed() -> None:
    run = compiled(lambda x: F.dropout(x, 0.3))
    x = torch.ones(300, 300)
    torch.manual_seed(5)
    first = run(x)
    torch.manual_seed(5)
    assert torch.equal(run(x), first)
    assert not torch.equal(run(x), first)
    kept = (first != 0).double().mean().item()
    # Five standard deviations of a share of 90,000.
    assert abs(kept - 0.7) < 5 * (0.7 * 0.3 / x.numel()) ** 0.5
    torch.testing.assert_close(first[first != 0].unique(), torch.tensor([1 / 0.7]))
