"""The command `python -m benchmarks.inductor`."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from benchmarks import command
from benchmarks.inductor.trial import Row, Trial, run_apart
from tessera.core.errors import UsageError

_DYNAMIC = ("bert", "llama", "gpt2", "resnet")

_PROGRAM = "python -m benchmarks.inductor"
_EXAMPLES = """examples:
  python -m benchmarks.inductor                                  everything; writes docs/results (about an hour)
  python -m benchmarks.inductor --only 'llama*training*'         some trials; prints only
  python -m benchmarks.inductor --only 'bert forward' --peer -   without Inductor's own C++ compiler
  python -m benchmarks.inductor --list                           the names that --only is matched with
"""


def parser() -> argparse.ArgumentParser:
    made = command.parser(
        _PROGRAM,
        "Ten model families under torch.compile with our compiler: equal to eager by the accuracy rule, "
        "and how fast, against eager and against Inductor's own C++.",
        _EXAMPLES,
    )
    command.add_selection(made)
    made.add_argument(
        "--peer", metavar="PATTERN", default="float32 static",
        help="where Inductor's own C++ compiler is run as well, which takes minutes (default: 'float32 static'; '' for "
        "everywhere, '-' for nowhere)",
    )  # fmt: skip
    made.add_argument("--seconds", metavar="S", type=float, default=1.0, help="time to measure each rival for")
    made.add_argument("--timeout", metavar="S", type=float, default=900.0, help="seconds that one trial may take")
    return made


def trials(pattern: str, *, peer: str, seconds: float) -> list[Trial]:
    """The trials that a pattern picks, with the peer in those that `peer` picks. Errors: `UsageError` if none is."""
    from benchmarks.inductor.families import FAMILIES
    from tessera.bench.ops import has_compiler
    from tessera.bench.select import fits

    every = [
        Trial(family=family, mode=mode, dtype=dtype, shapes=shapes, peer=False, seconds=seconds)
        for shapes, dtype, mode, family in itertools.product(
            ("static", "dynamic"), ("float32", "bfloat16"), ("forward", "training"), FAMILIES
        )
        if shapes == "static" or family in _DYNAMIC
    ]
    compiler = has_compiler()
    picked = [replace(trial, peer=compiler and fits(trial.name, peer)) for trial in every if fits(trial.name, pattern)]
    if not picked:
        raise UsageError(f"--only {pattern!r} picks nothing; names are such as {every[0].name!r}: see --list")
    return picked


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every trial of ours is inside the accuracy rule, 1 when one is not or fails, 2 for a wrong option."""
    return command.run(parser(), arguments, _picked_and_run)


def _picked_and_run(options: argparse.Namespace, given: list[str]) -> int:
    if not (options.seconds > 0 and options.timeout > 0):
        raise UsageError(f"--seconds is {options.seconds}, --timeout is {options.timeout}; both must be above 0")
    picked = trials(options.only, peer=options.peer, seconds=options.seconds)
    if options.list:
        print("\n".join(trial.name for trial in picked))
        return 0
    rows = _run(picked, options, command.line(_PROGRAM, given))
    return 0 if all(ok(row) for row in rows) else 1


def ok(row: Row) -> bool:
    return "failed" not in row and row["triton"]["outside"] == 0


def _run(picked: Sequence[Trial], options: argparse.Namespace, typed: str) -> list[Row]:
    """The rows; a whole run also writes its page after each, so that one that is ended early leaves what it has."""
    from rich.console import Console

    from benchmarks import results
    from benchmarks.inductor.page import line
    from tessera.core.command import bar

    folder = options.out or (None if options.only else command.RESULTS)
    note = _note(typed, options.seconds) if folder else {}
    console = Console(highlight=False)
    rows = []
    with bar(console=console) as progress:
        task = progress.add_task("", total=len(picked))
        for trial in picked:
            progress.update(task, description=trial.name)
            rows.append(run_apart(trial, options.timeout))
            console.print(line(rows[-1]), markup=False, soft_wrap=True)
            progress.advance(task)
            if folder:
                results.write(folder, "inductor-cpu", {"about": note, "trials": len(picked), "rows": rows})
    return rows


def _note(typed: str, seconds: float) -> dict[str, Any]:
    import torch

    from benchmarks.inductor.trial import ROUNDS
    from tessera.bench.about import about
    from tessera.bench.turns import Effort

    return about(typed, [torch.get_num_threads()], Effort(rounds=ROUNDS, seconds=seconds))


if __name__ == "__main__":
    sys.exit(main())
