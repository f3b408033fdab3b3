"""The two plots of the report: error by layer, time by operator. Each is drawn for a given width."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from tessera.accuracy.judge import ERROR_LIMIT, floor
from tessera.accuracy.layers import LayerResult
from tessera.bringup.config import DTYPES
from tessera.bringup.report.svg import Drawing, LogScale, power
from tessera.bringup.result import OperatorTime

# Beyond this many operators a plot says nothing more; the table has them all.
_MOST_BARS = 12
# Room in pixels that the label of a block of layers needs.
_BLOCK_LABEL = 14.0


def layer_plot(layers: Sequence[LayerResult], dtype: str, width: float) -> Drawing:
    """Error of every layer in order of completion, on a logarithmic axis: ours, torch's, and the limit."""
    least = floor(DTYPES[dtype])
    limits = [ERROR_LIMIT * max(layer.judgement.torch_error, least) for layer in layers]
    errors = [layer.judgement.error for layer in layers]
    good = sum(layer.judgement.ok for layer in layers)
    height, left, right, top, bottom = 260.0, 40.0, 8.0, 10.0, 34.0
    drawing = Drawing(
        width=width,
        height=height,
        title="Error by layer",
        description=f"{good} of {len(layers)} layers are inside the rule. "
        f"Errors relative to float64 run up to {max((e for e in errors if e < math.inf), default=0):.1e}.",
    )
    torch_errors = [layer.judgement.torch_error for layer in layers]
    # Exact layers have no logarithm; they are drawn on the lower border, a decade below half an epsilon at most.
    scale = LogScale.around([*limits, *errors, *torch_errors, least / 2], height - bottom, top)
    for exponent in scale.ticks:
        y = scale(10.0**exponent)
        drawing.line(left, y, width - right, y, "grid")
        drawing.text(left - 6, y + 4, power(exponent), "tick", "end")
    step = (width - left - right) / max(len(layers), 1)
    for number, (block, start, end) in enumerate(_blocks(layers)):
        if number % 2 == 0:
            drawing.area(left + start * step, top, (end - start) * step, height - top - bottom, "band")
        if (end - start) * step >= _BLOCK_LABEL:
            drawing.text(left + (start + end) / 2 * step, height - bottom + 16, block, "tick", "middle")
    xs = [left + (index + 0.5) * step for index in range(len(layers))]
    _limit_line(drawing, xs, limits, scale, step)
    radius = min(3.2, max(1.6, step * 0.45))
    for x, layer in zip(xs, layers, strict=True):
        judged = layer.judgement
        title = f"{layer.name}: ours {judged.error:.2e}, PyTorch {judged.torch_error:.2e}, ratio {judged.ratio:.2f}"
        # Larger, and below: where both errors are alike it stays visible as a ring.
        drawing.dot(x, scale(judged.torch_error), 1.5 * radius, "torch", title)
        drawing.dot(x, scale(judged.error), radius, "ours" if judged.ok else "wrong", title)
    return drawing


def _blocks(layers: Sequence[LayerResult]) -> list[tuple[str, int, int]]:
    """Runs of layers that belong to one numbered block of the model, such as `layer.3`: label, start, end.

    A label names its list (`layer 0`) where a list begins, and is the bare number after that.
    """
    blocks: list[tuple[str, int, int]] = []
    before: tuple[str, str] | None = None
    for index, layer in enumerate(layers):
        match = re.search(r"([A-Za-z_]+)\.(\d+)(?=\.|$|\[|#)", layer.name)
        here = (match[1], match[2]) if match else None
        if here is not None and here == before and blocks[-1][2] == index:
            blocks[-1] = (*blocks[-1][:2], index + 1)
        elif here is not None:
            same_list = before is not None and here[0] == before[0]
            blocks.append((here[1] if same_list else " ".join(here), index, index + 1))
        before = here or before
    return blocks


def _limit_line(drawing: Drawing, xs: Sequence[float], limits: Sequence[float], scale: LogScale, step: float) -> None:
    """The limit as steps, one a layer."""
    corners = [(x + side * step / 2, scale(limit)) for x, limit in zip(xs, limits, strict=True) for side in (-1, 1)]
    if corners:
        drawing.path(corners, "limit")


def operator_plot(times: Sequence[OperatorTime], width: float) -> Drawing:
    """Two bars for each of the slowest operators: milliseconds in one forward call on our and on torch's kernels."""
    rows = times[:_MOST_BARS]
    longest = max((max(row.vendor_ms, row.ours_ms) for row in rows), default=0.0) or 1.0
    pitch, bar, value_room = 52.0, 9.0, 58.0
    drawing = Drawing(
        width=width,
        height=pitch * len(rows) + 4,
        title="Time by operator",
        description="; ".join(f"{row.name}: ours {ms(row.ours_ms)}, PyTorch {ms(row.vendor_ms)}" for row in rows[:5]),
    )
    room = width - value_room
    for index, row in enumerate(rows):
        y = index * pitch
        drawing.text(0, y + 13, _shortened(row.name, int(width / 8)), "name")
        drawing.text(width, y + 13, f"{row.calls} ×", "tick", "end")
        for place, (value, style, who) in enumerate(
            ((row.ours_ms, "ours", "ours"), (row.vendor_ms, "torch", "PyTorch"))
        ):
            top = y + 20 + place * (bar + 3)
            length = room * value / longest
            drawing.bar(0, top, length, bar, style, f"{row.name}, {who}: {ms(value)}")
            drawing.text(max(length, 1) + 6, top + bar, ms(value), "value")
    return drawing


def ms(value: float) -> str:
    """Milliseconds with three digits, microseconds below one hundredth."""
    if value < 0.01:
        return f"{1e3 * value:.1f} µs"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} ms"


def _shortened(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
