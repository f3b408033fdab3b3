"""What the main job shows in the terminal: the stage it is in, then one short table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tessera.accuracy.judge import ERROR_LIMIT
from tessera.accuracy.layers import LayerCheck
from tessera.accuracy.result import CheckResult
from tessera.accuracy.terminal import COLOURS
from tessera.bringup.figures import model_facts, ms, threads
from tessera.bringup.result import BringupResult

# Of the job's stages, for the bar; what comes after the accuracy is skipped if the run failed.
_NUM_STAGES = 9
# Operators on the vendor's kernels that are listed here; the report and the JSON have them all.
_NUM_VENDOR = 6


class Stages:
    """A progress bar with the name of the stage; nothing at all where output is no terminal."""

    def __init__(self, console: Console) -> None:
        columns = (BarColumn(bar_width=24), TextColumn("{task.description}"), TimeElapsedColumn())
        # A dumb terminal cannot take back what it shows, so every step would stay there as a line.
        moving = console.is_terminal and not console.is_dumb_terminal
        self._progress = Progress(*columns, console=console, transient=True, disable=not moving)
        self._task = self._progress.add_task("", total=_NUM_STAGES)
        self._entered = 0
        self._name = "starting"

    def __enter__(self) -> Stages:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
        if kind is KeyboardInterrupt:
            console = Console(stderr=True)
            console.print(f"interrupted at: {self._name}", markup=False, highlight=False)

    def enter(self, name: str) -> None:
        """Show that the next stage begins."""
        self._name = name
        self._progress.update(self._task, description=name, completed=self._entered)
        self._entered += 1


def print_result(result: BringupResult, console: Console, *, written: Sequence[Path]) -> None:
    """Print the table and which files were written."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, lines in _rows(result):
        table.add_row(name, "\n".join(lines))
    console.print(table)
    for path in written:
        console.print(f"wrote {escape(str(path))}", highlight=False, soft_wrap=True)


def _rows(result: BringupResult) -> Iterator[tuple[str, list[str]]]:
    """Names and lines in rich's markup."""
    yield "chip", [escape(f"{result.chip}, {threads(result.threads)}")]
    yield "model", [escape(result.model), escape(", ".join(model_facts(result)))]
    yield "operators", [escape(line) for line in _operators(result)]
    yield "accuracy", _accuracy(result)
    if result.check is not None:
        yield "check", [_check(result.check)]
    yield "speed", list(_speed(result))
    if result.search is not None:
        agrees = "ranked as PyTorch does" if result.search.agrees else "[red]not ranked as PyTorch does[/]"
        cosine = f"least embedding cosine {result.search.cosine:.7f}"
        yield "search", [f"{len(result.search.answers)} queries {agrees}, {cosine}"]
    colour = "green" if result.ready else "red"
    yield "verdict", [f"[bold {colour}]{result.verdict}[/]", *(f"[red]✗[/] {escape(text)}" for text in result.reasons)]
    if result.notes:
        yield "notes", [escape(text) for text in result.notes]


def _operators(result: BringupResult) -> Iterator[str]:
    operators = result.operators
    if operators is None:
        yield "not counted: the run failed"
        return
    yield f"{operators.ours} of {operators.calls} calls on our kernels ({100 * operators.share:.1f} %)"
    for row in operators.vendor[:_NUM_VENDOR]:
        yield f"PyTorch's: {row.calls} × {row.name}: {row.reason}"
    rest = operators.vendor[_NUM_VENDOR:]
    if rest:
        yield f"PyTorch's: {sum(row.calls for row in rest)} calls of {len(rest)} more, all in the report"


def _accuracy(result: BringupResult) -> list[str]:
    layers = result.accuracy.layers
    if not layers:
        return ["[red]no layer was reached[/]"]
    good = sum(layer.judgement.ok for layer in layers)
    lines = [f"{good} of {len(layers)} layers inside the rule", _worst(result.accuracy)]
    return [escape(line) if result.accuracy.ok else f"[red]{escape(line)}[/]" for line in lines]


def _check(check: CheckResult) -> str:
    colour = COLOURS.get(check.verdict, "red")
    return f"[{colour}]{check.verdict}[/]: {escape(check.reason)}"


def _worst(check: LayerCheck) -> str:
    """The layer that comes nearest to the limit; if some are beyond it, the first, for there the fault began."""
    if check.first_fault is not None:
        return f"first outside: {check.first_fault.name}"
    worst = max(check.layers, key=lambda layer: layer.judgement.ratio)
    return f"worst {worst.judgement.ratio:.2f} × PyTorch's own error, limit {ERROR_LIMIT:g}: {worst.name}"


def _speed(result: BringupResult) -> Iterator[str]:
    speed = result.speed
    if speed is None:
        yield "not timed: the run failed"
        return
    yield f"PyTorch {ms(speed.vendor_ms)}, ours {ms(speed.ours_ms)}: ratio {speed.ratio:.2f}, {speed.words}"
    yield f"first call {speed.first_ms / 1e3:.1f} s, kernels compiled or loaded from the cache"
