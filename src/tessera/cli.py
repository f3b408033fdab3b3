"""The command line: one subcommand a folder. `main` is what the installed program `tessera` calls.

Exit status: 0 all is well, 1 the answer is no (a model is not ready, something is missing), 2 the input cannot be used.
"""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tessera.core.chip import Chip, Device, chip_as_dict
from tessera.core.command import bar, check_writable, program, run
from tessera.core.doctor import Check
from tessera.core.env import VARIABLES
from tessera.core.errors import UsageError

# The mark \b keeps the lines of a paragraph apart.
_ENVIRONMENT = "\n".join(["\b", "Environment:", *(f"  {row.name:<20} {row.help}" for row in VARIABLES)])

app = program("tessera", epilog=_ENVIRONMENT, no_args_is_help=True)

JsonFile = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the result as JSON as well.")]


def main() -> None:
    """Run the program."""
    run(app, "tessera")


def _print_version(wanted: bool) -> None:
    if wanted:
        from tessera import __version__

        typer.echo(f"tessera {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """One AI software stack for every chip."""


# --- tessera bringup ---


@app.command()
def bringup(
    model: Annotated[
        str, typer.Argument(help="builtin:minilm, a Hugging Face model folder, or python:module:function.")
    ] = "builtin:minilm",
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(help="Sequences in one call.")] = 8,
    tokens: Annotated[int, typer.Option(help="Tokens in one sequence.")] = 128,
    threads: Annotated[int | None, typer.Option(help="Threads to run on; PyTorch's own number if not given.")] = None,
    json_file: JsonFile = None,
    report: Annotated[Path, typer.Option(metavar="FILE", help="Where the HTML report goes.")] = Path(
        "tessera-report.html"
    ),
) -> None:
    """Bring a model up on our kernels: checked, timed, judged.

    Exit status 0 when the model is ready, 1 when it is not, 2 when the input cannot be used.

    \b
    Examples:
      tessera bringup
      tessera bringup builtin:minilm --dtype bfloat16 --report minilm.html
      tessera bringup ./my-model --tokens 64 --json result.json
      tessera bringup python:my_package.model:build --threads 1
    """
    from tessera.bringup.config import BringupConfig
    from tessera.bringup.job import run

    config = BringupConfig(
        model=model, dtype=dtype, batch=batch, tokens=tokens, threads=threads, json=json_file, report=report
    )
    result = run(config, Console())
    raise typer.Exit(0 if result.ready else 1)


# --- tessera check ---


@app.command()
def check(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL | dump MODEL FOLDER | compare CANDIDATE REFERENCE | losses CANDIDATE REFERENCE [RUN]...",
            help="A model as bringup takes it; or what to record to a folder; or two such folders; or loss curves.",
        ),
    ],
    reference: Annotated[
        str, typer.Option(help="native: the model on PyTorch's kernels; or python:module:function, or a dump.")
    ] = "native",
    candidate: Annotated[
        str, typer.Option(help="tessera, bf16, fp16, a device such as cuda, python:module:function, or a dump.")
    ] = "tessera",
    backward: Annotated[bool, typer.Option("--backward", help="Judge gradients as well.")] = False,
    steps: Annotated[int, typer.Option(min=0, help="Judge this many steps of training.")] = 0,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    batch: Annotated[int, typer.Option(help="Sequences in one call.")] = 2,
    tokens: Annotated[int, typer.Option(help="Tokens in one sequence.")] = 32,
    budget: Annotated[str, typer.Option(help="What a dump may take, as in 500MiB or 2GiB.")] = "2GiB",
    tensors: Annotated[str, typer.Option(help="Full tensors in a dump: none, slices or whole.")] = "none",
    view: Annotated[
        str, typer.Option(help="both: whole runs and every operator on its own inputs; isolated: the latter alone.")
    ] = "both",
    seeds: Annotated[int, typer.Option(min=0, help="Decide suspicious operators by so many other inputs.")] = 0,
    script: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a script that reproduces the fault alone.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as HTML.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Find the layer and the operator that is wrong.

    Rounding is never blamed: a fault is a difference of the programs or a kernel that loses more than PyTorch's own.
    Exit status 0 when the candidate is clean, 1 when it is not, 2 when the input cannot be used.

    \b
    Examples:
      tessera check builtin:minilm
      tessera check builtin:minilm --candidate bf16 --report check.html
      tessera check python:my_package.port:build --reference python:my_package.original:build --backward
      tessera check dump ./my-model there --candidate cuda
      tessera check compare there here
      tessera check losses port.csv original.csv original-again-1.csv original-again-2.csv
    """
    from tessera.check_command import Options, run_check

    options = Options(
        words=tuple(words), reference=reference, candidate=candidate, backward=backward, steps=steps, dtype=dtype,
        batch=batch, tokens=tokens, budget=budget, tensors=tensors, view=view, seeds=seeds, script=script,
        report=report, json=json_file,
    )  # fmt: skip
    raise typer.Exit(0 if run_check(options, Console()) else 1)


# --- tessera chips ---

_LEGEND = """\
[bold]native[/]: kernels run on it, tested. [bold]compiles[/]: kernels are compiled for it in the tests, not run \
(the figure is the first Triton that can). \
[bold]plugin[/]: needs another Triton than the released one, as a rule the maker's; not tried.
Figures are the makers' own, dense; a dash: none is published. A family of CPUs has none: use --measure."""


@app.command()
def chips(
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure arithmetic and bandwidth: seconds a chip.")
    ] = False,
    json_file: JsonFile = None,
) -> None:
    """Show what is in this machine, and which chips are known.

    \b
    Examples:
      tessera chips
      tessera chips --measure
      tessera chips --measure --json chips.json
    """
    from tessera.core.chip_rows import CHIPS
    from tessera.core.chips import detect

    check_writable(json_file)
    console = Console()
    devices = detect()
    measured = [_measure(device) for device in devices] if measure else [{} for _ in devices]
    for device, figures in zip(devices, measured, strict=True):
        console.print(_device_table(device, figures), "")
    console.print(_chips_table(CHIPS), "")
    console.print(_LEGEND, highlight=False)
    here = [
        {**device.as_dict(), "measured": figures or None} for device, figures in zip(devices, measured, strict=True)
    ]
    _write_json(json_file, {"here": here, "known": [chip_as_dict(chip) for chip in CHIPS]})


def _measure(device: Device) -> dict[str, float]:
    from tessera.core.measure import PROBES, measure

    with bar() as progress:
        steps = progress.track(measure(device), total=len(PROBES), description=f"measuring {device.torch_device}")
        return dict(steps)


def _device_table(device: Device, measured: dict[str, float]) -> Table:
    table = Table(box=None, show_header=False, title=device.torch_device, title_justify="left", title_style="bold")
    unit = {"cpu": "cores", "gpu": "multiprocessors", "npu": "cores"}[device.chip.kind]
    table.add_row("model", escape(f"{device.title}, {device.num_units} {unit}, {device.memory_bytes / 2**30:.1f} GiB"))
    table.add_row("chip", f"{device.chip.name}, vectors of {device.chip.vector_bits} bits")
    table.add_row("triton", f"{device.chip.target}, {device.chip.status}")
    table.add_row("types", ", ".join(device.dtypes))
    for name, value in measured.items():
        table.add_row(name, f"{_scaled(value)}{_unit_of(name)}")
    return table


def _unit_of(probe: str) -> str:
    from tessera.core.measure import PROBES

    return next(row.unit for row in PROBES if row.name == probe)


def _scaled(value: float) -> str:
    """Three digits and a prefix for the unit that follows: 9.85e11 is `985 G`."""
    factor, prefix = next(
        (row for row in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")) if value >= row[0]), (1, "")
    )
    return f"{value / factor:.3g} {prefix}"


def _chips_table(known: tuple[Chip, ...]) -> Table:
    table = Table(
        box=SIMPLE_HEAD, show_edge=False, padding=0, title="known chips", title_justify="left", title_style="bold"
    )
    for heading in ("chip", "triton", "kernels"):
        table.add_column(heading, no_wrap=True)
    for heading in ("vector\nbits", "float32\nTflop/s", "bfloat16\nTflop/s", "\nGB/s", "\nGB"):
        table.add_column(heading, justify="right", no_wrap=True)
    for chip in known:
        # The target of a CPU is its own name, near enough.
        name, target = (chip.name, "cpu") if chip.kind == "cpu" else (f"{chip.vendor} {chip.name}", str(chip.target))
        peaks = [_in_units(chip.peak_flops.get(dtype), 1e12) for dtype in ("float32", "bfloat16")]
        memory = [_in_units(chip.bandwidth_bytes_per_s, 1e9), _in_units(chip.memory_bytes, 1e9)]
        status = f"{chip.status} {chip.since_triton}".strip()
        table.add_row(name.removeprefix("Huawei "), target, status, str(chip.vector_bits), *peaks, *memory)
    return table


def _in_units(value: float | None, unit: float) -> str:
    return "-" if value is None else f"{value / unit:.4g}"


# --- tessera doctor ---


@app.command()
def doctor(json_file: JsonFile = None) -> None:
    """Show what is installed and what is missing, and what mends it.

    Everything is looked at, also a kernel is compiled and run; one command at the end mends all that a command can.
    Exit status 0 when all is well, 1 when something is not.

    \b
    Examples:
      tessera doctor
      tessera doctor --json doctor.json
    """
    from tessera.core.doctor import examine, mending_command

    check_writable(json_file)
    console = Console()
    with bar() as progress:
        task = progress.add_task("looking", total=None)
        checks = examine(lambda name: progress.update(task, description=f"looking at: {name}"))
    command = mending_command(checks)
    healthy = all(check.state == "ok" for check in checks)
    console.print(_checks_table(checks), "")
    if healthy:
        console.print("[green]All is well.[/]")
    elif command:
        console.print("[bold]To mend it:[/]")
        console.print(f"  {command}", markup=False, highlight=False, soft_wrap=True)
    else:
        console.print("[red]No command mends this: see what was found.[/]")
    _write_json(json_file, {"ok": healthy, "checks": [asdict(check) for check in checks], "command": command})
    raise typer.Exit(0 if healthy else 1)


def _checks_table(checks: list[Check]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("what", "state", "found", "needed"):
        table.add_column(heading, overflow="fold")
    for check in checks:
        style = "green" if check.state == "ok" else "bold red"
        table.add_row(check.name, f"[{style}]{check.state}[/]", escape(check.found), escape(check.expected))
    return table


# --- tessera tune ---

Threads = Annotated[str | None, typer.Option(metavar="N,N", help="Numbers of threads; 1 and one for each core.")]


@app.command()
def tune(
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Part of an operator's name, or a pattern.")] = "",
    budget: Annotated[float | None, typer.Option(metavar="SECONDS", help="When to end; the next run goes on.")] = None,
    threads: Threads = None,
    table: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all that is known here as a table, for policy=FILE.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Measure which kernels are faster here, ours or PyTorch's.

    The choice that tessera.enable() makes follows from it. What is measured is kept at once: a run that is ended early
    is gone on with. A kernel that fails is noted, and PyTorch's serves there. Takes about half an hour in all; the
    machine should have nothing else to do.

    \b
    Examples:
      tessera tune
      tessera tune --budget 120
      tessera tune --only 'convolution*' --threads 1
      tessera tune --table my-machine.json
    """
    from tessera.bench.tune import TuneConfig
    from tessera.bench_command import default_threads, run_tune, thread_counts

    check_writable(json_file)
    check_writable(table, "--table")
    config = TuneConfig(only=only, budget_s=budget, threads=thread_counts(threads or default_threads()))
    _write_json(json_file, run_tune(config, Console(), table=table))


# --- tessera bench ---

bench = typer.Typer(name="bench", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench, help="Time our operators on this machine.")


@bench.callback()
def _bench() -> None:
    """Time our operators on this machine."""


@bench.command()
def ops(
    only: Annotated[str, typer.Option(metavar="PATTERN", help="Part of an operator's name, or a pattern.")] = "",
    sizes: Annotated[str, typer.Option(metavar="SIZE,SIZE", help="tiny, mini, small, medium, large.")] = (
        "small,medium,large"
    ),
    threads: Threads = None,
    policy: Annotated[str, typer.Option(help="What our side runs: always, measured, or a table.")] = "always",
    compiled: Annotated[bool, typer.Option(help="Run Inductor's C++ as well, where it applies.")] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Keep what is measured for the choice, as tune does.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the page: its data, its text and its plot.")
    ] = None,
    json_file: JsonFile = None,
) -> None:
    """Time every operator against PyTorch eager, in float32 and bfloat16.

    Exit status 0 when all that was asked for was measured, 1 when a kernel of ours could not be.

    \b
    Examples:
      tessera bench ops --out docs/results
      tessera bench ops --only softmax --sizes tiny,small --keep
      tessera bench ops --policy measured --no-compiled --json measured.json
    """
    from tessera.bench.ops import OpsConfig
    from tessera.bench_command import default_threads, run_ops, thread_counts

    check_writable(json_file)
    config = OpsConfig(
        only=only, sizes=tuple(sizes.split(",")), threads=thread_counts(threads or default_threads()), policy=policy,
        compiled=compiled,
    )  # fmt: skip
    typed = shlex.join(["tessera", *sys.argv[1:]])
    results, complete = run_ops(config, Console(), out=out, command=typed, keep=keep)
    _write_json(json_file, results)
    raise typer.Exit(0 if complete else 1)


# --- what the commands share ---


def _write_json(path: Path | None, data: dict[str, Any]) -> None:
    if path is None:
        return
    try:
        path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {path} cannot be written: {error.strerror}; choose another place") from error
