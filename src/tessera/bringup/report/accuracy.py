"""The section on accuracy: the plot over all layers, the layers nearest to the limit or beyond it, and the table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tessera.accuracy.judge import ERROR_LIMIT, PEAK_LIMIT
from tessera.accuracy.layers import LayerCheck, LayerResult
from tessera.bringup.report.layer_plot import layer_plot
from tessera.bringup.report.markup import Cell, about, details, escape, legend, table
from tessera.bringup.result import BringupResult

# Layers that are named without a click: the first faults, or those nearest to the limit.
_NUM_NAMED = 5
# Beyond this many layers the dots of the plot would run into one another on a phone, and are drawn smaller there.
_MANY = 50

_HOW_TO_READ = (
    "Each dot is the relative error of one module’s output against a float64 run of the same weights. A layer is "
    f"inside the rule if its error is at most {ERROR_LIMIT:g} times what PyTorch itself loses in the same type, or "
    "what correct rounding loses where PyTorch loses less, and no element is off by more than "
    f"{PEAK_LIMIT:g} times PyTorch’s worst (the peak). Layers run from left to right in the order in which they end; "
    "those without any error lie on the lower edge."
)


def accuracy_section(result: BringupResult) -> Iterator[str]:
    """The section's HTML."""
    check = result.accuracy
    yield "<section><h2>Accuracy by layer</h2>"
    if not check.layers:
        yield about("The run on Tessera’s kernels did not reach any layer.") + "</section>"
        return
    yield about(_HOW_TO_READ)
    if check.reference_error:
        yield about(
            "There is no float64 reference here: errors are relative to PyTorch’s own output, and any difference from "
            "it is outside the rule."
        )
    yield from _figure(check, result.dtype)
    yield from _named(check.layers)
    yield details(f"All {len(check.layers)} layers", _layer_table(check.layers))
    yield "</section>"


def _figure(check: LayerCheck, dtype: str) -> Iterator[str]:
    entries = [("dot ours", "Tessera"), ("dot torch", "PyTorch"), ("zone", "beyond the limit")]
    if check.first_fault is not None:
        entries.insert(1, ("dot wrong", "Tessera, outside the rule"))
    yield f"<figure>{legend(entries)}"
    yield layer_plot(check.layers, dtype).render("plot many" if len(check.layers) > _MANY else "plot")
    yield "<output hidden>Point at the plot to read a layer.</output></figure>"


def _named(layers: Sequence[LayerResult]) -> Iterator[str]:
    faults = [layer for layer in layers if not layer.judgement.ok]
    if faults:
        yield f"<h3>Outside the rule{': the first ' + str(_NUM_NAMED) if len(faults) > _NUM_NAMED else ''}</h3>"
        yield about("Errors are passed on to later layers, so the first one is the place to look at.")
        yield _layer_table(faults[:_NUM_NAMED])
        return
    yield "<h3>Nearest to the limit</h3>"
    yield _layer_table(sorted(layers, key=_nearness, reverse=True)[:_NUM_NAMED])


def _nearness(layer: LayerResult) -> float:
    return max(layer.judgement.ratio / ERROR_LIMIT, layer.judgement.peak_ratio / PEAK_LIMIT)


def _layer_table(layers: Sequence[LayerResult]) -> str:
    headings = [
        Cell("layer"),
        Cell("Tessera", "n"),
        Cell("PyTorch", "n"),
        Cell(f"ratio (≤ {ERROR_LIMIT:g})", "n"),
        Cell(f"peak (≤ {PEAK_LIMIT:g})", "n"),
    ]
    return table(headings, [_layer_row(layer) for layer in layers], "stacked")


def _layer_row(layer: LayerResult) -> tuple[str, list[Cell]]:
    judged = layer.judgement
    reason = "" if judged.ok else f"<small>{escape(judged.reason)}</small>"
    cells = [
        Cell(layer.name, "code", reason),
        Cell(f"{judged.error:.2e}", "n"),
        Cell(f"{judged.torch_error:.2e}", "n"),
        Cell(f"{judged.ratio:.2f}", "n"),
        Cell(f"{judged.peak_ratio:.2f}", "n"),
    ]
    return "" if judged.ok else "bad", cells
