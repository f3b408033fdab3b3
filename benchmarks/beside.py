"""Two threads beside a process that keeps one of two cores busy: what is left of the rate that one thread has alone.

The process is ours, bound to one core and never at rest. Ours and PyTorch's run the same operator in turns, first on
one thread with the machine for themselves, then on two threads beside it. A library whose threads wait for each other
at fixed shares of the work falls far below its rate on one thread there; one whose fast thread takes over does not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.case import Call
from benchmarks.overhead import switched_on
from tessera.bench.markdown import significant
from tessera.bench.turns import Effort, Side, take_turns

LEAST = 0.8
_BUSY = "import os, sys\nos.sched_setaffinity(0, [int(sys.argv[1])])\nprint(flush=True)\nwhile True: pass"


def calls() -> Mapping[str, Call]:
    """Work of some hundred microseconds on one thread, in many programs."""
    x, y = torch.randn(1 << 18), torch.randn(1 << 18)
    rows, a, b = torch.randn(512, 512), torch.randn(256, 256), torch.randn(256, 256)
    return {"exp": lambda: torch.exp(x), "add": lambda: torch.add(x, y),
            "softmax": lambda: torch.softmax(rows, -1), "mm": lambda: torch.mm(a, b)}  # fmt: skip


@contextmanager
def busy(core: int) -> Iterator[None]:
    """A process that never rests, on one core."""
    process = subprocess.Popen([sys.executable, "-c", _BUSY, str(core)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()  # it is bound and about to spin
        yield
    finally:
        process.kill()
        process.wait()


def measure(effort: Effort) -> list[dict[str, Any]]:
    """A row an operator: the rate of two threads beside the process, as a share of one thread's rate alone.

    No rows where a process cannot be bound to a core, or there are not two cores.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        return []
    mine = set(cores[:2])
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, mine)
    try:
        return _measure(effort, cores[1])
    finally:
        os.sched_setaffinity(0, before)


def _measure(effort: Effort, core: int) -> list[dict[str, Any]]:
    work = calls()
    sides = {"torch": Side(calls=work), "ours": Side(calls=work, context=switched_on)}
    torch.set_num_threads(1)
    alone = take_turns(sides, effort)
    torch.set_num_threads(2)
    with busy(core):
        beside = take_turns(sides, effort)
    rows = []
    for name in work:
        share = {side: alone[side][name].median_s / beside[side][name].median_s for side in sides}
        rows.append({
            "operator": name, "ours_share": significant(share["ours"]), "torch_share": significant(share["torch"]),
            "target": f"≥ {LEAST:g}", "met": share["ours"] >= LEAST,
        })  # fmt: skip
    return rows
