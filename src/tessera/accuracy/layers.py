"""Every layer's output of a candidate run against float64, relative to what PyTorch itself loses.

The model is run three times on the same inputs: in float64 (the reference), as PyTorch runs it in its own type, and
within the candidate's context. Forward hooks on every module see each output. Reference outputs are kept, the two
others are compared on the fly. If the references do not fit into `KEPT_BYTES`, the three runs are repeated, each time
for the next layers.

Errors are those of the whole run up to a layer, not of the layer alone: torch's and the candidate's both accumulate.
So the first layer that is not ok, in order of completion, is the place to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.double import double_copy, run_in_double
from tessera.accuracy.judge import SMALL_ELEMENTS, Judgement, Standard, hold, judge, refuse
from tessera.accuracy.taps import Tap, taps
from tessera.core.errors import UsageError

KEPT_BYTES = 2 << 30

Candidate = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """The judgement on one output of one module call, named as in `Tap`; `shape` is the output's."""

    name: str
    kind: str
    shape: tuple[int, ...]
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """All layers in order of completion.

    `reference_error`: why there was no float64 reference (empty: there was one).
    `candidate_error`: what ended the candidate's run early (empty: nothing did).
    `unjudged`: outputs whose shape or presence differs between PyTorch's run and the reference, as where the path
    through a model depends on rounding.
    """

    layers: tuple[LayerResult, ...]
    unjudged: tuple[str, ...] = ()
    reference_error: str = ""
    candidate_error: str = ""

    @property
    def ok(self) -> bool:
        """Whether the candidate ran to its end and every layer is inside the rule."""
        return bool(self.layers) and not self.candidate_error and all(layer.judgement.ok for layer in self.layers)

    @property
    def first_fault(self) -> LayerResult | None:
        """The earliest layer outside the rule: the place to look at."""
        return next((layer for layer in self.layers if not layer.judgement.ok), None)


def check_layers(model: nn.Module, call: Call, candidate: Candidate, *, kept_bytes: int = KEPT_BYTES) -> LayerCheck:
    """Judge every floating output of every module within `candidate()` by the rule of `judge.py`.

    Args:
        model: in evaluation mode and in the type to be judged.
        call: its inputs, in that type.
        candidate: makes the context within which the candidate's kernels run.
        kept_bytes: memory that kept reference outputs may take; at least one output is kept at a time.

    Errors: what the model raises when PyTorch runs it; `UsageError` if it is in training mode (dropout would make the
    runs differ by chance) or has no floating output.
    """
    if model.training:
        raise UsageError("the model is in training mode, so its runs differ by chance; call model.eval() first")
    reference, reference_error = _reference(model, call)
    layers: list[LayerResult] = []
    unjudged: list[str] = []
    candidate_error = ""
    start, total, noise = 0, 1, 0.0
    while start < total and not candidate_error:
        kept, total = _keep(reference or (lambda sink: _run(model, call, sink)), start, kept_bytes)
        if not kept:
            raise UsageError("no module of the model has a floating output, so there is nothing to judge")
        start += len(kept)
        standards = _standards(model, call, kept, exact=reference is None)
        unjudged += [name for name in kept if name not in standards]
        found, noise, candidate_error = _judge_candidate(model, call, candidate, standards, noise)
        layers += found
    return LayerCheck(
        layers=tuple(layers),
        unjudged=tuple(unjudged),
        reference_error=reference_error,
        candidate_error=candidate_error,
    )


Sink = Callable[[Tap], None]


def _run(model: nn.Module, call: Call, sink: Sink) -> None:
    with taps(model, sink):
        call.copy().run(model)


def _reference(model: nn.Module, call: Call) -> tuple[Callable[[Sink], None] | None, str]:
    """How to run the model in float64, or why that cannot be done. It is tried once here."""
    needed = sum(8 * weight.numel() for weight in (*model.parameters(), *model.buffers()))
    free = psutil.virtual_memory().available
    if needed > free:
        return None, f"its weights in float64 take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free"
    copy = double_copy(model)

    def run(sink: Sink) -> None:
        with taps(copy, sink):
            run_in_double(copy, call)

    try:
        run(lambda tap: None)
    except (RuntimeError, TypeError, ValueError) as error:
        # NotImplementedError, for an operator without a float64 kernel, is a RuntimeError.
        return None, first_line(error)
    return run, ""


def _keep(run: Callable[[Sink], None], start: int, budget: int) -> tuple[dict[str, torch.Tensor], int]:
    """The outputs from number `start` on that fit into `budget` bytes, and how many outputs there are in all."""
    kept: dict[str, torch.Tensor] = {}
    seen, left = 0, budget

    def sink(tap: Tap) -> None:
        nonlocal seen, left
        if seen >= start:
            left -= tap.tensor.nbytes
            # Consecutive ones only: the next window starts where this one ends.
            if (left >= 0 or not kept) and seen == start + len(kept):
                # A copy: models write over outputs later, as in-place activations do.
                kept[tap.name] = tap.tensor.clone()
        seen += 1

    run(sink)
    return kept, seen


def _standards(model: nn.Module, call: Call, kept: dict[str, torch.Tensor], *, exact: bool) -> dict[str, Standard]:
    """What torch loses on each kept output. Those that torch's run lacks or shapes differently are left out."""
    if exact:
        return {name: hold(native, None) for name, native in kept.items()}
    standards: dict[str, Standard] = {}

    def sink(tap: Tap) -> None:
        reference = kept.get(tap.name)
        if reference is not None and reference.shape == tap.tensor.shape:
            standards[tap.name] = hold(tap.tensor, reference)

    _run(model, call, sink)
    return standards


def _judge_candidate(
    model: nn.Module, call: Call, candidate: Candidate, standards: dict[str, Standard], noise: float
) -> tuple[list[LayerResult], float, str]:
    """Judge one window; returns the results, torch's noise level so far, and what ended the run early."""
    found: dict[str, LayerResult] = {}
    ended = ""

    def sink(tap: Tap) -> None:
        nonlocal noise
        standard = standards.get(tap.name)
        if standard is None:
            return
        found[tap.name] = _result(tap, judge(tap.tensor, standard, noise=noise))
        if standard.reference.numel() >= SMALL_ELEMENTS:
            noise = max(noise, standard.torch_loss.error)

    try:
        with candidate():
            _run(model, call, sink)
    except Exception as error:  # A candidate may fail in any way; how it did is part of the result.
        ended = f"{type(error).__name__}: {first_line(error)}"
    results = [found.get(name) or _absent(name, standard) for name, standard in standards.items()]
    return [result for result in results if not ended or result.name in found], noise, ended


def _result(tap: Tap, judgement: Judgement) -> LayerResult:
    return LayerResult(name=tap.name, kind=tap.kind, shape=tuple(tap.tensor.shape), judgement=judgement)


def _absent(name: str, standard: Standard) -> LayerResult:
    judgement = refuse(standard, "the candidate's run did not reach this layer")
    return LayerResult(name=name, kind="", shape=tuple(standard.reference.shape), judgement=judgement)


def first_line(error: BaseException) -> str:
    """The first line of an error that says something, for messages of one line."""
    lines: Iterable[str] = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)
