"""`tessera check` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tessera.cli import app
from tessera.core.errors import TesseraError

PORT = """
import torch
from torch import nn

class Mlp(nn.Module):
    def __init__(self, wrong):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.wrong = nn.Linear(16, 32), nn.Linear(32, 16), wrong

    def forward(self, x):
        hidden = self.up(x).relu()
        if self.wrong:
            hidden = hidden * 1.001
        return self.down(hidden)

def make(wrong):
    inputs = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    return nn.Sequential(Mlp(False), Mlp(wrong)).eval(), inputs

def right():
    return make(False)

def port():
    return make(True)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "ported.py").write_text(PORT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["check", *words], env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def test_a_wrong_port_is_named_with_its_line_and_files_are_written(folder: Path) -> None:
    files = ("--script", "repro.py", "--report", "r.html", "--json", "r.json")
    code, text = run("python:ported:right", "--candidate", "python:ported:port", *files)
    assert code == 1
    assert "wrong" in text and "aten.mul in 1" in text and "hidden = hidden * 1.001" in text
    assert json.loads((folder / "r.json").read_text())["culprit"]["kind"] == "scale"
    assert all((folder / name).is_file() for name in ("repro.py", "repro.safetensors", "r.html"))


def test_bfloat16_is_clean(folder: Path) -> None:
    code, text = run("python:ported:right", "--candidate", "bf16", "--backward")
    assert (code, "clean" in text) == (0, True)


def test_dump_here_and_compare_there(folder: Path) -> None:
    assert run("dump", "python:ported:right", "here", "--candidate", "bf16")[0] == 0
    assert run("dump", "python:ported:port", "there", "--candidate", "bf16", "--tensors", "whole")[0] == 0
    code, text = run("compare", "there", "here")
    assert code == 1 and "aten.mul in 1" in text
    assert run("python:ported:right", "--candidate", "there")[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("dump", "python:ported:right"), "dump takes a model and a folder, got 1 words"),
        (("compare", "a"), "compare takes two folders, got 1"),
        (("compare", "a", "b"), "a is no dump"),
        (("python:ported:right", "more"), "unexpected 'more' after the model"),
        (("python:ported:right", "--reference", "nothing"), "reference 'nothing' is neither native nor a dump"),
        (("python:ported:right", "--candidate", "nothing"), "candidate 'nothing' cannot be used here"),
        (("dump", "python:ported:right", "x", "--budget", "much"), "budget 'much' is no size"),
        (("python:ported:right", "--tensors", "some"), "unknown choice of tensors 'some'"),
    ],
)
def test_bad_words_are_answered_with_one_sentence(folder: Path, words: tuple[str, ...], message: str) -> None:
    with pytest.raises(TesseraError, match=message):
        run(*words)
