"""Suspicious operators, decided by other inputs: an unlucky draw is rounding, a loss that stays is wrong."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.check import check
from tessera.accuracy.result import CheckResult
from tessera.accuracy.seeds import decide

Product = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it matrix products are made in another way."""

    def __init__(self, product: Product) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.product = product

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.product(*args) if func is torch.ops.aten.mm.default else func(*args, **(kwargs or {}))


class Net(nn.Module):
    def __init__(self, size: int, width: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(size, width) / size**0.5)
        self.inputs = torch.randn(1 if width == 2 else 8, size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


def one_by_one(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Terms are added one after the other, which loses several times what sums of parts do."""
    total = torch.zeros(a.shape[0], b.shape[1])
    for k in range(a.shape[1]):
        total = total + a[:, k, None] * b[k]
    return total


def backwards(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The same by the same kernel, in the other order."""
    return torch.mm(a.flip(1), b.flip(0))


def checked(product: Product, net: Net, seeds: int) -> CheckResult:
    return check(net, net.inputs, context=lambda: Products(product), seeds=seeds)


@pytest.fixture(scope="module")
def unlucky() -> list[Net]:
    """Two numbers can always have bad luck."""
    return [net for net in (Net(64, 2, seed) for seed in range(12)) if not checked(backwards, net, 0).ok]


def test_a_loss_that_stays_is_wrong() -> None:
    result = checked(one_by_one, Net(2048, 16, 0), 4)
    assert result.verdict == "wrong" and result.culprit is not None
    assert "times what torch loses (limit 2); on 4 other inputs it loses" in result.culprit.where


def test_an_unlucky_draw_is_rounding(unlucky: list[Net]) -> None:
    assert len(unlucky) > 1
    assert [checked(backwards, net, 48).verdict for net in unlucky] == ["clean"] * len(unlucky)


def test_few_inputs_leave_it_suspicious(unlucky: list[Net]) -> None:
    assert checked(backwards, unlucky[0], 1).verdict == "suspicious"


def test_what_does_not_repeat_is_not_acquitted() -> None:
    """A fault that shows in the run and not when the operator is called again is no innocent operator."""
    calls = []

    def once(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(a)
        # The check runs twice, each time after a call that it does not watch.
        return one_by_one(a, b) if len(calls) in (2, 4) else torch.mm(a, b)

    result = checked(once, Net(2048, 16, 0), 4)
    assert result.verdict == "suspicious" and result.culprit is not None
    assert "alone it does not give the same again" in result.culprit.where


def test_inputs_that_cannot_be_drawn_anew_leave_it_suspicious() -> None:
    matrix = torch.eye(8) * 4 + 0.1
    call = (torch.ops.aten.linalg_cholesky_ex.default, [matrix], {"check_errors": True})
    found = decide(call, 4, torch.no_grad, torch.no_grad)
    assert found.verdict == "suspicious" and "other inputs cannot be made" in found.reason


def test_every_seed_is_another_input() -> None:
    generator = torch.Generator().manual_seed(0)
    pair = [torch.randn(8, 600, generator=generator), torch.randn(600, 8, generator=generator)]
    found = decide((torch.ops.aten.mm.default, pair, {}), 3, lambda: Products(backwards), torch.no_grad)
    assert len(set(found.excess)) == 3
