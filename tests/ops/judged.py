"""Operator calls, held against PyTorch by the judge of the conformance program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tessera.aten.record import Record
from tessera.ops.conformance import judge
from tessera.ops.conformance.samples import Sample

Given = tuple[tuple[Any, ...], dict[str, Any]]


def assert_same_layout(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert not judge.layout_fault(ours, theirs)


def assert_calls(call: Callable[..., Any], given: list[Given], gradients: bool = False) -> list[Record]:
    """Judge every tensor that `call` returns for each of the arguments, on our kernels; the records of what ran."""
    trials = [judge.expect(Sample(str(i), call, *one, gradients=gradients)) for i, one in enumerate(given)]
    with judge.served():
        for trial in trials:
            judge.run_ours(trial)
    for trial in trials:
        judge.add_reference(trial)
    noise = max((trial.torch_error() for trial in trials), default=0.0)
    faults = [f"sample {trial.sample.label}: {fault}" for trial in trials if (fault := trial.verdict(noise))]
    assert not faults
    return [trial.record for trial in trials]


def assert_gradients(call: Callable[..., Any], given: list[Given]) -> list[Record]:
    """The same, and every gradient by the arguments that ask for one."""
    return assert_calls(call, given, gradients=True)


def assert_call(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Record:
    """`assert_calls` for one call."""
    return assert_calls(call, [(args, kwargs)])[0]


def vendor_calls(record: Record) -> dict[str, dict[str, int]]:
    return {name: dict(calls.reasons) for name, calls in record.calls.items() if calls.vendor}
