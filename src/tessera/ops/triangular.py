"""Triangular systems, and the Cholesky factor of symmetric positive definite matrices with what is solved by it.

A program holds a matrix, or a block of right-hand sides, and works it column by column.

Formula:
    solve:    A X = B, or X A = B where left is false, A lower or upper triangular, its diagonal 1 where unitriangular
    cholesky: A = L Lᵀ, L lower triangular with a positive diagonal; upper: A = Uᵀ U, of which one triangle of A is read
    inverse:  (L Lᵀ)⁻¹ = L⁻ᵀ L⁻¹
Shapes: A [..., N, N], B [..., N, K] or [..., K, N]; batches broadcast. Results are column-major, as PyTorch's are.
Types: float64 and float32, computed in float64.
Limits: triangular matrices of up to 1024 rows, Cholesky factors of up to 128; errors of a factor are not checked for.
Source: the pages of torch.linalg.solve_triangular, torch.linalg.cholesky_ex, torch.cholesky_inverse and
torch.cholesky_solve; Golub and Van Loan, "Matrix Computations", 2013, 3.1 and 4.2
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import matmul, tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.pointwise import copy_
from tessera.ops.rearrange import eye
from tessera.ops.reduce import any_

MOST_SOLVED = 1024
MOST_FACTORED = 128
_TYPES = (torch.float32, torch.float64)


@triton.jit
def solve_rows(
    a, b, x, n, num, a_batch, a_row, a_col, b_batch, b_row, b_col, x_batch, x_row, x_col,
    UPPER: tl.constexpr, UNIT: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """x of a[n, n] · x[n, num] = b, each known row taken off the rows that follow; grid: (cdiv(num, COLS), batch)."""
    batch = tl.program_id(1).to(tl.int64)
    rows = tl.arange(0, ROWS)
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    mask = (rows < n)[:, None] & (cols < num)[None, :]
    given = b + batch * b_batch + (rows * b_row)[:, None] + (cols * b_col)[None, :]
    left = tl.load(given, mask=mask, other=0).to(tl.float64)
    for step in range(n):
        at = n - 1 - step if UPPER else step
        column = a + batch * a_batch + at * a_col
        here = tl.sum(tl.where((rows == at)[:, None], left, 0.0), axis=0)
        if not UNIT:
            here = here / tl.load(column + at * a_row).to(tl.float64)
        follow = rows < at if UPPER else (rows > at) & (rows < n)
        factor = tl.load(column + rows * a_row, mask=follow, other=0).to(tl.float64)
        left = tl.where(follow[:, None], left - factor[:, None] * here[None, :], left)
        left = tl.where((rows == at)[:, None], here[None, :], left)
    to = x + batch * x_batch + (rows * x_row)[:, None] + (cols * x_col)[None, :]
    tl.store(to, left.to(x.dtype.element_ty), mask=mask)


@triton.jit
def factor_symmetric(a, factor, info, n, a_batch, a_row, a_col, row, col, SIZE: tl.constexpr):
    """The lower factor of a[n, n], whose lower triangle is read, and the number of the first row without one.

    Grid: (batch,).
    """
    batch = tl.program_id(0).to(tl.int64)
    i, j = tl.arange(0, SIZE)[:, None], tl.arange(0, SIZE)[None, :]
    mask = (i < n) & (j < n)
    x = tl.load(
        a + batch * a_batch + tl.maximum(i, j) * a_row + tl.minimum(i, j) * a_col, mask=mask, other=0
    ).to(tl.float64)  # fmt: skip
    failed = tl.zeros([1], tl.int32)
    for at in range(n):
        line = tl.sum(tl.where(i == at, x, 0.0), axis=0)
        column = tl.sum(tl.where(j == at, x, 0.0), axis=1)
        pivot = tl.sum(tl.where(tl.arange(0, SIZE) == at, line, 0.0), axis=0)
        failed = tl.where((failed == 0) & ((pivot > 0.0) == 0), at + 1, failed)
        root = tl.sqrt(pivot)
        x = tl.where((i > at) & (j > at), x - (column / root)[:, None] * (line / root)[None, :], x)
        x = tl.where((j == at) & (i >= at), (column / root)[:, None], x)
    tl.store(
        factor + batch * n * n + i * row + j * col, tl.where(i >= j, x, 0.0).to(factor.dtype.element_ty), mask=mask
    )
    tl.store(info + batch + tl.arange(0, 1), failed)


def matrices(*given: torch.Tensor) -> None:
    """Decline what is no batch of matrices of one type that is ours; the vendor words the error."""
    if any(x.dtype is not given[0].dtype or x.dtype not in _TYPES for x in given):
        raise Declined("matrices of this type")
    if any(x.dim() < 2 for x in given):
        raise Declined("operands that are no matrices")


def square(a: torch.Tensor, most: int) -> int:
    """The size of square matrices of at most `most` rows."""
    if a.shape[-1] != a.shape[-2]:
        raise Declined("matrices that are not square")
    if a.shape[-1] > most:
        raise Declined(f"matrices of more than {most} rows")
    return a.shape[-1]


def column_major(shape: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """New matrices whose columns are contiguous."""
    return torch.empty((*shape[:-2], shape[-1], shape[-2]), dtype=like.dtype, device=like.device).mT


def flat(x: torch.Tensor) -> torch.Tensor:
    """[..., M, N] as [batch, M, N], a copy where one stride does not walk the batch."""
    return x.reshape(math.prod(x.shape[:-2]), x.shape[-2], x.shape[-1])


def solve(a: torch.Tensor, b: torch.Tensor, upper: bool, unit: bool, x: torch.Tensor) -> torch.Tensor:
    """Write the solution of a[batch, N, N] · x = b[batch, N, K] into x; all of any strides and floating types."""
    batch, n, num = x.shape
    if x.numel():
        row = tiles.of(x.device)
        rows = tiles.power_of_2(n)
        cols = min(tiles.power_of_2(num), max(1, row.flat // 2 // rows))
        launch(
            solve_rows, (triton.cdiv(num, cols), batch), a, b, x, n, num, *a.stride(), *b.stride(), *x.stride(),
            UPPER=upper, UNIT=unit, ROWS=rows, COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return x


def linalg_solve_triangular(
    self: torch.Tensor, B: torch.Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> torch.Tensor:
    """X of self X = B (left), or X self = B, where self is triangular; the other triangle is not read."""
    matrices(self, B)
    if self.is_neg() or B.is_neg():
        raise Declined("a view that is read or written conjugated or negated")
    n = square(self, MOST_SOLVED)
    if B.shape[-2 if left else -1] != n:
        raise Declined("matrices that do not fit each other")
    batch = broadcast_shape((tuple(self.shape[:-2]), tuple(B.shape[:-2])))
    shape = (*batch, *B.shape[-2:])
    out = column_major(shape, B)
    a, b, x = flat(self.expand(*batch, n, n)), flat(B.expand(shape)), flat(out)
    if left:
        solve(a, b, upper, unitriangular, x)
    else:
        solve(a.mT, b.mT, not upper, unitriangular, x.mT)
    return out


def linalg_cholesky_ex(
    self: torch.Tensor, *, upper: bool = False, check_errors: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """(L, info): info is 0, or the number of the first row whose pivot is not positive, and then L is not complete."""
    matrices(self)
    n = square(self, MOST_FACTORED)
    if check_errors:
        raise Declined("errors that are to be checked for")
    out = column_major(tuple(self.shape), self)
    info = torch.empty(self.shape[:-2], dtype=torch.int32, device=self.device)
    if out.numel() == 0:
        return out, info.zero_()
    a, factor = flat(self.mT if upper else self), flat(out.mT if upper else out)
    launch(
        factor_symmetric, (a.shape[0],), a, factor, info, n, *a.stride(), *factor.stride()[1:],
        SIZE=tiles.power_of_2(n), num_warps=tiles.of(a.device).num_warps,
    )  # fmt: skip
    return out, info


def cholesky(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """L, of matrices that have one."""
    factor, info = linalg_cholesky_ex(self, upper=upper)
    if info.numel() and bool(any_(info)):
        raise Declined("a matrix that is not positive definite")
    return factor


def _inverse(factor: torch.Tensor, upper: bool) -> torch.Tensor:
    """The inverse of triangular factor[batch, N, N], in float64."""
    n = factor.shape[-1]
    one = eye(n, out=torch.empty((n, n), dtype=torch.float64, device=factor.device)).expand(factor.shape)
    return solve(factor, one, upper, False, torch.empty(factor.shape, dtype=torch.float64, device=factor.device))


def cholesky_inverse(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """The inverse of the matrix whose Cholesky factor self[..., N, N] is."""
    matrices(self)
    square(self, MOST_SOLVED)
    out = column_major(tuple(self.shape), self)
    if out.numel():
        inverse = _inverse(flat(self), upper)
        left, right = (inverse, inverse.mT) if upper else (inverse.mT, inverse)
        product = matmul.bmm(left, right)
        copy_(out, product.view(self.shape), out=out)
    return out


def cholesky_solve_helper(self: torch.Tensor, A: torch.Tensor, upper: bool) -> torch.Tensor:
    """X of M X = self, where A[..., N, N] is the Cholesky factor of M."""
    matrices(self, A)
    n = square(A, MOST_SOLVED)
    if self.shape[:-1] != A.shape[:-1]:
        raise Declined("matrices that do not fit each other")
    out = column_major(tuple(self.shape), self)
    if out.numel() and n:
        a, b = flat(A), flat(self)
        half = torch.empty(b.shape, dtype=torch.float64, device=b.device)
        first, second = (a.mT, a) if upper else (a, a.mT)
        solve(second, solve(first, b, False, False, half), True, False, flat(out))
    return out
