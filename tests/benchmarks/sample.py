"""Results as a run leaves them, small and made up."""

from __future__ import annotations

from typing import Any

ABOUT = {
    "command": "make bench",
    "date": "2026-01-31",
    "machine": {
        "model": "Example CPU", "chip": "x86-64-v4", "cores": 2, "memory_gib": 8.0, "system": "Linux",
        "busy_percent": 1.0,
    },
    "versions": {"tessera": "0.1.0", "torch": "2.13.0"},
    "threads": [1, 2],
    "rounds": 7,
    "seconds": 0.2,
}  # fmt: skip


def kernel_row(kernel: str, ratio: float, threads: int = 1, family: str = "pointwise") -> dict[str, Any]:
    return {
        "family": family, "kernel": kernel, "shape": "64×1024", "dtype": "float32", "peer": kernel, "threads": threads,
        "ours_us": 10.0, "torch_us": 10.0 * ratio, "ratio": ratio, "rate": 78.6, "unit": "GB/s", "target": "≥ 1×",
        "met": ratio >= 1,
    }  # fmt: skip


def kernels() -> dict[str, Any]:
    """Twelve kernels, of which the first lose."""
    rows = [kernel_row(f"k{index}", (index + 1) / 4, threads) for index in range(12) for threads in (1, 2)]
    overhead = [
        {"operator": "add", "on_us": 4.0, "off_us": 1.5, "added_us": 2.5},
        {"operator": "median", "on_us": 4.0, "off_us": 1.5, "added_us": 2.5, "target": "≤ 3 µs", "met": True},
    ]
    return {"about": ABOUT, "kernels": rows, "skipped": [], "overhead": overhead}


def models() -> dict[str, Any]:
    row = {"what": "an encoder", "ours_ms": 20.0, "target": "≥ 0.7×"}
    return {
        "about": ABOUT,
        "models": [
            {**row, "model": "quick one", "threads": 1, "torch_ms": 40.0, "ratio": 2.0, "met": True},
            {**row, "model": "slow one", "threads": 1, "torch_ms": 10.0, "ratio": 0.5, "met": False},
        ],
    }


def compiling() -> dict[str, Any]:
    stages = dict.fromkeys(("ast", "ttir", "tir", "llir", "asm", "obj", "store"), 5.0)
    kernel = {"kernel": "vector_add", "source": "tutorial", "signature": "*fp32, i32", "stages_ms": stages}
    summary = {"what": "cold compile", "kernels": 1, "median_ms": 35.0, "worst_ms": 35.0, "target": "median ≤ 150 ms"}
    launch = {"way": "Triton's own", "programs": 1, "threads": 1, "us": 5.0, "target": "≤ 3 µs", "met": False}
    return {
        "about": ABOUT,
        "kernels": [{**kernel, "total_ms": 35.0}],
        "first_ms": {"vector_add": 3.5},
        "summary": [{**summary, "met": True}],
        "launch": [launch],
    }


def inductor() -> dict[str, Any]:
    compiled: dict[str, Any] = {"compile_s": 12.5, "kernels": 5, "tensors": 7, "outside": 0, "reasons": {}}
    compiled |= {"ratio": 1.5, "peak_ratio": 2.0}
    wrong = {**compiled, "outside": 1, "reasons": {"call 0, output[loss]": "error 1 is 3 times what torch loses"}}
    about = {"family": "bert", "mode": "training", "dtype": "float32", "shapes": "static"}
    return {
        "about": ABOUT,
        "rows": [
            {**about, "triton": compiled, "cpp": wrong, "ms": {"eager": 5.0}, "speedup": {"triton": 1.25, "cpp": 0.5}},
            {**about, "family": "vit", "triton": wrong, "ms": {"eager": 5.0}, "speedup": {"triton": 0.75}},
            {**about, "family": "t5", "failed": "status 1: a|b"},
        ],
    }


def collections() -> dict[str, Any]:
    counts = {"passed": 5, "failed": 1, "newer": 0, "skipped": 2, "xfailed": 0}
    reason = {"outcome": "failed", "reason": "TypeError: a|b", "count": 1, "example": "tests/test_a.py::test_b[5]"}
    file = {"file": "test_a.py", "counts": counts, "slowest_compile_s": 0.5}
    result = {"command": "python -m benchmarks.collections a", "cases": 5, "triton": "3.7.1", "files": [file]}
    return {"collections": {"a": {**result, "reasons": [reason]}}}
