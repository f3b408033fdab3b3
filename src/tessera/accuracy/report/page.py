"""The page: one template, filled with sections that are each made here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from tessera.accuracy.capture.source import text_of
from tessera.accuracy.report.heat import heat_map
from tessera.accuracy.report.tree import module_tree
from tessera.accuracy.result import CheckResult, Culprit, Layer
from tessera.core.page import page

_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 900, 280, 56, 10, 24


def render(result: CheckResult, title: str) -> str:
    """The whole page as text."""
    return page(
        __package__,
        f"{title} · tessera check",
        name=escape(title),
        verdict=result.verdict,
        reason=escape(result.reason),
        culprit="" if result.culprit is None else _culprit(result.culprit),
        heat="" if result.picture is None else heat_map(result.picture),
        plot=_plot([layer for layer in result.layers if layer.error is not None]),
        tree=module_tree(result.layers, result.culprit),
        table=_table(result.layers) if result.layers else "",
        notes="".join(f"<p>{escape(note)}</p>" for note in result.notes),
    )


def _culprit(culprit: Culprit) -> str:
    line = f"{culprit.source}  {text_of(culprit.source)}".strip()
    rows = (
        ("operator", culprit.operator),
        ("module", culprit.module),
        ("kind", culprit.kind),
        ("where", culprit.where),
        ("phase", f"{culprit.phase}, step {culprit.step + 1}" if culprit.step else culprit.phase),
        ("ranks", culprit.on_ranks.removeprefix(" on ")),
        ("line", line),
        ("script", culprit.script),
    )
    items = "".join(f"<dt>{name}</dt><dd><code>{escape(value)}</code></dd>" for name, value in rows if value)
    return f'<section><h2>The culprit</h2><dl class="card">{items}</dl></section>'


def _plot(layers: Sequence[Layer]) -> str:
    """Errors by layer on a log axis, the candidate's and PyTorch's own."""
    values = [value for layer in layers for value in (layer.error, layer.reference_error) if value]
    if len(layers) < 2 or not values:
        return ""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def y(value: float | None) -> float:
        power = low if not value else math.log10(value)
        return round(_TOP + (high - power) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    xs = [round(_LEFT + index * (_WIDTH - _LEFT - 10) / (len(layers) - 1), 1) for index in range(len(layers))]

    def points(column: list[float | None]) -> str:
        return " ".join(f"{x},{y(value)}" for x, value in zip(xs, column, strict=True))

    step = max(1, (high - low) // 6)
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(10.0**power)}" y2="{y(10.0**power)}"/>'
        f'<text x="0" y="{y(10.0**power) + 4}">1e{power}</text>'
        for power in range(low, high + 1, step)
    )
    lines = "".join(
        f'<polyline class="{name}" points="{points(column)}"/>'
        for name, column in (
            ("theirs", [layer.reference_error for layer in layers]),
            ("ours", [layer.error for layer in layers]),
        )
    )
    dots = "".join(
        f'<circle class="{layer.verdict}" cx="{x}" cy="{y(layer.error)}" r="3"><title>{escape(layer.name)}: '
        f"{layer.error:.2g}</title></circle>"
        for x, layer in zip(xs, layers, strict=True)
    )
    return (
        '<section><h2>Error by layer</h2><p class="legend">Relative to float64, free-running, in order of completion: '
        '<b class="ours">the candidate</b>, <b class="theirs">PyTorch itself</b>.</p>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Error by layer">{grid}{lines}{dots}</svg>'
        "</section>"
    )


def _table(layers: Sequence[Layer]) -> str:
    kinds = sorted({layer.verdict for layer in layers})
    options = "".join(f"<option>{kind}</option>" for kind in kinds)
    rows = "".join(
        f'<tr data-kind="{layer.verdict}"><td>{escape(layer.name)}</td><td>{escape(layer.kind)}</td>'
        f"<td>{_number(layer.error)}</td><td>{_number(layer.reference_error)}</td><td>{_number(layer.ratio)}</td>"
        f'<td class="{layer.verdict}">{layer.verdict}</td></tr>'
        for layer in layers
    )
    return (
        '<section><h2>Layers</h2><div class="filters"><input id="filter-text" type="search" placeholder="name" '
        'aria-label="Filter by name"><select id="filter-class" aria-label="Filter by class"><option value="">all '
        f'classes</option>{options}</select><span id="filter-count"></span></div><div class="scroll">'
        '<table id="layers"><thead><tr><th>layer</th><th>class</th><th>error</th><th>PyTorch</th><th>ratio</th>'
        "<th>operators in it</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
