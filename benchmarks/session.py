"""One run: what was asked for, measured in order and told line by line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console

from benchmarks import beside, compilation, kernels, launches, models, overhead
from benchmarks.cases import CASES
from benchmarks.kernels import Row
from tessera.bench.about import about
from tessera.bench.markdown import geomean, mark, number, ratio, threads_text
from tessera.bench.select import fits
from tessera.bench.turns import QUICK, Effort
from tessera.core.command import bar
from tessera.core.errors import UsageError
from tessera.core.timing import MOST_BUSY_PERCENT

OVERHEAD, BESIDE, COMPILE, LAUNCH, MODELS = "overhead", "beside", "compile", "launch", "models/"
# Models take longer than kernels, and compiling needs a process with an empty cache each time.
_MODEL_EFFORT = Effort(seconds=1.2, rounds=5, settle_s=0.02)
_PROCESSES = 3


class Session:
    """What a pattern picks of all that can be measured; `run` measures it and returns data by page.

    Errors: `UsageError` for a pattern that picks nothing.
    """

    def __init__(self, *, pattern: str, threads: Sequence[int], effort: Effort, command: str, console: Console) -> None:
        self._cases = [case for case in CASES if fits(case.name, pattern)]
        self._models = [name for name in models.SUBJECTS if fits(MODELS + name, pattern)]
        self._parts = [part for part in (OVERHEAD, BESIDE, COMPILE, LAUNCH) if fits(part, pattern)]
        self._threads, self._effort, self._command, self._console = threads, effort, command, console
        self._quick = effort is QUICK
        if not self.names:
            raise UsageError(
                f"nothing is named like {pattern!r}; names are such as {CASES[0].name!r}, 'overhead', 'compile', "
                "'launch' and 'models/minilm float32': see --list"
            )
        self._progress = bar(console=console)
        self._task = self._progress.add_task("", total=len(self.names), completed=-1)

    @property
    def names(self) -> list[str]:
        """What will be measured, in order."""
        return [*(case.name for case in self._cases), *self._parts, *(MODELS + name for name in self._models)]

    def run(self) -> dict[str, dict[str, Any]]:
        """Pages of which something was asked for, by name."""
        # The attention of the tutorial is written with block pointers, on purpose.
        warnings.filterwarnings("ignore", message="tl.make_block_ptr is deprecated", category=UserWarning)
        note = about(self._command, self._threads, self._effort)
        if note["machine"]["busy_percent"] > MOST_BUSY_PERCENT:
            busy = note["machine"]["busy_percent"]
            self._console.print(f"[yellow]Others take {busy:.0f} % of this machine: figures are not to be trusted.[/]")
        with self._progress:
            pages = dict(self._pages(note))
        self._conclude(pages)
        return pages

    def _pages(self, note: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        if self._cases or {OVERHEAD, BESIDE} & set(self._parts):
            rows = [self._told(row) for row in kernels.measure(self._cases, self._threads, self._effort, self._say)]
            measured = [row for row in rows if "skipped" not in row]
            skipped = [row for row in rows if "skipped" in row]
            added = {"overhead": self._overhead(), "beside": self._beside()}
            yield "kernels-cpu", {"about": note, "kernels": measured, "skipped": skipped, **added}
        if COMPILE in self._parts or LAUNCH in self._parts:
            yield "compile-cpu", {"about": note, **self._compile(), "launch": self._launch()}
        if self._models:
            model_note = {**note, "rounds": _MODEL_EFFORT.rounds, "seconds": _MODEL_EFFORT.seconds}
            effort = self._effort if self._quick else _MODEL_EFFORT
            rows = [self._told(row) for row in models.measure(self._models, self._threads, effort, self._say_model)]
            yield "models-cpu", {"about": note if self._quick else model_note, "models": rows}

    def _overhead(self) -> list[Row]:
        if OVERHEAD not in self._parts:
            return []
        self._say(OVERHEAD)
        rows = overhead.measure(self._effort)
        for row in rows:
            self._print(
                f"overhead {row['operator']}", f"{number(row['off_us'])} µs + {number(row['added_us'])} µs", row
            )
        return rows

    def _beside(self) -> list[Row]:
        if BESIDE not in self._parts:
            return []
        self._say(BESIDE)
        rows = beside.measure(self._effort)
        for row in rows:
            shares = f"ours {number(row['ours_share'])}, PyTorch {number(row['torch_share'])}"
            what = f"2 threads beside a busy process, as a share of 1 thread alone: {row['operator']}"
            self._print(what, shares, row)
        return rows

    def _compile(self) -> dict[str, Any]:
        if COMPILE not in self._parts:
            return {"kernels": [], "first_ms": {}, "summary": []}
        self._say(COMPILE)
        result = compilation.measure(1 if self._quick else _PROCESSES)
        for row in result["summary"]:
            self._print(row["what"], f"median {number(row['median_ms'])} ms, worst {number(row['worst_ms'])} ms", row)
        return result

    def _launch(self) -> list[Row]:
        if LAUNCH not in self._parts:
            return []
        self._say(LAUNCH)
        rows = launches.measure(self._threads, self._effort)
        for row in rows:
            what = f"launch of {row['programs']} programs, {threads_text(row['threads'])}, {row['way']}"
            self._print(what, f"{number(row['us'])} µs", row)
        return rows

    def _told(self, row: Row) -> Row:
        """Print a row of kernels or models, and hand it on."""
        if "model" in row:
            name, unit = f"{row['model']}, {threads_text(row['threads'])}", "ms"
        else:
            name, unit = f"{row['family']}/{row['kernel']} {row['shape']} {row['dtype']}", "us"
            if "skipped" in row:
                self._console.print(f"{name}: not measured, {row['skipped']}", markup=False)
                return row
            name += f", {threads_text(row['threads'])}"
        sign = "ms" if unit == "ms" else "µs"
        times = f"ours {number(row[f'ours_{unit}'])} {sign}, PyTorch {number(row[f'torch_{unit}'])} {sign}"
        self._print(name, f"{times}, {ratio(row['ratio'])}", row)
        return row

    def _print(self, name: str, figures: str, row: Row) -> None:
        target = f"  {mark(row['met'])} {row['target']}" if row.get("target") else ""
        self._console.print(f"{name}: {figures}{target}", markup=False, soft_wrap=True)

    def _say(self, name: str) -> None:
        self._progress.advance(self._task)
        self._progress.update(self._task, description=name)

    def _say_model(self, name: str) -> None:
        self._say(MODELS + name)

    def _conclude(self, pages: dict[str, dict[str, Any]]) -> None:
        rows = pages.get("kernels-cpu", {}).get("kernels", [])
        for count in self._threads:
            part = [row for row in rows if row["threads"] == count]
            if part:
                met = sum(row["met"] for row in part)
                mean = ratio(geomean(row["ratio"] for row in part))
                self._console.print(f"{threads_text(count)}: geometric mean {mean}, targets met {met} of {len(part)}")
