"""What the main job shows in the terminal: the stage it is in, then one short table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tessera.bringup.result import BringupResult

# Of the job's stages, for the bar; what comes after the accuracy is skipped if the run failed.
_NUM_STAGES = 8


class Stages:
    """A progress bar with the name of the stage; nothing at all where output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=_NUM_STAGES)
        self._entered = 0

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def enter(self, name: str) -> None:
        """Show that the next stage begins."""
        self._progress.update(self._task, description=name, completed=self._entered)
        self._entered += 1


def print_result(result: BringupResult, console: Console, *, written: Sequence[Path]) -> None:
    """Print the table, the reasons against the model if there are any, and which files were written."""
    table = Table(box=SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(result):
        table.add_row(name, text)
    console.print(table)
    for reason in result.reasons:
        console.print(f"[red]✗[/] {escape(reason)}", highlight=False)
    for note in result.notes:
        console.print(f"[yellow]•[/] {escape(note)}", highlight=False)
    for path in written:
        console.print(f"wrote {escape(str(path))}", highlight=False, soft_wrap=True)


def _rows(result: BringupResult) -> Iterator[tuple[str, str]]:
    yield "chip", escape(f"{result.chip}, {result.threads} threads")
    yield (
        "model",
        escape(
            f"{result.model}: {result.kind}, {result.num_parameters / 1e6:.1f} M parameters, "
            f"{result.dtype}, {result.inputs}"
        ),
    )
    yield "operators", _operators(result)
    yield "accuracy", _accuracy(result)
    yield "speed", _speed(result)
    if result.search is not None:
        agrees = "ranked as PyTorch does" if result.search.agrees else "[red]not ranked as PyTorch does[/]"
        yield "search", f"{len(result.search.answers)} queries {agrees}, embedding cosine {result.search.cosine:.7f}"
    colour = "green" if result.ready else "red"
    yield "verdict", f"[bold {colour}]{result.verdict}[/]"


def _operators(result: BringupResult) -> str:
    operators = result.operators
    if operators is None:
        return "not counted: the run failed"
    lines = [f"{operators.ours} of {operators.calls} calls on our kernels ({100 * operators.share:.1f} %)"]
    lines += [f"PyTorch's: {row.calls} × {row.name}: {row.reason}" for row in operators.vendor]
    return escape("\n".join(lines))


def _accuracy(result: BringupResult) -> str:
    layers = result.accuracy.layers
    good = sum(layer.judgement.ok for layer in layers)
    if not layers:
        return "[red]no layer was reached[/]"
    worst = max(layers, key=lambda layer: layer.judgement.ratio)
    text = (
        f"{good} of {len(layers)} layers inside the rule; "
        f"worst {worst.judgement.ratio:.2f} × PyTorch's own loss, limit 2 ({worst.name})"
    )
    return escape(text) if result.accuracy.ok else f"[red]{escape(text)}[/]"


def _speed(result: BringupResult) -> str:
    speed = result.speed
    if speed is None:
        return "not timed: the run failed"
    return (
        f"PyTorch {speed.vendor_ms:.1f} ms, ours {speed.ours_ms:.1f} ms: ratio {speed.ratio:.2f}, {speed.words}; "
        f"first run {speed.first_ms / 1e3:.1f} s with compilation"
    )
