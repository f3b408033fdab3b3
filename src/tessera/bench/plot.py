"""The plot of a page: bars of ratios on a log scale, as SVG that a page shows as a picture, in light and in dark."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tessera.bench.markdown import threads_text

# Ratios beyond are drawn to the border and say their value.
_LARGEST = 16.0
_WIDTH, _LABELS, _VALUES = 900.0, 330.0, 120.0
_LEFT, _RIGHT = _LABELS, _WIDTH - _VALUES
_BAR, _GAP, _HEAD, _TOP = 8.0, 6.0, 30.0, 58.0

_STYLE = """
svg { --paper: #fff; --ink: #16191d; --soft: #5b6470; --line: #dfe3e8; --more: #0b7285; --less: #c2410c; }
@media (prefers-color-scheme: dark) {
  svg { --paper: #111418; --ink: #e8ebee; --soft: #98a2ae; --line: #2b3138; --more: #3cc1d6; --less: #f2915c; }
}
text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
.head { font-weight: 600; font-size: 13px; } .soft { fill: var(--soft); }
.paper { fill: var(--paper); } .more { fill: var(--more); } .less { fill: var(--less); } .later { opacity: 0.55; }
line { stroke: var(--line); } line.one { stroke: var(--soft); } line.target { stroke: var(--ink); stroke-width: 2; }
"""

Row = Mapping[str, Any]


def ratio_plot(title: str, groups: Mapping[str, Sequence[tuple[str, Sequence[Row]]]]) -> str:
    """A group of labelled entries each; an entry is rows that differ in `threads`, each with `ratio` and `target`."""
    parts: list[str] = []
    y = _TOP
    for name, entries in groups.items():
        if name:
            parts.append(_text(0, y + 18, name, "head"))
            y += _HEAD
        for label, rows in entries:
            parts += _entry(y, label, rows)
            y += _height(rows)
    threads = list(dict.fromkeys(row["threads"] for entries in groups.values() for _, rows in entries for row in rows))
    body = "\n".join((*_axis(y), _legend(threads), *parts))
    size = f'width="{_WIDTH:.0f}" height="{y + 12:.0f}" viewBox="-12 0 {_WIDTH + 24:.0f} {y + 12:.0f}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style>\n"
        f'<rect class="paper" x="-12" y="0" width="{_WIDTH + 24:.0f}" height="{y + 12:.0f}"/>\n{body}\n</svg>\n'
    )


def _height(rows: Sequence[Row]) -> float:
    return max(2, len(rows)) * _BAR + _GAP


def _x(value: float) -> float:
    """The scale: powers of two at even steps, 1 in the middle."""
    share = math.log2(min(max(value, 1 / _LARGEST), _LARGEST)) / math.log2(_LARGEST)
    return (_LEFT + _RIGHT) / 2 + share * (_RIGHT - _LEFT) / 2


def _axis(bottom: float) -> list[str]:
    parts = []
    for exponent in range(-round(math.log2(_LARGEST)), round(math.log2(_LARGEST)) + 1):
        x = _x(2.0**exponent)
        style = ' class="one"' if exponent == 0 else ""
        parts.append(f'<line{style} x1="{x:.1f}" y1="{_TOP - 4:.0f}" x2="{x:.1f}" y2="{bottom:.0f}"/>')
        label = f"{2**exponent}×" if exponent >= 0 else f"1/{2**-exponent}×"
        parts.append(_text(x, _TOP - 10, label, "soft", "middle"))
    return parts


def _legend(threads: Sequence[int]) -> str:
    order = ", then ".join(threads_text(count) for count in threads)
    text = f"PyTorch's time divided by ours: right of 1×, ours is faster. Bars: {order}. Tick: target."
    return _text(0, 18, text, "soft")


def _entry(y: float, label: str, rows: Sequence[Row]) -> list[str]:
    parts = [_text(_LABELS - 12, y + _BAR + 4, label, "", "end")]
    for index, row in enumerate(rows):
        top = y + index * _BAR
        start, end = sorted((_x(1.0), _x(row["ratio"])))
        style = ("more" if row["ratio"] >= 1 else "less") + (" later" if index else "")
        title = html.escape(f"{label}, {threads_text(row['threads'])}: {row['ratio']:.2f}×")
        parts.append(
            f'<rect class="{style}" x="{start:.1f}" y="{top:.1f}" width="{max(end - start, 1):.1f}" '
            f'height="{_BAR - 1:.1f}"><title>{title}</title></rect>'
        )
    goal = _goal(rows[0]["target"])
    if goal is not None:
        bottom = y + len(rows) * _BAR
        parts.append(f'<line class="target" x1="{_x(goal):.1f}" y1="{y:.1f}" x2="{_x(goal):.1f}" y2="{bottom:.1f}"/>')
    values = " · ".join(f"{row['ratio']:.2f}" for row in rows)
    parts.append(_text(_RIGHT + 12, y + _BAR + 4, values, "soft"))
    return parts


def _goal(target: str) -> float | None:
    """The ratio in `≥ 0.95×`; None for a target that is no ratio."""
    return float(target[2:-1]) if target.endswith("×") else None


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    return f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'
