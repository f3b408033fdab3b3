"""Elementary functions for float and double, scalars and vectors, written branch-free through the `Builder`.

In:  the `Builder` and operands; where a function takes several floats, all of one type.
Out: the result's value; no calls but LLVM intrinsics that every vector unit has, so that nothing is scalarised.
May import: core, ir.
Start reading: `number.py`, then any family. `tests/compiler/test_mathlib.py` states the error of each function.

sin, cos and tan open blocks (a rare path for huge angles), and so do fmod and remainder (a loop), so the builder may
stand in another block afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.llvm.builder import Builder, V
from tessera.compiler.llvm.mathlib import (
    bessel,
    bessel_orders,
    bits,
    conversion,
    directed,
    division,
    error,
    exponential,
    gamma,
    hyperbolic,
    inverse,
    inverse_error,
    logarithm,
    power,
    trigonometry,
)
from tessera.compiler.llvm.mathlib.number import Num


def _plain(function: Callable[..., Num]) -> Callable[[Builder, Sequence[V]], V]:
    return lambda b, operands: function(*(Num(b, v) for v in operands)).v


_BY_OWN_NAME: tuple[Callable[..., Num], ...] = (
    exponential.exp, exponential.exp2, exponential.exp10, exponential.expm1,
    logarithm.log, logarithm.log2, logarithm.log10, logarithm.log1p,
    trigonometry.sin, trigonometry.cos, trigonometry.tan, trigonometry.sinpi, trigonometry.cospi,
    inverse.asin, inverse.acos, inverse.atan, inverse.atan2,
    hyperbolic.sinh, hyperbolic.cosh, hyperbolic.tanh, hyperbolic.asinh, hyperbolic.acosh, hyperbolic.atanh,
    error.erf, error.erfc, error.erfcx, error.normcdf,
    gamma.lgamma, gamma.tgamma, inverse_error.erfinv, inverse_error.erfcinv, inverse_error.normcdfinv,
    power.pow, power.powi, power.sqrt, power.rsqrt, power.cbrt, power.rcbrt, power.hypot, power.rhypot,
    power.norm3d, power.rnorm3d, power.norm4d, power.rnorm4d,
    bessel.j0, bessel.j1, bessel.y0, bessel.y1, bessel.cyl_bessel_i0, bessel.cyl_bessel_i1,
    bessel_orders.jn, bessel_orders.yn,
    division.fmod, division.remainder,
    bits.isnan, bits.isinf, bits.isfinite, bits.signbit, bits.copysign, bits.fma, bits.fdim, bits.nextafter,
    bits.ldexp, bits.ilogb, bits.logb,
    bits.clz, bits.popc, bits.ffs, bits.brev, bits.mulhi, bits.umulhi, bits.mul24, bits.umul24, bits.sad, bits.usad,
    bits.hadd, bits.uhadd, bits.rhadd, bits.urhadd, bits.byte_perm,
)  # fmt: skip

FUNCTIONS: dict[str, Callable[[Builder, Sequence[V]], V]] = {
    **{function.__name__: _plain(function) for function in _BY_OWN_NAME},
    **{name: _plain(function) for name, function in conversion.conversions().items()},
    **{name: _plain(function) for name, function in directed.functions().items()},
    "abs": _plain(bits.absolute),
    "add": _plain(bits.add),
    "sub": _plain(bits.subtract),
    "mul": _plain(bits.multiply),
    "div": _plain(bits.divide),
    "rcp": _plain(bits.reciprocal),
    "saturate": _plain(bits.saturate),
}
