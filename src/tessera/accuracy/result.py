"""What a check found, as data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch

OpCall = tuple[torch._ops.OpOverload, Sequence[object], Mapping[str, object]]

# Classes of one operator or layer, and with `clean` and `failed` the verdicts on a whole check.
Class = Literal[
    "exact", "rounding", "layout", "suspicious", "overflow", "underflow", "non-finite", "non-deterministic", "wrong"
]
Verdict = Literal[
    "clean", "suspicious", "layout", "overflow", "underflow", "non-finite", "non-deterministic", "wrong", "failed"
]


@dataclass(frozen=True, kw_only=True)
class Culprit:
    """The reason for a verdict.

    module: dotted name. operator: as in `aten.addmm`. kind: one or two words for the fault. where: which elements or
    arguments, in words. source: `file:line` of the user's code. phase: forward, backward or step. script: the file
    that reproduces it, if one was written. ranks: of a run on several, those on which it is wrong.
    """

    module: str
    operator: str
    kind: str
    where: str
    source: str = ""
    phase: str = "forward"
    step: int = 0
    call: int = 0
    script: str = ""
    ranks: tuple[int, ...] = ()

    def __str__(self) -> str:
        source = f" ({self.source})" if self.source else ""
        return f"{self.operator} in {self.module}{source}{self.on_ranks}: {self.kind}; {self.where}"

    @property
    def on_ranks(self) -> str:
        """` on rank 1`, ` on ranks 0, 1`, or nothing where there is one process."""
        if not self.ranks:
            return ""
        return f" on rank{'s' * (len(self.ranks) > 1)} {', '.join(map(str, self.ranks))}"


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One output of one module call.

    error: the candidate's relative error against float64, free-running. reference_error: PyTorch's own there. ratio: of
    the two, floored by the type's rounding. isolated: the largest such ratio of an operator in it on the inputs that it
    got. verdict: the worst of the operators in it, likewise.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    error: float | None
    reference_error: float | None
    ratio: float | None
    verdict: Class
    operators: int = 0
    isolated: float | None = None


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """What proves a fault. ours, theirs: the calls of the candidate and the reference. got, wanted: the tensors."""

    ours: OpCall | None = None
    theirs: OpCall | None = None
    got: torch.Tensor | None = None
    wanted: torch.Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """The answer of `tessera.check`.

    verdict, reason: the answer and why. culprit: the operator to look at; None where there is none. layers: every
    module
    output in order. operators: calls by class. notes: what could not be done. picture: got and expected of the guilty
    tensor, downsampled, for the report. exhibit: what a reproducing script is made of.
    """

    verdict: Verdict
    reason: str
    culprit: Culprit | None = None
    layers: tuple[Layer, ...] = ()
    operators: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    picture: Picture | None = None
    exhibit: Exhibit | None = field(default=None, repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Whether nothing was found against the candidate."""
        return self.verdict == "clean"

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(asdict(replace(self, exhibit=None)), indent=2) + "\n"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The relative error over the guilty tensor: log10 of the largest error in each cell, None where it is right.

    shape: of the tensor; its last dim runs across, all others down.
    """

    shape: tuple[int, ...]
    cells: tuple[tuple[float | None, ...], ...]
