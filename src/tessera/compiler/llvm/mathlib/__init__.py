"""Elementary functions for float and double, scalars and vectors, written branch-free through the `Builder`.

In:  the `Builder` and operands, all of one type.
Out: the result's value; no calls but LLVM intrinsics, so that nothing is scalarised.
May import: core, ir.
Start reading: `number.py`, then any family.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.llvm.builder import Builder, V
from tessera.compiler.llvm.mathlib import error, exponential, hyperbolic, logarithm, power, trigonometry
from tessera.compiler.llvm.mathlib.number import Num


def _plain(function: Callable[..., Num]) -> Callable[[Builder, Sequence[V]], V]:
    return lambda b, operands: function(*(Num(b, v) for v in operands)).v


FUNCTIONS: dict[str, Callable[[Builder, Sequence[V]], V]] = {
    function.__name__: _plain(function)
    for function in (
        exponential.exp,
        exponential.exp2,
        logarithm.log,
        logarithm.log2,
        logarithm.log10,
        trigonometry.sin,
        trigonometry.cos,
        hyperbolic.tanh,
        error.erf,
        power.pow,
        power.rsqrt,
    )
}
