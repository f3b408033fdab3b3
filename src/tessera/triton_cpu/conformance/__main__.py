"""The command line: `python -m tessera.triton_cpu.conformance --tests PATH`.

Exit status: 0 nothing failed, 1 something failed, 2 the input cannot be used.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tessera.core import command
from tessera.triton_cpu.conformance import session, show
from tessera.triton_cpu.conformance.result import Result
from tessera.triton_cpu.conformance.session import Config

_PROGRAM = "python -m tessera.triton_cpu.conformance"

app = command.program()


@app.command()
def conformance(
    tests: Annotated[Path, typer.Option(metavar="PATH", help="A checkout of triton-lang/triton-cpu, or of triton.")],
    only: Annotated[list[str] | None, typer.Option(metavar="FILE", help="Run this file; may be repeated.")] = None,
    keyword: Annotated[str | None, typer.Option("-k", metavar="EXPR", help="Run tests whose name matches.")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", help="Processes that run tests.")] = 1,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds that one test may take.")] = 60.0,
    unmarked: Annotated[bool, typer.Option("--unmarked", help="Run tests that are not marked for CPUs too.")] = False,
    lift_skips: Annotated[
        bool, typer.Option("--lift-skips", help="Run what the checkout skips on CPUs: tell it that this is none.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as Markdown.")] = None,
) -> None:
    """Run Triton's own language tests, from a checkout of theirs, on our CPU compiler.

    Exit status 0 when nothing failed, 1 when something did, 2 when the input cannot be used.

    \b
    Examples:
      python -m tessera.triton_cpu.conformance --tests triton-cpu
      python -m tessera.triton_cpu.conformance --tests triton-cpu --only test_core.py -k "dot and not fp8" --jobs 4
      python -m tessera.triton_cpu.conformance --tests triton-cpu --json result.json --markdown result.md
    """
    command.check_writable(json_file)
    command.check_writable(markdown, "--markdown")
    config = Config(
        tests=tests, only=tuple(only or ()), keyword=keyword, jobs=jobs, timeout_s=timeout,
        unmarked=unmarked, lift_skips=lift_skips,
    )  # fmt: skip
    result = _run_with_progress(config)
    show.show(result, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(result.as_dict(), indent=1) + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(show.to_markdown(result, _command(config)), encoding="utf-8")
    raise typer.Exit(0 if result.ok else 1)


def _run_with_progress(config: Config) -> Result:
    with command.bar() as progress:
        task = progress.add_task("collecting", total=None)
        return session.run(
            config,
            lambda file, done, total: progress.update(task, description=file, completed=done, total=total or None),
        )


def _command(config: Config) -> str:
    """The command that gives the same result again, with the checkout called by its usual name."""
    words = [f"{_PROGRAM} --tests triton-cpu", *(f"--only {name}" for name in config.only)]
    words += [f"-k {shlex.quote(config.keyword)}"] if config.keyword else []
    words += ["--unmarked"] if config.unmarked else []
    words += ["--lift-skips"] if config.lift_skips else []
    return " ".join(words)


def main() -> None:
    """Run the program."""
    command.run(app, _PROGRAM)


if __name__ == "__main__":
    main()
