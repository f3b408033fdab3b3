"""The page: a header with the verdict, the main figures, then accuracy, speed, operators, search and the run itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from tessera.accuracy.judge import ERROR_LIMIT
from tessera.accuracy.layers import LayerResult
from tessera.bringup.figures import model_facts, ms, threads
from tessera.bringup.report.accuracy import accuracy_section
from tessera.bringup.report.markup import Cell, escape, facts, items, table
from tessera.bringup.report.search import search_section
from tessera.bringup.report.speed import operators_section, speed_section
from tessera.bringup.result import BringupResult, Operators
from tessera.core.page import page


def render(result: BringupResult) -> str:
    """The report as the text of one HTML file."""
    return page(
        __package__,
        f"{result.model} is {result.verdict} · tessera bringup",
        model=escape(result.model),
        facts=facts(_facts(result)),
        verdict=_verdict(result),
        notes=items(result.notes, "notes"),
        tiles="\n".join(_tiles(result)),
        sections="\n".join(
            part
            for section in (accuracy_section, speed_section, operators_section, search_section, _run_section)
            for part in section(result)
        ),
    )


def _facts(result: BringupResult) -> list[str]:
    return [*model_facts(result), result.chip, threads(result.threads)]


def _verdict(result: BringupResult) -> str:
    word = result.verdict.capitalize()
    if not result.ready:
        return f'<div class="verdict bad"><b>{word}</b>{items(result.reasons, "reasons")}</div>'
    words = f"It runs from end to end{_coverage(result.operators)}, and every layer is inside the accuracy rule."
    return f'<div class="verdict good"><b>{word}</b><p>{escape(words)}</p></div>'


def _coverage(operators: Operators | None) -> str:
    if operators is None:
        return ""
    if operators.ours == operators.calls:
        return " on Tessera’s kernels"
    return f", with {operators.ours} of {operators.calls} operator calls on Tessera’s kernels"


def _tiles(result: BringupResult) -> Iterator[str]:
    layers = result.accuracy.layers
    good = sum(layer.judgement.ok for layer in layers)
    if layers:
        yield _tile("accuracy", f"{good}/{len(layers)}", f"layers inside the rule; {_worst(layers)}")
    if result.operators is not None:
        ours, calls = result.operators.ours, result.operators.calls
        words = "operator calls on Tessera’s kernels" + (", the rest on PyTorch’s" if ours < calls else "")
        yield _tile("operators", f"{ours}/{calls}", words)
    if result.check is not None:
        words = "every operator on its own inputs" if result.check.ok else result.check.reason
        yield _tile("check", result.check.verdict, words)
    if result.speed is not None:
        words = f"PyTorch’s speed: {ms(result.speed.ours_ms)} a call, PyTorch {ms(result.speed.vendor_ms)}"
        yield _tile("speed", f"{result.speed.ratio:.2f} ×", words)
    if result.search is not None:
        agreeing = sum(answer.agrees for answer in result.search.answers)
        words = f"queries ranked as by PyTorch; least cosine {result.search.cosine:.7f}"
        yield _tile("search", f"{agreeing}/{len(result.search.answers)}", words)


def _worst(layers: Sequence[LayerResult]) -> str:
    worst = max(layer.judgement.ratio for layer in layers)
    if not math.isfinite(worst):
        return "some cannot be measured at all"
    return f"worst {worst:.2f}\N{NO-BREAK SPACE}× PyTorch’s own error, limit {ERROR_LIMIT:g}"


def _tile(name: str, figure: str, words: str) -> str:
    return (
        f'<div class="tile"><span class="name">{escape(name)}</span>'
        f"<b>{escape(figure)}</b><span>{escape(words)}</span></div>"
    )


def _run_section(result: BringupResult) -> Iterator[str]:
    yield "<section><h2>This run</h2>"
    versions = ", ".join(f"{name} {version}" for name, version in result.versions.items() if name != "system")
    rows = [
        ("command", Cell(result.command, "code")),
        ("date", Cell(result.date)),
        ("chip", Cell(result.chip)),
        ("system", Cell(result.versions.get("system", ""))),
        ("versions", Cell(versions)),
    ]
    yield table([], [("", [Cell(name, "soft"), cell]) for name, cell in rows if cell.text], "run")
    yield "</section>"
