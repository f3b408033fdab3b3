"""The error over a tensor as a small picture."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import adaptive_max_pool2d

from tessera.accuracy.result import Picture

_MOST_ROWS, _MOST_COLUMNS = 48, 64


def picture(got: torch.Tensor, expected: torch.Tensor) -> Picture | None:
    """The largest relative error in each cell of a grid over the tensor; None if the shapes differ or it is empty."""
    if got.shape != expected.shape or got.numel() == 0 or got.is_complex():
        return None
    wide, exact = got.detach().cpu().double(), expected.detach().cpu().double()
    finite = exact[torch.isfinite(exact)]
    size = float(finite.abs().mean()) if finite.numel() else 1.0
    error = ((wide - exact).abs() / (exact.abs() + max(size, 1e-300))).nan_to_num(nan=1e3, posinf=1e3)
    error = torch.where((wide == exact) | (wide.isnan() & exact.isnan()), torch.zeros_like(error), error)
    columns = error.shape[-1] if error.dim() else 1
    grid = error.reshape(-1, columns)
    shape = min(grid.shape[0], _MOST_ROWS), min(columns, _MOST_COLUMNS)
    pooled = adaptive_max_pool2d(grid[None], shape)[0]
    cells = tuple(tuple(_cell(value) for value in row) for row in pooled.tolist())
    return Picture(shape=tuple(got.shape), cells=cells)


def _cell(value: float) -> float | None:
    return round(math.log10(value), 2) if value > 0 else None
