"""A wrong optimizer is named: its line, the first parameter that it spoiled, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import nn

from tessera.accuracy.check import check
from tessera.core.errors import UsageError


class Descent(torch.optim.Optimizer):
    """Adam with decoupled decay, written out as in a port, with places to go wrong."""

    def __init__(self, parameters: Iterable[nn.Parameter], **changed: Any) -> None:
        settings = {"lr": 1e-2, "beta": 0.9, "decay": 0.1, "corrected": True, "fresh": True, "eps": 1e-8}
        super().__init__(parameters, {**settings, **changed})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """One step."""
        for group in self.param_groups:
            for weight in group["params"]:
                self._move(weight, group)

    def _move(self, weight: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state.update(mean=torch.zeros_like(weight), power=torch.zeros_like(weight), count=0)
        state["count"] += 1
        weight.mul_(1 - group["lr"] * group["decay"])
        state["mean"].mul_(group["beta"]).add_(weight.grad, alpha=1 - group["beta"])
        if group["fresh"] or state["count"] == 1:
            state["power"].mul_(0.999).addcmul_(weight.grad, weight.grad, value=0.001)
        corrected = group["corrected"]
        size = state["power"] / (1 - 0.999 ** state["count"] if corrected else 1)
        share = group["lr"] / (1 - group["beta"] ** state["count"] if corrected else 1)
        weight.addcdiv_(state["mean"], size.sqrt().add_(group["eps"]), value=-share)


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def _adamw(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1, foreach=False)


def _with(**changed: Any) -> Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: Descent(parameters, **changed)


def _checked(ours: Any, theirs: Any, steps: int = 3) -> Any:
    return check(_model(), torch.randn(5, 6), steps=steps, optimizer=ours, reference_optimizer=theirs)


def test_the_same_rule_written_in_another_way_is_clean() -> None:
    assert _checked(_with(), _with()).verdict == "clean"
    assert _checked(_with(), _adamw).verdict == "clean"


@pytest.mark.parametrize(
    ("changed", "operators", "kinds", "step"),
    [
        # The bias correction hides this one in the first parameter that is written.
        ({"beta": 0.8}, ("aten.mul_", "aten.add_"), ("scale", "argument"), 0),
        ({"lr": 2e-2}, ("aten.mul_", "aten.addcdiv_"), ("scale", "rate", "argument"), 0),
        ({"decay": 0.0}, ("aten.mul_",), ("scale", "missing operator"), 0),
        ({"corrected": False}, ("aten.div", "aten.addcdiv_"), ("scale", "argument", "missing operator"), 0),
        ({"eps": 1e-3}, ("aten.add_",), ("eps",), 0),
        ({"fresh": False}, ("aten.mul_", "aten.addcmul_"), ("stale", "missing operator", "scale"), 1),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_optimizer_is_named(changed: Any, operators: Any, kinds: Any, step: int) -> None:
    culprit = _checked(_with(**changed), _with()).culprit
    assert culprit is not None
    assert (culprit.module, culprit.phase, culprit.step) == ("(optimizer)", "step", step)
    assert culprit.operator in operators and culprit.kind in kinds
    assert "test_optimizer_check.py" in culprit.source
    assert f"first seen in parameter 0.weight after step {2 if 'beta' in changed else step + 1}" in culprit.where


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [({"betas": (0.8, 0.999)}, ("argument", "scale")), ({"weight_decay": 0.0}, ("missing operator", "scale"))],
)
def test_wrong_settings_of_an_optimizer_of_pytorch_are_named(changed: Any, kinds: Any) -> None:
    wrong = {"lr": 1e-2, "weight_decay": 0.1, "foreach": False, **changed}
    culprit = _checked(lambda parameters: torch.optim.AdamW(parameters, **wrong), _adamw).culprit
    assert culprit is not None
    assert (culprit.module, culprit.phase, culprit.step) == ("(optimizer)", "step", 0)
    assert culprit.kind in kinds
    assert "first seen in parameter 0.weight after step" in culprit.where


def test_an_optimizer_for_a_reference_that_does_not_train_is_refused() -> None:
    with pytest.raises(UsageError, match="reference_optimizer trains a reference model; give steps=N"):
        check(_model(), torch.randn(5, 6), reference_optimizer=_adamw)
