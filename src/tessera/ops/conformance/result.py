"""What a run found: one `CaseResult` for each entry and type, and their sum."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

ERRORS = "errors"  # stands in a case for the type: the entry's inputs that must raise


@dataclass(frozen=True, order=True)
class Case:
    """One entry of the database ("add", "nn.functional.conv2d") in one type ("float32"), or its error inputs.

    `most`: of how many samples, spread evenly over all of the case; 0 stands for all.
    """

    entry: str
    dtype: str
    most: int = 0

    def __str__(self) -> str:
        return f"{self.entry} {self.dtype}"


@dataclass(kw_only=True)
class CaseResult:
    """Counts of samples. `unreached`: no operator of ours was called; all other counts are of the samples that did.

    `raising`: PyTorch raises an exception, and ours must raise one of the same type. `ours`: every computing operator
    of the sample ran on our kernels. `vendor`: per operator and reason, the samples in which the vendor's kernel ran.
    `failures`: sample and what was wrong.
    """

    case: Case
    unreached: int = 0
    passed: int = 0
    raising: int = 0
    ours: int = 0
    vendor: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    cpu_seconds: float = 0.0

    @property
    def failed(self) -> int:
        return len(self.failures)

    @property
    def samples(self) -> int:
        return self.passed + self.failed

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CaseResult:
        return cls(**{**data, "case": Case(**data["case"])})


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The sum of many cases. `calls` are the samples that do not raise: only those compute, on some kernel."""

    entries: int
    reached: int
    samples: int
    passed: int
    failed: int
    unreached: int
    raising: int
    calls: int
    ours: int

    @property
    def share(self) -> float:
        """The share of samples that ran on our kernels alone."""
        return self.ours / self.calls if self.calls else 0.0


def totals(results: Iterable[CaseResult]) -> Totals:
    found = list(results)
    return Totals(
        entries=len({r.case.entry for r in found}),
        reached=len({r.case.entry for r in found if r.samples}),
        samples=sum(r.samples for r in found),
        passed=sum(r.passed for r in found),
        failed=sum(r.failed for r in found),
        unreached=sum(r.unreached for r in found),
        raising=sum(r.raising for r in found),
        calls=sum(r.samples - r.raising for r in found),
        ours=sum(r.ours for r in found),
    )


def vendor_reasons(results: Iterable[CaseResult]) -> list[tuple[str, int]]:
    """(operator: reason, samples) of what ran on the vendor's kernels, the most frequent first."""
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.vendor)
    return counts.most_common()
