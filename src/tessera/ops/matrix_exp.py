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

from tessera.ops import functions as f
from tessera.ops import matmul, reduce
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type, run
from tessera.ops.rearrange import eye

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


def _taylor(a: torch.Tensor, halvings: list[int], degree: int) -> torch.Tensor:
    """The sum of a[batch, N, N] halved so many times."""
    n, kind = a.shape[-1], compute_type(a.dtype)
    scale = torch.tensor([2.0**-s for s in halvings], dtype=a.dtype, device=a.device).view(-1, 1, 1)
    a = run(f.mul, (a, scale), kind, a.dtype)
    one = eye(n, out=torch.empty((n, n), dtype=a.dtype, device=a.device)).expand(a.shape)
    square = matmul.bmm(a, a)
    powers = (matmul.bmm(square, a), square, a, one)
    fourth = matmul.bmm(square, square)
    total = _part(powers[3 - degree % 4 :], degree)
    for last in range(degree - degree % 4 - 1, 0, -4):
        total = matmul.baddbmm(_part(powers, last), fourth, total, alpha=1.0 / math.perm(last + 1, 4))
    return total


def _part(powers: tuple[torch.Tensor, ...], last: int) -> torch.Tensor:
    """Of the sum the terms of neighbouring powers, highest first, of which the first belongs to k = last.

    They are divided by the factorial and the power that the lowest of them has in the sum.
    """
    total, *lower = powers
    for k, power in zip(range(last, 0, -1), lower, strict=False):
        total = run(f.add_scaled, (power, total, 1.0 / k), compute_type(power.dtype), power.dtype)
    return total


def _squared(total: torch.Tensor, halvings: list[int]) -> torch.Tensor:
    """total[batch, N, N], each matrix squared as often as it was halved."""
    for step in range(max(halvings)):
        left = torch.tensor([s > step for s in halvings], device=total.device).view(-1, 1, 1)
        square = matmul.bmm(total, total)
        total = run(f.where, (left, square, total), compute_type(total.dtype), total.dtype)
    return total
