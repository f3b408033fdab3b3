"""The command line: `python -m tessera.ops.conformance`.

Exit status: 0 nothing failed, 1 something failed, 2 the input cannot be used.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import TimeRemainingColumn

from tessera.core import command
from tessera.ops.conformance import samples, session, show
from tessera.ops.conformance.result import Case, CaseResult

_PROGRAM = "python -m tessera.ops.conformance"

app = command.program()


@app.command()
def conformance(
    only: Annotated[list[str] | None, typer.Option(metavar="ENTRY", help="Run this entry; may be repeated.")] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="Run this type, or `errors`; may be repeated.")
    ] = None,
    tenth: Annotated[bool, typer.Option("--tenth", help="Run a few samples of a fixed tenth of all cases.")] = False,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="How many processes run samples.")] = 1,
    timeout: Annotated[float, typer.Option(metavar="S", help="Seconds that one sample may take.")] = 120.0,
    keep: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep results here, and go on from those it holds.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the result as Markdown.")] = None,
) -> None:
    """Run PyTorch's operator database on our kernels and judge every sample against PyTorch.

    Exit status 0 when nothing failed, 1 when something did, 2 when the input cannot be used.

    \b
    Examples:
      python -m tessera.ops.conformance --tenth
      python -m tessera.ops.conformance --only add --only nn.functional.conv2d --dtype float32
      python -m tessera.ops.conformance --keep results.jsonl --json result.json --markdown result.md
    """
    command.check_writable(json_file)
    command.check_writable(markdown, "--markdown")
    command.check_writable(keep, "--keep")
    cases = samples.cases(tuple(only or ()), tuple(dtype or ()), tenth)
    results = _run_with_progress(cases, timeout, keep, jobs)
    show.show(results, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(show.as_data(results), indent=1) + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(show.to_markdown(results, _command(only, dtype, tenth)), encoding="utf-8")
    raise typer.Exit(1 if any(r.failures for r in results) else 0)


def _run_with_progress(cases: list[Case], timeout_s: float, keep: Path | None, jobs: int) -> list[CaseResult]:
    with command.bar(TimeRemainingColumn()) as progress:
        task = progress.add_task("", total=len(cases))
        return session.run(
            cases, timeout_s=timeout_s, keep=keep, jobs=jobs,
            tell=lambda result: progress.update(task, description=str(result.case), advance=1),
        )  # fmt: skip


def _command(only: list[str] | None, dtype: list[str] | None, tenth: bool) -> str:
    words = [_PROGRAM, *(f"--only {name}" for name in only or ()), *(f"--dtype {name}" for name in dtype or ())]
    return " ".join([*words, *(["--tenth"] if tenth else [])])


def main() -> None:
    """Run the program."""
    command.run(app, _PROGRAM)


if __name__ == "__main__":
    main()
