"""What all programs with a command line share: how an error of the user's is told, files to write, a bar on stderr.

Exit status of every program: 0 all is well, 1 the answer is no, 2 the input cannot be used.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeElapsedColumn

from tessera.core.errors import TesseraError, UsageError


def program(name: str | None = None, **options: Any) -> typer.Typer:
    """An empty program; `options` are Typer's."""
    return typer.Typer(
        name=name, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]}, **options,
    )  # fmt: skip


def run(app: typer.Typer, name: str) -> None:
    """Run it. An error that is the user's to mend is one line on stderr and exit status 2, no traceback."""
    try:
        app(prog_name=name)
    except TesseraError as error:
        tell(error)
        sys.exit(2)


def tell(error: TesseraError) -> None:
    """The error's message as one line on stderr."""
    console = Console(stderr=True)
    console.print("[bold red]error:[/bold red]", end=" ")
    console.print(" ".join(str(error).split()), markup=False, highlight=False, soft_wrap=True)


def check_writable(path: Path | None, option: str = "--json") -> None:
    """Say that a file cannot be written before the work, not after it. Raises: UsageError."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{option} {path} is a folder; name a file in it, for example {path / 'result.json'}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no folder {path.parent}; create it or choose another")


def bar(*more: ProgressColumn, console: Console | None = None) -> Progress:
    """A bar, how many of how many, words and the time, on stderr; it vanishes when done.

    Nothing where that is no terminal.
    """
    console = console or Console(stderr=True)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    return Progress(*columns, *more, console=console, transient=True, disable=not console.is_terminal)
