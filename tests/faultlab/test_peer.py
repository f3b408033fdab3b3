"""Another checker beside ours: its rows are read fairly, and counted as the page says. It is not needed to run this."""

from __future__ import annotations

from faultlab.judge import Outcome
from faultlab.peer import joined, peer_counts, peer_table
from faultlab.peer_worker import first_of, peer_cases

PARENTS = {
    "Functional.linear.3.forward": "Module.blocks.0.attention.query.Linear.forward.0",
    "Functional.gelu.0.forward": None,
}


def test_a_row_belongs_to_the_module_that_its_call_runs_in() -> None:
    norm = "Module.blocks.1.norm1.Norm.forward.0.output.0"
    names = ("Functional.linear.3.forward.output.0", norm, "Functional.gelu.0.forward.output.0")
    rows = [{"NPU Name": name, "Bench Name": name, "Result": "error"} for name in names]
    found = [first_of(rows[number:], PARENTS) for number in range(4)]
    assert [row and row["module"] for row in found] == ["blocks.0.attention.query", "blocks.1.norm1", "", None]


def test_only_forward_cases_of_floats_are_drawn() -> None:
    cases = peer_cases(12, 4)
    assert [case.clean for case in cases] == [False] * 12 + [True] * 4
    assert not any(case.backward or case.dtype == "int8" for case in cases)


def test_the_table_counts_both() -> None:
    cases = [*peer_cases(2, 1)]
    ours = [outcome(case.clean) for case in cases]
    first = {"name": "Module.x", "module": cases[0].module, "result": "error"}
    answers = [
        {"results": {"pass": 3, "error": 1}, "first": first, "first error": first},
        {"failure": "target: not done after 120 s"},
        {"results": {"pass": 4}, "first": None, "first error": None},
    ]
    rows = joined(cases, ours, answers)
    counts = peer_counts(rows)
    assert (counts["faults"], counts["msprobe named the module"], counts["not run"]) == (1, 1, 1)
    assert (counts["clean"], counts["msprobe flagged clean"], counts["ours flagged clean"]) == (1, 0, 0)
    assert "target: not done after 120 s" in peer_table(rows)


def outcome(clean: bool) -> Outcome:
    return Outcome(
        name="", family="", dtype="", backward=False, clean=clean, void=False, verdict="clean" if clean else "wrong",
        named=not clean, kind_right=not clean, seconds=0.0, said="", truth="",
    )  # fmt: skip
