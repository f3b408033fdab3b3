"""tanh and its like: a polynomial where |x| is small, e^x elsewhere."""

from __future__ import annotations

from tessera.compiler.llvm.mathlib.exponential import exp_parts
from tessera.compiler.llvm.mathlib.number import Num, horner

# Below, tanh is the polynomial; from the second on it rounds to 1.
TANH_SPLIT = {"float": 0.55}
TANH_ONE = {"float": 9.1}
# (tanh(x)/x - 1)/x² in x², minimax in error relative to tanh(x)/x.
TANH_SMALL = {
    # 2^-29.7
    "float": (
        -0.33333316445350647,
        0.13332554697990417,
        -0.05384942889213562,
        0.021061016246676445,
        -0.006260426715016365,
    ),
}


def tanh(x: Num) -> Num:
    """1 - 2/(e^2|x| + 1) with the sign of x, for |x| ≥ ½."""
    size, square = x.abs(), x * x
    small = (square * x).fma(horner(square, TANH_SMALL[x.scalar]), x)
    s, power = exp_parts(size.at_most(TANH_ONE[x.scalar]), 2.0)
    large = 1.0 - 2.0 / power.fma(s, 1.0)
    return (size < TANH_SPLIT[x.scalar]).pick(small, large.with_sign_of(x))
