"""The check from the user's side: clean moves are clean, and a fault is named with its operator, line and pattern."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import tessera
from tessera.accuracy.check import check
from tessera.core.errors import UsageError
from tests.accuracy.small_models import Fused, Separate, encoder, tokens


def with_fault(change: Callable[[torch.Tensor], torch.Tensor], site: str = "layers.1.linear1") -> nn.Module:
    """An encoder whose one module returns something else, as a wrapper in a port would make it."""
    model = encoder()
    part = model.get_submodule(site)
    right = part.forward
    part.forward = lambda *args, **kwargs: change(right(*args, **kwargs))  # type: ignore[method-assign]
    return model


def test_it_is_offered_at_the_front() -> None:
    assert tessera.check is check


@pytest.mark.parametrize("backward", [False, True])
def test_a_move_to_bfloat16_is_clean(backward: bool) -> None:
    result = check(encoder().bfloat16(), tokens(), reference=encoder(), backward=backward)
    assert result.verdict == "clean"
    assert result.culprit is None
    assert set(result.operators) == {"exact"}
    assert all(layer.ratio is not None and layer.ratio < 1.5 for layer in result.layers)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backward", [False, True])
def test_a_thousandth_in_one_operator_is_named(dtype: torch.dtype, backward: bool) -> None:
    result = check(with_fault(lambda x: x * 1.001).to(dtype), tokens(), reference=encoder(), backward=backward)
    assert result.verdict == "wrong"
    assert result.culprit is not None
    assert (result.culprit.module, result.culprit.operator, result.culprit.kind) == (
        "layers.1.linear1",
        "aten.mul",
        "scale",
    )
    assert "1.001" in result.culprit.where
    assert "test_check.py" in result.culprit.source


def test_a_single_weight_is_named_with_its_place() -> None:
    model = encoder()
    model.get_parameter("layers.0.linear2.weight").data[3, 5] += 0.1
    culprit = check(model, tokens(), reference=encoder()).culprit
    assert culprit is not None
    assert (culprit.module, culprit.operator, culprit.kind) == ("layers.0.linear2", "aten.addmm", "weight")
    assert "layers.0.linear2.weight" in culprit.where and "[3, 5]" in culprit.where


def test_other_names_and_a_fused_layer_are_the_same_computation() -> None:
    reference, x = Separate(), torch.randn(3, 6, 16)
    assert check(Fused(reference), x, reference=reference, backward=True).verdict == "clean"
    assert check(Fused(reference).bfloat16(), x, reference=reference).verdict == "clean"


def test_a_fault_in_a_fused_layer_under_other_names_is_named() -> None:
    reference = Separate()
    result = check(Fused(reference, swapped=True), torch.randn(3, 6, 16), reference=reference)
    assert result.verdict == "wrong"
    assert result.culprit is not None
    assert result.culprit.module == "(model)"
    assert "small_models.py" in result.culprit.source


class WrongKernel(TorchDispatchMode):
    """Every product of a width loses its last columns."""

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.addmm.default and out.shape[-1] == 64:
            out = out.clone()
            out[..., -3:] = 0
        return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_kernel_is_named_without_another_model(dtype: torch.dtype) -> None:
    result = check(encoder().to(dtype), tokens(), context=WrongKernel)
    assert result.verdict == "wrong"
    assert result.culprit is not None
    assert (result.culprit.module, result.culprit.operator) == ("layers.0.linear1", "aten.addmm")
    assert result.culprit.kind == "edge"
    assert "the last 3 of 64 along dim 1 are zero" in result.culprit.where
    assert next(layer for layer in result.layers if layer.name == "layers.0.linear1").verdict == "wrong"
    assert next(layer for layer in result.layers if layer.name == "layers.0.linear2").verdict == "exact"


def test_what_differs_from_run_to_run_is_called_non_deterministic() -> None:
    result = check(with_fault(lambda x: x + random.random()), tokens(), reference=encoder())
    assert result.verdict == "non-deterministic"
    assert result.culprit is not None and result.culprit.module == "layers.1.linear1"


def test_what_is_left_from_the_call_before_is_called_stale() -> None:
    kept: list[torch.Tensor] = []

    def stale(x: torch.Tensor) -> torch.Tensor:
        kept.append(x)
        return kept[-2] if len(kept) > 1 else x

    culprit = check(with_fault(stale, "layers.0.norm2"), tokens(), reference=encoder()).culprit
    assert culprit is not None
    assert (culprit.module, culprit.kind) == ("layers.0.norm2", "stale")


def test_an_overflow_is_told_where_it_is_born() -> None:
    class Grows(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            big = x * 1e3
            return (big * big) / 1e4

    result = check(Grows().half(), torch.rand(4, 4).half() + 1)
    assert result.verdict == "overflow"
    assert result.culprit is not None and result.culprit.operator == "aten.mul"
    assert "float16 holds 6.55e+04" in result.culprit.where


def test_training_steps_are_compared_and_the_first_wrong_one_is_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))
    assert check(model, torch.randn(5, 8), steps=3, optimizer=lambda p: torch.optim.AdamW(p)).verdict == "clean"
    wrong = with_fault(lambda x: x * 1.0001, "layers.1.norm2")
    result = check(wrong, tokens(), reference=encoder(), steps=2)
    assert result.culprit is not None
    assert (result.culprit.step, result.culprit.phase, result.culprit.module) == (0, "forward", "layers.1.norm2")


def test_a_wrong_gradient_is_named_in_the_backward_pass() -> None:
    class Half(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
            return gradient * 0.5

    model = with_fault(Half.apply)
    assert check(model, tokens(), reference=encoder()).verdict == "clean"
    culprit = check(model, tokens(), reference=encoder(), backward=True).culprit
    assert culprit is not None
    assert (culprit.phase, culprit.module, culprit.kind) == ("backward", "layers.1.linear1", "scale")


def test_a_reference_that_cannot_run_is_the_users_to_mend() -> None:
    with pytest.raises(UsageError, match="the reference cannot be run on these inputs: AssertionError"):
        check(encoder(), torch.randn(2, 7, 31), reference=encoder())


def test_a_candidate_that_fails_is_a_verdict() -> None:
    def fails(x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    result = check(with_fault(fails), tokens(), reference=encoder())
    assert result.verdict == "failed"
    assert "no such kernel" in result.reason


def test_the_isolated_view_judges_kernels_and_no_programs() -> None:
    model, x = encoder(), tokens()
    result = check(model, x, view="isolated")
    assert result.ok and all(layer.isolated in (0, None) and layer.error is None for layer in result.layers)
    with pytest.raises(UsageError, match="the isolated view judges kernels, not programs"):
        check(model, x, reference=encoder(), view="isolated")


class Joined(nn.Module):
    """A branch whose shape is mended by an addition, and a line that needs that shape."""

    def __init__(self, added: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.add = nn.Linear(8, 1), Adding(added)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.add(x, self.linear(x)) @ torch.eye(8, dtype=x.dtype)


class Adding(nn.Module):
    def __init__(self, added: bool) -> None:
        super().__init__()
        self.added = added

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y if self.added else y


def test_a_run_that_ends_early_is_explained_by_what_differs_before() -> None:
    result = check(Joined(False), torch.randn(3, 8), reference=Joined(True))
    assert result.verdict == "failed" and result.culprit is not None
    assert (result.culprit.module, result.culprit.operator) == ("add", "aten.add")
    assert result.reason.startswith("the candidate's run ended early: RuntimeError: mat1 and mat2")
    assert "first difference: aten.add in add" in result.reason


def test_a_candidate_that_is_no_module_is_an_error() -> None:
    with pytest.raises(UsageError, match=r"the candidate is a str; give a torch.nn.Module"):
        check("model.py", torch.ones(2))  # type: ignore[arg-type]


@pytest.mark.parametrize("reference", ["native", "float64"])
def test_the_own_program_has_the_names_that_the_command_gives_it(reference: str) -> None:
    assert check(nn.Linear(3, 2), torch.ones(1, 3), reference=reference).ok
