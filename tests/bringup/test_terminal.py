"""The progress bar is for terminals only."""

from __future__ import annotations

import io

from rich.console import Console

from tessera.bringup.terminal import Stages


def shown(*, terminal: bool) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    with Stages(console) as stages:
        stages.enter("loading the model")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_stages_show_in_a_terminal_and_nowhere_else() -> None:
    assert "loading the model" in shown(terminal=True)
    assert shown(terminal=False) == ""
