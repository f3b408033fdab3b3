"""The run of a collection's tests, on a small collection of our own that asks for what others ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import tessera
from benchmarks.collections.__main__ import main
from benchmarks.collections.page import page

ROOT = Path(tessera.__file__).parents[1]

KERNEL = """
import triton
import triton.language as tl

@triton.jit
def double(x, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(x + at, tl.load(x + at) * 2)
"""

TESTS = """
import pytest
import torch
from mine import double

@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_double(size):
    x = torch.ones(size)
    double[(1,)](x, size)
    assert x.sum().item() == 2 * size

def test_of_a_gpu():
    assert torch.ones(1).device.type == "cuda", "no GPU here"
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "mine.py").write_text(KERNEL)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_mine.py").write_text(TESTS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr("benchmarks.command.RESULTS", tmp_path / "results")
    return tmp_path


def test_a_collection_is_counted_and_written(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["mine", "--checkout", str(checkout), "--tests", "tests", "--source", "src", "--first", "3", "--write"]
    assert main(arguments) == 1
    assert "test_mine.py" in capsys.readouterr().out
    text = (checkout / "results" / "collections-cpu.md").read_text(encoding="utf-8")
    # Three cases of the kernel's test pass, its fourth is not run, and the other test fails for what it asks for.
    assert "| mine | 3.7.1 | 3 | 3 | 1 | 0 | 0 | 0 |" in text.replace(_triton(), "3.7.1")
    assert "| 1 | failed | `AssertionError: no GPU here` | `test_mine.py::test_of_a_gpu` |" in text
    assert str(checkout) not in text


def test_input_that_cannot_be_used_is_said(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "--checkout", str(checkout), "--tests", "nowhere"]) == 2
    assert "has no such file or folder" in capsys.readouterr().err
    assert main(["mine", "--checkout", str(checkout), "--tests", "tests", "--first", "0"]) == 2
    assert "--first is 0" in capsys.readouterr().err


def test_a_page_of_nothing_has_no_rows() -> None:
    assert page({"collections": {}}).count("\n|") == 2


def _triton() -> str:
    from importlib.metadata import version

    return version("triton")
