"""A small part of the unseen faults; the whole is `python -m faultlab --unseen`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from faultlab.cases import Case
from faultlab.judge import run_case
from faultlab.unseen.cases import clean, faulty
from faultlab.unseen.table import record

FAULTS = {f"{case.family} {case.name}": case for case in faulty()}
CLEAN = {f"{case.family} {case.name}": case for case in clean()}


@pytest.mark.parametrize(
    "case",
    [
        FAULTS["vit softmax over padded keys"],
        FAULTS["graph degree counted at the sources"],
        FAULTS["quantized kernel: sums kept in 16 bits (_int_mm)"],
        FAULTS["lossy momentum of running statistics"],
        FAULTS["lossy optimizer: another beta"],
        CLEAN["gpt a mask that is added"],
        CLEAN["recurrent mix by interpolation"],
    ],
    ids=lambda case: f"{case.family}-{case.dtype}-{case.name}",
)
def test_a_sample(case: Case) -> None:
    outcome = run_case(case)
    assert outcome.right and not outcome.void, outcome.line()


def test_there_are_as_many_clean_runs_as_there_should_be() -> None:
    assert len(FAULTS) >= 60 and len(CLEAN) >= 60
    assert len({case.family for case in FAULTS.values()}) >= 10


def test_a_first_answer_stays(tmp_path: Path) -> None:
    outcome = run_case(FAULTS["quantized zero point added"])
    record([replace(outcome, named=False)], tmp_path, whole=True)
    record([outcome], tmp_path, whole=True)
    written = json.loads((tmp_path / "check-unseen.json").read_text())
    answers = written["second"]
    assert (answers["first"]["named"], answers["now"]["named"]) == (0, 1)
    assert (
        "| quantized | float32 | zero point added | **missed** | right |" in (tmp_path / "check-unseen.md").read_text()
    )
