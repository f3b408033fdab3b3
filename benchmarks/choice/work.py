"""Models with nothing of ours switched on, with the choice, and with all calls on ours; and what the choice costs.

A choice may take operators off while a program runs, so each model is measured with a choice of its own.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from benchmarks import models, overhead
from benchmarks.case import Call
from benchmarks.inductor import families
from benchmarks.inductor.work import Backend, Mode, Work
from tessera.aten.policy import ALWAYS, make_policy
from tessera.bench.markdown import significant
from tessera.bench.measure import registered
from tessera.bench.turns import Effort, Side, take_turns

Row = dict[str, Any]
LEAST = 0.98
MOST_SWITCH_S = 1.0
_TYPES = (torch.float32, torch.bfloat16)
_PROCESSES = 5

# Seconds that PyTorch alone takes, then from `import tessera` until the default policy is in force.
_SWITCH_ON = """
import time
start = time.perf_counter()
import torch
imported = time.perf_counter()
import tessera
tessera.enable()
end = time.perf_counter()
from tessera.ops import launch
print(imported - start, end - imported, len(launch._ready))
"""


def subjects() -> Mapping[str, Callable[[], Call]]:
    """What makes the call of each model, by name."""
    found: dict[str, Callable[[], Call]] = {
        f"{family} {mode.value} {str(dtype)[6:]}": _family(family, mode, dtype)
        for family in families.FAMILIES
        for mode in Mode
        for dtype in _TYPES
    }
    return {**found, **{name: subject.prepare for name, subject in models.SUBJECTS.items()}}


def _family(name: str, mode: Mode, dtype: torch.dtype) -> Callable[[], Call]:
    def prepare() -> Call:
        work = Work(families.build(name, dtype), mode, Backend.EAGER)
        inputs, _ = families.inputs(name, dtype)
        return lambda: work(inputs)

    return prepare


def measure(
    names: Sequence[str], threads: Sequence[int], effort: Effort, policy: str, say: Callable[[str], None]
) -> Iterator[Row]:
    """A row for each model and number of threads."""
    made = subjects()
    for name in names:
        say(name)
        torch.manual_seed(0)
        call = made[name]()
        for count in threads:
            torch.set_num_threads(count)
            yield {"model": name, "threads": count, **_row(call, effort, policy)}


def _row(call: Call, effort: Effort, policy: str) -> Row:
    chosen, always = make_policy(policy).fresh(), make_policy(ALWAYS)
    calls = {"": call}
    timings = take_turns(
        {
            "choice": Side(calls=calls, context=lambda: registered(chosen)),
            "torch": Side(calls=calls),
            "always": Side(calls=calls, context=lambda: registered(always)),
        },
        effort,
    )
    theirs, choice, ours = (timings[side][""] for side in ("torch", "choice", "always"))
    speed = choice.speedup_over(theirs)
    return {
        "torch_ms": significant(1e3 * theirs.median_s), "choice_ms": significant(1e3 * choice.median_s),
        "always_ms": significant(1e3 * ours.median_s), "ratio": significant(speed),
        "always_ratio": significant(ours.speedup_over(theirs)), "taken_off": len(chosen.taken_off),
        "target": f"≥ {LEAST:g}×", "met": speed >= LEAST,
    }  # fmt: skip


def added(effort: Effort, policy: str) -> list[Row]:
    """What the choice adds to operators on tiny tensors; last their median."""
    return overhead.measure(effort, policy)


def switching() -> list[Row]:
    """Seconds to switch on in a fresh process, beside those of PyTorch, and how many kernels that compiles."""
    _switch_on()
    runs = [_switch_on() for _ in range(_PROCESSES)]
    torch_s, ours_s = (statistics.median(run[place] for run in runs) for place in (0, 1))
    compiled = max(int(run[2]) for run in runs)
    return [
        {"what": "import torch", "seconds": significant(torch_s), "kernels": 0, "target": "", "met": None},
        {
            "what": "import tessera; tessera.enable()", "seconds": significant(ours_s), "kernels": compiled,
            "target": f"≤ {MOST_SWITCH_S:g} s", "met": ours_s <= MOST_SWITCH_S and compiled == 0,
        },
    ]  # fmt: skip


def _switch_on() -> list[float]:
    """Leaves byte code and the runtime's machine code where the next process finds them, as an installation does."""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", _SWITCH_ON]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environ)
    return [float(word) for word in done.stdout.split()]
