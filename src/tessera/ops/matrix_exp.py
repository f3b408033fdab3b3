"""The exponential of square matrices, by scaling and squaring.

Each matrix of a batch has its own number of halvings s. The sum is exact but for roundings, and takes seven products
in float64, five or seven in float32: up to the fourth power of the matrix, then by Horner's rule in that power.

Formula:
    exp(A) = (Σ_{k≤d} (A / 2^s)^k / k!)^(2^s),  s the least for which the 1-norm of A / 2^s is at most t;
             (d, t) = (18, 1.09) in float64, (11, 1.2) or (19, 3) in float32: t^(d + 1) / (d + 1)! · e^t is a rounding
Shapes: A [..., N, N]; the result like it, contiguous.
Types: float64 and float32.
Limits: finite elements, whose norms are read back.
Source: Bader, Blanes and Casas, "Computing the Matrix Exponential with an Optimized Taylor Polynomial Approximation",
Mathematics 7(12), 2019; Paterson and Stockmeyer, "On the Number of Nonscalar Multiplications Necessary to Evaluate
Polynomials", SIAM Journal on Computing 2(1), 1973; the page of torch.linalg.matrix_exp
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import matmul, reduce, tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, run
from tessera.ops.launch import launch

# The highest power of the sum, and the largest norm that it serves. Each squaring doubles errors: larger norms are
# halved less often, for a longer sum.
_SERIES = {torch.float64: ((18, 1.09),), torch.float32: ((11, 1.2), (19, 3.0))}


def linalg_matrix_exp(self: torch.Tensor) -> torch.Tensor:
    """exp of each matrix of self[..., N, N], float32 or float64; contiguous."""
    if self.dtype not in _SERIES:
        raise Declined("matrices of this type")
    if self.dim() < 2 or self.shape[-1] != self.shape[-2] or self.numel() == 0:
        raise Declined("matrices that are not square, or none")
    n = self.shape[-1]
    a = self.contiguous().view(-1, n, n)
    largest = reduce.amax(reduce.sum_(run(f.abs_, (a,), compute_type(a.dtype), a.dtype), [1]), [1])
    # One by one: a plan must see that values are looked at, which `tolist` hides.
    norms = [float(norm) for norm in largest]
    if not all(map(math.isfinite, norms)):
        raise Declined("elements that are not finite")
    series = _SERIES[self.dtype]
    degree, reach = next((one for one in series if max(norms) <= one[1]), series[-1])
    halvings = [max(0, math.ceil(math.log2(norm / reach))) if norm else 0 for norm in norms]
    return _squared(_taylor(a, halvings, degree), halvings).view(self.shape)


@triton.jit
def add_powers(
    cube, square, a, out, c3: tl.float64, c2: tl.float64, c1: tl.float64, n, num_rows,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """out = 1 + c1 · (a + c2 · (square + c3 · cube)) of contiguous [batch, n, n], seen as rows; `cube` may be None.

    Grid: (cdiv(num_rows, ROWS),).
    """
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    kind = out.dtype.element_ty
    for start in range(0, n, COLS):
        col = start + tl.arange(0, COLS)[None, :]
        at, mask = row * n + col, (row < num_rows) & (col < n)
        # The smallest first; each is divided by what it has more than the one below.
        total = tl.load(square + at, mask=mask, other=0)
        if cube is not None:
            total += tl.load(cube + at, mask=mask, other=0) * tl.cast(c3, kind)
        total = tl.load(a + at, mask=mask, other=0) + total * tl.cast(c2, kind)
        total = (row % n == col).to(kind) + total * tl.cast(c1, kind)
        tl.store(out + at, total, mask=mask)


def _taylor(a: torch.Tensor, halvings: list[int], degree: int) -> torch.Tensor:
    """The sum of a[batch, N, N] halved so many times."""
    if any(halvings):
        scale = torch.tensor([2.0**-s for s in halvings], dtype=a.dtype, device=a.device).view(-1, 1, 1)
        a = run(f.mul, (a, scale), compute_type(a.dtype), a.dtype)
    square = matmul.bmm(a, a)
    powers = (a, square, matmul.bmm(square, a))
    fourth = matmul.bmm(square, square)
    total = terms(powers, degree, degree % 4)
    for last in range(degree - degree % 4 - 1, 0, -4):
        total = matmul.baddbmm(terms(powers, last, 3), fourth, total, alpha=1.0 / math.perm(last + 1, 4))
    return total


def terms(powers: tuple[torch.Tensor, ...], last: int, num: int) -> torch.Tensor:
    """Of the sum the terms k = last - num to last, divided by what the lowest of them is multiplied by.

    powers: a[batch, N, N] and its next powers. num: 2 or 3.
    """
    a, square, cube = powers
    n, out, row = a.shape[-1], torch.empty_like(a), tiles.of(a.device)
    rows, cols = tiles.rectangle(a.numel() // n, n, row, turned=False)
    lowest = last - num
    launch(
        add_powers, (tiles.parts(a.numel() // n, rows),), cube if num == 3 else None, square, a, out,
        1.0 / (lowest + 3), 1.0 / (lowest + 2), 1.0 / (lowest + 1), n, a.numel() // n, ROWS=rows, COLS=cols,
        num_warps=row.num_warps,
    )  # fmt: skip
    return out


def _squared(total: torch.Tensor, halvings: list[int]) -> torch.Tensor:
    """total[batch, N, N], each matrix squared as often as it was halved."""
    for step in range(max(halvings)):
        square = matmul.bmm(total, total)
        if min(halvings) <= step:
            left = torch.tensor([s > step for s in halvings], device=total.device).view(-1, 1, 1)
            square = run(f.where, (left, square, total), compute_type(total.dtype), total.dtype)
        total = square
    return total
