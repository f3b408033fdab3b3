"""One case, checked, and the answer held against the truth."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from torch import nn

from faultlab.cases import Case, Prepared
from tessera.accuracy.call import Call, floating_tensors
from tessera.accuracy.capture.run import MakeOptimizer
from tessera.accuracy.check import check
from tessera.accuracy.result import Culprit


@dataclass(frozen=True)
class Outcome:
    """What the check said of one case. void: the fault changes nothing on these inputs, so there is nothing to find."""

    name: str
    family: str
    dtype: str
    backward: bool
    clean: bool
    void: bool
    verdict: str
    named: bool
    kind_right: bool
    seconds: float
    said: str
    truth: str
    set: str = ""

    @property
    def right(self) -> bool:
        """Whether there is nothing to complain of."""
        if self.void:
            return True
        return self.verdict == "clean" if self.clean else self.named and self.kind_right

    def line(self) -> str:
        """For a terminal."""
        return (
            f"{self.family} {self.dtype}{' backward' if self.backward else ''} [{self.name}] {self.said} | {self.truth}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def run_case(case: Case) -> Outcome:
    """Check one case."""
    prepared = case.prepare()
    # On models of its own: what they keep from call to call must not meet the check.
    void = not case.clean and not _has_effect(case.prepare(), backward=case.backward, steps=case.steps)
    start = perf_counter()
    result = check(
        prepared.candidate,
        prepared.inputs,
        reference=prepared.reference,
        backward=case.backward,
        steps=case.steps,
        optimizer=prepared.optimizer,
        reference_optimizer=prepared.reference_optimizer,
        context=prepared.context,
    )
    seconds = perf_counter() - start
    culprit = result.culprit
    named = culprit is not None and _in_place(case, culprit)
    if culprit is not None and "aten.*" not in case.operators:
        named = named and culprit.operator in _spellings(case.operators)
    return Outcome(
        name=case.name,
        family=case.family,
        dtype=case.dtype,
        backward=case.backward,
        clean=case.clean,
        void=void,
        verdict=result.verdict,
        named=named and not case.clean,
        kind_right=culprit is not None and culprit.kind in case.kinds,
        seconds=round(seconds, 2),
        said=_portable(f"{result.verdict}: {culprit if culprit else result.reason}"),
        truth=f"{' '.join(sorted(case.lines)) or case.module} {sorted(case.kinds)}",
        set=case.set,
    )


def _portable(text: str) -> str:
    """Without the folders of this machine."""
    return re.sub(r"/\S*/site-packages/", "", text.replace(f"{Path.cwd()}/", ""))


def _in_place(case: Case, culprit: Culprit) -> bool:
    return culprit.source in case.lines if case.lines else culprit.module == (case.module or "(model)")


def _spellings(operators: frozenset[str]) -> frozenset[str]:
    """In-place forms of an operator are the operator."""
    return operators | frozenset(f"{name}_" for name in operators)


def _has_effect(prepared: Prepared, *, backward: bool, steps: int) -> bool:
    """Whether anything that a plain second call of the candidate gives differs from the reference's at all."""
    right = prepared.reference if prepared.reference is not None else prepared.candidate
    call = Call.of(prepared.inputs)
    theirs = prepared.reference_optimizer or prepared.optimizer
    # The candidate may be its own reference, so training must not change it.
    expected = _given(copy.deepcopy(right), call, backward, steps, theirs)
    try:
        with prepared.context():
            got = _given(prepared.candidate, call, backward, steps, prepared.optimizer)
    except RuntimeError:  # A fault that ends the run certainly has an effect.
        return True
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def _given(model: nn.Module, call: Call, backward: bool, steps: int, optimizer: MakeOptimizer) -> list[torch.Tensor]:
    """Of a second call: outputs, what it leaves in buffers, gradients if asked for, weights after steps of training."""
    torch.manual_seed(0)
    call.rolled().run(model)
    output = call.run(model, gradients=backward)
    found = [tensor for _, tensor in floating_tensors(output)]
    found += [buffer.clone() for buffer in model.buffers()]
    if backward:
        model.zero_grad()
        _total(output).backward()  # type: ignore[no-untyped-call]
        found += [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]
    descent = optimizer(model.parameters()) if steps else None
    for _ in range(steps):
        assert descent is not None
        descent.zero_grad()
        _total(call.run(model, gradients=True)).backward()  # type: ignore[no-untyped-call]
        descent.step()
    return found + [weight.detach().clone() for weight in model.parameters() if steps]


def _total(output: object) -> torch.Tensor:
    """The loss that a model returns, or the sum of the squares of its outputs."""
    if isinstance(output, Mapping) and "loss" in output:
        return output["loss"]
    tensors = [tensor for _, tensor in floating_tensors(output) if tensor.requires_grad]
    return torch.stack([tensor.double().square().sum() for tensor in tensors]).sum()
