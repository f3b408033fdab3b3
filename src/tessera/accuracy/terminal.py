"""What `tessera check` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tessera.accuracy.capture.source import text_of
from tessera.accuracy.losses import LossVerdict
from tessera.accuracy.result import CheckResult, Layer

COLOURS = {"clean": "green", "exact": "green", "rounding": "green", "layout": "yellow", "suspicious": "yellow"}
# Rows of the table of layers: the report and the JSON have them all.
_MOST_ROWS = 12


def print_check(result: CheckResult, console: Console, written: Sequence[Path]) -> None:
    """Print the verdict, the culprit, the worst layers, and which files were written."""
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, text in _facts(result):
        facts.add_row(name, text)
    if result.layers:
        console.print(_layers(result.layers))
    console.print(facts)
    for path in written:
        console.print(f"wrote {escape(str(path))}", highlight=False, soft_wrap=True)


def print_losses(verdict: LossVerdict, console: Console, written: Sequence[Path]) -> None:
    """Print the verdict on two loss curves, the first step that rounding does not explain, and the files."""
    colour = {"noise": "green", "undecided": "yellow"}.get(verdict.way, "red")
    facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("steps", f"{len(verdict.steps)}, from {verdict.steps[0].step} to {verdict.steps[-1].step}")
    facts.add_row("verdict", f"[bold {colour}]{verdict.way}[/]")
    facts.add_row("reason", escape(verdict.reason))
    console.print(facts)
    for path in written:
        console.print(f"wrote {escape(str(path))}", highlight=False, soft_wrap=True)


def _facts(result: CheckResult) -> Iterator[tuple[str, str]]:
    if result.operators:
        yield "operators", ", ".join(f"{count} {name}" for name, count in sorted(result.operators.items()))
    colour = COLOURS.get(result.verdict, "red")
    yield "verdict", f"[bold {colour}]{result.verdict}[/]"
    culprit = result.culprit
    if culprit is None:
        yield "reason", escape(result.reason)
    else:
        yield "operator", escape(f"{culprit.operator} in {culprit.module}, {culprit.phase}{culprit.on_ranks}")
        yield "kind", escape(culprit.kind)
        yield "where", escape(culprit.where)
        if culprit.source:
            yield "line", escape(f"{culprit.source}  {text_of(culprit.source)}".rstrip())
    if result.notes:
        yield "notes", escape("\n".join(result.notes))


def _layers(layers: Sequence[Layer]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("layer", overflow="fold")
    for heading in ("error", "PyTorch's", "ratio", "isolated"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("operators in it", no_wrap=True)
    shown = sorted(layers, key=lambda layer: layer.ratio or layer.isolated or 0, reverse=True)[:_MOST_ROWS]
    for layer in (layer for layer in layers if any(layer is row for row in shown)):
        numbers = [_number(layer.error, ".2g"), _number(layer.reference_error, ".2g")]
        numbers += [_number(layer.ratio, ".2f"), _number(layer.isolated, ".2f")]
        colour = COLOURS.get(layer.verdict, "red")
        table.add_row(escape(layer.name), *numbers, f"[{colour}]{layer.verdict}[/]")
    if len(layers) > len(shown):
        table.caption = f"the {len(shown)} of {len(layers)} layers with the largest ratio"
    return table


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
