"""The outcome of the main job as data, and its JSON form.

JSON keys: `chip`, `model`, `operators` (`calls`, `ours`, `vendor`: list of `name`, `calls`, `reason`), `accuracy`
(`layers`: list of `name`, `error`, `torch_error`, `ratio`, `ok`; `ok`), `speed` (`vendor_ms`, `ours_ms`, `ratio`),
`check` (`verdict`, `culprit`), `verdict`; and more keys beside them, named as the fields below. Infinite errors are
`null`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tessera.accuracy.layers import LayerCheck
from tessera.accuracy.result import CheckResult

READY = "ready"
NOT_READY = "not ready"


@dataclass(frozen=True, kw_only=True)
class VendorCalls:
    """Calls of one operator that ran on the vendor's kernel, and why."""

    name: str
    calls: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class OperatorTime:
    """Milliseconds that all calls of one operator take in one forward call of the model."""

    name: str
    calls: int
    vendor_ms: float
    ours_ms: float


@dataclass(frozen=True, kw_only=True)
class Operators:
    """The compute calls of one forward call: how many in all, how many on our kernels, the rest with reasons."""

    calls: int
    ours: int
    vendor: tuple[VendorCalls, ...] = ()
    times: tuple[OperatorTime, ...] = ()

    @property
    def share(self) -> float:
        """The share of calls on our kernels, 0 to 1."""
        return self.ours / self.calls if self.calls else 0.0


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One forward call. `ratio` above 1: ours is faster. `first_ms`: our very first call, compilation included."""

    vendor_ms: float
    ours_ms: float
    ratio: float
    first_ms: float
    rounds: int

    @property
    def words(self) -> str:
        """The ratio in plain words; within 5 % two timings on one machine are not told apart."""
        if self.ratio >= 1.05:
            return "faster than PyTorch"
        return "as fast as PyTorch" if self.ratio > 0.95 else "slower than PyTorch"


@dataclass(frozen=True, kw_only=True)
class Found:
    """One sentence in the answer to a query: its score and rank (1 is best) by PyTorch's kernels and by ours."""

    sentence: str
    torch_score: float
    ours_score: float
    torch_rank: int
    ours_rank: int


@dataclass(frozen=True, kw_only=True)
class Answer:
    """All sentences for one query, best by our kernels first."""

    query: str
    found: tuple[Found, ...]
    agrees: bool


@dataclass(frozen=True, kw_only=True)
class Search:
    """A real question answered. `cosine`: the least, over all texts, between our embedding and PyTorch's."""

    answers: tuple[Answer, ...]
    cosine: float

    @property
    def agrees(self) -> bool:
        """Whether every ranking is PyTorch's."""
        return all(answer.agrees for answer in self.answers)


@dataclass(frozen=True, kw_only=True)
class BringupResult:
    """Everything that the terminal, the report and the JSON show.

    reasons: why the model is not ready; empty when it is. notes: what else the user should know.
    Parts are None where the run did not get that far, `search` also for models that are no sentence encoders.
    """

    chip: str
    model: str
    kind: str
    num_parameters: int
    inputs: str
    dtype: str
    threads: int
    accuracy: LayerCheck
    operators: Operators | None
    speed: Speed | None
    search: Search | None
    reasons: tuple[str, ...]
    check: CheckResult | None = None
    notes: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    date: str = ""

    @property
    def ready(self) -> bool:
        """Whether the model runs on our kernels with the right numbers."""
        return not self.reasons

    @property
    def verdict(self) -> str:
        """`ready` or `not ready`."""
        return READY if self.ready else NOT_READY

    def as_dict(self) -> dict[str, Any]:
        """Plain data under the keys of the module's text."""
        plain = replace(self, check=None)
        data = {name: value for name, value in asdict(plain).items() if name != "accuracy"}
        data["accuracy"] = {
            "ok": self.accuracy.ok,
            "layers": [_layer_as_dict(asdict(layer)) for layer in self.accuracy.layers],
            "unjudged": list(self.accuracy.unjudged),
            "reference_error": self.accuracy.reference_error,
            "candidate_error": self.accuracy.candidate_error,
        }
        # Empty sections rather than null: who reads `operators.vendor` need not ask how far the run got.
        data["operators"] = data["operators"] or {"calls": 0, "ours": 0, "vendor": [], "times": []}
        data["speed"] = data["speed"] or {"vendor_ms": None, "ours_ms": None, "ratio": None}
        data["check"] = {"verdict": None, "culprit": None} if self.check is None else _check_as_dict(self.check)
        if self.search is not None:
            data["search"]["agrees"] = self.search.agrees
        data["verdict"] = self.verdict
        return data

    def to_json(self) -> str:
        """The result as JSON text, ending in a newline."""
        return json.dumps(_finite(self.as_dict()), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _check_as_dict(check: CheckResult) -> dict[str, Any]:
    """The verdict on the operators, each on its own inputs, and the first that is to blame."""
    return {"verdict": check.verdict, "culprit": None if check.culprit is None else asdict(check.culprit)}


def _layer_as_dict(layer: dict[str, Any]) -> dict[str, Any]:
    """One level: the judgement's fields beside the layer's."""
    return {**layer.pop("judgement"), **layer}


def _finite(value: Any) -> Any:
    """JSON has no infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, (list, tuple)) else value
