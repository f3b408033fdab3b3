"""What `tessera tune` and `tessera bench ops` do: from their options to a job, a bar, a table in words, and files."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tessera import __version__
from tessera.aten.measured import Table
from tessera.aten.policy import ALWAYS
from tessera.aten.store import Store, here, shipped, write_table
from tessera.bench import anatomy, ops_page, pages
from tessera.bench.about import about
from tessera.bench.ops import OpsConfig, Row, has_compiler, measure, roofs
from tessera.bench.tune import TuneConfig, Tuned, tune
from tessera.core.chips import detect_cpu
from tessera.core.command import bar
from tessera.core.errors import UsageError
from tessera.core.timing import MOST_BUSY_PERCENT, busy_percent

_SHOWN = 12


def thread_counts(text: str) -> tuple[int, ...]:
    """`1,2` as numbers. Errors: UsageError."""
    words = text.split(",")
    if not all(word.strip().isdigit() and int(word) > 0 for word in words):
        raise UsageError(f"--threads is {text!r}; give numbers from 1 on with commas between, for example 1,2")
    return tuple(dict.fromkeys(int(word) for word in words))


def default_threads() -> str:
    """One thread, and one for each core."""
    cores = detect_cpu().num_units
    return "1" if cores == 1 else f"1,{cores}"


def run_tune(config: TuneConfig, console: Console, *, table: Path | None) -> dict[str, Any]:
    """Measure with a bar, say what changed, write a table where it is asked for; the result as plain data."""
    warn_if_busy(console)
    store = Store()
    with progress_bar(len(config.operators)) as say:
        tuned = tune(config, store, say)
    _tell(tuned, store, console)
    if table is not None:
        device = detect_cpu()
        known = Table([*shipped(device), *store.read(here(device))], "")
        write_table(table, table_note(), known)
        console.print(f"wrote {table}", markup=False, soft_wrap=True)
    return {
        "measured": len(tuned.measurements), "operators": len({one.operator for one in tuned.measurements}),
        "store": str(store.path), "changed": tuned.changed, "failures": tuned.failures,
        "unmeasured": tuned.unmeasured, "left": list(tuned.left), "interrupted": tuned.interrupted,
    }  # fmt: skip


def run_ops(
    config: OpsConfig, console: Console, *, out: Path | None, command: str, keep: bool = False
) -> tuple[dict[str, Any], bool]:
    """Measure, print the summary, write the page; the results, and whether all of ours could be measured.

    keep: what was measured goes into the store that the choice is made of. Errors: UsageError where ours is not run.
    """
    if keep and config.policy != ALWAYS:
        raise UsageError(
            f"--keep stores how fast ours is, and --policy {config.policy} does not always run it: leave one out"
        )
    write = partial(Store().write, here(detect_cpu())) if keep else None
    compiler = _compiler_note(config)
    warn_if_busy(console)
    note = about(command, config.threads, config.effort)
    with progress_bar(len(config.operators) + 1) as say:
        config = replace(config, compiled=config.compiled and not compiler)
        found, ended = _until_interrupted(measure(config, say, write))
        slowest = anatomy.worst(row for row in found if "skipped" not in row)
        say("why the worst are slow")
        causes = list(anatomy.dissect(slowest, config))
    rows = [row for row in found if "skipped" not in row]
    skipped = [row for row in found if "skipped" in row]
    if not rows:
        raise UsageError(f"nothing could be measured: {_why_nothing(skipped, ended)}")
    early = _measured_till(rows, config) if ended else ""
    results = {
        "about": note, "policy": config.policy, "compiler": compiler, "early": early, "roofs": roofs(config.threads),
        "worst": causes, "skipped": skipped, "rows": ops_page.packed(rows),
    }  # fmt: skip
    for line in ops_page.terminal(results):
        _print(console, line)
    for path in pages.write(out, ops_page.NAME, results, ops_page.RENDERS) if out else ():
        _print(console, f"wrote {path}")
    usual = all(row["skipped"].startswith(("PyTorch", "declined")) or row["layout"] == "" for row in skipped)
    return results, usual and not ended


def _until_interrupted(rows: Iterator[Row]) -> tuple[list[Row], bool]:
    """All rows, or those that were measured when Ctrl-C was pressed, and whether it was: a run takes long."""
    found: list[Row] = []
    try:
        for row in rows:
            found.append(row)
    except KeyboardInterrupt:
        return found, True
    return found, False


def _measured_till(rows: list[Row], config: OpsConfig) -> str:
    measured = len({row["operator"] for row in rows})
    return f"Ended early: {measured} of {len(config.operators)} operators were measured."


def _why_nothing(skipped: list[Row], ended: bool) -> str:
    return f"{skipped[0]['operator']}: {skipped[0]['skipped']}" if skipped or not ended else "it was ended at once"


def _compiler_note(config: OpsConfig) -> str:
    """Why Inductor's C++ is left out; empty where it is run."""
    if not config.compiled:
        return "Inductor's C++ was not asked for."
    return "" if has_compiler() else "Inductor's C++ is left out: there is no C++ compiler on this machine."


def table_note() -> dict[str, str]:
    """What a table says of itself."""
    import torch

    device = detect_cpu()
    return {
        "chip": device.chip.name, "machine": device.title, "torch": torch.__version__, "tessera": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
    }  # fmt: skip


def warn_if_busy(console: Console) -> None:
    """Measurements beside others mislead the choice."""
    busy = busy_percent()
    if busy > MOST_BUSY_PERCENT:
        console.print(f"[yellow]Others take {busy:.0f} % of this machine: figures are not to be trusted.[/]")


def _tell(tuned: Tuned, store: Store, console: Console) -> None:
    operators = len({one.operator for one in tuned.measurements})
    faster = len({one.operator for one in tuned.measurements if one.ours and one.speed > 1})
    calls = len(tuned.measurements)
    _print(console, f"{operators} operators in {calls} measurements; ours is faster somewhere in {faster}")
    _list(console, "changed", [f"{name}: {words}" for name, words in tuned.changed.items()])
    _list(console, "not usable somewhere, PyTorch's there", [f"{name}: {why}" for name, why in tuned.failures.items()])
    _list(console, "not measured, PyTorch's", [f"{name}: {why}" for name, why in tuned.unmeasured.items()])
    if tuned.left:
        why = "interrupted" if tuned.interrupted else "the budget is spent"
        _print(console, f"{why}: {len(tuned.left)} operators are left; tessera tune goes on with them")
    _print(console, f"kept in {store.path}")


def _list(console: Console, heading: str, lines: list[str]) -> None:
    if lines:
        _print(console, f"{heading}: {len(lines)}")
    for line in lines[:_SHOWN]:
        _print(console, f"  {line}")
    if len(lines) > _SHOWN:
        _print(console, f"  and {len(lines) - _SHOWN} more: see --json")


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def progress_bar(total: int) -> Iterator[Callable[[str], None]]:
    """A bar on stderr that vanishes when done; told each thing before it is begun."""
    with bar() as progress:
        task = progress.add_task("", total=total, completed=-1)

        def say(name: str) -> None:
            progress.advance(task)
            progress.update(task, description=name)

        yield say
