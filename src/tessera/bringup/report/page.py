"""The page: a header with the verdict, four figures, then search, accuracy, operators, speed and machine."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterator
from string import Template

from tessera.accuracy.judge import ERROR_LIMIT, PEAK_LIMIT
from tessera.accuracy.layers import LayerResult
from tessera.bringup.report.markup import Cell, escape, items, plots, table
from tessera.bringup.report.plots import layer_plot, ms, operator_plot
from tessera.bringup.result import Answer, BringupResult


def render(result: BringupResult) -> str:
    """The report as the text of one HTML file."""
    return Template(_read("page.html")).substitute(
        title=escape(f"{result.model}: {result.verdict}"),
        style=_read("page.css"),
        model=escape(result.model),
        lead=escape(
            f"{result.kind}, {result.num_parameters / 1e6:.1f} M parameters, {result.dtype}, "
            f"{result.inputs}, on {result.chip}, {result.threads} threads"
        ),
        verdict=escape(result.verdict),
        verdict_class="good" if result.ready else "bad",
        reasons=items([*result.reasons, *result.notes], "reasons"),
        tiles="\n".join(_tiles(result)),
        sections="\n".join([*_search(result), *_accuracy(result), *_operators(result), *_speed(result), *_run(result)]),
    )


def _read(name: str) -> str:
    return (importlib.resources.files("tessera.bringup.report") / name).read_text(encoding="utf-8")


def _tiles(result: BringupResult) -> Iterator[str]:
    layers = result.accuracy.layers
    good = sum(layer.judgement.ok for layer in layers)
    worst = max((layer.judgement.ratio for layer in layers), default=0.0)
    yield _tile("accuracy", f"{good} of {len(layers)}", f"layers inside the rule, worst ratio {worst:.2f}, limit 2")
    if result.operators is not None:
        counts = f"{result.operators.ours} of {result.operators.calls} calls"
        yield _tile("operators", f"{100 * result.operators.share:.1f} %", f"on our kernels, {counts}")
    if result.speed is not None:
        yield _tile("speed", f"{result.speed.ratio:.2f} ×", f"{result.speed.words}, {ms(result.speed.ours_ms)} a call")
    if result.search is not None:
        words = "same ranking" if result.search.agrees else "another ranking"
        cosine = f"least embedding cosine {result.search.cosine:.7f}"
        yield _tile("search", words, f"in {len(result.search.answers)} queries, {cosine}")


def _tile(name: str, figure: str, words: str) -> str:
    return (
        f'<div class="tile"><span class="name">{escape(name)}</span>'
        f"<b>{escape(figure)}</b><span>{escape(words)}</span></div>"
    )


def _search(result: BringupResult) -> Iterator[str]:
    if result.search is None:
        return
    yield "<section><h2>A question answered</h2>"
    yield (
        '<p class="about">Sentences ranked by the cosine of their embedding to the query’s, once on PyTorch’s kernels '
        "and once on ours.</p>"
    )
    for answer in result.search.answers:
        agrees = "" if answer.agrees else " (the rankings differ)"
        yield f"<h3>{escape(answer.query + agrees)}</h3>"
        yield _answer_table(answer, slice(0, 3))
        yield f"<details><summary>all {len(answer.found)} sentences</summary>{_answer_table(answer, slice(3, None))}"
        yield "</details>"
    yield "</section>"


def _answer_table(answer: Answer, part: slice) -> str:
    headings = [
        Cell("rank, ours", "n"),
        Cell("PyTorch", "n"),
        Cell("sentence"),
        Cell("ours", "n"),
        Cell("PyTorch", "n"),
    ]
    rows = [
        (
            "best" if found.ours_rank == 1 else "",
            [
                Cell(str(found.ours_rank), "n"),
                Cell(str(found.torch_rank), "n"),
                Cell(found.sentence, "wide"),
                Cell(f"{found.ours_score:.4f}", "n"),
                Cell(f"{found.torch_score:.4f}", "n"),
            ],
        )
        for found in answer.found[part]
    ]
    return table(headings, rows)


def _accuracy(result: BringupResult) -> Iterator[str]:
    layers = result.accuracy.layers
    yield "<section><h2>Accuracy by layer</h2>"
    if not layers:
        yield '<p class="about">The run on our kernels did not reach any layer.</p></section>'
        return
    if result.accuracy.reference_error:
        yield '<p class="about">There is no float64 reference, so errors are relative to PyTorch’s own output.</p>'
    yield (
        '<p class="about">Each dot is the relative error of one module’s output against a float64 run of the same '
        f"weights. A layer is inside the rule if our error is at most {ERROR_LIMIT:g} times PyTorch’s own, or that of "
        f"correct rounding where PyTorch’s is smaller, and no single element is off by more than {PEAK_LIMIT:g} times "
        "PyTorch’s worst element. Layers run from left to right in the order in which they end; those without any "
        "error lie on the lower edge.</p>"
    )
    yield (
        '<ul class="legend"><li><i class="ours"></i>ours</li><li><i class="torch"></i>PyTorch</li>'
        '<li><i class="wrong"></i>ours, outside the rule</li><li><i class="dash"></i>limit</li></ul>'
    )
    yield plots(lambda width: layer_plot(layers, result.dtype, width))
    yield f"<details><summary>all {len(layers)} layers</summary>{_layer_table(layers)}</details></section>"


def _layer_table(layers: tuple[LayerResult, ...]) -> str:
    headings = [
        Cell("layer"),
        Cell("ours", "n"),
        Cell("PyTorch", "n"),
        Cell("ratio", "n"),
        Cell("worst element", "n"),
        Cell(""),
    ]
    rows = []
    for layer in layers:
        judged = layer.judgement
        cells = [
            Cell(layer.name, "code"),
            Cell(f"{judged.error:.2e}", "n"),
            Cell(f"{judged.torch_error:.2e}", "n"),
            Cell(f"{judged.ratio:.2f}", "n"),
            Cell(f"{judged.peak_ratio:.2f}", "n"),
            Cell(judged.reason or "ok"),
        ]
        rows.append(("" if judged.ok else "bad", cells))
    return table(headings, rows)


def _operators(result: BringupResult) -> Iterator[str]:
    operators = result.operators
    if operators is None:
        return
    yield "<section><h2>Operators</h2>"
    if operators.times:
        yield (
            '<p class="about">Time of all calls of an operator in one forward call, slowest first. A clock around '
            "every call adds some microseconds to each, on both sides alike.</p>"
        )
        yield '<ul class="legend"><li><i class="bar ours"></i>ours</li><li><i class="bar torch"></i>PyTorch</li></ul>'
        yield plots(lambda width: operator_plot(operators.times, width))
        yield f"<details><summary>all {len(operators.times)} operators</summary>{_time_table(result)}</details>"
    yield "<h3>On PyTorch’s kernels</h3>"
    if operators.vendor:
        rows = [
            ("", [Cell(row.name, "code"), Cell(str(row.calls), "n"), Cell(row.reason, "wide")])
            for row in operators.vendor
        ]
        yield table([Cell("operator"), Cell("calls", "n"), Cell("reason")], rows)
    else:
        yield f"<p>None: all {operators.calls} compute calls ran on our kernels.</p>"
    yield "</section>"


def _time_table(result: BringupResult) -> str:
    assert result.operators is not None, "the section is left out without operators"
    headings = [Cell("operator"), Cell("calls", "n"), Cell("ours", "n"), Cell("PyTorch", "n"), Cell("ratio", "n")]
    rows = [
        (
            "",
            [
                Cell(row.name, "code"),
                Cell(str(row.calls), "n"),
                Cell(ms(row.ours_ms), "n"),
                Cell(ms(row.vendor_ms), "n"),
                Cell(f"{row.vendor_ms / row.ours_ms:.2f}" if row.ours_ms else "–", "n"),
            ],
        )
        for row in result.operators.times
    ]
    return table(headings, rows)


def _speed(result: BringupResult) -> Iterator[str]:
    speed = result.speed
    if speed is None:
        return
    yield "<section><h2>Speed</h2>"
    yield (
        f'<p class="about">One forward call, the median of {speed.rounds} rounds in which both sides take turns. '
        "The ratio is PyTorch’s time over ours: above 1, ours is faster.</p>"
    )
    rows = [
        ("PyTorch", ms(speed.vendor_ms)),
        ("ours", ms(speed.ours_ms)),
        ("ratio", f"{speed.ratio:.2f}, {speed.words}"),
        ("our first call, with compilation", ms(speed.first_ms)),
    ]
    yield table([], [("", [Cell(name), Cell(value, "n")]) for name, value in rows])
    yield "</section>"


def _run(result: BringupResult) -> Iterator[str]:
    yield "<section><h2>This run</h2>"
    rows = [("command", result.command), ("date", result.date), ("chip", result.chip), *result.versions.items()]
    yield table([], [("", [Cell(name), Cell(value, "code")]) for name, value in rows])
    yield "</section>"
