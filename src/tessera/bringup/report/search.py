"""The section on the question answered: for each query the sentences by rank, on both kernels."""

from __future__ import annotations

from collections.abc import Iterator

from tessera.bringup.report.markup import Cell, about, details, escape, table
from tessera.bringup.result import BringupResult, Found

_NUM_SHOWN = 3


def search_section(result: BringupResult) -> Iterator[str]:
    """The section's HTML; nothing if the model is no sentence encoder."""
    if result.search is None:
        return
    yield "<section><h2>A question answered</h2>"
    yield about(
        "Sentences by the cosine of their embedding to the query’s, once computed on Tessera’s kernels and once on "
        "PyTorch’s. Where the ranks differ, PyTorch’s is in brackets."
    )
    for answer in result.search.answers:
        differs = "" if answer.agrees else "<small>the rankings differ</small>"
        yield f"<h3>{escape(answer.query)} {differs}</h3>"
        yield _answer_table(answer.found[:_NUM_SHOWN])
        rest = answer.found[_NUM_SHOWN:]
        if rest:
            yield details(f"{len(rest)} more sentences", _answer_table(rest))
    yield "</section>"


def _answer_table(found: tuple[Found, ...]) -> str:
    headings = [Cell("rank", "n"), Cell("sentence"), Cell("Tessera", "n"), Cell("PyTorch", "n")]
    return table(headings, [_found_row(row) for row in found], "ranks")


def _found_row(found: Found) -> tuple[str, list[Cell]]:
    rank = str(found.ours_rank) + (f" ({found.torch_rank})" if found.torch_rank != found.ours_rank else "")
    cells = [
        Cell(rank, "n"),
        Cell(found.sentence),
        Cell(f"{found.ours_score:.4f}", "n"),
        Cell(f"{found.torch_score:.4f}", "n"),
    ]
    return "best" if found.ours_rank == 1 else "", cells
