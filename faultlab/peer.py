"""Another checker's answers beside ours: msprobe's dump and compare on the lab's forward cases.

msprobe runs under an interpreter of its own, which has it and PyTorch. A row of its table is an input or output of an
API or a module with the result `pass`, `warning` or `error`. It counts as having flagged a case if a row is not `pass`,
and as having named the module if the first such row, in the order of execution, belongs to the guilty module: an easier
question than ours, which is asked for the operator too.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faultlab.cases import Case
from faultlab.judge import Outcome, run_case
from faultlab.peer_worker import peer_cases

_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class PeerRow:
    """One case. ours: our answer. first: msprobe's first row that did not pass; failure: why it made no table."""

    name: str
    family: str
    dtype: str
    clean: bool
    module: str
    ours: Outcome
    results: dict[str, int]
    first: dict[str, str] | None
    first_error: dict[str, str] | None
    failure: str

    @property
    def flagged(self) -> bool:
        """Whether msprobe said anything."""
        return self.first is not None

    @property
    def named(self) -> bool:
        """Whether what it said first is about the guilty module."""
        return self.first is not None and self.first["module"] == self.module

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        row = asdict(self)
        ours = {key: row["ours"][key] for key in ("verdict", "named", "kind_right", "said")}
        return {**row, "ours": ours, "flagged": self.flagged, "named": self.named}


def compare_with(python: str, num_faults: int, num_clean: int) -> list[PeerRow]:
    """Run both on the same cases, one beside the other; faults without an effect on their inputs are left out."""
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "answers", Path(folder) / "log"
        command = [python, "-m", "faultlab.peer_worker", str(num_faults), str(num_clean), f"{folder}/cases"]
        environ = {**os.environ, "PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'src'}", "OMP_NUM_THREADS": "1"}
        with out.open("w") as answers, log.open("w") as messages:
            worker = subprocess.Popen(command, env=environ, cwd=_ROOT, stdout=answers, stderr=messages)
            cases = peer_cases(num_faults, num_clean)
            ours = [run_case(case) for case in cases]
            status = worker.wait()
        if status:
            raise RuntimeError(f"{' '.join(command)} ended with status {status}: {log.read_text()[-2000:]}")
        return joined(cases, ours, [json.loads(line) for line in out.read_text().splitlines()])


def joined(cases: list[Case], ours: list[Outcome], answers: list[dict[str, Any]]) -> list[PeerRow]:
    """Both answers to each case."""
    rows = []
    for case, outcome, answer in zip(cases, ours, answers, strict=True):
        if not outcome.void:
            rows.append(
                PeerRow(
                    name=case.name,
                    family=case.family,
                    dtype=case.dtype,
                    clean=case.clean,
                    module=case.module,
                    ours=outcome,
                    results=answer.get("results", {}),
                    first=answer.get("first"),
                    first_error=answer.get("first error"),
                    failure=answer.get("failure", ""),
                )
            )
    return rows


def peer_counts(rows: list[PeerRow]) -> dict[str, int]:
    """The figures of the table."""
    ran = [row for row in rows if not row.failure]
    faults, clean = [row for row in ran if not row.clean], [row for row in ran if row.clean]
    return {
        "faults": len(faults),
        "msprobe flagged": sum(row.flagged for row in faults),
        "msprobe flagged as error": sum(row.first_error is not None for row in faults),
        "msprobe named the module": sum(row.named for row in faults),
        "ours flagged": sum(row.ours.verdict != "clean" for row in faults),
        "ours named module and operator": sum(row.ours.named for row in faults),
        "clean": len(clean),
        "msprobe flagged clean": sum(row.flagged for row in clean),
        "msprobe flagged clean as error": sum(row.first_error is not None for row in clean),
        "ours flagged clean": sum(row.ours.verdict != "clean" for row in clean),
        "not run": len(rows) - len(ran),
    }


def peer_text(rows: list[PeerRow]) -> str:
    """Everything, as JSON."""
    return json.dumps({**peer_counts(rows), "cases": [row.as_dict() for row in rows]}, indent=1) + "\n"


def peer_table(rows: list[PeerRow]) -> str:
    """The tables for the docs."""
    n = peer_counts(rows)
    lines = [
        "# msprobe on the lab's cases",
        "",
        "Made by `python -m faultlab --peer msprobe --python MSPROBE/bin/python --faults 40 --clean 20 "
        "--out docs/results`, where `MSPROBE` is a virtual environment with `mindstudio-probe` and `torch`.",
        "",
        "| | cases | msprobe | Tessera |",
        "|---|---|---|---|",
        f"| faults flagged at all | {n['faults']} | {n['msprobe flagged']} | {n['ours flagged']} |",
        f"| the guilty one named first | {n['faults']} | {n['msprobe named the module']} (module) | "
        f"{n['ours named module and operator']} (module and operator) |",
        f"| clean runs flagged | {n['clean']} | {n['msprobe flagged clean']}, "
        f"{n['msprobe flagged clean as error']} of them as error | {n['ours flagged clean']} |",
        "",
        "## Every case",
        "",
        "| case | model | msprobe's rows | its first that did not pass | Tessera |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_line(row) for row in rows)]) + "\n"


def _line(row: PeerRow) -> str:
    results = row.failure or ", ".join(f"{count} {name}" for name, count in sorted(row.results.items()))
    first = f"{row.first['name']} ({row.first['result']})" if row.first else "-"
    truth = "clean: " if row.clean else f"{row.module}: "
    said = row.ours.verdict if row.clean else f"{row.ours.verdict}{', named' if row.ours.named else ''}"
    return f"| {truth}{row.name} | {row.family}, {row.dtype} | {results} | {first} | {said} |"
