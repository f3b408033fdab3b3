"""What a run found: one `Case` a test, counted per file and per reason."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

Outcome = Literal["passed", "failed", "newer", "skipped", "xfailed"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
# Of a test's phases, the worst says what became of it.
_SEVERITY = {outcome: rank for rank, outcome in enumerate(("passed", "xfailed", "skipped", "newer", "failed"))}
# What differs between tests of one kind, so that they are counted together.
_VARYING = re.compile(r"0x[0-9a-f]+|(?<![\w.])-?\d+(\.\d+)?(e[+-]?\d+)?(?!\w)")


@dataclass(kw_only=True)
class Case:
    """One test; a file that cannot be collected counts as one test of its own name."""

    id: str
    outcome: Outcome = "passed"
    reason: str = ""
    seconds: float = 0.0
    compile_s: float = 0.0  # its slowest compilation

    @property
    def file(self) -> str:
        return self.id.partition("::")[0].rpartition("/")[2]

    def add_phase(self, outcome: Outcome, reason: str, seconds: float, compile_s: float) -> None:
        if _SEVERITY[outcome] > _SEVERITY[self.outcome]:
            self.outcome, self.reason = outcome, reason
        self.seconds += seconds
        self.compile_s = max(self.compile_s, compile_s)


@dataclass(frozen=True, kw_only=True)
class FileCount:
    """One row of the table."""

    file: str
    counts: dict[Outcome, int]
    seconds: float
    slowest_compile_s: float
    slowest_compile_test: str | None


@dataclass(frozen=True, kw_only=True)
class ReasonCount:
    """Tests of one outcome that share a reason but for its numbers, with one of them as example."""

    outcome: Outcome
    reason: str
    count: int
    files: tuple[str, ...]
    example: str


@dataclass(frozen=True, kw_only=True)
class Result:
    """A finished run. `files` are in the order asked for, `reasons` by outcome, then the most frequent first."""

    triton: str
    tests: list[Case] = field(repr=False)
    files: list[FileCount]
    reasons: list[ReasonCount]

    @property
    def ok(self) -> bool:
        return not any(row.counts["failed"] for row in self.files)

    def as_dict(self) -> dict[str, Any]:
        """The run as data: what the tables show, and every test that did not pass and was not skipped."""
        kept = [asdict(test) for test in self.tests if test.outcome in ("failed", "newer")]
        return {
            "ok": self.ok,
            "triton": self.triton,
            "files": [asdict(row) for row in self.files],
            "reasons": [asdict(row) for row in self.reasons],
            "not_passed": kept,
        }


def summarise(tests: Iterable[Case], triton: str) -> Result:
    """Count tests that have ended."""
    ended = list(tests)
    by_file: dict[str, list[Case]] = defaultdict(list)
    by_reason: dict[tuple[Outcome, str], list[Case]] = defaultdict(list)
    for test in ended:
        by_file[test.file].append(test)
        if test.outcome != "passed":
            by_reason[test.outcome, _VARYING.sub("N", test.reason)].append(test)
    reasons = [_reason_count(members) for members in by_reason.values()]
    reasons.sort(key=lambda row: (OUTCOMES.index(row.outcome), -row.count, row.reason))
    files = [_file_count(file, members) for file, members in by_file.items()]
    return Result(triton=triton, tests=ended, files=files, reasons=reasons)


def _file_count(file: str, tests: list[Case]) -> FileCount:
    slowest = max(tests, key=lambda test: test.compile_s)
    return FileCount(
        file=file,
        counts={outcome: sum(test.outcome == outcome for test in tests) for outcome in OUTCOMES},
        seconds=round(sum(test.seconds for test in tests), 2),
        slowest_compile_s=round(slowest.compile_s, 3),
        slowest_compile_test=slowest.id.partition("::")[2] if slowest.compile_s else None,
    )


def _reason_count(tests: list[Case]) -> ReasonCount:
    first = tests[0]
    files = tuple(dict.fromkeys(test.file for test in tests))
    return ReasonCount(outcome=first.outcome, reason=first.reason, count=len(tests), files=files, example=first.id)
