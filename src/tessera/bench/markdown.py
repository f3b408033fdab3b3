"""What all pages of results share: how they open, tables, and how figures are written."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tessera.bench.turns import MOST_DIFFERENCE
from tessera.core.timing import MOST_BUSY_PERCENT

Row = Mapping[str, Any]


def page(title: str, lead: str, about: Row, sections: Sequence[tuple[str, str]]) -> str:
    parts = [f"# {title}", lead, _about(about)]
    for name, text in sections:
        parts += [f"## {name}", text]
    return "\n\n".join(parts) + "\n"


def _about(about: Row) -> str:
    machine, versions = about["machine"], about["versions"]
    lines = [
        "Written by:",
        f"```console\n$ {about['command']}\n```",
        f"{about['date']} · {machine['model']} ({machine['chip']}), {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']} · "
        + ", ".join(f"{name} {version}" for name, version in versions.items()),
        f"Rivals take turns in one process, {_rounds(about)}, {about['seconds']:g} s for each rival in all; "
        "the order turns round every second round, and a turn begins with calls that are not timed. Times are medians "
        "of rounds, a ratio is the median of the rounds' ratios: PyTorch's time divided by ours, so above 1 we are "
        "faster. ✓ meets the target, ✗ does not.",
    ]
    if machine["busy_percent"] > MOST_BUSY_PERCENT:
        lines.append(f"**Other programs took {machine['busy_percent']:.0f} % of the machine: not to be trusted.**")
    return "\n\n".join(lines)


def _rounds(about: Row) -> str:
    rounds, most = about["rounds"], about.get("most_rounds", 0)
    if most <= rounds:
        return f"{rounds} rounds"
    return f"{rounds} rounds, up to {most} where their middle half differs by more than {MOST_DIFFERENCE:.0%}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; headings that end in `:` are of columns of numbers."""
    names = [heading.removesuffix(":") for heading in headings]
    rules = ["---:" if heading.endswith(":") else "---" for heading in headings]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (names, rules, *rows))


def geomean(values: Iterable[float]) -> float:
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def number(value: float) -> str:
    """Three digits, and all of the whole part."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def ratio(value: float) -> str:
    return f"{value:.2f}×"


def mark(met: bool | None) -> str:
    return "" if met is None else "✓" if met else "✗"


def threads_text(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def significant(value: float) -> float:
    """Four digits: what is written is what pages show, and noise is more than the rest."""
    return float(f"{value:.4g}")
