"""The command: `make bench`, or `python -m benchmarks` with options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import command

_PROGRAM = "python -m benchmarks"
_EXAMPLES = """examples:
  make bench                                          everything; writes docs/results (4 to 6 minutes)
  python -m benchmarks --quick                        everything, roughly; prints only (1 to 2 minutes)
  python -m benchmarks --only softmax                 what has `softmax` in its name
  python -m benchmarks --only 'matmul/linear*bfloat16' --threads 2
  python -m benchmarks --only models --json models.json
  python -m benchmarks --list                         the names that --only is matched with
"""


def parser() -> argparse.ArgumentParser:
    made = command.parser(
        _PROGRAM, "Our kernels, compiler and models against PyTorch's, as ratios taken in one run.", _EXAMPLES
    )
    command.add_selection(made)
    made.add_argument("--quick", action="store_true", help="few and short rounds: figures are rough")
    made.add_argument("--threads", metavar="N,N", default="1,2", help="numbers of threads (default: 1,2)")
    made.add_argument("--json", metavar="FILE", type=Path, help="write all results to one file as well")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all was measured, 1 when a kernel could not be, 2 for a wrong option."""
    return command.run(parser(), arguments, _run)


def _run(options: argparse.Namespace, given: list[str]) -> int:
    from rich.console import Console

    from benchmarks import results
    from benchmarks.session import Session
    from tessera.bench.turns import QUICK, Effort
    from tessera.bench_command import thread_counts

    threads = thread_counts(options.threads)
    typed = command.line(_PROGRAM, given) if given else "make bench"
    whole = not (options.only or options.quick)
    console = Console(highlight=False)
    session = Session(
        pattern=options.only, threads=threads, effort=QUICK if options.quick else Effort(), command=typed,
        console=console,
    )  # fmt: skip
    if options.list:
        print("\n".join(session.names))
        return 0
    pages = session.run()
    folder = options.out or (command.RESULTS if whole else None)
    written = [path for name, page in pages.items() if folder for path in results.write(folder, name, page)]
    if options.json:
        options.json.write_text(json.dumps(pages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(options.json)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    return 1 if any(page.get("skipped") for page in pages.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
