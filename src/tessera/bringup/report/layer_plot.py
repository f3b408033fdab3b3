"""The plot of the report: the error of every layer on a logarithmic axis, ours, PyTorch's, and the limit."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence

from tessera.accuracy.judge import ERROR_LIMIT, floor
from tessera.accuracy.layers import LayerResult
from tessera.bringup.config import DTYPES
from tessera.bringup.report.svg import Drawing, LogScale, power

_TOP, _HEIGHT, _BELOW = 26.0, 236.0, 26.0
# Pixels that the plot is wide on a phone and on a desktop, for which labels are chosen; and of one letter of them.
_NARROW, _WIDE, _LETTER = 270.0, 760.0, 7.0
# Of numbered blocks, how many a label stands for; each is a multiple of the one before, so that narrow is part of wide.
_STEPS = [2**power for power in range(32)]

Block = tuple[str, int, int]


def layer_plot(layers: Sequence[LayerResult], dtype: str) -> Drawing:
    """All layers in order of completion. Layers without any error lie on the lower edge, infinite ones on the upper."""
    least = floor(DTYPES[dtype])
    limits = [ERROR_LIMIT * max(layer.judgement.torch_error, least) for layer in layers]
    errors = [layer.judgement.error for layer in layers]
    torch_errors = [layer.judgement.torch_error for layer in layers]
    bottom = _TOP + _HEIGHT
    scale = LogScale.around([*limits, *errors, *torch_errors, least / 2], bottom, _TOP)
    drawing = _drawing(layers, errors)
    _blocks_and_limit(drawing, layers, [scale(limit) - _TOP for limit in limits])
    _axis(drawing, scale)
    # Small enough to stay apart on a desktop; the style sheet makes them smaller on a phone.
    radius = min(3.4, max(1.3, 0.42 * _WIDE / len(layers)))
    xs = [100 * (index + 0.5) / len(layers) for index in range(len(layers))]
    for x, error in zip(xs, torch_errors, strict=True):
        # Larger, and below ours: where both errors are alike it stays visible as a ring.
        drawing.dot(x, scale(error), 1.4 * radius, "torch")
    for x, layer in zip(xs, layers, strict=True):
        drawing.dot(x, scale(layer.judgement.error), radius, "ours" if layer.judgement.ok else "wrong")
    drawing.columns([_words(layer) for layer in layers], _TOP, _HEIGHT)
    return drawing


def _drawing(layers: Sequence[LayerResult], errors: Sequence[float]) -> Drawing:
    good = sum(layer.judgement.ok for layer in layers)
    largest = max((error for error in errors if error < math.inf), default=0.0)
    return Drawing(
        height=_TOP + _HEIGHT + _BELOW,
        title="Error by layer",
        description=f"{good} of {len(layers)} layers are inside the rule. Errors relative to float64 run up to "
        f"{largest:.1e}. The table below has every figure.",
    )


def _words(layer: LayerResult) -> str:
    judged = layer.judgement
    words = f"{layer.name}: Tessera {judged.error:.2e}, PyTorch {judged.torch_error:.2e}, ratio {judged.ratio:.2f}"
    return words if judged.ok else f"{words}; {judged.reason}"


def _axis(drawing: Drawing, scale: LogScale) -> None:
    drawing.text(0, 12, "relative error", "tick", "start", shift=-44)
    for exponent in scale.ticks:
        y = scale(10.0**exponent)
        drawing.line(y, "grid")
        drawing.text(0, y + 4, power(exponent), "tick", "end", shift=-8)


def _blocks_and_limit(drawing: Drawing, layers: Sequence[LayerResult], limits: Sequence[float]) -> None:
    """Every other block shaded, what is beyond the limit shaded, and the limit as steps, one a layer."""
    blocks = list(_blocks(layers))
    with drawing.stretched(len(layers), _TOP, _HEIGHT) as inner:
        for _, start, end in blocks[::2]:
            inner.area(start, 0, end - start, _HEIGHT, "band")
        corners = [(index + side, limit) for index, limit in enumerate(limits) for side in (0, 1)]
        inner.path([(0, 0), *corners, (len(layers), 0)], "zone")
        inner.path(corners, "limit dense" if len(layers) > _NARROW else "limit")
    wide = _that_fit(blocks, len(layers), _WIDE)
    narrow = _that_fit(wide, len(layers), _NARROW)
    for block in wide:
        label, start, end = block
        style = "tick" if block in narrow else "tick fine"
        drawing.text(50 * (start + end) / len(layers), _TOP + _HEIGHT + 18, label, style, "middle")


def _blocks(layers: Sequence[LayerResult]) -> Iterator[Block]:
    """Runs of layers that belong to one numbered block of the model, such as `layer.3`: label, start, end.

    A label names its list (`layer 0`) where a list begins, and is the bare number after that.
    """
    before: tuple[str, str] | None = None
    listed, start = "", 0
    keys = [_block_of(layer.name) for layer in layers]
    for index, key in enumerate([*keys, None]):
        if key == before:
            continue
        if before is not None:
            yield (before[1] if before[0] == listed else " ".join(before)), start, index
            listed = before[0]
        before, start = key, index


def _block_of(name: str) -> tuple[str, str] | None:
    match = re.search(r"([A-Za-z_]+)\.(\d+)(?=\.|$|\[|#)", name)
    return (match[1], match[2]) if match else None


def _that_fit(blocks: Sequence[Block], num_layers: int, width: float) -> list[Block]:
    """Those blocks whose labels do not run into one another when drawn this wide: every one, or every 2nd, 4th, …"""
    kept: list[Block] = []
    free = -math.inf
    pixels = width / num_layers * min((end - start for _, start, end in blocks), default=1)
    step = next(step for step in _STEPS if step * pixels >= 3.5 * _LETTER)
    for block in blocks:
        label, start, end = block
        middle, half = width * (start + end) / 2 / num_layers, _LETTER * len(label) / 2
        if middle - half >= free and int(label.split()[-1]) % step == 0:
            kept.append(block)
            free = middle + half + _LETTER
    return kept
