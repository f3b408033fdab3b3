"""The LU factors of matrices with rows exchanged, and what is found by them: solutions, inverses, determinants.

A program takes matrices one after the other and works each column by column. Of equal pivots the first is taken.

Formula:
    factors: A = P L U, L with ones on its diagonal; row j was exchanged with row pivots[j] - 1, for j in order
    solve:   A X = B: U X = L⁻¹ Pᵀ B;  adjoint: Aᵀ X = B;  inverse: B = 1
    det:     the product of U's diagonal, negated for an odd number of exchanges
Shapes: A [..., M, N] (square to solve with), B [..., N, K], or [..., N] where batches are A's; batches broadcast.
Types: float64 and float32, computed in float64; pivots and info are int32.
Limits: matrices of up to 128 rows and columns, solved with up to 1024; always with exchanges; errors are not checked
for.
Source: the pages of torch.linalg.lu_factor_ex, torch.linalg.lu_solve, torch.linalg.solve_ex, torch.linalg.inv_ex,
torch.linalg.det, torch.linalg.slogdet and torch.lu_unpack; Golub and Van Loan, "Matrix Computations", 2013, 3.4
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import reduce, scatter, tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.pointwise import copy_, fill_, zero_
from tessera.ops.rearrange import eye, tril, triu
from tessera.ops.triangular import (
    MOST_FACTORED,
    MOST_SOLVED,
    System,
    column_major,
    flat,
    matrices,
    solve,
    square,
    workers,
)


@triton.jit
def factor(
    a, out, pivots, info, sign, work, m, n, num_batches, a_batch, a_row, a_col, out_batch, out_row, out_col,
    ROWS: tl.constexpr,
):  # fmt: skip
    """The factors of a[m, n] in one matrix, the exchanges, the number of the first pivot that is 0, and the sign: -1
    for an odd number of exchanges.

    work is [programs, n, ROWS] in float64, a column a line. Where one thread writes what others have read or will read,
    there is a barrier. Grid: (programs,).
    """
    rows = tl.arange(0, ROWS)
    work += tl.program_id(0).to(tl.int64) * n * ROWS
    num = tl.minimum(m, n)
    for task in range(tl.program_id(0), num_batches, tl.num_programs(0)):
        batch = tl.cast(task, tl.int64)
        for col in range(n):
            given = tl.load(a + batch * a_batch + col * a_col + rows * a_row, mask=rows < m, other=0)
            tl.store(work + col * ROWS + rows, given.to(tl.float64))
        failed = tl.zeros([1], tl.int32)
        odd = tl.zeros([1], tl.int32)
        for at in range(num):
            tl.debug_barrier()
            column = tl.load(work + at * ROWS + rows)
            best = tl.argmax(tl.where((rows >= at) & (rows < m), tl.abs(column), -1.0), axis=0)
            pivot = tl.load(work + at * ROWS + best)
            column = tl.where(rows == best, tl.load(work + at * ROWS + at), column)
            scale = tl.where(rows > at, column / tl.where(pivot == 0.0, 1.0, pivot), 0.0)
            tl.debug_barrier()
            tl.store(work + at * ROWS + rows, tl.where(rows > at, scale, tl.where(rows == at, pivot, column)))
            for col in range(at):
                upper = tl.load(work + col * ROWS + best)
                lower = tl.load(work + col * ROWS + at)
                tl.debug_barrier()
                tl.store(work + col * ROWS + at, upper)
                tl.store(work + col * ROWS + best, lower)
            for col in range(at + 1, n):
                upper = tl.load(work + col * ROWS + best)
                lower = tl.load(work + col * ROWS + at)
                left = tl.load(work + col * ROWS + rows)
                left = tl.where(rows == at, upper, tl.where(rows == best, lower, left))
                tl.debug_barrier()
                tl.store(work + col * ROWS + rows, left - scale * upper)
            failed = tl.where((failed == 0) & (pivot == 0.0), at + 1, failed)
            odd = odd ^ tl.where(best != at, 1, 0)
            tl.store(pivots + batch * num + at, best + 1)
        tl.debug_barrier()
        for col in range(n):
            found = tl.load(work + col * ROWS + rows).to(out.dtype.element_ty)
            tl.store(out + batch * out_batch + col * out_col + rows * out_row, found, mask=rows < m)
        tl.store(info + batch + tl.arange(0, 1), failed)
        tl.store(sign + batch + tl.arange(0, 1), (1 - 2 * odd).to(sign.dtype.element_ty))
        tl.debug_barrier()


@triton.jit
def order_rows(pivots, order, m, num, SIZE: tl.constexpr):
    """order[i]: the row that the exchanges bring to i; grid: (batch,)."""
    order += tl.program_id(0).to(tl.int64) * m
    pivots += tl.program_id(0).to(tl.int64) * num
    rows = tl.arange(0, SIZE)
    tl.store(order + rows, rows.to(tl.int64), mask=rows < m)
    for at in range(num):
        tl.debug_barrier()
        other = tl.load(pivots + at) - 1
        here = tl.load(order + at)
        there = tl.load(order + other)
        tl.debug_barrier()
        tl.store(order + at, there)
        tl.store(order + other, here)


Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _factored(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(factors in one column-major matrix, exchanges, info, sign of the exchanges) of a[..., M, N]."""
    matrices(a)
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    if max(m, n) > MOST_FACTORED:
        raise Declined(f"matrices of more than {MOST_FACTORED} rows or columns")
    out = column_major(tuple(a.shape), a)
    pivots = torch.empty((*batch, min(m, n)), dtype=torch.int32, device=a.device)
    info = torch.empty(batch, dtype=torch.int32, device=a.device)
    sign = torch.empty(batch, dtype=a.dtype, device=a.device)
    if out.numel() == 0:
        return out, pivots, zero_(info, out=info), fill_(sign, 1, out=sign)
    given, to = flat(a), flat(out)
    rows, programs = tiles.power_of_2(m), workers(a.device, given.shape[0])
    work = torch.empty((programs, n, rows), dtype=torch.float64, device=a.device)
    launch(
        factor, (programs,), given, to, pivots, info, sign, work, m, n, given.shape[0], *given.stride(), *to.stride(),
        ROWS=rows, num_warps=tiles.of(a.device).num_warps,
    )  # fmt: skip
    return out, pivots, info, sign


def _order(pivots: torch.Tensor, m: int) -> torch.Tensor:
    """order[batch, M] of pivots[batch, K]."""
    batch, num = pivots.shape
    order = torch.empty((batch, m), dtype=torch.int64, device=pivots.device)
    if batch and m:
        launch(
            order_rows, (batch,), pivots.contiguous(), order, m, num, SIZE=tiles.power_of_2(m),
            num_warps=tiles.of(pivots.device).num_warps,
        )  # fmt: skip
    return order


def linalg_lu_factor_ex(self: torch.Tensor, *, pivot: bool = True, check_errors: bool = False) -> Factors:
    """(factors, exchanges, info): L below the diagonal and U; info is 0, or the number of the first pivot that is 0."""
    if not pivot or check_errors:
        raise Declined("factors without exchanges, or errors that are to be checked for")
    factors, pivots, info, _ = _factored(self)
    return factors, pivots, info


def lu_unpack(
    LU_data: torch.Tensor, LU_pivots: torch.Tensor, unpack_data: bool = True, unpack_pivots: bool = True
) -> Factors:
    """(P, L, U) of factors in one matrix; what is not asked for has no elements."""
    matrices(LU_data)
    if LU_pivots.dtype is not torch.int32 or LU_pivots.shape != (*LU_data.shape[:-2], min(LU_data.shape[-2:])):
        raise Declined("exchanges that do not fit the factors")
    m, n = LU_data.shape[-2:]
    if m > MOST_SOLVED:
        raise Declined(f"matrices of more than {MOST_SOLVED} rows")
    nothing = LU_data.new_empty((0,))
    lower, upper = nothing, LU_data.new_empty((0,))
    if unpack_data:
        num = min(m, n)
        lower, upper = tril(LU_data[..., :num], -1), triu(LU_data[..., :num, :])
        diagonal = lower.diagonal(dim1=-2, dim2=-1)
        fill_(diagonal, 1, out=diagonal)
    return _exchanges(LU_data, LU_pivots) if unpack_pivots else LU_data.new_empty((0,)), lower, upper


def _exchanges(factors: torch.Tensor, pivots: torch.Tensor) -> torch.Tensor:
    """The matrix P."""
    m = factors.shape[-2]
    found = torch.empty((*factors.shape[:-2], m, m), dtype=factors.dtype, device=factors.device)
    zero_(found, out=found)
    if found.numel():
        order = _order(pivots.reshape(found.numel() // (m * m), pivots.shape[-1]), m)
        scatter.scatter_value_(found.view(-1, m, m), 1, order.view(-1, 1, m), 1)
    return found


def _solved(factors: torch.Tensor, pivots: torch.Tensor, b: torch.Tensor, adjoint: bool, x: torch.Tensor) -> None:
    """Write X of A X = B, or Aᵀ X = B, into x; all [batch, N, K], pivots [batch, N]."""
    if x.numel() == 0:
        return
    order = _order(pivots, x.shape[1])
    if adjoint:
        first, second = System(factors.mT, upper=False), System(factors.mT, upper=True, unit=True)
        solve(first, b, x, then=second, to_row=order)
    else:
        first, second = System(factors, upper=False, unit=True), System(factors, upper=True)
        solve(first, b, x, then=second, from_row=order)


def _pair(factors: torch.Tensor, pivots: torch.Tensor, shape: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors and exchanges for each of a batch of `shape`, as [batch, N, N] and [batch, N]."""
    n = factors.shape[-1]
    return flat(factors.expand(*shape, n, n)), pivots.expand(*shape, n).reshape(math.prod(shape), n)


def linalg_lu_solve(
    LU: torch.Tensor, pivots: torch.Tensor, B: torch.Tensor, *, left: bool = True, adjoint: bool = False
) -> torch.Tensor:
    """X of A X = B, or of X A = B where `left` is false, given A's factors; adjoint: of Aᵀ."""
    matrices(LU, B)
    n = square(LU, MOST_SOLVED)
    if B.shape[-2 if left else -1] != n or pivots.shape != LU.shape[:-1] or pivots.dtype is not torch.int32:
        raise Declined("matrices that do not fit each other")
    batch = broadcast_shape((tuple(LU.shape[:-2]), tuple(B.shape[:-2])))
    shape = (*batch, *B.shape[-2:])
    out = column_major(shape, B) if left else torch.empty(shape, dtype=B.dtype, device=B.device)
    b, x = flat(B.expand(shape)), flat(out)
    given = _pair(LU, pivots, batch)
    if left:
        _solved(*given, b, adjoint, x)
    else:
        _solved(*given, b.mT, not adjoint, x.mT)
    return out


def linalg_solve_ex(
    A: torch.Tensor, B: torch.Tensor, *, left: bool = True, check_errors: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(X of A X = B, factors, exchanges, info); B may be vectors [..., N] of A's batches."""
    if check_errors:
        raise Declined("errors that are to be checked for")
    vector = B.dim() == 1 or (A.dim() - 1 == B.dim() and B.shape == A.shape[:-1])
    if A.dim() < 2 or A.shape[-1] != A.shape[-2] or (vector and not left):
        raise Declined("matrices that are not square")
    wide = B.unsqueeze(-1) if vector else B
    matrices(A, wide)
    if wide.shape[-2 if left else -1] != A.shape[-1]:
        raise Declined("matrices that do not fit each other")
    factors, pivots, info, _ = _factored(A)
    x = linalg_lu_solve(factors, pivots, wide, left=left)
    if vector and B.dim() > 1:
        x = copy_(out := column_major(tuple(B.shape), B), x.squeeze(-1), out=out)
    elif vector:
        x = x.squeeze(-1)
    return x, factors, pivots, info


def linalg_inv_ex(A: torch.Tensor, *, check_errors: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """(the inverse, info)."""
    matrices(A)
    n = square(A, MOST_FACTORED)
    if check_errors:
        raise Declined("errors that are to be checked for")
    factors, pivots, info, _ = _factored(A)
    one = eye(n, out=torch.empty((n, n), dtype=A.dtype, device=A.device))
    return linalg_lu_solve(factors, pivots, one.expand(A.shape)), info


def _determined(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sign of the exchanges, U's diagonal, factors, pivots).

    Of contiguous matrices PyTorch gives the factors of Aᵀ, and its gradients count on it.
    """
    matrices(a)
    square(a, MOST_FACTORED)
    factors, pivots, _, sign = _factored(a.mT if a.is_contiguous() else a)
    return sign, factors.diagonal(dim1=-2, dim2=-1), factors, pivots


def linalg_det(A: torch.Tensor) -> Factors:
    """(determinant, factors, exchanges)."""
    sign, diagonal, factors, pivots = _determined(A)
    return reduce.prod(diagonal, -1) * sign, factors, pivots


def linalg_slogdet(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sign of the determinant, logarithm of its size, factors, exchanges)."""
    sign, diagonal, factors, pivots = _determined(A)
    return reduce.prod(diagonal.sgn(), -1) * sign, reduce.sum_(diagonal.abs().log(), -1), factors, pivots
