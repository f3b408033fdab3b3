"""The page `choice-cpu`, from its data alone."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.markdown import overhead_table
from tessera.bench.markdown import geomean, mark, number, page, ratio, table, threads_text
from tessera.bench.plot import ratio_plot

Results = Mapping[str, Any]
Row = Mapping[str, Any]

_LEAD = (
    "Ten model families and the models of the page `models-cpu`, run eagerly: with nothing of ours switched on, with "
    "the measured choice between our kernels and PyTorch's, and with every call that we have a kernel for on ours. "
    "Models of the families are small, so that calls are short and what a choice costs is seen."
)


def choice_page(results: Results) -> str:
    rows = results["models"]
    return page(
        "The measured choice on the CPU, against PyTorch eager",
        f"{_LEAD} The policy is `{results['policy']}`.",
        results["about"],
        [
            ("In short", _summary(rows)),
            ("All, the slowest first", _table(sorted(rows, key=lambda row: row["ratio"]))),
            ("Plot", "![Speed of each model relative to PyTorch, one bar a number of threads](choice-cpu.svg)"),
            ("What the choice adds to an operator on a tiny tensor", overhead_table(results["overhead"])),
            ("Switching on in a fresh process", _switching(results["switching"])),
        ],
    )


def choice_plot(results: Results) -> str:
    keyed = itertools.groupby(results["models"], key=lambda row: row["model"])
    return ratio_plot("Speed of each model relative to PyTorch", {"": [(name, list(rows)) for name, rows in keyed]})


def _summary(rows: Sequence[Row]) -> str:
    lines = []
    for count in dict.fromkeys(row["threads"] for row in rows):
        part = [row for row in rows if row["threads"] == count]
        means = [ratio(geomean(row[key] for row in part)) for key in ("ratio", "always_ratio")]
        worst = [ratio(min(row[key] for row in part)) for key in ("ratio", "always_ratio")]
        met = sum(row["met"] for row in part)
        lines.append([threads_text(count), means[0], worst[0], f"{met} of {len(part)}", means[1], worst[1]])
    return table(["", "choice, mean:", "worst:", "targets met:", "all on ours, mean:", "worst:"], lines)


def _table(rows: Sequence[Row]) -> str:
    return table(
        ["model", "threads:", "PyTorch ms:", "choice ms:", "choice:", "all on ours:", "taken off:", "target", ""],
        (
            [
                row["model"], str(row["threads"]), number(row["torch_ms"]), number(row["choice_ms"]),
                ratio(row["ratio"]), ratio(row["always_ratio"]), str(row["taken_off"]), row["target"], mark(row["met"]),
            ]
            for row in rows
        ),
    )  # fmt: skip


def _switching(rows: Sequence[Row]) -> str:
    return table(
        ["what", "seconds:", "kernels compiled:", "target", ""],
        ([row["what"], number(row["seconds"]), str(row["kernels"]), row["target"], mark(row["met"])] for row in rows),
    )


def line(row: Row) -> str:
    """A row in the terminal."""
    return (
        f"{row['model']}, {threads_text(row['threads'])}: PyTorch {number(row['torch_ms'])} ms, "
        f"choice {ratio(row['ratio'])}, all on ours {ratio(row['always_ratio'])}  {mark(row['met'])} {row['target']}"
    )
