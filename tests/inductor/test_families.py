"""A whole model under torch.compile; the ten families in all types and shapes are `python -m benchmarks.inductor`."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.inductor.__main__ import main, trials
from benchmarks.inductor.families import FAMILIES, build, inputs
from benchmarks.inductor.trial import Trial, run_apart
from benchmarks.inductor.work import Backend, Mode, Work, compare, exact, native


def test_training_is_equal_to_eager() -> None:
    torch.compiler.reset()
    model, (call, _) = build("gpt2", torch.float32), inputs("gpt2", torch.float32)
    theirs = Work(model, Mode.TRAINING, Backend.EAGER).numbers([call])
    ours = Work(model, Mode.TRAINING, Backend.OURS).numbers([call])
    judged = compare(ours, theirs, exact(model, Mode.TRAINING, [call]))
    # The loss and the logits, and a gradient and a new value of every weight.
    assert len(judged) >= 2 + 2 * len(list(model.parameters()))
    assert [f"{name}: {judgement.reason}" for name, judgement in judged.items() if not judgement.ok] == []


class _Convolved(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = torch.nn.Conv2d(256, 256, 3)

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        found = self.convolution(pixels)
        return {"loss": found.square().mean(), "found": found}


def test_what_a_convolution_loses_with_channels_last_is_not_the_compilers() -> None:
    """The UNet's training had four of 418 tensors outside of the rule because of it."""
    torch.compiler.reset()
    torch.manual_seed(0)
    model, call = _Convolved(), {"pixels": torch.randn(2, 256, 8, 8)}
    ours = Work(model, Mode.TRAINING, Backend.OURS).numbers([call])
    judged = compare(ours, native(model, Mode.TRAINING, [call]), exact(model, Mode.TRAINING, [call]))
    assert max(judgement.ratio for judgement in judged.values()) < 1.5
    assert all(judgement.ok for judgement in judged.values())


def test_a_wrong_weight_is_found() -> None:
    model, (call, _) = build("resnet", torch.float32), inputs("resnet", torch.float32)
    theirs = Work(model, Mode.FORWARD, Backend.EAGER).numbers([call])
    reference = exact(model, Mode.FORWARD, [call])
    with torch.no_grad():
        next(model.parameters())[0, 0, 0, 0] += 1e-3
    judged = compare(Work(model, Mode.FORWARD, Backend.EAGER).numbers([call]), theirs, reference)
    assert not all(judgement.ok for judgement in judged.values())


def test_a_missing_gradient_is_found() -> None:
    value = torch.ones(3)
    judged = compare({}, {"gradient x": value}, {"gradient x": value.double()})
    assert judged["gradient x"].reason == "is missing"


def test_every_family_is_built_in_both_types_and_has_two_shapes() -> None:
    for name in FAMILIES:
        if name == "unet":
            pytest.importorskip("diffusers")
        model = build(name, torch.bfloat16)
        assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
        first, second = inputs(name, torch.bfloat16)
        assert first.keys() == second.keys()
        assert all(first[key].shape != second[key].shape for key in first)


def test_a_trial_that_ends_its_process_is_a_row_with_the_reason() -> None:
    trial = Trial(family="no such", mode="forward", dtype="float32", shapes="static", peer=False, seconds=0.1)
    row = run_apart(trial, timeout_s=100)
    assert row["family"] == "no such"
    assert row["failed"].startswith("status 1: KeyError")


def test_names_pick_trials(capsys: pytest.CaptureFixture[str]) -> None:
    assert {trial.family for trial in trials("training bfloat16 static", peer="-", seconds=1.0)} == set(FAMILIES)
    assert main(["--only", "nothing of this name"]) == 2
    assert "names are such as 'bert forward float32 static'" in capsys.readouterr().err
    assert main(["--seconds", "0"]) == 2
    assert "--seconds is 0.0" in capsys.readouterr().err
