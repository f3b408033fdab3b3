"""Faults that the check once missed or named wrongly, each as the smallest program that shows it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.capture.recorder import mutated
from tessera.accuracy.capture.value import value_of
from tessera.accuracy.check import check
from tessera.accuracy.compare.incomplete import incomplete
from tessera.accuracy.compare.patterns import Clues, classify
from tessera.accuracy.result import CheckResult, Culprit


class Written(nn.Module):
    """A model whose forward pass is a function of the model and its inputs."""

    def __init__(self, work: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.other = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.work = work

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.work(self, *inputs)


def judged(right: Callable[..., Any], wrong: Callable[..., Any], *inputs: torch.Tensor, **more: Any) -> CheckResult:
    return check(Written(wrong), inputs or (torch.randn(4, 8),), reference=Written(right), **more)


def named(right: Callable[..., Any], wrong: Callable[..., Any], *inputs: torch.Tensor, **more: Any) -> Culprit:
    culprit = judged(right, wrong, *inputs, **more).culprit
    assert culprit is not None
    return culprit


def test_a_transpose_that_is_missing_before_a_reshape_is_named() -> None:
    x = torch.randn(2, 3, 4, 8)
    culprit = named(
        lambda model, x: model.linear(x.transpose(1, 2).reshape(2, -1, 8)),
        lambda model, x: model.linear(x.reshape(2, -1, 8)),
        x,
    )
    assert (culprit.operator, culprit.kind) == ("aten.transpose", "permuted")


def test_a_mask_that_changes_nothing_is_a_missing_mask() -> None:
    hidden = torch.tensor([False, True, False, False, False, False, False, True])
    culprit = named(
        lambda model, x: model.linear(x).masked_fill(hidden, -1e4).softmax(-1),
        lambda model, x: (model.linear(x) + 0 * hidden).softmax(-1),
    )
    assert (culprit.operator, culprit.kind) == ("aten.masked_fill", "mask")


def test_another_value_under_a_mask_is_a_fault_of_the_mask() -> None:
    hidden = torch.tensor([True] * 3 + [False] * 5)
    culprit = named(
        lambda model, x: model.linear(x).masked_fill(hidden, -9.0).softmax(-1),
        lambda model, x: model.linear(x).masked_fill(hidden, 0.0).softmax(-1),
    )
    assert (culprit.operator, culprit.kind) == ("aten.masked_fill", "mask")


def test_numbers_that_are_added_along_another_dim_are_a_fault_of_the_axis() -> None:
    def right(model: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view(2, 8, 8) + model.linear(x[:2])[:, :, None]

    def wrong(model: Any, x: torch.Tensor) -> torch.Tensor:
        return x.view(2, 8, 8) + model.linear(x[:2])[:, None, :]

    culprit = named(right, wrong, torch.randn(16, 8))
    assert (culprit.operator, culprit.kind) == ("aten.unsqueeze", "axis")


def test_a_slice_too_many_is_a_wrong_index() -> None:
    table = torch.randn(9, 8)
    culprit = named(lambda model, x: x * table[2:6], lambda model, x: x * table[1:][2:6])
    assert (culprit.operator, culprit.kind) == ("aten.slice", "index")


def test_the_other_of_two_inputs_is_a_wrong_input_also_if_they_share_memory() -> None:
    edges = torch.randint(4, (2, 10))
    culprit = named(
        lambda model, x, source, target: x[source] - x[target],
        lambda model, x, source, target: x[source] - x[source],
        torch.randn(4, 8), edges[0], edges[1],
    )  # fmt: skip
    assert culprit.kind == "wrong input"


def test_the_other_of_two_results_of_one_call_is_wrong_and_not_stale() -> None:
    def work(model: Any, x: torch.Tensor, place: int) -> torch.Tensor:
        halves = [torch.cat([x, x]), torch.cat([x.exp(), x])]
        return model.linear(halves[0]) * halves[place]

    culprit = named(lambda model, x: work(model, x, 1), lambda model, x: work(model, x, 0))
    assert culprit.kind == "wrong input"


def test_an_operator_that_only_moves_numbers_is_named_where_its_result_is_one_of_the_references() -> None:
    def turned(x: torch.Tensor) -> torch.Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat([a * 0.3 - b * 0.7, b * 0.3 + a * 0.7], -1)

    culprit = named(lambda model, x: turned(model.linear(x)), lambda model, x: turned(model.linear(x).roll(4, -1)))
    assert (culprit.operator, culprit.kind) == ("aten.roll", "shifted")


def test_a_buffer_that_two_users_write_to_is_a_wrong_input() -> None:
    def work(model: Any, x: torch.Tensor, shared: bool) -> torch.Tensor:
        first = x.new_zeros(4, 8)
        second = first if shared else x.new_zeros(4, 8)
        first[:2] = model.linear(x[:2])
        second[:2] = model.other(x[:2])
        first[2:] = model.linear(x[2:])
        return first * 2 + second.detach().sum()

    culprit = named(lambda model, x: work(model, x, False), lambda model, x: work(model, x, True))
    assert culprit.kind == "wrong input"


def test_a_state_that_is_kept_is_stale_on_the_line_of_the_missing_start() -> None:
    def right(model: Any, x: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(4, 8)
        c = x.new_zeros(4, 8)
        return c + model.linear(x) + h + c

    def wrong(model: Any, x: torch.Tensor) -> torch.Tensor:
        h = getattr(model, "last", None)
        h = x.new_zeros(4, 8) if h is None else h
        c = x.new_zeros(4, 8)
        model.last = c + model.linear(x) + h
        return model.last + c

    culprit = named(right, wrong)
    assert culprit.kind == "stale"


def test_what_a_closure_kept_from_other_runs_is_stale_and_not_non_deterministic() -> None:
    kept: list[torch.Tensor] = []

    def wrong(model: Any, x: torch.Tensor) -> torch.Tensor:
        kept.append(model.linear(x) if not kept else model.linear(x) + 0.1 * kept[-1].to(x.dtype))
        return (kept[-2] if len(kept) > 1 else kept[-1]).to(x.dtype) * 2

    result = judged(lambda model, x: model.linear(x) * 2, wrong)
    assert result.verdict == "wrong" and result.culprit is not None and result.culprit.kind == "stale"


def test_running_statistics_are_watched_and_written_once() -> None:
    def work(model: Any, x: torch.Tensor, share: float) -> torch.Tensor:
        return F.batch_norm(x, model.norm.running_mean, model.norm.running_var, training=True, momentum=share)

    culprit = named(lambda model, x: work(model, x, 0.1), lambda model, x: work(model, x, 0.9))
    assert (culprit.operator, culprit.kind) == ("aten.native_batch_norm", "rate")
    mean, power = torch.zeros(8), torch.ones(8)
    args = [torch.randn(4, 8), None, None, mean, power, True, 0.1, 1e-5]
    assert [id(tensor) for tensor in mutated(torch.ops.aten.native_batch_norm.default, args, {})] == [
        id(mean),
        id(power),
    ]


def test_a_gradient_that_cancels_accuses_no_one() -> None:
    """The bias of keys shifts all scores of a row alike, so its gradient is zero but for rounding."""

    def written_out(model: Any, x: torch.Tensor) -> torch.Tensor:
        q, k = model.linear(x), model.other(x)
        return (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ x

    def fused(model: Any, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(model.linear(x), model.other(x), x)

    x = torch.randn(3, 2, 16, 8)
    assert judged(written_out, fused, x, backward=True).verdict == "clean"
    adam: Any = lambda weights: torch.optim.Adam(weights, foreach=False)  # noqa: E731
    assert judged(written_out, fused, x, steps=2, optimizer=adam).verdict == "clean"


def test_bytes_that_an_operator_hands_to_its_own_backward_are_not_judged() -> None:
    torch.manual_seed(0)
    model = nn.LSTM(6, 5, batch_first=True)
    assert check(model, torch.randn(3, 4, 6), backward=True).verdict == "clean"


class Spoiled(TorchDispatchMode):
    """One operator gives something else."""

    def __init__(self, name: str, change: Callable[[torch.Tensor, Sequence[Any]], torch.Tensor]) -> None:
        super().__init__()
        self.name, self.change = name, change

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        return self.change(out, args) if func._schema.name == f"aten::{self.name}" else out


def spoiled(name: str, change: Callable[[torch.Tensor, Sequence[Any]], torch.Tensor], **more: Any) -> CheckResult:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.SiLU(), nn.Linear(48, 48), nn.SiLU()).to(more.get("dtype"))
    return check(model, torch.randn(16, 24), context=lambda: Spoiled(name, change))


def test_the_end_of_an_inner_dim_that_is_left_out_is_told() -> None:
    result = spoiled("addmm", lambda out, args: torch.addmm(args[0], args[1][:, :-8], args[2][:-8]))
    assert result.culprit is not None and result.culprit.kind == "incomplete"
    assert "the last 8 of the 24 terms" in result.culprit.where


def test_what_an_earlier_call_should_have_made_is_stale() -> None:
    kept: list[torch.Tensor] = []

    def former(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        kept.append(out)
        return kept[-2] if len(kept) > 1 and kept[-2].shape == out.shape else out

    result = spoiled("silu", former)
    assert result.culprit is not None and (result.culprit.operator, result.culprit.kind) == ("aten.silu", "stale")


def test_numbers_that_are_cut_off_and_not_rounded_are_suspicious() -> None:
    def cut(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        wide = torch.addmm(*(tensor.float() for tensor in args[:3]))
        return (wide.view(torch.int32) & ~0xFFFF).view(torch.float32).to(out.dtype)

    result = spoiled("addmm", cut, dtype=torch.bfloat16)
    assert result.verdict == "suspicious"
    assert result.culprit is not None and result.culprit.kind == "truncated"


def test_a_kernel_that_loses_small_numbers_underflows() -> None:
    def work(model: Any, x: torch.Tensor) -> torch.Tensor:
        return (x * 2e-5).sigmoid() - 0.5 + x * 2e-5

    def flushed(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        return torch.where(out.abs() < torch.finfo(out.dtype).tiny, torch.zeros_like(out), out)

    model = Written(work).half()
    result = check(model, torch.randn(16, 8), context=lambda: Spoiled("mul", flushed))
    assert result.verdict == "underflow"
    assert result.culprit is not None and result.culprit.kind == "underflow"


def test_a_result_that_is_too_small_for_its_type_underflows_where_it_becomes_zero() -> None:
    result = check(Written(lambda model, x: (x.sigmoid() * 1e-5) * 1e-4 + 0).half(), torch.randn(4, 8))
    assert result.verdict == "underflow" and result.culprit is not None
    assert (result.culprit.operator, result.culprit.call) == ("aten.mul", 1)
    assert "normal numbers of float16 begin at 6.1e-05" in result.culprit.where


RIGHT = torch.randn(12, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
NUMBERS = torch.arange(-120, 120).view(12, 20) * 977


@pytest.mark.parametrize(
    ("got", "expected", "dtype", "kind", "where"),
    [
        (RIGHT[:6].repeat(2, 1), RIGHT, torch.float32, "repeated", "the first 6 of 12 along dim 0"),
        (RIGHT[:, :1].expand(12, 10), RIGHT, torch.float32, "repeated", "the first 1 of 10 along dim 1"),
        (NUMBERS.to(torch.int16), NUMBERS, torch.int32, "overflow", "wrapped around at 16 bits"),
        (torch.zeros(30), torch.full((30,), 2770.0) + torch.arange(30) % 3, torch.int32, "zeroed", "every element"),
        (torch.tensor([1.0, 0.0, 2.0]), torch.tensor([1.0, 1e-39, 2.0]), torch.float32, "underflow", "became zero"),
    ],
    ids=["half repeated", "column repeated", "wrapped", "zero is no offset", "underflow"],
)
def test_patterns(got: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype, kind: str, where: str) -> None:
    equal = 2e-3 if kind == "zeroed" else 1e-8
    found = classify(got, expected, Clues(dtype=dtype, equal=equal))
    assert found.kind == kind and where in found.where


def test_running_sums_that_begin_anew_are_told() -> None:
    x = torch.randn(3, 9, dtype=torch.float64)
    got = torch.cat([x[:, :4].cumsum(1), x[:, 4:].cumsum(1)], 1)
    found = incomplete((torch.ops.aten.cumsum.default, [x, 1], {}), got, x.cumsum(1), Clues())
    assert found is not None and found.where == "running sums begin anew at 4 along dim 1"
    assert incomplete((torch.ops.aten.cumsum.default, [x, 1], {}), got * 2, x.cumsum(1), Clues()) is None


def test_measuring_does_not_depend_on_who_draws_random_numbers() -> None:
    class Other(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            out = func(*args, **(kwargs or {}))
            return 1 - out if func._schema.name == "aten::randint" else out

    from tessera.accuracy.capture import chunks

    x, host = torch.randn(200), torch.device("cpu")
    expected = value_of(x).sketch
    chunks.signs.cache_clear()
    with Other():
        drawn = chunks.signs(torch.float32, host)
    chunks.signs.cache_clear()
    assert np.array_equal(value_of(x).sketch, expected) and torch.equal(drawn, chunks.signs(torch.float32, host))
