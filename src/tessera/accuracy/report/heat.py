"""The guilty tensor as a heat map."""

from __future__ import annotations

from tessera.accuracy.result import Picture

_CELL = 10
# Powers of ten of the relative error at the ends of the scale.
_FAINT, _FULL = -8.0, 0.0


def heat_map(picture: Picture) -> str:
    """One square a cell, red where the relative error is large; right cells stay empty."""
    rows, columns = len(picture.cells), len(picture.cells[0])
    squares = "".join(
        f'<rect x="{x * _CELL}" y="{y * _CELL}" width="{_CELL}" height="{_CELL}" fill="var(--bad)" '
        f'fill-opacity="{_strength(cell):.2f}"><title>1e{cell:.1f}</title></rect>'
        for y, row in enumerate(picture.cells)
        for x, cell in enumerate(row)
        if cell is not None
    )
    width, height = columns * _CELL, rows * _CELL
    frame = f'<rect width="{width}" height="{height}" fill="none" stroke="var(--line)"/>'
    return (
        f'<section><h2>The guilty tensor</h2><p class="legend">Shape {list(picture.shape)}: its last dim runs across, '
        "all others down; the redder, the larger the relative error; empty is right.</p>"
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{max(width * 2, 240)}px" role="img" '
        f'aria-label="Error over the guilty tensor">{frame}{squares}</svg></section>'
    )


def _strength(power: float) -> float:
    return min(1.0, max(0.12, (power - _FAINT) / (_FULL - _FAINT)))
