"""What the programs here share: options, how an error of the user's is told, and where results of a whole run go."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tessera.core.command import tell
from tessera.core.errors import TesseraError

RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results"

Work = Callable[[argparse.Namespace, list[str]], int]


def parser(program: str, description: str, examples: str) -> argparse.ArgumentParser:
    """Without options; `examples` are lines that end the help."""
    return argparse.ArgumentParser(
        prog=program, description=description, epilog=examples, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_selection(made: argparse.ArgumentParser) -> None:
    """Options of a program that measures what a pattern picks."""
    made.add_argument("--only", metavar="PATTERN", default="", help="part of a name, or a pattern with * and ?")
    made.add_argument("--out", metavar="DIR", type=Path, help="where to write; default: docs/results, for a whole run")
    made.add_argument("--list", action="store_true", help="print the names and end")


def run(made: argparse.ArgumentParser, arguments: Sequence[str] | None, work: Work) -> int:
    """What `work` returns for the options and the words that they were read from; 2 for an error of the user's."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = made.parse_args(given)
    try:
        return work(options, given)
    except TesseraError as error:
        tell(error)
        return 2


def line(program: str, given: Sequence[str]) -> str:
    """The command as it is typed."""
    return " ".join([program, *map(shlex.quote, given)])
