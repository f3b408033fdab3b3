"""Triangular systems, and the Cholesky factor of symmetric positive definite matrices with what is solved by it.

A program takes matrices, or blocks of right-hand sides, one after the other, and works each row by row or column by
column: of each what is known already is taken off, so that its sums stay in registers.

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
from typing import NamedTuple

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.rearrange import eye
from tessera.ops.reduce import any_

MOST_SOLVED = 1024
MOST_FACTORED = 128
# Columns of a block whose sums stay in registers.
_MOST_COLS = 64
_TYPES = (torch.float32, torch.float64)


@triton.jit
def take_known_off(
    here, line, col, known, row, step, n, UPPER: tl.constexpr, UNIT: tl.constexpr, COLS: tl.constexpr
):  # fmt: skip
    """Row `row` of a solution, the step-th to be found, which is `here` where no row is known; it joins the known."""
    cols = tl.arange(0, COLS)
    for before in range(step):
        at = n - 1 - before if UPPER else before
        here -= tl.load(line + at * col).to(tl.float64) * tl.load(known + at * COLS + cols)
    if not UNIT:
        here = here / tl.load(line + row * col).to(tl.float64)
    tl.store(known + row * COLS + cols, here)
    return here


@triton.jit
def solve_rows(
    a, then, b, x, from_row, to_row, known, n, num, parts, tasks, a_batch, a_row, a_col,
    then_batch, then_row, then_col, b_batch, b_row, b_col, x_batch, x_row, x_col,
    UPPER: tl.constexpr, UNIT: tl.constexpr, THEN_UNIT: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """x of a[n, n] · x[n, num] = b; where `then` is given, which is upper, of a · (then · x) = b.

    Row i of b is row from_row[batch, i], and of x to_row[batch, i], where these are given. A task is one of the `parts`
    blocks of columns of a matrix; known is [programs, n, COLS] in float64. Grid: (programs,).
    """
    cols = tl.arange(0, COLS)
    known += tl.program_id(0).to(tl.int64) * n * COLS
    for task in range(tl.program_id(0), tasks, tl.num_programs(0)):
        batch = (task // parts).to(tl.int64)
        place = (task % parts) * COLS + cols
        mask = place < num
        given = b + batch * b_batch + place * b_col
        found = x + batch * x_batch + place * x_col
        for step in range(n):
            row = n - 1 - step if UPPER else step
            start = row if from_row is None else tl.load(from_row + batch * n + row)
            here = tl.load(given + start * b_row, mask=mask, other=0).to(tl.float64)
            line = a + batch * a_batch + row * a_row
            here = take_known_off(here, line, a_col, known, row, step, n, UPPER, UNIT, COLS)
            if then is None:
                end = row if to_row is None else tl.load(to_row + batch * n + row)
                tl.store(found + end * x_row, here.to(x.dtype.element_ty), mask=mask)
        if then is not None:
            for step in range(n):
                row = n - 1 - step
                line = then + batch * then_batch + row * then_row
                here = tl.load(known + row * COLS + cols)
                here = take_known_off(here, line, then_col, known, row, step, n, True, THEN_UNIT, COLS)
                end = row if to_row is None else tl.load(to_row + batch * n + row)
                tl.store(found + end * x_row, here.to(x.dtype.element_ty), mask=mask)


@triton.jit
def factor_symmetric(
    a, factor, info, known, n, num_batches, a_batch, a_row, a_col, row, col, SIZE: tl.constexpr
):  # fmt: skip
    """The lower factor of a[n, n], whose lower triangle is read, and the number of the first row without one.

    Of each column what the known ones make of it is taken off; known is [programs, n, SIZE] in float64, a column a
    line. Grid: (programs,).
    """
    rows = tl.arange(0, SIZE)
    known += tl.program_id(0).to(tl.int64) * n * SIZE
    for task in range(tl.program_id(0), num_batches, tl.num_programs(0)):
        batch = tl.cast(task, tl.int64)
        failed = tl.zeros([1], tl.int32)
        for at in range(n):
            given = a + batch * a_batch + at * a_col + rows * a_row
            column = tl.load(given, mask=(rows >= at) & (rows < n), other=0).to(tl.float64)
            for before in range(at):
                line = known + before * SIZE
                column -= tl.load(line + at) * tl.load(line + rows)
            pivot = tl.sum(tl.where(rows == at, column, 0.0), axis=0)
            failed = tl.where((failed == 0) & ((pivot > 0.0) == 0), at + 1, failed)
            column = tl.where(rows >= at, column / tl.sqrt(pivot), 0.0)
            tl.store(known + at * SIZE + rows, column)
            # Each of a GPU's threads reads what others have written.
            tl.debug_barrier()
            to = factor + batch * n * n + at * col + rows * row
            tl.store(to, column.to(factor.dtype.element_ty), mask=rows < n)
        tl.store(info + batch + tl.arange(0, 1), failed)
        tl.debug_barrier()


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


def workers(device: torch.device, tasks: int) -> int:
    """How many programs share `tasks`, each with memory of its own: few on a CPU, so that it stays in caches."""
    return min(tasks, 4 * torch.get_num_threads()) if device.type == "cpu" else tasks


class System(NamedTuple):
    """Triangular matrices [batch, N, N] to solve with: which triangle is read, and whether its diagonal is 1."""

    a: torch.Tensor
    upper: bool
    unit: bool = False


def solve(
    first: System,
    b: torch.Tensor,
    x: torch.Tensor,
    then: System | None = None,
    from_row: torch.Tensor | None = None,
    to_row: torch.Tensor | None = None,
) -> None:
    """Write into x the solution of first · x = b[batch, N, K], or of first · (then · x) = b, where `then` is upper.

    All are of any strides and floating types. from_row, to_row: int64 [batch, N], the rows of b and of x that count as
    rows 0, 1, … of them.
    """
    if x.numel() == 0:
        return
    batch, n, num = x.shape
    cols = min(tiles.power_of_2(num), _MOST_COLS)
    parts = tiles.parts(num, cols)
    programs = workers(x.device, parts * batch)
    known = torch.empty((programs, n, cols), dtype=torch.float64, device=x.device)
    second, steps = (None, (0, 0, 0)) if then is None else (then.a, then.a.stride())
    launch(
        solve_rows, (programs,), first.a, second, b, x, from_row, to_row, known, n, num, parts, parts * batch,
        *first.a.stride(), *steps, *b.stride(), *x.stride(), UPPER=first.upper, UNIT=first.unit,
        THEN_UNIT=then is not None and then.unit, COLS=cols, num_warps=tiles.of(x.device).num_warps,
    )  # fmt: skip


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
        solve(System(a, upper, unitriangular), b, x)
    else:
        solve(System(a.mT, not upper, unitriangular), b.mT, x.mT)
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
    size, programs = tiles.power_of_2(n), workers(a.device, a.shape[0])
    known = torch.empty((programs, n, size), dtype=torch.float64, device=a.device)
    launch(
        factor_symmetric, (programs,), a, factor, info, known, n, a.shape[0], *a.stride(), *factor.stride()[1:],
        SIZE=size, num_warps=tiles.of(a.device).num_warps,
    )  # fmt: skip
    return out, info


def cholesky(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """L, of matrices that have one."""
    factor, info = linalg_cholesky_ex(self, upper=upper)
    if info.numel() and bool(any_(info)):
        raise Declined("a matrix that is not positive definite")
    return factor


def cholesky_inverse(self: torch.Tensor, upper: bool = False) -> torch.Tensor:
    """The inverse of the matrix whose Cholesky factor self[..., N, N] is."""
    matrices(self)
    n = square(self, MOST_SOLVED)
    one = eye(n, out=torch.empty((n, n), dtype=self.dtype, device=self.device))
    return cholesky_solve_helper(one.expand(self.shape), self, upper)


def cholesky_solve_helper(self: torch.Tensor, A: torch.Tensor, upper: bool) -> torch.Tensor:
    """X of M X = self, where A[..., N, N] is the Cholesky factor of M."""
    matrices(self, A)
    n = square(A, MOST_SOLVED)
    if self.shape[:-1] != A.shape[:-1]:
        raise Declined("matrices that do not fit each other")
    out = column_major(tuple(self.shape), self)
    if out.numel() and n:
        a = flat(A)
        first, second = (a.mT, a) if upper else (a, a.mT)
        solve(System(first, upper=False), flat(self), flat(out), then=System(second, upper=True))
    return out
