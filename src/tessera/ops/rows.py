"""What the kernels that walk along one dim share: how a tensor is seen as rows, and how many rows a program takes.

A tensor reduced or normalised along `dim` is seen as [outer, n, inner]: row r = (r // inner, r % inner), whose n
elements lie
`inner` apart. For the last dim inner is 1 and a row is contiguous.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import triton

from tessera.ops import tiles

# Columns that a program walks side by side: what it carries of each from row to row stays near.
_COLUMNS = 512


@triton.jit
def row_starts(rows, n, inner):
    """Offset of the first element of each row of a contiguous [outer, n, inner]."""
    return (rows // inner) * (n * inner) + rows % inner


@dataclass(frozen=True)
class Rows:
    """`num` rows of `n` elements that lie `inner` apart; a program holds `block_rows` × `block_cols` of them."""

    num: int
    n: int
    inner: int
    block_rows: int
    block_cols: int
    num_warps: int

    @property
    def whole(self) -> bool:
        """A row fits one block."""
        return self.n <= self.block_cols

    @property
    def grid(self) -> tuple[int, ...]:
        return (tiles.parts(self.num, self.block_rows),)


def view(x: torch.Tensor, dim: int, longest: int | None = None) -> Rows:
    """Rows of a contiguous `x` along `dim` (0-dim: one row of one). `longest` overrides the chip's longest whole
    row."""
    row = tiles.of(x.device)
    n = x.shape[dim] if x.dim() else 1
    inner = math.prod(x.shape[dim % x.dim() + 1 :]) if x.dim() else 1
    num = x.numel() // n if n else 0
    limit = row.longest_row if longest is None else longest
    cols = max(16, tiles.power_of_2(n)) if n <= limit else row.row
    rows = tiles.block(num, max(1, row.row // cols))
    return Rows(num, n, inner, rows, cols, row.num_warps)


def columns_at_once(rows: Rows) -> int:
    """How many columns of [outer, n, inner] a program walks side by side, from one row to the next."""
    return tiles.block(rows.inner, _COLUMNS)


def columns_grid(rows: Rows, cols: int) -> tuple[int, int]:
    """The grid of programs of so many columns."""
    return tiles.parts(rows.inner, cols), rows.num // rows.inner
