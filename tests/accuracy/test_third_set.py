"""Faults and clean runs of the third set that the check once missed or accused, each as the smallest program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.capture.value import close, value_of
from tessera.accuracy.check import check
from tessera.accuracy.compare.patterns import Clues, classify
from tessera.accuracy.dumps import compare, dump
from tests.accuracy.test_unseen_faults import judged, named

FAR = torch.full((8, 8), torch.finfo(torch.float32).min).triu(1)


@pytest.mark.parametrize("mark", [torch.finfo(torch.float32).min, torch.finfo(torch.float16).min, -1e9, -1e4])
def test_scores_are_compared_beside_a_mask(mark: float) -> None:
    mask = torch.full((8, 8), mark).triu(1)
    x = torch.randn(8, 8)
    culprit = named(
        lambda model, x: (model.linear(x) * 0.3 + mask).softmax(-1),
        lambda model, x: (model.linear(x) * 0.3003 + mask).softmax(-1),
        x,
    )
    assert (culprit.operator, culprit.kind) == ("aten.mul", "scale")


def test_scores_beside_a_mask_are_part_of_a_dump(tmp_path: Path) -> None:
    def model(factor: float) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 8), Masked(factor))

    for name, factor in (("right", 0.3), ("wrong", 0.3003)):
        dump(model(factor), torch.randn(8, 8, generator=torch.Generator().manual_seed(1)), tmp_path / name)
    culprit = compare(tmp_path / "wrong", tmp_path / "right").culprit
    assert culprit is not None and culprit.operator == "aten.mul"


class Masked(nn.Module):
    """Scores with a mask."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.factor + FAR).softmax(-1)


def test_a_mask_that_is_added_and_taken_again_accuses_no_one() -> None:
    x = torch.randn(8, 8)
    mask = torch.zeros(8, 8)
    mask[2:] = -1e9
    clean = judged(
        lambda model, x: (model.linear(x) * 0.3 + mask).softmax(-1),
        lambda model, x: (lambda s: (s - s.amax(-1, keepdim=True)).softmax(-1))(0.3 * model.linear(x) + mask),
        x,
    )
    assert clean.verdict == "clean", clean.reason


def test_numbers_beside_other_marks_are_not_compared() -> None:
    x = torch.randn(64, dtype=torch.float64)
    y = x.clone()
    x[3], y[4] = 1e9, 1e9
    assert not close(value_of(x), value_of(y), 1e-9)
    y = x.clone()
    y[5:9] = 1e8
    assert close(value_of(x), value_of(y), 0.5)


def test_weights_that_were_merged_are_rounded_anew_and_accuse_no_one() -> None:
    torch.manual_seed(0)
    apart = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    apart[1].running_mean.normal_()
    apart[1].running_var.uniform_(0.5, 2.0)
    x = torch.randn(16, 8)
    assert check(_folded(apart), x, reference=apart).verdict == "clean"
    wrong = _folded(apart)
    wrong[0].weight.data *= 1.001
    assert check(wrong, x, reference=apart).verdict == "wrong"


def _folded(model: nn.Module) -> nn.Module:
    linear, norm, *rest = model
    folded = nn.Linear(8, 8)
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    folded.weight.data = linear.weight * factor[:, None]
    folded.bias.data = (linear.bias - norm.running_mean) * factor + norm.bias
    return nn.Sequential(folded, *rest).eval()


def test_what_the_reference_computes_besides_is_missing() -> None:
    culprit = named(
        lambda model, x: model.linear(x) * torch.exp(model.linear.bias + x.sin()),
        lambda model, x: model.linear(x) * torch.exp(model.linear.bias),
    )
    assert (culprit.operator, culprit.kind) == ("aten.add", "missing operator")


def test_a_gradient_that_is_cut_off_is_missing_where_it_was_cut() -> None:
    def right(model: Any, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(model.linear(x))
        return model.other(gate * x)

    def wrong(model: Any, x: torch.Tensor) -> torch.Tensor:
        gate = torch.sigmoid(model.linear(x))
        return model.other(gate.detach() * x)

    culprit = named(right, wrong, backward=True)
    assert (culprit.phase, culprit.kind) == ("backward", "missing operator")


def test_a_product_that_is_missing_is_named_and_not_the_transpose_behind_it() -> None:
    def right(model: Any, x: torch.Tensor) -> torch.Tensor:
        return model.linear(x).t() @ model.other(x)

    def wrong(model: Any, x: torch.Tensor) -> torch.Tensor:
        made = model.linear(x)
        return made.t() @ made

    culprit = named(right, wrong)
    assert culprit.operator == "aten.addmm"


def test_another_function_is_another_operator_also_if_its_results_are_scaled() -> None:
    culprit = named(lambda model, x: model.linear(x).exp().log10(), lambda model, x: model.linear(x).exp().log())
    assert (culprit.operator, culprit.kind) == ("aten.log", "other operator")


def test_a_constant_without_a_name_is_an_argument() -> None:
    def filled(number: float) -> Callable[..., torch.Tensor]:
        def work(model: Any, x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            x[:, 2] = torch.tensor(number)
            return model.linear(x)

        return work

    culprit = named(filled(3.0), filled(4.0))
    assert culprit.kind == "argument" and "4" in culprit.where and "3" in culprit.where


class Wrong(TorchDispatchMode):
    """Within it results of one operator are changed."""

    def __init__(self, operator: str, change: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.operator, self.change = operator, change

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        return self.change(out, args) if func._schema.name == f"aten::{self.operator}" else out


class Turned(nn.Module):
    """An operator on a tensor whose memory is in another order."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(x.t())


def _in_memory_order(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return torch.sigmoid(args[0].t().reshape(args[0].shape))


def test_a_kernel_that_ignores_strides_is_told() -> None:
    result = check(Turned(), torch.randn(5, 7), context=lambda: Wrong("sigmoid", _in_memory_order))
    assert result.culprit is not None and result.culprit.kind == "transposed"
    assert "as if it were contiguous" in result.culprit.where


def test_a_kernel_that_reads_a_part_as_if_it_were_whole_is_told() -> None:
    class Part(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x[:, :5])

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        return torch.sigmoid(args[0].as_strided(args[0].shape, (5, 1)))

    result = check(Part(), torch.randn(6, 9), context=lambda: Wrong("sigmoid", change))
    assert result.culprit is not None and result.culprit.kind == "permuted"
    assert "as if it were contiguous" in result.culprit.where


RIGHT = torch.randn(6, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
EACH = 1 + torch.rand(16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize(
    ("got", "kind", "where"),
    [
        (RIGHT * EACH, "scale", "place along dim 2"),
        (RIGHT + EACH, "offset", "place along dim 2"),
        (RIGHT * EACH[:6, None, None], "scale", "place along dim 0"),
        (RIGHT / RIGHT.abs().sum(2, keepdim=True), "scale", "line along dim 2"),
        (RIGHT.clamp(-1.5, 1.5 * 127 / 128), "saturated", "1.5"),
        (RIGHT.sin() + RIGHT.square(), "values", "elements"),
    ],
)
def test_patterns(got: torch.Tensor, kind: str, where: str) -> None:
    found = classify(got, RIGHT, Clues())
    assert found.kind == kind and where in found.where, found


def test_poor_sums_are_no_exchanged_numbers() -> None:
    clues = Clues(dtype=torch.bfloat16, equal=2.0**-6)
    got = RIGHT.clone()
    got[0, 0, :3] += 0.05 * RIGHT[0, 0, :3].abs() + 0.03
    assert classify(got, RIGHT, clues).kind != "permuted"
