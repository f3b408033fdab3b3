"""A small part of the fault lab; the whole is `python -m faultlab`."""

from __future__ import annotations

import pytest

from faultlab.__main__ import chosen_cases
from faultlab.cases import Case, faulty
from faultlab.judge import run_case
from faultlab.models import DTYPES, FAMILIES
from faultlab.table import as_json, as_markdown, counts, summary

CASES = chosen_cases(18, 12)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.family}-{case.dtype}-{case.name}")
def test_a_sample_of_the_lab(case: Case) -> None:
    outcome = run_case(case)
    assert outcome.right, outcome.line()


def test_the_lab_covers_all_families_types_and_forty_kinds_of_faults() -> None:
    cases = list(faulty())
    assert len(cases) >= 500
    assert {case.family for case in cases} == {family.name for family in FAMILIES}
    assert {case.dtype for case in cases} == set(DTYPES)
    assert {case.backward for case in cases} == {False, True}
    assert len({case.name.split(": ")[-1].split(" (")[0] for case in cases}) >= 40


def test_the_table_counts_what_was_right() -> None:
    outcomes = [run_case(case) for case in (CASES[0], CASES[-1])]
    assert counts(outcomes)["faults"] + counts(outcomes)["void"] == 1
    assert "1 clean runs: 0 called wrong" in summary(outcomes)
    assert "## By fault" in as_markdown(outcomes) and '"cases"' in as_json(outcomes)
