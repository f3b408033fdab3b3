"""The command `python -m benchmarks.choice`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import command
from tessera.core.errors import UsageError

_PROGRAM = "python -m benchmarks.choice"
_EXAMPLES = """examples:
  python -m benchmarks.choice                                all models; writes docs/results (about 10 minutes)
  python -m benchmarks.choice --only 'llama*' --threads 1    some; prints only
  python -m benchmarks.choice --policy my-machine.json       with a table of tessera tune
  python -m benchmarks.choice --list                         the names that --only is matched with
"""


def parser() -> argparse.ArgumentParser:
    made = command.parser(
        _PROGRAM,
        "Whole models with the measured choice between our kernels and PyTorch's: none may get slower.",
        _EXAMPLES,
    )
    command.add_selection(made)
    made.add_argument("--policy", default="measured", help="measured (default), or the path of a table")
    made.add_argument("--threads", metavar="N,N", default="1,2", help="numbers of threads (default: 1,2)")
    made.add_argument("--quick", action="store_true", help="few and short rounds: figures are rough")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when every target is met, 1 when one is not, 2 for a wrong option."""
    return command.run(parser(), arguments, _run)


def _run(options: argparse.Namespace, given: list[str]) -> int:
    from benchmarks import results
    from benchmarks.choice import work
    from benchmarks.choice.page import line
    from tessera.bench.about import about
    from tessera.bench.select import fits
    from tessera.bench.turns import QUICK, Effort
    from tessera.bench_command import progress_bar, thread_counts

    threads = thread_counts(options.threads)
    names = [name for name in work.subjects() if fits(name, options.only)]
    if not names:
        raise UsageError(f"--only {options.only!r} picks nothing; names are such as 'bert forward float32': see --list")
    if options.list:
        print("\n".join(names))
        return 0
    effort = QUICK if options.quick else Effort(seconds=1.0, rounds=7, settle_s=0.02)
    note = about(command.line(_PROGRAM, given), threads, effort)
    rows = []
    with progress_bar(len(names)) as say:
        for row in work.measure(names, threads, effort, options.policy, say):
            rows.append(row)
            print(line(row))
    added = work.added(QUICK if options.quick else Effort(), options.policy)
    page = {"about": note, "policy": options.policy, "models": rows, "overhead": added, "switching": work.switching()}
    for row in page["switching"]:
        print(f"{row['what']}: {row['seconds']} s, {row['kernels']} kernels compiled")
    print(f"added to a tiny operator: {added[-1]['added_us']} µs, the median")
    folder = options.out or (None if options.only or options.quick else command.RESULTS)
    for path in results.write(folder, "choice-cpu", page) if folder else ():
        print(f"wrote {path}")
    return 0 if all(row["met"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
