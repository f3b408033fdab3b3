"""One trial in a process of its own, with empty caches, so that a compilation is a cold one and a crash is one row's.

`python -m benchmarks.inductor.trial` reads a `Trial` as JSON from standard input and writes its row to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

Row = dict[str, Any]
ROUNDS = 5
_WORST = 5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What is run: `shapes` is `static` or `dynamic`, `peer` whether Inductor's own C++ is run as well."""

    family: str
    mode: str
    dtype: str
    shapes: str
    peer: bool
    seconds: float

    @property
    def name(self) -> str:
        return f"{self.family} {self.mode} {self.dtype} {self.shapes}"


def run_apart(trial: Trial, timeout_s: float) -> Row:
    """The row of a trial; where its process gives none, a row with the reason under `failed`."""
    about = {key: value for key, value in asdict(trial).items() if key not in ("peer", "seconds")}
    command = [sys.executable, "-m", "benchmarks.inductor.trial"]
    try:
        done = subprocess.run(
            command, input=json.dumps(asdict(trial)), capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return {**about, "failed": f"took more than {timeout_s:g} s"}
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {**about, "failed": f"status {done.returncode}: {last[0]}"[:300]}
    return {**about, **json.loads(done.stdout.splitlines()[-1])}


def run_here(trial: Trial) -> Row:
    """Compile, judge and time one trial in this process."""
    import torch

    from benchmarks.inductor import families
    from benchmarks.inductor.work import Backend, Mode, Work, compare, exact, native

    mode, dtype = Mode(trial.mode), getattr(torch, trial.dtype)
    model, calls = families.build(trial.family, dtype), list(families.inputs(trial.family, dtype))
    dynamic = trial.shapes == "dynamic"
    calls = calls if dynamic else calls[:1]
    reference = exact(model, mode, calls)
    works = {Backend.EAGER: Work(model, mode, Backend.EAGER)}
    theirs = native(model, mode, calls)
    row: Row = {}
    for backend in (Backend.OURS, Backend.CPP) if trial.peer else (Backend.OURS,):
        works[backend] = Work(model, mode, backend, dynamic=dynamic)
        numbers, compiled = _compiled(works[backend], calls)
        row[backend.value] = {**compiled, **_verdict(compare(numbers, theirs, reference))}
    return {**row, **_times(works, calls[0], trial.seconds)}


def _compiled(work: Any, calls: list[Any]) -> tuple[Any, Row]:
    """The numbers of a work's first calls, and how long they took beyond the same calls again."""
    from torch._inductor import metrics
    from torch._inductor.utils import fresh_cache

    metrics.reset()
    with fresh_cache():
        start = time.perf_counter()
        numbers = work.numbers(calls)
        first_s = time.perf_counter() - start
        start = time.perf_counter()
        work.numbers(calls)
        again_s = time.perf_counter() - start
    compile_s = round(max(first_s - again_s, 0.0), 2)
    return numbers, {"compile_s": compile_s, "kernels": metrics.generated_kernel_count}


def _verdict(judged: Any) -> Row:
    """How many numbers there are, the largest ratios, and what is outside the rule."""
    outside = {name: judgement.reason for name, judgement in judged.items() if not judgement.ok}
    return {
        "tensors": len(judged),
        "outside": len(outside),
        "reasons": dict(list(outside.items())[:_WORST]),
        "ratio": max(judgement.ratio for judgement in judged.values()),
        "peak_ratio": max(judgement.peak_ratio for judgement in judged.values()),
    }


def _times(works: Any, inputs: Any, seconds: float) -> Row:
    """Milliseconds of one call of each, and each compiler's ratio to eager: above 1 it is faster."""
    from benchmarks.inductor.work import Backend
    from tessera.bench.turns import Effort, compare

    timings = compare(
        {backend.value: lambda work=work: work(inputs) for backend, work in works.items()},
        Effort(seconds=seconds, rounds=ROUNDS, settle_s=0.02),
    )
    eager = timings[Backend.EAGER.value]
    return {
        "ms": {name: round(1e3 * timing.median_s, 3) for name, timing in timings.items()},
        "speedup": {
            name: round(timing.speedup_over(eager), 3)
            for name, timing in timings.items()
            if name != Backend.EAGER.value
        },
    }


if __name__ == "__main__":
    # What libraries print must not end up in the row.
    row, sys.stdout = sys.stdout, sys.stderr
    print(json.dumps(run_here(Trial(**json.load(sys.stdin)))), file=row)
