"""The tables of a run, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tessera.triton_cpu.conformance.result import OUTCOMES, FileCount, Outcome, ReasonCount, Result

_HEADINGS = ("file", *OUTCOMES, "time s", "compile s")
_STYLES: dict[Outcome, str] = {"failed": "bold red", "newer": "yellow", "skipped": "dim", "xfailed": "dim"}
_LEGEND = """\
newer: the test needs a newer Triton front end than the installed one; xfailed: the test itself expects to fail;
time: of all tests; compile: the slowest compilation of one kernel."""
_MAX_EXAMPLE = 100


def show(result: Result, console: Console) -> None:
    """Print the table of files, then the reasons of all that did not pass."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=0, show_footer=len(result.files) > 1)
    for heading, footer in zip(_HEADINGS, _total_cells(result), strict=True):
        table.add_column(heading, footer=footer, justify="left" if heading == "file" else "right", no_wrap=True)
    for row in result.files:
        table.add_row(*_cells(row))
    console.print(table, "", _LEGEND, "", highlight=False)
    for reason in result.reasons:
        head = f"[{_STYLES[reason.outcome]}]{reason.count:>6} {reason.outcome}[/]"
        console.print(head, escape(reason.reason), highlight=False, soft_wrap=True)
        if reason.outcome == "failed":
            console.print(f"{'':7}{escape(_shortened(reason.example))}", style="dim", highlight=False, soft_wrap=True)


def to_markdown(result: Result, command: str) -> str:
    """The same as a document that names the command it came from."""
    return "\n".join(_markdown(result, command)) + "\n"


def _markdown(result: Result, command: str) -> Iterator[str]:
    yield "# Triton's own language tests on our CPU compiler"
    yield f"\nTriton {result.triton}. Written by:\n\n```console\n$ {command}\n```\n\n{_LEGEND}\n"
    yield _markdown_row(_HEADINGS)
    yield _markdown_row(("---", *("---:" for _ in _HEADINGS[1:])))
    for row in result.files:
        yield _markdown_row(_cells(row))
    yield _markdown_row(_total_cells(result))
    yield "\n| tests | outcome | reason | files |\n|---:|---|---|---|"
    for reason in result.reasons:
        yield _markdown_row((str(reason.count), reason.outcome, _code(reason), ", ".join(reason.files)))


def _markdown_row(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _code(reason: ReasonCount) -> str:
    return f"`{reason.reason.replace('|', '¦').replace('`', chr(39))}`"


def _cells(row: FileCount) -> tuple[str, ...]:
    counts = (str(row.counts[outcome]) for outcome in OUTCOMES)
    return (row.file, *counts, f"{row.seconds:.1f}", f"{row.slowest_compile_s:.2f}")


def _total_cells(result: Result) -> tuple[str, ...]:
    counts = (str(sum(row.counts[outcome] for row in result.files)) for outcome in OUTCOMES)
    slowest_s = max((row.slowest_compile_s for row in result.files), default=0.0)
    return ("all", *counts, f"{sum(row.seconds for row in result.files):.1f}", f"{slowest_s:.2f}")


def _shortened(text: str) -> str:
    return text if len(text) <= _MAX_EXAMPLE else f"{text[:_MAX_EXAMPLE]}…"
