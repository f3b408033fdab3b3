"""`python -m faultlab`: plant faults, run clean models, print and write the table; or measure what checking costs."""

from __future__ import annotations

import argparse
import random
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from faultlab.cases import Case, clean, faulty
from faultlab.judge import Outcome, run_case
from faultlab.overhead import as_rows, measure
from faultlab.table import as_json, as_markdown, summary

_SEED = 11
# Results are written after so many cases, and at the end.
_WRITE_EVERY = 25


def main() -> None:
    """Run the lab as the options say."""
    options = _options()
    if options.overhead:
        _overhead(options.out)
        return
    if options.memory:
        _memory(options.out)
        return
    # The models are small: a second thread costs more than it does.
    torch.set_num_threads(1)
    if options.peer:
        _peer(options)
        return
    if options.unseen:
        _unseen(options.only, options.verbose, options.out)
        return
    cases = chosen_cases(options.faults, options.clean, options.only)
    outcomes = _run(cases, options.verbose, partial(_write, folder=options.out) if options.out else None)
    Console().print(summary(outcomes))


def _peer(options: argparse.Namespace) -> None:
    from faultlab.peer import compare_with, peer_table, peer_text

    rows = compare_with(options.python, options.faults, options.clean)
    table = peer_table(rows, options.faults, options.clean)
    print(table)
    if options.out is not None:
        (options.out / "check-peer.json").write_text(peer_text(rows), encoding="utf-8")
        (options.out / "check-peer.md").write_text(table, encoding="utf-8")


def _overhead(folder: Path | None) -> None:
    rows = [measure(dtype) for dtype in (torch.float32, torch.bfloat16)]
    for row in rows:
        print(row.line())
    if folder is not None:
        (folder / "check-overhead.json").write_text(as_rows(rows), encoding="utf-8")


def _memory(folder: Path | None) -> None:
    # Our operators come with it, and what the peak is to count should be there from the start.
    from faultlab.memory import as_row
    from faultlab.memory import measure as measure_peak

    row = measure_peak()
    print(row.line())
    if folder is not None:
        (folder / "check-memory.json").write_text(as_row(row), encoding="utf-8")


def _unseen(only: str, verbose: bool, folder: Path | None) -> None:
    # Its models need the transformers library.
    from faultlab.unseen.cases import clean as clean_unseen
    from faultlab.unseen.cases import faulty as faulty_unseen
    from faultlab.unseen.table import record, words

    cases = [
        case
        for case in (*faulty_unseen(), *clean_unseen())
        if only in f"{case.name} {case.family} {case.dtype} {case.set}"
    ]
    outcomes = _run(cases, verbose, partial(record, folder=folder, whole=not only) if folder else None)
    Console().print(words(outcomes))


def _write(outcomes: list[Outcome], folder: Path) -> None:
    (folder / "check-lab.json").write_text(as_json(outcomes), encoding="utf-8")
    (folder / "check-lab.md").write_text(as_markdown(outcomes), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faultlab", description=__doc__)
    parser.add_argument(
        "--faults", type=int, default=600, help="how many faulty cases, drawn from all; 0: none; -1: all"
    )
    parser.add_argument("--clean", type=int, default=300, help="how many clean runs")
    parser.add_argument("--only", default="", help="only cases whose name, family, type or set contains this")
    parser.add_argument("--out", type=Path, default=None, help="folder for check-lab.md and check-lab.json")
    parser.add_argument("--overhead", action="store_true", help="only measure what watching costs")
    parser.add_argument("--unseen", action="store_true", help="faults and models that the check was not made with")
    parser.add_argument("--memory", action="store_true", help="only measure what checking a large model takes")
    parser.add_argument("--peer", choices=["msprobe"], help="run another checker on forward cases, and ours beside it")
    parser.add_argument("--python", default="python", help="the interpreter that has the other checker")
    parser.add_argument("--verbose", action="store_true", help="print every case that is not right")
    options = parser.parse_args()
    if options.peer and shutil.which(options.python) is None:
        parser.error(f"--python {options.python}: no such program; give the interpreter that has {options.peer}")
    return options


def chosen_cases(num_faults: int, num_clean: int, only: str = "") -> list[Case]:
    """A fixed random sample of the faulty cases, and the clean ones."""
    cases = [case for case in faulty() if only in f"{case.name} {case.family} {case.dtype}"]
    if 0 <= num_faults < len(cases):
        cases = random.Random(_SEED).sample(cases, num_faults)
    cases += [case for case in clean(num_clean) if only in f"{case.name} {case.family} {case.dtype}"]
    # In a random order, so that a run that is ended early has seen something of everything.
    random.Random(_SEED).shuffle(cases)
    return cases


def _run(cases: list[Case], verbose: bool, write: Callable[[list[Outcome]], None] | None) -> list[Outcome]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    outcomes = []
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        for case in progress.track(cases, description="fault lab"):
            outcomes.append(run_case(case))
            if write is not None and (len(outcomes) % _WRITE_EVERY == 0 or len(outcomes) == len(cases)):
                write(outcomes)
            if verbose and not outcomes[-1].right:
                progress.console.print(outcomes[-1].line(), markup=False, highlight=False, soft_wrap=True)
    return outcomes


if __name__ == "__main__":
    main()
