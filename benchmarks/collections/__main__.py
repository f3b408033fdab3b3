"""The command `python -m benchmarks.collections`."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import command
from tessera.core.errors import UsageError
from tessera.triton_cpu.conformance.result import Result, summarise
from tessera.triton_cpu.conformance.session import Pytest, triton_version

_PROGRAM = "python -m benchmarks.collections"
_AS_CPU = "tessera.triton_cpu.conformance.as_cpu"
_EXAMPLES = """examples:
  python -m benchmarks.collections liger --checkout Liger-Kernel --tests test/transformers --source src
  python -m benchmarks.collections attorch --checkout attorch --tests tests --cases 5
  python -m benchmarks.collections fla --checkout flash-linear-attention --tests tests/ops/test_gla.py --write
  python -m benchmarks.collections flaggems --checkout FlagGems --tests tests --source src --environ GEMS_VENDOR=nvidia
"""


def parser() -> argparse.ArgumentParser:
    made = command.parser(
        _PROGRAM, "Run the tests of a kernel collection, from a checkout, on our CPU compiler.", _EXAMPLES
    )
    made.add_argument("name", help="what the collection is called in the table")
    made.add_argument("--checkout", metavar="DIR", type=Path, required=True, help="folder with the collection")
    made.add_argument(
        "--tests", metavar="PATH", action="append", required=True, help="file or folder in it; repeatable"
    )
    made.add_argument(
        "--source", metavar="DIR", default="", help="folder in it that Python imports from; default: itself"
    )
    made.add_argument(
        "--cases", metavar="N", type=int, help="run this many cases of each test function only, spread over all of them"
    )
    made.add_argument("--jobs", metavar="N", type=int, default=1, help="processes that run tests; default: 1")
    made.add_argument("--timeout", metavar="S", type=float, default=60.0, help="seconds that one test may take")
    made.add_argument("-k", metavar="EXPR", dest="keyword", help="run tests whose name matches, as pytest's own -k")
    made.add_argument(
        "--environ", metavar="NAME=VALUE", action="append", default=[], help="a variable that the tests see; repeatable"
    )
    made.add_argument(
        "--pytest", metavar="OPTION", action="append", default=[],
        help="an option of the collection's own for pytest, as in --pytest=--quick; repeatable",
    )  # fmt: skip
    made.add_argument("--plugin", metavar="MODULE", help="a pytest plugin of yours, importable, beside ours")
    made.add_argument(
        "--as-written", action="store_true", help='leave "cuda" in the tests as it is; else they get the CPU for it'
    )
    made.add_argument("--write", action="store_true", help="put the result into docs/results")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when nothing failed, 1 when something did, 2 for input that cannot be used."""
    return command.run(parser(), arguments, _run_and_show)


def _run_and_show(options: argparse.Namespace, given: list[str]) -> int:
    result = _run(options)
    _show(result)
    if options.write:
        _write(options, result, command.line(_PROGRAM, _named(given, options.checkout)))
    return 0 if result.ok else 1


def _run(options: argparse.Namespace) -> Result:
    checkout = options.checkout.resolve()
    if not checkout.is_dir():
        raise UsageError(f"--checkout {options.checkout}: there is no such folder; give that of the collection")
    for path in options.tests:
        if not (checkout / path).exists():
            raise UsageError(f"--tests {path}: {options.checkout} has no such file or folder; give a path inside of it")
    for option, count in (("--cases", options.cases), ("--jobs", options.jobs)):
        if count is not None and count < 1:
            raise UsageError(f"{option} is {count}; it must be at least 1")
    arguments = ["-c", os.devnull, "--rootdir", str(checkout), "--conformance-unmarked"]
    arguments += ["--conformance-cases", str(options.cases)] if options.cases else []
    arguments += [] if options.as_written else ["-p", _AS_CPU]
    arguments += ["-p", options.plugin] if options.plugin else []
    arguments += ["-k", options.keyword] if options.keyword else []
    arguments += options.pytest
    paths = [str(checkout / options.source), *filter(None, [os.environ.get("PYTHONPATH")])]
    pytest = Pytest(
        arguments=(*arguments, *options.tests), folder=checkout, jobs=options.jobs, timeout_s=options.timeout,
        none_found=f"no test in {', '.join(options.tests)} matches",
        environ={**_variables(options.environ), "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    return summarise(_with_progress(pytest), triton_version())


def _variables(given: Sequence[str]) -> dict[str, str]:
    for word in given:
        if not word.partition("=")[0] or "=" not in word:
            raise UsageError(f"--environ {word}: it must be NAME=VALUE, as in --environ GEMS_VENDOR=nvidia")
    return dict(word.split("=", 1) for word in given)


def _with_progress(pytest: Pytest) -> Any:
    from tessera.core.command import bar

    with bar() as progress:
        task = progress.add_task("collecting", total=None)
        return pytest.run(
            lambda file, done, total: progress.update(task, description=file, completed=done, total=total or None)
        )


def _show(result: Result) -> None:
    from rich.console import Console

    from tessera.triton_cpu.conformance import show

    show.show(result, Console())


def _named(given: Sequence[str], checkout: Path) -> list[str]:
    """The arguments with the checkout called by its own name, and without `--write`."""
    return [checkout.name if word == str(checkout) else word for word in given if word != "--write"]


def _write(options: argparse.Namespace, result: Result, typed: str) -> None:
    """Put this collection's part into the page, beside those of others."""
    from benchmarks import results

    data = command.RESULTS / "collections-cpu.json"
    page = json.loads(data.read_text(encoding="utf-8")) if data.exists() else {"collections": {}}
    # Errors name files of the checkout, and where it lies is of this machine.
    found = json.loads(json.dumps(result.as_dict()).replace(f"{options.checkout.resolve()}/", ""))
    page["collections"][options.name] = {"command": typed, "cases": options.cases, **found}
    for path in results.write(command.RESULTS, "collections-cpu", page):
        print(f"wrote {path}")


if __name__ == "__main__":
    sys.exit(main())
