"""The lab's results as text, markdown and JSON."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable

from faultlab.judge import Outcome


def counts(outcomes: list[Outcome]) -> dict[str, int]:
    """How many cases there were and how many were right."""
    faults = [row for row in outcomes if not row.clean and not row.void]
    clean = [row for row in outcomes if row.clean]
    return {
        "faults": len(faults),
        "named": sum(row.named for row in faults),
        "kinds": sum(row.named and row.kind_right for row in faults),
        "void": sum(row.void for row in outcomes),
        "clean": len(clean),
        "accused": sum(row.verdict not in ("clean", "suspicious", "layout") for row in clean),
        "suspicious": sum(row.verdict in ("suspicious", "layout") for row in clean),
    }


def summary(outcomes: list[Outcome]) -> str:
    """Four lines for the terminal."""
    n = counts(outcomes)
    lines = [f"{n['faults']} faults, {n['void']} more without an effect on these inputs"]
    if n["faults"]:
        lines.append(f"guilty operator named: {n['named']} ({100 * n['named'] / n['faults']:.1f} %)")
        lines.append(f"and the right kind: {n['kinds']} ({100 * n['kinds'] / n['faults']:.1f} %)")
    if n["clean"]:
        lines.append(f"{n['clean']} clean runs: {n['accused']} called wrong, {n['suspicious']} suspicious")
    return "\n".join(lines)


def as_json(outcomes: list[Outcome]) -> str:
    """Everything."""
    return json.dumps({**counts(outcomes), "cases": [row.as_dict() for row in outcomes]}, indent=1) + "\n"


def as_markdown(outcomes: list[Outcome]) -> str:
    """The tables for the docs."""
    lines = ["# The fault lab", "", "Made by `python -m faultlab --faults 520 --clean 300 --out docs/results`.", ""]
    lines += [summary(outcomes).replace("\n", "\n\n"), "", "## By family and type", ""]
    lines += _table(outcomes, "family, type", lambda row: f"{row.family}, {row.dtype}")
    lines += ["", "## By fault", ""]
    lines += _table(outcomes, "fault", lambda row: row.name.split(" (")[0])
    missed = [row for row in outcomes if not row.right]
    lines += ["", "## Every answer that was not right", ""]
    lines += [f"- {row.line().replace('|', '; truth:')}" for row in missed] or ["None."]
    return "\n".join(lines) + "\n"


def _table(outcomes: list[Outcome], heading: str, key: Callable[[Outcome], str]) -> list[str]:
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for row in outcomes:
        if not row.clean and not row.void:
            groups[key(row)].append(row)
    lines = [f"| {heading} | cases | operator named | kind right |", "|---|---|---|---|"]
    for name in sorted(groups):
        rows = groups[name]
        named, kinds = sum(row.named for row in rows), sum(row.named and row.kind_right for row in rows)
        lines.append(f"| {name} | {len(rows)} | {named} | {kinds} |")
    return lines
