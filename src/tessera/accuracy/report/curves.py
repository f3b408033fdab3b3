"""The page for two loss curves: both of them, and their difference below what rounding explains."""

from __future__ import annotations

import importlib.resources
import math
from collections.abc import Callable, Sequence
from html import escape
from string import Template

from tessera.accuracy.losses import LossStep, LossVerdict

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 900, 260, 64, 10, 10, 26
_MOST_ROWS = 400
Row = Callable[[LossStep], float]


def render_losses(verdict: LossVerdict, title: str) -> str:
    """The whole page as text."""
    files = importlib.resources.files("tessera.accuracy.report")
    parts = {name: (files / name).read_text(encoding="utf-8") for name in ("page.html", "page.css")}
    return Template(parts["page.html"]).substitute(
        title=escape(title),
        style=parts["page.css"],
        script="",
        verdict={"noise": "clean", "undecided": "suspicious"}.get(verdict.way, "wrong"),
        reason=escape(verdict.reason),
        culprit="",
        heat="",
        plot=_curves(verdict) + _differences(verdict),
        tree="",
        table=_table(verdict.steps),
        notes="",
    )


def _curves(verdict: LossVerdict) -> str:
    lines = (("theirs", [row.reference for row in verdict.steps]), ("ours", [row.candidate for row in verdict.steps]))
    legend = 'The loss by step: <b class="ours">the candidate</b>, <b class="theirs">the reference</b>.'
    return _plot("Losses", legend, lines, verdict, lambda value: value, lambda value: f"{value:.3g}")


def _differences(verdict: LossVerdict) -> str:
    lines = (
        ("theirs", [row.limit for row in verdict.steps]),
        ("ours", [abs(row.difference) or math.nan for row in verdict.steps]),
    )
    limit = "what rounding explains" if verdict.spread else "the reference's own scatter from step to step"
    legend = f'On a log axis: <b class="ours">the size of the difference</b> and <b class="theirs">{limit}</b>.'
    return _plot("Difference", legend, lines, verdict, math.log10, lambda power: f"{10**power:.0e}")


def _plot(
    heading: str,
    legend: str,
    lines: Sequence[tuple[str, list[float]]],
    verdict: LossVerdict,
    scale: Callable[[float], float],
    label: Callable[[float], str],
) -> str:
    """Lines over steps; what is no finite number, or has no logarithm, leaves a gap."""
    placed = [(name, [_placed(value, scale) for value in values]) for name, values in lines]
    known = [value for _, values in placed for value in values if value is not None]
    if not known:
        return ""
    low, high = min(known), max(known)
    high = high if high > low else low + 1
    steps = [row.step for row in verdict.steps]

    def x(step: int) -> float:
        return round(_LEFT + (step - steps[0]) / (steps[-1] - steps[0]) * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(value: float) -> float:
        return round(_TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM), 1)

    drawn = "".join(
        f'<polyline class="{name}" points="'
        + " ".join(f"{x(step)},{y(value)}" for step, value in zip(steps, values, strict=True) if value is not None)
        + '"/>'
        for name, values in placed
    )
    grid = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(value)}" y2="{y(value)}"/>'
        f'<text x="0" y="{y(value) + 4}">{label(value)}</text>'
        for value in (low, (low + high) / 2, high)
    )
    mark = ""
    if verdict.step is not None:
        at = x(verdict.step)
        mark = (
            f'<line class="mark" x1="{at}" x2="{at}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
            f'<text x="{min(at + 4, _WIDTH - 90)}" y="{_TOP + 12}">step {verdict.step}</text>'
        )
    ends = f'<text x="{_LEFT}" y="{_HEIGHT - 6}">step {steps[0]}</text>'
    ends += f'<text x="{_WIDTH - 80}" y="{_HEIGHT - 6}">step {steps[-1]}</text>'
    return (
        f'<section><h2>{heading}</h2><p class="legend">{legend}</p><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{heading}">{grid}{drawn}{mark}{ends}</svg></section>'
    )


def _placed(value: float, scale: Callable[[float], float]) -> float | None:
    if not math.isfinite(value) or (scale is math.log10 and value <= 0):
        return None
    return scale(value)


def _table(steps: Sequence[LossStep]) -> str:
    """Every step, or evenly chosen ones of a long run."""
    stride = max(1, math.ceil(len(steps) / _MOST_ROWS))
    rows = "".join(
        f"<tr><td>{row.step}</td><td>{row.candidate:.6g}</td><td>{row.reference:.6g}</td><td>{row.difference:+.3g}</td>"
        f'<td>{row.limit:.3g}</td><td class="{_class(row)}">{_class(row)}</td></tr>'
        for row in steps[::stride]
    )
    chosen = "" if stride == 1 else f" (every {stride}th)"
    return (
        f'<section><h2>Steps{chosen}</h2><div class="scroll"><table><thead><tr><th>step</th><th>candidate</th>'
        "<th>reference</th><th>difference</th><th>limit</th><th>verdict</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div></section>"
    )


def _class(row: LossStep) -> str:
    return "rounding" if abs(row.difference) <= row.limit else "wrong"
