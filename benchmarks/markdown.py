"""Pages from results: pure functions of the data, so that a page can be checked against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.compilation import STAGES
from tessera.bench.markdown import geomean, mark, number, page, ratio, table, threads_text

Results = Mapping[str, Any]
Row = Mapping[str, Any]

_BESIDE = "2 threads beside a process that keeps one of two cores busy, as a share of the rate of 1 thread alone"
_WORST = 10


def kernels_page(results: Results) -> str:
    rows = results["kernels"]
    return page(
        "Kernels on the CPU, against PyTorch's",
        "Each kernel is timed as the operator library calls it, past PyTorch's dispatcher, against PyTorch's operator "
        "on the same tensors. GB/s counts each input read and each output written once; GFLOP/s counts multiplications "
        "and additions. `*_composed` is judged against the same formula written out of PyTorch's operators, `tutorial` "
        "are kernels as their authors write them for GPUs, launched through Triton.",
        results["about"],
        [
            ("In short", _kernel_summary(rows)),
            *([("Not measured", _skipped_table(results["skipped"]))] if results["skipped"] else []),
            ("The worst ten", _kernel_table(sorted(rows, key=lambda row: row["ratio"])[:_WORST], family=True)),
            ("All", "![Speed of each kernel relative to PyTorch's, one bar a number of threads](kernels-cpu.svg)"),
            *((name, _kernel_table(_of(rows, "family", name))) for name in _names(rows, "family")),
            ("What the library adds to an operator on a tiny tensor", overhead_table(results["overhead"])),
            *([(_BESIDE, _beside_table(results["beside"]))] if results.get("beside") else []),
        ],
    )


def compile_page(results: Results) -> str:
    rows = results["kernels"]
    return page(
        "Compiling and launching on the CPU",
        "Kernels of the usual tutorials, and those of the operator library that the sentence encoder MiniLM needs in "
        "float32 and bfloat16. Times of stages are what Triton itself tells its compilation listener, in processes "
        "with an empty cache; the median of the processes. What a process pays for its first kernel is left out.",
        results["about"],
        [
            ("In short", _summary_table(results["summary"])),
            ("The slowest ten to compile", _compile_table(rows[:_WORST])),
            ("What a launch costs: an empty kernel with five arguments", _launch_table(results["launch"])),
            ("A process's first launch from the cache, beyond its second", _first_table(results["first_ms"])),
            ("All, by stage", _compile_table(rows)),
        ],
    )


def models_page(results: Results) -> str:
    rows = results["models"]
    return page(
        "Whole models on the CPU, against PyTorch eager",
        "The same calls with the library switched on and off. Every operator that we have a kernel for runs on it, "
        "also where PyTorch's is faster.",
        results["about"],
        [
            ("All, the slowest first", _model_table(sorted(rows, key=lambda row: row["ratio"]))),
            ("Plot", "![Speed of each model relative to PyTorch, one bar a number of threads](models-cpu.svg)"),
        ],
    )


def _kernel_summary(rows: Sequence[Row]) -> str:
    counts = _names(rows, "threads")
    headings = ["family", *(f"geometric mean, {threads_text(count)}:" for count in counts), "targets met:"]
    parts = [(name, _of(rows, "family", name)) for name in _names(rows, "family")]
    cells = []
    for name, part in (*parts, ("**all**", rows)):
        means = [ratio(geomean(row["ratio"] for row in _of(part, "threads", count))) for count in counts]
        cells.append([name, *means, f"{sum(row['met'] for row in part)} of {len(part)}"])
    return table(headings, cells)


def _kernel_table(rows: Sequence[Row], *, family: bool = False) -> str:
    figures = ("ours µs:", "PyTorch µs:", "ratio:", "rate:")
    return table(
        ["kernel", "shape", "type", "threads:", *figures, "PyTorch runs", "target", ""],
        (
            [
                f"{row['family']}/{row['kernel']}" if family else row["kernel"],
                row["shape"], row["dtype"], str(row["threads"]), number(row["ours_us"]), number(row["torch_us"]),
                ratio(row["ratio"]), f"{number(row['rate'])} {row['unit']}", row["peer"], row["target"],
                mark(row["met"]),
            ]
            for row in rows
        ),
    )  # fmt: skip


def _skipped_table(rows: Sequence[Row]) -> str:
    keys = ("family", "kernel", "shape", "dtype", "skipped")
    return table(["family", "kernel", "shape", "type", "why"], ([row[key] for key in keys] for row in rows))


def overhead_table(rows: Sequence[Row]) -> str:
    return table(
        ["operator", "on, µs:", "off, µs:", "added µs:", "target", ""],
        (
            [row["operator"], *(number(row[key]) for key in ("on_us", "off_us", "added_us")), row.get("target", ""),
             mark(row.get("met"))]
            for row in rows
        ),
    )  # fmt: skip


def _summary_table(rows: Sequence[Row]) -> str:
    return table(
        ["what", "kernels:", "median ms:", "worst ms:", "target", ""],
        (
            [row["what"], str(row["kernels"]), number(row["median_ms"]), number(row["worst_ms"]), row["target"],
             mark(row["met"])]
            for row in rows
        ),
    )  # fmt: skip


def _compile_table(rows: Sequence[Row]) -> str:
    return table(
        ["kernel", "of", "arguments", *(f"{stage}:" for stage in STAGES), "total ms:"],
        (
            [row["kernel"], row["source"], arguments(row["signature"]), *(number(row["stages_ms"][s]) for s in STAGES),
             number(row["total_ms"])]
            for row in rows
        ),
    )  # fmt: skip


def _beside_table(rows: Sequence[Row]) -> str:
    return table(
        ["operator", "ours:", "PyTorch:", "target", ""],
        (
            [row["operator"], number(row["ours_share"]), number(row["torch_share"]), row["target"], mark(row["met"])]
            for row in rows
        ),
    )


def _launch_table(rows: Sequence[Row]) -> str:
    return table(
        ["way", "programs:", "threads:", "µs a launch:", "target", ""],
        (
            [row["way"], str(row["programs"]), str(row["threads"]), number(row["us"]), row["target"], mark(row["met"])]
            for row in rows
        ),
    )


def _first_table(first_ms: Mapping[str, float]) -> str:
    return table(["tutorial kernel", "ms:"], ([name, number(value)] for name, value in first_ms.items()))


def _model_table(rows: Sequence[Row]) -> str:
    return table(
        ["model", "", "threads:", "ours ms:", "PyTorch ms:", "ratio:", "target", ""],
        (
            [row["model"], row["what"], str(row["threads"]), number(row["ours_ms"]), number(row["torch_ms"]),
             ratio(row["ratio"]), row["target"], mark(row["met"])]
            for row in rows
        ),
    )  # fmt: skip


def arguments(signature: str) -> str:
    """`*fp32 ×3, i32` of `*fp32, *fp32, *fp32, i32, constexpr`: what is not a constant, and how often."""
    kinds = [kind for kind in signature.split(", ") if kind != "constexpr"]
    counts = {kind: kinds.count(kind) for kind in kinds}
    return "`" + ", ".join(f"{kind} ×{count}" if count > 1 else kind for kind, count in counts.items()) + "`"


def _names(rows: Sequence[Row], key: str) -> list[Any]:
    """The values of a column in the order in which they come."""
    return list(dict.fromkeys(row[key] for row in rows))


def _of(rows: Sequence[Row], key: str, value: Any) -> list[Row]:
    return [row for row in rows if row[key] == value]
