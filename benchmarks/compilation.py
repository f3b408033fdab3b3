"""Compile times: every kernel cold, in processes with an empty cache, and from the cache, in processes after them."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tessera.bench.markdown import significant

ROOT = Path(__file__).resolve().parents[1]
COLD_MS, CACHED_MS = 150.0, 5.0
STAGES = ("ast", "ttir", "tir", "llir", "asm", "obj", "store")


def measure(processes: int) -> dict[str, Any]:
    """Rows of `processes` cold and as many warm processes, medians kernel by kernel, and a summary of each kind."""
    cold, warm = [], []
    for _ in range(processes):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(_probe(cache))
            warm.append(_probe(cache))
    rows = [_row(kernels) for kernels in _by_hash(cold).values()]
    loads = [_median(row["total_ms"] for row in kernels) for kernels in _by_hash(warm).values()]
    first_ms = {name: significant(_median(run["first_ms"][name] for run in warm)) for name in warm[0]["first_ms"]}
    return {
        "kernels": sorted(rows, key=lambda row: -row["total_ms"]),
        "first_ms": first_ms,
        "summary": [
            _summary("cold compile", [row["total_ms"] for row in rows], COLD_MS),
            _summary("from the cache, inside triton.compile", loads, CACHED_MS),
            _summary("from the cache, a process's first launch beyond its second", list(first_ms.values()), CACHED_MS),
        ],
    }


def _probe(cache: str) -> dict[str, Any]:
    environ = {**os.environ, "TRITON_CACHE_DIR": cache, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "benchmarks.compile_probe"]
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the process that compiles kernels failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _by_hash(runs: list[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    """What several processes told of the same compiled kernel."""
    kernels: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        for row in run["compiled"]:
            kernels.setdefault(row["hash"], []).append(row)
    return kernels


def _row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    one = runs[0]
    stages = {name: significant(_median(run["stages_ms"][name] for run in runs)) for name in STAGES}
    total = significant(_median(run["total_ms"] for run in runs))
    return {
        "kernel": one["kernel"], "source": one["source"], "signature": one["signature"],
        "stages_ms": stages, "total_ms": total,
    }  # fmt: skip


def _summary(what: str, times_ms: list[float], most_ms: float) -> dict[str, Any]:
    middle = _median(times_ms)
    return {
        "what": what, "kernels": len(times_ms), "median_ms": significant(middle),
        "worst_ms": significant(max(times_ms)), "target": f"median ≤ {most_ms:g} ms", "met": middle <= most_ms,
    }  # fmt: skip


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
