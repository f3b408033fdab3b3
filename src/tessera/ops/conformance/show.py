"""A run as a table for people: on the terminal, and as the page in the documentation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tessera.ops.conformance.result import CaseResult, Totals, totals, vendor_reasons
from tessera.ops.table import VARIANTS

MOST_REASONS = 25
MOST_FAILURES = 40


def show(results: list[CaseResult], console: Console) -> None:
    """Totals, then the failures, then what ran on the vendor's kernels and why."""
    console.print(headline(totals(results)), highlight=False)
    failed = [(r.case, text) for r in results for text in r.failures]
    for case, text in failed[:MOST_FAILURES]:
        console.print(f"  {case} · sample {text}", markup=False, highlight=False)
    if len(failed) > MOST_FAILURES:
        console.print(f"  and {len(failed) - MOST_FAILURES} more: --json FILE lists them all", highlight=False)
    reasons = vendor_reasons(results)
    if reasons:
        table = Table("samples", "vendor's kernel, and why", title="On the vendor's kernels", title_justify="left")
        for text, count in reasons[:MOST_REASONS]:
            table.add_row(f"{count:,}", text)
        console.print(table)


def headline(found: Totals) -> str:
    """The run in one line."""
    return (
        f"{found.entries} entries, {found.reached} reach our operators · {found.samples:,} samples: "
        f"{found.passed:,} passed, {found.failed:,} failed · "
        f"{found.ours:,} of {found.calls:,} samples ({found.share:.1%}) on our kernels alone"
    )


def as_data(results: list[CaseResult]) -> dict[str, Any]:
    """Everything, for `--json`."""
    found = totals(results)
    return {
        "torch": torch.__version__,
        "overloads": len(VARIANTS),
        "totals": {**vars(found), "share": found.share},
        "vendor": dict(vendor_reasons(results)),
        "entries": [row for _, row in sorted(_by_entry(results).items())],
        "failures": [f"{r.case}: {text}" for r in results for text in r.failures],
    }


def _by_entry(results: Iterable[CaseResult]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[CaseResult]] = defaultdict(list)
    for result in results:
        groups[result.case.entry].append(result)
    return {name: _row(name, group) for name, group in groups.items()}


def _row(name: str, group: list[CaseResult]) -> dict[str, Any]:
    found = totals(group)
    types = [r.case.dtype for r in group if r.samples]
    vendor = [text for text, _ in vendor_reasons(group)]
    counts = {"samples": found.samples, "passed": found.passed, "failed": found.failed}
    return {"entry": name, "types": types, **counts, "calls": found.calls, "ours": found.ours, "vendor": vendor}


def to_markdown(results: list[CaseResult], command: str) -> str:
    """The page: totals, reasons, and a row for each entry that reaches our operators."""
    lines = [
        "# The operators against PyTorch's operator database", "",
        f"`{command}` with torch {torch.__version__}, on the CPU. What the columns mean is in "
        "[operators.md](../operators.md).", "",
        f"**{headline(totals(results))}**", "",
        f"The table has {len(VARIANTS):,} overloads of PyTorch's operators.", "",
        "## On the vendor's kernels, and why", "", "| samples | operator and reason |", "|---:|---|",
        *(f"| {count:,} | {text} |" for text, count in vendor_reasons(results)), "",
        "## Entries", "", "| entry | types | samples | passed | failed | on our kernels |",
        "|---|---:|---:|---:|---:|---:|",
    ]  # fmt: skip
    for _, row in sorted(_by_entry(results).items()):
        if row["samples"]:
            share = f"{row['ours'] / row['calls']:.0%}" if row["calls"] else "errors only"
            lines.append(
                f"| {row['entry']} | {len(row['types'])} | {row['samples']:,} | {row['passed']:,} | {row['failed']:,} "
                f"| {share} |"
            )
    return "\n".join(lines) + "\n"
