"""The command: `make bench`, or `python -m benchmarks` with options."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from tessera.core.errors import TesseraError, UsageError

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"

_EXAMPLES = """examples:
  make bench                                          everything; writes docs/results (4 to 6 minutes)
  python -m benchmarks --quick                        everything, roughly; prints only (1 to 2 minutes)
  python -m benchmarks --only softmax                 what has `softmax` in its name
  python -m benchmarks --only 'matmul/linear*bfloat16' --threads 2
  python -m benchmarks --only models --json models.json
  python -m benchmarks --list                         the names that --only is matched with
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Our kernels, compiler and models against PyTorch's, as ratios taken in one run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--only", metavar="PATTERN", default="", help="part of a name, or a pattern with * and ?")
    made.add_argument("--quick", action="store_true", help="few and short rounds: figures are rough")
    made.add_argument("--threads", metavar="N,N", default="1,2", help="numbers of threads (default: 1,2)")
    made.add_argument(
        "--out", metavar="DIR", type=Path, help="where to write pages; default: docs/results, for a whole run"
    )
    made.add_argument("--json", metavar="FILE", type=Path, help="write all results to one file as well")
    made.add_argument("--list", action="store_true", help="print the names and end")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all was measured, 1 when a kernel could not be, 2 for a wrong option."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    try:
        return _run(options, " ".join(["python -m benchmarks", *map(shlex.quote, given)]) if given else "make bench")
    except TesseraError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _run(options: argparse.Namespace, command: str) -> int:
    from rich.console import Console

    from benchmarks import results
    from benchmarks.session import Session
    from tessera.bench.turns import QUICK, Effort

    threads = _thread_counts(options.threads)
    whole = not (options.only or options.quick)
    console = Console(highlight=False)
    session = Session(
        pattern=options.only, threads=threads, effort=QUICK if options.quick else Effort(), command=command,
        console=console,
    )  # fmt: skip
    if options.list:
        print("\n".join(session.names))
        return 0
    pages = session.run()
    folder = options.out or (RESULTS if whole else None)
    written = [path for name, page in pages.items() if folder for path in results.write(folder, name, page)]
    if options.json:
        options.json.write_text(json.dumps(pages, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(options.json)
    for path in written:
        console.print(f"wrote {path}", markup=False, soft_wrap=True)
    return 1 if any(page.get("skipped") for page in pages.values()) else 0


def _thread_counts(text: str) -> tuple[int, ...]:
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"--threads is {text!r}; give numbers from 1 on with commas between, for example 1,2")
    return tuple(dict.fromkeys(int(word) for word in words))


if __name__ == "__main__":
    sys.exit(main())
