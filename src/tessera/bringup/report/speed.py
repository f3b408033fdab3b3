"""The sections on speed and on operators: the whole call, then where its time goes, then what ran on whose kernels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tessera.bringup.figures import ms
from tessera.bringup.report.markup import Cell, about, details, legend, table
from tessera.bringup.result import BringupResult, Operators, OperatorTime, Speed

# Operators that take less than this share of the time on both sides are folded away.
_LEAST_SHARE = 0.005


def speed_section(result: BringupResult) -> Iterator[str]:
    """The section's HTML; nothing if the run did not get as far as timing."""
    times = result.operators.times if result.operators is not None else ()
    if result.speed is None and not times:
        return
    yield "<section><h2>Speed</h2>"
    if result.speed is not None:
        yield from _whole_call(result.speed)
    if times:
        yield from _by_operator(times)
    yield "</section>"


def _whole_call(speed: Speed) -> Iterator[str]:
    yield about(
        f"One forward call, the median of {speed.rounds} rounds in which both sides take turns. The ratio is PyTorch’s "
        "time over Tessera’s, round by round: above 1, Tessera is faster. The very first call on Tessera’s kernels "
        f"took {speed.first_ms / 1e3:.1f} s; it compiles them, or loads them from the cache."
    )
    yield legend([("bar ours", "Tessera"), ("bar torch", "PyTorch")])
    longest = max(speed.ours_ms, speed.vendor_ms)
    times = (speed.ours_ms, speed.vendor_ms)
    row = [Cell("one forward call"), _bars(*times, longest), Cell("1", "n"), *_figures(*times, speed.ratio)]
    yield table(_headings(""), [("", row)], "stacked times")


def _by_operator(times: Sequence[OperatorTime]) -> Iterator[str]:
    yield "<h3>By operator</h3>"
    yield about(
        "All calls of an operator in one forward call, slowest first. A clock around every call adds some microseconds "
        "to each, on both sides alike."
    )
    longest = max(max(row.ours_ms, row.vendor_ms) for row in times)
    total = max(sum(row.ours_ms for row in times), sum(row.vendor_ms for row in times))
    shown = [row for row in times if max(row.ours_ms, row.vendor_ms) >= _LEAST_SHARE * total]
    rest = times[len(shown) :]
    yield _time_table(shown, longest)
    if rest:
        ours, vendor = sum(row.ours_ms for row in rest), sum(row.vendor_ms for row in rest)
        count = f"{len(rest)} more operator{'s' if len(rest) > 1 else ''}"
        words = f"{count}: {ms(ours)} on Tessera, {ms(vendor)} on PyTorch in all"
        yield details(words, _time_table(rest, longest))


def _time_table(times: Sequence[OperatorTime], longest: float) -> str:
    return table(_headings("operator"), [("", _time_row(row, longest)) for row in times], "stacked times")


def _headings(name: str) -> list[Cell]:
    return [Cell(name), Cell(""), *(Cell(text, "n") for text in ("calls", "Tessera", "PyTorch", "ratio"))]


def _time_row(row: OperatorTime, longest: float) -> list[Cell]:
    return [
        Cell(row.name, "code"),
        _bars(row.ours_ms, row.vendor_ms, longest),
        Cell(str(row.calls), "n"),
        *_figures(row.ours_ms, row.vendor_ms, row.vendor_ms / row.ours_ms if row.ours_ms else None),
    ]


def _bars(ours_ms: float, vendor_ms: float, longest: float) -> Cell:
    widths = {"ours": ours_ms, "torch": vendor_ms}
    marks = (f'<i class="bar {side}" style="{_width(value, longest)}"></i>' for side, value in widths.items())
    return Cell("", "bars", "".join(marks))


def _width(value: float, longest: float) -> str:
    return f"width:{100 * value / longest if longest else 0:.2f}%"


def _figures(ours_ms: float, vendor_ms: float, ratio: float | None) -> list[Cell]:
    """Both times and their ratio. A loss is marked; within 5 % two timings on one machine are not told apart."""
    lost = ratio is not None and ratio <= 0.95
    shown = Cell("–" if ratio is None else f"{ratio:.2f}", "n loss" if lost else "n")
    return [Cell(ms(ours_ms), "n"), Cell(ms(vendor_ms), "n"), shown]


def operators_section(result: BringupResult) -> Iterator[str]:
    """The section's HTML: which calls ran on PyTorch's kernels, and why."""
    operators = result.operators
    if operators is None:
        return
    yield "<section><h2>Operators on PyTorch’s kernels</h2>"
    yield _vendor(operators)
    yield "</section>"


def _vendor(operators: Operators) -> str:
    if not operators.vendor:
        return f"<p>None: all {operators.calls} compute calls ran on Tessera’s kernels.</p>"
    rows = [("", [Cell(row.name, "code"), Cell(str(row.calls), "n"), Cell(row.reason)]) for row in operators.vendor]
    return table([Cell("operator"), Cell("calls", "n"), Cell("reason")], rows)
