"""The progress bar is for terminals only."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tessera.bringup.terminal import Stages


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Stages(console) as stages:
        stages.enter("loading the model")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_stages_show_in_a_terminal_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "loading the model" in shown(terminal=True)
    assert shown(terminal=False) == ""


def test_a_dumb_terminal_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert shown(terminal=True) == ""


def test_an_interrupt_says_where_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), Stages(Console(file=io.StringIO())) as stages:
        stages.enter("loading the model")
        stages.enter("accuracy of every layer")
        raise KeyboardInterrupt
    assert capsys.readouterr().err == "interrupted at: accuracy of every layer\n"
