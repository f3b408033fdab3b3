"""Loss curves: what rounding explains is noise, and what it does not is told with its step and its shape."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from scipy import stats
from torch import nn
from typer.testing import CliRunner

from tessera.accuracy.dumps import dump
from tessera.accuracy.losses import compare_losses, read_losses, rounding_spread
from tessera.accuracy.student import t_quantile
from tessera.cli import app
from tessera.core.errors import UsageError

STEPS = 16


def model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.LayerNorm(64), nn.Linear(64, 4)).to(dtype)


def train(net: nn.Module, *, parts: int = 1, rate: float = 1e-2, frozen_from: int = STEPS) -> list[float]:
    """Losses on the same batches each time. parts: the batch in so many, which sums in another order."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    generator, losses = torch.Generator().manual_seed(5), []
    first = next(net.parameters())
    for step in range(STEPS):
        x = torch.randn(32, 16, generator=generator)
        y, total = x[:, :4].tanh(), 0.0
        optimizer.zero_grad()
        for rows, wanted in zip(x.chunk(parts), y.chunk(parts), strict=True):
            loss = (net(rows.to(first.dtype)).float() - wanted).square().mean() / parts
            loss.backward()
            total += float(loss.detach())
        if step >= frozen_from and first.grad is not None:
            first.grad.zero_()
        losses.append(total)
        optimizer.step()
    return losses


Runs = tuple[list[float], list[list[float]]]


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def reference(request: pytest.FixtureRequest) -> tuple[torch.dtype, Runs]:
    dtype, threads = request.param, torch.get_num_threads()
    # Tensors are so small that a second thread costs more than it helps.
    torch.set_num_threads(1)
    made = dtype, (train(model(dtype)), rounding_spread(train, model(dtype)))
    torch.set_num_threads(threads)
    return made


def test_another_order_of_sums_is_noise(reference: tuple[torch.dtype, Runs]) -> None:
    dtype, (losses, spread) = reference
    verdict = compare_losses(train(model(dtype), parts=2), losses, spread)
    assert verdict.way == "noise" and verdict.ok, verdict.reason


def test_each_run_with_other_roundings_is_noise_to_the_others(reference: tuple[torch.dtype, Runs]) -> None:
    losses, spread = reference[1]
    ways = [compare_losses(spread[k], losses, spread[:k] + spread[k + 1 :]).way for k in range(len(spread))]
    assert ways == ["noise"] * len(spread)


def test_a_gradient_that_stops_is_seen_at_the_step_behind(reference: tuple[torch.dtype, Runs]) -> None:
    dtype, (losses, spread) = reference
    verdict = compare_losses(train(model(dtype), frozen_from=6), losses, spread)
    assert not verdict.ok and verdict.step is not None
    if dtype == torch.float32:
        assert (verdict.way, verdict.step) == ("diverged", 7)
        assert verdict.reason.startswith("diverged at step 7; at step 7 the loss is off by")
    assert verdict.step >= 7


def test_the_model_is_not_changed_by_its_runs() -> None:
    net = model()
    before = [weight.clone() for weight in net.parameters()]
    rounding_spread(lambda copied: [float(copied(torch.ones(1, 16)).detach().sum())], net, runs=2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert not net._forward_pre_hooks


BASE = [1.0 / (1 + step) for step in range(40)]
SPREAD = [[loss + 1e-6 * math.sin(step * number + 1) for step, loss in enumerate(BASE)] for number in range(1, 9)]
SHAPES: dict[str, tuple[Callable[[int], float], str, int | None, str]] = {
    "noise": (lambda step: 1e-6 * math.cos(step), "noise", None, "noise: the largest difference of 40 steps is"),
    "offset": (lambda step: 0.01, "offset", 0, "offset from step 0: +0.01 on average"),
    "slope": (lambda step: 1e-3 * step, "slope", 1, "slope differs: by +0.001 more each step"),
    "diverged": (lambda step: 0.02 * (step >= 17), "diverged", 17, "diverged at step 17;"),
    "not a number": (lambda step: math.nan if step >= 5 else 0.0, "diverged", 5, "diverged at step 5: the loss is nan"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_the_shape_is_told(name: str) -> None:
    moved, way, step, words = SHAPES[name]
    verdict = compare_losses([loss + moved(k) for k, loss in enumerate(BASE)], BASE, SPREAD)
    assert (verdict.way, verdict.step) == (way, step)
    assert verdict.reason.startswith(words)


def test_without_other_runs_a_small_difference_is_undecided_and_a_large_one_is_not() -> None:
    wavy = [loss + 0.05 * math.sin(7 * step) for step, loss in enumerate(BASE)]
    near = compare_losses([loss + 0.01 for loss in wavy], wavy)
    assert near.way == "undecided" and not near.ok
    assert "can be told from runs of the reference with other roundings" in near.reason
    assert compare_losses([loss + 2 for loss in wavy], wavy).way == "offset"


@pytest.mark.parametrize("freedom", [1, 2, 3, 8, 50])
@pytest.mark.parametrize("tail", [0.05, 1e-3, 1e-6])
def test_quantiles_are_students(freedom: int, tail: float) -> None:
    assert t_quantile(tail, freedom) == pytest.approx(float(stats.t.isf(tail / 2, freedom)), rel=2e-3)


FILES = {
    "lines": "3.0\n2.5\n2.25\n",
    "list.json": "[3.0, 2.5, 2.25]",
    "log.jsonl": '{"step": 0, "loss": 3.0, "lr": 1}\n{"step": 1, "loss": 2.5}\n{"step": 2, "loss": 2.25}\n',
    "log.csv": "step, loss, lr\n0, 3.0, 1\n1, 2.5, 1\n2, 2.25, 1\n",
    "one.csv": "loss\n3.0\n2.5\n2.25\n",
}


@pytest.mark.parametrize("name", FILES)
def test_losses_are_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    assert read_losses(tmp_path / name) == {0: 3.0, 1: 2.5, 2: 2.25}


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.inner(x).square().mean()}


def test_losses_are_read_from_a_dump_made_with_steps(tmp_path: Path) -> None:
    dump(WithLoss(), torch.ones(2, 16), tmp_path / "run", steps=3)
    curve = read_losses(tmp_path / "run")
    first = WithLoss()(torch.ones(2, 16))["loss"]
    assert list(curve) == [0, 1, 2] and curve[0] == pytest.approx(float(first.detach()), rel=1e-6)
    dump(WithLoss(), torch.ones(2, 16), tmp_path / "call")
    with pytest.raises(UsageError, match=r"has no loss for each step: .* make it with --steps"):
        read_losses(tmp_path / "call")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("3.0\nmany\n", "holds no losses .* give numbers, or `loss` and `step` in each row"),
        ("step, lr\n0, 1\n", "row 1 has step, lr and no loss"),
        ('{"step": 1, "loss": 2}\n{"step": 1, "loss": 3}\n', "has 2 rows for 1 steps; give each step once"),
    ],
)
def test_what_is_no_curve_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_losses(tmp_path / "file")


def test_curves_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match="share 1 steps of 2 and 2"):
        compare_losses({0: 1.0, 1: 2.0}, {1: 2.0, 2: 3.0})
    with pytest.raises(UsageError, match="a loss of the reference is not a finite number"):
        compare_losses([1.0, 2.0], [1.0, math.nan])


def test_the_command_writes_a_page_and_json(tmp_path: Path) -> None:
    curves = {"port": [loss + 0.02 * (k >= 17) for k, loss in enumerate(BASE)], "original": BASE, "again": SPREAD[0]}
    for name, losses in curves.items():
        (tmp_path / name).write_text("\n".join(map(str, losses)))
    names = [str(tmp_path / name) for name in curves]
    page, data = tmp_path / "page.html", tmp_path / "data.json"
    done = CliRunner().invoke(app, ["check", "losses", *names, "--report", str(page), "--json", str(data)])
    assert done.exit_code == 1
    assert "diverged at step 17" in " ".join(done.output.split())
    found = json.loads(data.read_text())
    assert (found["way"], found["step"], found["spread"], len(found["steps"])) == ("diverged", 17, 1, 40)
    text = page.read_text()
    assert text.count("<polyline") == 4 and "step 17</text>" in text and "diverged at step 17" in text
    assert CliRunner().invoke(app, ["check", "losses", names[1], names[1], names[2]]).exit_code == 0
