"""The command: `python -m benchmarks.operators` writes the pages of all families."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import command

_PROGRAM = "python -m benchmarks.operators"
_EXAMPLES = """examples:
  python -m benchmarks.operators                     after a change of docstrings, of operators or of measurements
  python -m benchmarks.operators --out /tmp/pages
"""

FOLDER = command.RESULTS.parent / "operators"


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when the pages are written, 2 for a wrong option."""
    made = command.parser(_PROGRAM, "Write a page for each family of operators, from their docstrings.", _EXAMPLES)
    made.add_argument("--out", metavar="DIR", type=Path, default=FOLDER, help="where to (default: docs/operators)")
    return command.run(made, arguments, _run)


def _run(options: argparse.Namespace, given: list[str]) -> int:
    written = write(options.out)
    print(f"wrote {len(written)} pages in {written[0].parent}")
    return 0


def write(folder: Path) -> list[Path]:
    """Write the pages and remove those of families that are gone; the files, the list of families first."""
    from benchmarks.operators.page import pages

    folder.mkdir(parents=True, exist_ok=True)
    texts = dict(pages())
    for stale in folder.glob("*.md"):
        if stale.name not in texts:
            stale.unlink()
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


if __name__ == "__main__":
    sys.exit(main())
