"""One case, checked, and the answer held against the truth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import torch
from torch import nn

from faultlab.cases import Case, Prepared
from tessera.accuracy.call import Call, floating_tensors
from tessera.accuracy.check import check


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
    void = not case.clean and not _has_effect(case.prepare(), backward=case.backward)
    start = perf_counter()
    result = check(
        prepared.candidate,
        prepared.inputs,
        reference=prepared.reference,
        backward=case.backward,
        context=prepared.context,
    )
    seconds = perf_counter() - start
    culprit = result.culprit
    named = culprit is not None and culprit.module == (case.module or "(model)")
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
        said=f"{result.verdict}: {culprit if culprit else result.reason}",
        truth=f"{case.module} {sorted(case.kinds)}",
    )


def _spellings(operators: frozenset[str]) -> frozenset[str]:
    """In-place forms of an operator are the operator."""
    return operators | frozenset(f"{name}_" for name in operators)


def _has_effect(prepared: Prepared, *, backward: bool) -> bool:
    """Whether anything that a plain second call of the candidate gives differs from the reference's at all."""
    right = prepared.reference if prepared.reference is not None else prepared.candidate
    call = Call.of(prepared.inputs)
    expected = _given(right, call, backward=backward)
    try:
        with prepared.context():
            got = _given(prepared.candidate, call, backward=backward)
    except RuntimeError:  # A fault that ends the run certainly has an effect.
        return True
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def _given(model: nn.Module, call: Call, *, backward: bool) -> list[torch.Tensor]:
    """The outputs of a second call, and the gradients of the weights if they are asked for."""
    call.rolled().run(model)
    outputs = [tensor for _, tensor in floating_tensors(call.run(model, gradients=backward))]
    if not backward:
        return outputs
    model.zero_grad()
    torch.stack([output.double().square().sum() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]
    gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
    return [*outputs, *(gradient.clone() for gradient in gradients)]
