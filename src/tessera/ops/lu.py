"""The LU factors of matrices with rows exchanged, and what is found by them: solutions, inverses, determinants.

A program holds a matrix and works it column by column. Of equal pivots the first is taken.

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

from tessera.ops import index, reduce, scatter, tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch
from tessera.ops.layout import broadcast_shape
from tessera.ops.pointwise import copy_, fill_, zero_
from tessera.ops.rearrange import eye, tril, triu
from tessera.ops.triangular import MOST_FACTORED, MOST_SOLVED, column_major, flat, matrices, solve, square


@triton.jit
def factor(
    a, out, pivots, info, m, n, a_batch, a_row, a_col, out_batch, out_row, out_col,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """The factors of a[m, n] in one matrix, the exchanges, and the number of the first pivot that is 0.

    Grid: (batch,).
    """
    batch = tl.program_id(0).to(tl.int64)
    rows, cols = tl.arange(0, ROWS), tl.arange(0, COLS)
    mask = (rows < m)[:, None] & (cols < n)[None, :]
    given = a + batch * a_batch + (rows * a_row)[:, None] + (cols * a_col)[None, :]
    x = tl.load(given, mask=mask, other=0).to(tl.float64)
    num = tl.minimum(m, n)
    failed = tl.zeros([1], tl.int32)
    for at in range(num):
        column = tl.sum(tl.where((cols == at)[None, :], x, 0.0), axis=1)
        best = tl.argmax(tl.where((rows >= at) & (rows < m), tl.abs(column), -1.0), axis=0)
        upper = tl.sum(tl.where((rows == best)[:, None], x, 0.0), axis=0)
        lower = tl.sum(tl.where((rows == at)[:, None], x, 0.0), axis=0)
        # Row `at` first: where both are one row, it stays.
        x = tl.where((rows == best)[:, None], lower[None, :], x)
        x = tl.where((rows == at)[:, None], upper[None, :], x)
        pivot = tl.sum(tl.where(cols == at, upper, 0.0), axis=0)
        column = tl.sum(tl.where((cols == at)[None, :], x, 0.0), axis=1)
        scale = tl.where(rows > at, column / tl.where(pivot == 0.0, 1.0, pivot), 0.0)
        x = tl.where((rows > at)[:, None] & (cols > at)[None, :], x - scale[:, None] * upper[None, :], x)
        x = tl.where((rows > at)[:, None] & (cols == at)[None, :], scale[:, None], x)
        failed = tl.where((failed == 0) & (pivot == 0.0), at + 1, failed)
        tl.store(pivots + batch * num + at, best + 1)
    to = out + batch * out_batch + (rows * out_row)[:, None] + (cols * out_col)[None, :]
    tl.store(to, x.to(out.dtype.element_ty), mask=mask)
    tl.store(info + batch + tl.arange(0, 1), failed)


@triton.jit
def order_rows(pivots, order, sign, m, num, SIZE: tl.constexpr):
    """order[i]: the row that the exchanges bring to i; sign: -1 for an odd number of them. Grid: (batch,)."""
    batch = tl.program_id(0).to(tl.int64)
    rows = tl.arange(0, SIZE)
    place = rows
    odd = tl.zeros([1], tl.int32)
    for at in range(num):
        other = tl.load(pivots + batch * num + at) - 1
        here = tl.sum(tl.where(rows == at, place, 0), axis=0)
        there = tl.sum(tl.where(rows == other, place, 0), axis=0)
        place = tl.where(rows == other, here, tl.where(rows == at, there, place))
        odd = odd ^ tl.where(other != at, 1, 0)
    tl.store(order + batch * m + rows, place.to(tl.int64), mask=rows < m)
    tl.store(sign + batch + tl.arange(0, 1), (1 - 2 * odd).to(sign.dtype.element_ty))


Factors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _factored(a: torch.Tensor) -> Factors:
    """(factors in one column-major matrix, exchanges, info) of a[..., M, N]."""
    matrices(a)
    batch, (m, n) = a.shape[:-2], a.shape[-2:]
    if max(m, n) > MOST_FACTORED:
        raise Declined(f"matrices of more than {MOST_FACTORED} rows or columns")
    out = column_major(tuple(a.shape), a)
    pivots = torch.empty((*batch, min(m, n)), dtype=torch.int32, device=a.device)
    info = torch.empty(batch, dtype=torch.int32, device=a.device)
    if out.numel() == 0:
        return out, pivots, zero_(info, out=info)
    given, to = flat(a), flat(out)
    launch(
        factor, (given.shape[0],), given, to, pivots, info, m, n, *given.stride(), *to.stride(),
        ROWS=tiles.power_of_2(m), COLS=tiles.power_of_2(n), num_warps=tiles.of(a.device).num_warps,
    )  # fmt: skip
    return out, pivots, info


def _order(pivots: torch.Tensor, m: int, kind: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """(order[batch, M], sign[batch] in the type `kind`) of pivots[batch, K]."""
    batch, num = pivots.shape
    order = torch.empty((batch, m), dtype=torch.int64, device=pivots.device)
    sign = torch.empty(batch, dtype=kind, device=pivots.device)
    if batch:
        launch(
            order_rows, (batch,), pivots.contiguous(), order, sign, m, num, SIZE=tiles.power_of_2(m),
            num_warps=tiles.of(pivots.device).num_warps,
        )  # fmt: skip
    return order, sign


def linalg_lu_factor_ex(self: torch.Tensor, *, pivot: bool = True, check_errors: bool = False) -> Factors:
    """(factors, exchanges, info): L below the diagonal and U; info is 0, or the number of the first pivot that is 0."""
    if not pivot or check_errors:
        raise Declined("factors without exchanges, or errors that are to be checked for")
    return _factored(self)


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
        order, _ = _order(pivots.reshape(found.numel() // (m * m), pivots.shape[-1]), m, factors.dtype)
        scatter.scatter_value_(found.view(-1, m, m), 1, order.view(-1, 1, m), 1)
    return found


def _solved(factors: torch.Tensor, pivots: torch.Tensor, b: torch.Tensor, adjoint: bool, x: torch.Tensor) -> None:
    """Write X of A X = B, or Aᵀ X = B, into x; all [batch, N, K], pivots [batch, N]."""
    if x.numel() == 0:
        return
    order, _ = _order(pivots, x.shape[1], torch.float64)
    rows = order.unsqueeze(-1).expand(b.shape)
    half = torch.empty(b.shape, dtype=torch.float64, device=b.device)
    if adjoint:
        solve(factors.mT, b, False, False, half)
        found = torch.empty_like(half)
        solve(factors.mT, half, True, True, found)
        wide = torch.empty_like(half)
        scatter.scatter_(wide, 1, rows, found)
        copy_(x, wide, out=x)
    else:
        solve(factors, index.gather(b, 1, rows), False, True, half)
        solve(factors, half, True, False, x)


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
    factors, pivots, info = _factored(A)
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
    factors, pivots, info = _factored(A)
    one = eye(n, out=torch.empty((n, n), dtype=A.dtype, device=A.device))
    return linalg_lu_solve(factors, pivots, one.expand(A.shape)), info


def _determined(a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sign of the exchanges, U's diagonal, factors, pivots).

    Of contiguous matrices PyTorch gives the factors of Aᵀ, and its gradients count on it.
    """
    matrices(a)
    n = square(a, MOST_FACTORED)
    factors, pivots, _ = _factored(a.mT if a.is_contiguous() else a)
    _, sign = _order(pivots.reshape(math.prod(a.shape[:-2]), n), n, a.dtype)
    return sign.view(a.shape[:-2]), factors.diagonal(dim1=-2, dim2=-1), factors, pivots


def linalg_det(A: torch.Tensor) -> Factors:
    """(determinant, factors, exchanges)."""
    sign, diagonal, factors, pivots = _determined(A)
    return reduce.prod(diagonal, -1) * sign, factors, pivots


def linalg_slogdet(A: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(sign of the determinant, logarithm of its size, factors, exchanges)."""
    sign, diagonal, factors, pivots = _determined(A)
    return reduce.prod(diagonal.sgn(), -1) * sign, reduce.sum_(diagonal.abs().log(), -1), factors, pivots
