"""The script runs alone, in an empty folder, without this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from torch import nn

from tessera.accuracy.check import check
from tessera.accuracy.report.page import render
from tessera.accuracy.result import CheckResult
from tessera.accuracy.script import write_script
from tests.accuracy.small_models import encoder, tokens
from tests.accuracy.test_check import WrongKernel, with_fault


def written(result: CheckResult, folder: Path) -> str:
    assert result.culprit is not None and result.exhibit is not None
    write_script(folder / "repro.py", result.culprit, result.exhibit)
    done = subprocess.run([sys.executable, "-I", "repro.py"], cwd=folder, capture_output=True, text=True, check=True)
    assert "tessera" not in (folder / "repro.py").read_text().replace("tessera check", "")
    return done.stdout


def test_of_a_wrong_argument(tmp_path: Path) -> None:
    model = encoder()
    model.get_submodule("layers.0.norm1").eps = 1e-3  # type: ignore[assignment]
    out = written(check(model, tokens(), reference=encoder()), tmp_path)
    assert "the candidate's tensor: 448 of 448 elements differ" in out
    assert "the candidate's call, run here: 448 of 448 elements differ" in out
    assert "the reference's call, run here: 0 of 448 elements differ" in out


def test_of_an_added_operator(tmp_path: Path) -> None:
    out = written(check(with_fault(lambda x: x * 1.001), tokens(), reference=encoder()), tmp_path)
    assert "largest relative one 0.001" in out


def test_of_a_wrong_kernel(tmp_path: Path) -> None:
    out = written(check(encoder(), tokens(), context=WrongKernel), tmp_path)
    assert "the candidate's tensor:" in out


def test_the_report_names_the_culprit_and_needs_nothing_else() -> None:
    result = check(with_fault(lambda x: x * 1.001), tokens(), reference=encoder())
    page = render(result, "<a model>")
    assert "&lt;a model&gt;" in page and "aten.mul" in page and "◀ culprit" in page
    assert 'id="filter-class"' in page and "<svg" in page
    assert "http" not in page.replace("http-equiv", "") and "src=" not in page


def test_a_report_of_a_clean_model_with_one_layer() -> None:
    page = render(check(nn.Linear(3, 3), torch.randn(2, 3)), "linear")
    assert "clean" in page and "culprit" not in page.split("<body>")[1].split("<script>")[0]
