"""Elementary functions against arbitrary precision: error in units in the last place, borders, speed of the code."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest

from tessera.compiler.llvm.builder import F32, F64, I32, I64, PTR, Builder, LType, V
from tessera.compiler.llvm.mathlib import FUNCTIONS
from tessera.compiler.targets import rows

Array = np.ndarray[Any, Any]
TYPES = {np.dtype(np.float32): F32, np.dtype(np.float64): F64, np.dtype(np.int32): I32, np.dtype(np.int64): I64}
SINGLE, DOUBLE = np.dtype(np.float32), np.dtype(np.float64)
# Largest error in units in the last place: (float, double).
BOUNDS: dict[str, tuple[float, float]] = {
    "exp": (1.5, 1.5), "exp2": (1.5, 1.5), "exp10": (1.5, 2), "expm1": (2, 2),
    "log": (1, 1), "log2": (1, 1), "log10": (2, 1.5), "log1p": (1.5, 1.5),
    "sin": (2, 2), "cos": (2, 2), "tan": (2, 2), "sinpi": (2, 2), "cospi": (2, 2),
    "asin": (1.5, 2), "acos": (1.5, 1.5), "atan": (1.5, 1.5),
    "sinh": (2, 2), "cosh": (2, 2), "tanh": (2, 1.5), "asinh": (0.51, 2), "acosh": (0.51, 2), "atanh": (1.5, 1.5),
    "erf": (2, 1.5), "erfc": (0.6, 4), "erfcx": (0.51, 8), "normcdf": (0.6, 4),
    "erfinv": (0.51, 4), "erfcinv": (0.51, 4), "normcdfinv": (0.51, 4),
    "lgamma": (0.51, 6), "tgamma": (0.51, 10),
    "sqrt": (0.5, 0.5), "rsqrt": (1.5, 1.5), "cbrt": (0.51, 1), "rcbrt": (0.51, 1.5),
}  # fmt: skip


def module_text(name: str, operands: list[LType], lanes: int, permute: str = "") -> tuple[str, LType]:
    """A kernel that applies a function to arrays, `lanes` elements a step, and the type of its result."""
    b = Builder(permute=permute)
    b.raw("br label %loop")
    b.label("loop")
    place, index = len(b.lines), V(I64, "%index")
    loaded = [
        b.load(type.with_lanes(lanes), b.offset(V(PTR, f"%in{i}"), index, type.bits // 8), type.bits // 8)
        for i, type in enumerate(operands)
    ]
    result = FUNCTIONS[name](b, loaded)
    if result.type.scalar == "i1":
        result = b.cast("zext", result, result.type.with_scalar("i32"))
    size = result.type.bits // 8
    b.store(result, b.offset(V(PTR, "%out"), index, size), size)
    following = b.emit(I64, f"add nuw i64 %index, {lanes or 1}")
    b.lines.insert(place, f"  %index = phi i64 [ 0, %entry ], [ {following.ref}, %{b.current} ]")
    b.branch_if(b.icmp("slt", following, V(I64, "%n")), "loop", "leave")
    b.label("leave")
    b.raw("ret void")
    arguments = ", ".join([*(f"ptr %in{i}" for i in range(len(operands))), "ptr noalias %out, i64 %n"])
    body = "\n".join(["entry:", *b.entry, *b.lines])
    return f"define void @kernel({arguments}) {{\n{body}\n}}\n" + "\n".join(b.declarations.values()), result.type


@functools.cache
def initialised() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def optimised(text: str, machine: llvm.TargetMachine) -> llvm.ModuleRef:
    module = llvm.parse_assembly(text)
    module.verify()
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(module, passes)
    return module


@dataclass
class Kernel:
    """A compiled function over arrays; `engine` keeps its code alive."""

    engine: llvm.ExecutionEngine
    entry: Callable[..., None]
    result: np.dtype[Any]
    lanes: int

    def __call__(self, *arrays: Array) -> Array:
        count = len(arrays[0])
        padding = -count % (self.lanes or 1)
        padded = [np.concatenate([array, array[:1].repeat(padding)]) for array in arrays]
        out = np.empty(count + padding, self.result)
        self.entry(*(array.ctypes.data for array in padded), out.ctypes.data, count + padding)
        return out[:count]


@functools.cache
def kernel(name: str, operands: tuple[np.dtype[Any], ...], lanes: int = 16, permute: str | None = None) -> Kernel:
    """As the host's target has it, or with another `permute` (none: "")."""
    initialised()
    chosen = rows.host().permute if permute is None else permute
    text, result = module_text(name, [TYPES[dtype] for dtype in operands], lanes, chosen)
    features = llvm.get_host_cpu_features().flatten()
    machine = llvm.Target.from_default_triple().create_target_machine(llvm.get_host_cpu_name(), features, opt=3)
    module = optimised(text, machine)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    signature = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(operands) + 1), ctypes.c_int64)
    numpy_type = next(dtype for dtype, type in TYPES.items() if type.scalar == result.scalar)
    return Kernel(engine, signature(engine.get_function_address("kernel")), numpy_type, lanes)


def call(name: str, *arrays: Array, lanes: int = 16, permute: str | None = None) -> Array:
    return kernel(name, tuple(array.dtype for array in arrays), lanes, permute)(*arrays)


# The reference --------------------------------------------------------------------------------------------------


def _pow(x: Any, y: Any) -> Any:
    """Whole y goes through mpmath's integer power, which knows negative x."""
    return x ** int(y) if y == int(y) else x**y


def _erfcinv(q: Any) -> Any:
    """By Newton's steps on log erfc, which are quick also where erfc is tiny."""
    if not 0 <= q <= 2:
        return mpmath.nan
    if q > 1:
        return -_erfcinv(2 - q)
    if q in (0, 1):
        return mpmath.inf if q == 0 else mpmath.mpf(0)
    y = mpmath.sqrt(-mpmath.log(q)) if q < 0.1 else mpmath.mpf(0)
    for _ in range(60):
        tail = mpmath.erfc(y)
        step = mpmath.log(tail / q) * tail * mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(y * y)
        y += step
        if abs(step) <= abs(y) * mpmath.mpf(2) ** -80:
            break
    return y


def _lgamma(x: Any) -> Any:
    return mpmath.inf if x <= 0 and x == mpmath.floor(x) else mpmath.re(mpmath.loggamma(x))


def _tgamma(x: Any) -> Any:
    return mpmath.nan if x < 0 and x == mpmath.floor(x) else mpmath.gamma(x)


REFERENCE: dict[str, Callable[..., Any]] = {
    "exp2": lambda x: mpmath.mpf(2) ** x, "exp10": lambda x: mpmath.mpf(10) ** x,
    "log2": lambda x: mpmath.log(x, 2),
    "erfcx": lambda x: mpmath.exp(x * x) * mpmath.erfc(x), "normcdf": mpmath.ncdf,
    "erfinv": lambda x: mpmath.erfinv(x) if abs(x) < 0.5 else _erfcinv(1 - x),
    "erfcinv": _erfcinv, "normcdfinv": lambda x: -mpmath.sqrt(2) * _erfcinv(2 * x),
    "lgamma": _lgamma, "tgamma": _tgamma,
    "rsqrt": lambda x: 1 / mpmath.sqrt(x),
    "cbrt": lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), "rcbrt": lambda x: mpmath.sign(x) / mpmath.cbrt(abs(x)),
    "pow": _pow, "rhypot": lambda x, y: 1 / mpmath.hypot(x, y),
    "norm3d": lambda *c: mpmath.sqrt(sum(x * x for x in c)), "norm4d": lambda *c: mpmath.sqrt(sum(x * x for x in c)),
}  # fmt: skip


def ulps(name: str, got: Array, arrays: tuple[Array, ...]) -> Array:
    """Distance of each result from the true value in units in the last place; where that is not real, from NaN."""
    function = REFERENCE.get(name) or getattr(mpmath, name)
    info = np.finfo(got.dtype)
    # Angles of some 2^1023 lose a thousand bits in the reduction.
    with mpmath.workprec(1300 if name in ("sin", "cos", "tan") else 160):
        errors = [
            _ulp(float(value), function(*(mpmath.mpf(float(x)) for x in operands)), info)
            for value, *operands in zip(got, *arrays, strict=True)
        ]
    return np.array(errors)


def _ulp(got: float, true: Any, info: Any) -> float:
    if mpmath.im(true) != 0 or mpmath.isnan(true):
        return 0.0 if math.isnan(got) else math.inf
    largest = mpmath.mpf(float(info.max))
    if abs(true) >= largest * (1 + mpmath.mpf(float(info.epsneg)) / 2):
        return 0.0 if math.isinf(got) and (got > 0) == (true > 0) else math.inf
    if not math.isfinite(got):
        return math.inf
    exponent = max(mpmath.frexp(true)[1], info.minexp + 1) if true else info.minexp + 1
    return float(abs(mpmath.mpf(got) - true) / mpmath.ldexp(1, exponent - 1 - info.nmant))


def samples(name: str, dtype: np.dtype[Any], count: int) -> Array:
    """Every exponent and sign, denormals, the places where formulas change, and multiples of π/2."""
    rng = np.random.default_rng(7)
    unsigned = np.uint32 if dtype == SINGLE else np.uint64
    bits = rng.integers(0, np.iinfo(unsigned).max, count, dtype=unsigned, endpoint=True).view(dtype)
    limit = 120.0 if dtype == SINGLE else 760.0
    if name in ("exp", "exp2", "exp10", "expm1", "sinh", "cosh", "erfc", "erfcx", "normcdf", "tgamma"):
        bits = np.where(np.abs(bits) > limit, rng.uniform(-limit, limit, count), bits)
    spread = [rng.uniform(-scale, scale, count // 3) for scale in (1.0, 3.0, 30.0)]
    near_one = 1.0 + rng.uniform(-0.3, 0.42, count // 3)
    multiples = rng.integers(-60, 60, count // 6) * (math.pi / 2)
    denormal = rng.integers(1, 2 ** (np.finfo(dtype).nmant - 1), count // 10).astype(unsigned).view(dtype)
    bits[~np.isfinite(bits)] = 1.0
    values = np.concatenate([bits, *spread, near_one, multiples, denormal, -denormal, [0.5, 1.0, -1.0]]).astype(dtype)
    if name == "erfcx":
        values = values[values > -limit / 30]
    if name == "lgamma" and dtype == DOUBLE:
        # Between negative whole numbers lie zeros, next to which no digit of a double is left.
        values = np.abs(values)
    return np.ascontiguousarray(values[np.isfinite(values) & (values != 0)])


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize("name", BOUNDS)
def test_error_is_within_its_bound(name: str, dtype: np.dtype[Any]) -> None:
    x = samples(name, dtype, 900 if dtype == SINGLE else 600)
    got = call(name, x)
    errors = ulps(name, got, (x,))
    worst = int(np.argmax(errors))
    assert errors[worst] <= BOUNDS[name][dtype == DOUBLE], f"{name}({x[worst]!r}) gave {got[worst]!r}"
    np.testing.assert_array_equal(call(name, x, lanes=0), got, err_msg="a scalar gives another result than a vector")


@pytest.mark.parametrize("permute", [None, ""], ids=["as the host has it", "without tables in registers"])
def test_erf_over_its_whole_range(permute: str | None) -> None:
    # Every 509th float that is not yet 1, against erf of doubles.
    first, last = (np.float32(x).view(np.int32) for x in (1e-30, 4.1))
    x = np.arange(first, last, 509, dtype=np.int32).view(np.float32)
    got, exact = call("erf", x, permute=permute), call("erf", x.astype(np.float64), lanes=8)
    assert (np.abs(got - exact) / np.spacing(exact.astype(np.float32))).max() <= BOUNDS["erf"][0]
    assert got.max() == 1.0 and got[-1] == 1.0


@pytest.mark.parametrize("lanes", [2, 4, 8, 32])
@pytest.mark.parametrize("name", ["exp", "sin", "pow", "fmod", "erf"])
def test_result_does_not_depend_on_the_width_of_the_vector(name: str, lanes: int) -> None:
    x = np.random.default_rng(3).uniform(-5e6, 5e6, 200).astype(np.float32) * np.float32(1e-5)
    x[::7] *= np.float32(1e9)
    arrays = (np.abs(x), x[::-1].copy()) if name in ("pow", "fmod") else (x,)
    np.testing.assert_array_equal(call(name, *arrays, lanes=lanes), call(name, *arrays))


INF, NAN = math.inf, math.nan
# (operand, result); zeros are compared with their sign.
BORDERS: dict[str, list[tuple[float, float]]] = {
    "exp": [(0.0, 1.0), (-INF, 0.0), (INF, INF), (1e4, INF), (-1e4, 0.0)],
    "exp2": [(10.0, 1024.0), (-20.0, 2.0**-20), (-INF, 0.0), (INF, INF), (5000.0, INF)],
    "exp10": [(0.0, 1.0), (-INF, 0.0), (INF, INF)],
    "expm1": [(0.0, 0.0), (-0.0, -0.0), (-INF, -1.0), (INF, INF), (1e-30, 1e-30)],
    "log": [(0.0, -INF), (-0.0, -INF), (1.0, 0.0), (INF, INF), (-1.0, NAN), (-INF, NAN)],
    "log2": [(0.0, -INF), (8.0, 3.0), (2.0**-140, -140.0), (INF, INF), (-1.0, NAN)],
    "log10": [(0.0, -INF), (1.0, 0.0), (INF, INF), (-1.0, NAN)],
    "log1p": [(0.0, 0.0), (-0.0, -0.0), (-1.0, -INF), (-2.0, NAN), (INF, INF), (1e-30, 1e-30)],
    "sin": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "cos": [(0.0, 1.0), (-0.0, 1.0), (INF, NAN), (-INF, NAN)],
    "tan": [(0.0, 0.0), (-0.0, -0.0), (INF, NAN), (-INF, NAN)],
    "sinpi": [(0.0, 0.0), (-0.0, -0.0), (1.0, 0.0), (-1.0, -0.0), (0.5, 1.0), (-1.5, 1.0), (1e9, 0.0), (INF, NAN)],
    "cospi": [(0.0, 1.0), (1.0, -1.0), (0.5, 0.0), (1e9, 1.0), (16777218.0, 1.0), (INF, NAN)],
    "asin": [(0.0, 0.0), (-0.0, -0.0), (2.0, NAN)],
    "acos": [(1.0, 0.0), (2.0, NAN), (-2.0, NAN)],
    "atan": [(0.0, 0.0), (-0.0, -0.0), (INF, math.pi / 2), (-INF, -math.pi / 2)],
    "sinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "cosh": [(0.0, 1.0), (INF, INF), (-INF, INF)],
    "tanh": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (50.0, 1.0)],
    "asinh": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-INF, -INF)],
    "acosh": [(1.0, 0.0), (0.5, NAN), (-1e9, NAN), (INF, INF)],
    "atanh": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (2.0, NAN)],
    "erf": [(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (30.0, 1.0)],
    "erfc": [(0.0, 1.0), (INF, 0.0), (-INF, 2.0)],
    "erfcx": [(0.0, 1.0), (INF, 0.0), (-INF, INF)],
    "normcdf": [(0.0, 0.5), (INF, 1.0), (-INF, 0.0)],
    "erfinv": [(0.0, 0.0), (-0.0, -0.0), (1.0, INF), (-1.0, -INF), (1.5, NAN), (-INF, NAN)],
    "erfcinv": [(0.0, INF), (1.0, 0.0), (2.0, -INF), (-0.5, NAN), (2.5, NAN), (INF, NAN)],
    "normcdfinv": [(0.0, -INF), (1.0, INF), (-0.5, NAN), (INF, NAN)],
    "lgamma": [(0.0, INF), (-0.0, INF), (1.0, 0.0), (2.0, 0.0), (-1.0, INF), (-8e9, INF), (INF, INF), (-INF, INF)],
    "tgamma": [(0.0, INF), (-0.0, -INF), (1.0, 1.0), (5.0, 24.0), (-1.0, NAN), (INF, INF), (-INF, NAN), (-300.5, -0.0)],
    "sqrt": [(0.0, 0.0), (-0.0, -0.0), (INF, INF), (-1.0, NAN)],
    "rsqrt": [(0.0, INF), (INF, 0.0), (-1.0, NAN)],
    "cbrt": [(0.0, 0.0), (-0.0, -0.0), (27.0, 3.0), (-8.0, -2.0), (INF, INF), (-INF, -INF)],
    "rcbrt": [(0.0, INF), (-0.0, -INF), (INF, 0.0)],
    "logb": [(0.0, -INF), (INF, INF), (1.0, 0.0), (12.0, 3.0), (-0.3, -2.0)],
    "saturate": [(-1.0, 0.0), (0.25, 0.25), (7.0, 1.0)],
    "round": [(0.5, 1.0), (-2.5, -3.0), (1.4, 1.0)],
    "rint": [(0.5, 0.0), (2.5, 2.0), (-1.6, -2.0)],
    "trunc": [(1.9, 1.0), (-1.9, -1.0)],
}


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize("name", BORDERS)
def test_borders(name: str, dtype: np.dtype[Any]) -> None:
    x, want = np.array([*BORDERS[name], (NAN, 0.0 if name == "saturate" else NAN)], dtype).T
    got = call(name, np.ascontiguousarray(x))
    np.testing.assert_array_equal(got, want)
    real = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(want[real]))


# Two operands and more ------------------------------------------------------------------------------------------


def pairs(dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """Every pair of border values, then random ones."""
    info = np.finfo(dtype)
    border = [0, 1, 2, 3, 0.5, 1.5, INF, NAN, info.smallest_subnormal, info.tiny, info.max, 2**24 - 1, 2**24 + 2, 1e10]
    signed = np.array([*border, *(-value for value in border)], dtype)
    first, second = (grid.ravel() for grid in np.meshgrid(signed, signed))
    rng = np.random.default_rng(11)
    unsigned = np.uint32 if dtype == SINGLE else np.uint64
    bits = rng.integers(0, np.iinfo(unsigned).max, (2, 400), dtype=unsigned, endpoint=True).view(dtype)
    random = [rng.uniform(-20, 20, (2, 400)), rng.integers(-99, 99, (2, 400))]
    near_one = np.stack([rng.uniform(0.9, 1.1, 400), rng.uniform(-800, 800, 400)])
    random = [part.astype(dtype) for part in (*random, near_one)]
    x, y = np.concatenate([np.stack([first, second]), bits, *random], axis=1)
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_pow(dtype: np.dtype[Any]) -> None:
    x, y = pairs(dtype)
    got = call("pow", x, y)
    with np.errstate(all="ignore"):
        rough = np.power(x.astype(np.float64), y.astype(np.float64)).astype(dtype)
    plain = np.isfinite(x) & np.isfinite(y) & (x != 0) & np.isfinite(rough) & (rough != 0)
    np.testing.assert_array_equal(got[~plain], rough[~plain])
    np.testing.assert_array_equal(np.signbit(got[~plain & ~np.isnan(got)]), np.signbit(rough[~plain & ~np.isnan(got)]))
    assert ulps("pow", got[plain], (x[plain], y[plain])).max() <= (0.51 if dtype == SINGLE else 2)
    np.testing.assert_array_equal(call("pow", x, y, lanes=0), got)


def test_pow_of_whole_numbers_is_exact() -> None:
    x, n = (grid.ravel().astype(np.float64) for grid in np.meshgrid(np.arange(-12, 13), np.arange(0, 15)))
    assert call("pow", x, n).tolist() == [int(a) ** int(b) for a, b in zip(x, n, strict=True)]


def test_sine_and_cosine_never_leave_the_unit_interval() -> None:
    x = np.concatenate([np.arange(-4000, 4000) * (math.pi / 2), np.linspace(-1e-3, 1e-3, 4000)])
    for dtype in (SINGLE, DOUBLE):
        for name in ("sin", "cos", "sinpi", "cospi"):
            assert np.abs(call(name, x.astype(dtype))).max() <= 1


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize("name", ["fmod", "remainder"])
def test_division_with_remainder_is_exact(name: str, dtype: np.dtype[Any]) -> None:
    def true(x: float, y: float) -> float:
        try:
            return getattr(math, name)(x, y)
        except ValueError:
            return NAN

    x, y = pairs(dtype)
    want = np.array([true(*pair) for pair in zip(x.tolist(), y.tolist(), strict=True)], dtype)
    for lanes in (0, 16):
        got = call(name, x, y, lanes=lanes)
        np.testing.assert_array_equal(got, want)
        real = ~np.isnan(got)
        np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(want[real]))


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_atan2_in_every_quadrant(dtype: np.dtype[Any]) -> None:
    y, x = pairs(dtype)
    got = call("atan2", y, x)
    with np.errstate(invalid="ignore"):
        want = np.arctan2(y.astype(np.longdouble), x.astype(np.longdouble))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    real = ~np.isnan(got)
    np.testing.assert_array_equal(np.signbit(got[real]), np.signbit(want[real]))
    spacing = np.abs(np.spacing(want[real].astype(dtype))).astype(np.longdouble)
    assert (np.abs(got[real] - want[real]) / spacing).max() <= 2


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_hypot_neither_overflows_nor_underflows(dtype: np.dtype[Any]) -> None:
    x, y = pairs(dtype)
    plain = np.isfinite(x) & np.isfinite(y)
    got = call("hypot", x, y)
    assert ulps("hypot", got[plain], (x[plain], y[plain])).max() <= 1
    infinite = np.isinf(x) | np.isinf(y)
    assert (got[infinite] == INF).all()
    assert np.isnan(got[~infinite & ~plain]).all()


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
@pytest.mark.parametrize("count", [3, 4])
def test_norms(count: int, dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(5)
    arrays = tuple((rng.normal(size=300) * 10.0 ** rng.integers(-44, 38, 300)).astype(dtype) for _ in range(count))
    assert ulps(f"norm{count}d", call(f"norm{count}d", *arrays), arrays).max() <= 1
    inverse = call(f"rnorm{count}d", *arrays).astype(np.float64) * call(f"norm{count}d", *arrays)
    sound = np.isfinite(inverse) & (inverse != 0)
    assert sound.sum() > 250
    np.testing.assert_allclose(inverse[sound], 1.0, rtol=1e-5)


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE], ids=str)
def test_ldexp_ilogb_nextafter_as_numpy(dtype: np.dtype[Any]) -> None:
    x, y = pairs(dtype)
    n = np.random.default_rng(1).integers(-2500, 2500, len(x)).astype(np.int32)
    n[:6] = [2**31 - 1, -(2**31), 0, 1, -1074, 1023]
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(call("ldexp", x, n), np.ldexp(x, n))
        np.testing.assert_array_equal(call("nextafter", x, y), np.nextafter(x, y))
    plain = np.isfinite(x) & (x != 0)
    want = np.frexp(x[plain])[1] - 1
    np.testing.assert_array_equal(call("ilogb", x[plain]), want)
    np.testing.assert_array_equal(call("logb", x[plain]), want.astype(dtype))
    assert call("ilogb", np.array([0.0, INF, NAN], dtype)).tolist() == [-(2**31), 2**31 - 1, -(2**31)]


def test_powi_takes_a_whole_exponent() -> None:
    x = np.array([2.0, -2.0, 0.0, 3.0, NAN, -1.0], np.float64)
    n = np.array([10, -3, -1, 20, 0, 2**31 - 1], np.int32)
    assert call("powi", x, n).tolist() == [1024.0, -0.125, INF, 3.0**20, 1.0, -1.0]
    assert call("powi", x.astype(np.float32), n)[3] == np.float32(3.0**20)


def test_signs_and_classes() -> None:
    x = np.array([1.0, -0.0, INF, -INF, NAN, -3.0], np.float32)
    y = np.array([-1.0, 1.0, -1.0, 1.0, 1.0, -0.0], np.float32)
    assert call("isnan", x).tolist() == [0, 0, 0, 0, 1, 0]
    assert call("isinf", x).tolist() == [0, 0, 1, 1, 0, 0]
    assert call("isfinite", x).tolist() == [1, 1, 0, 0, 0, 1]
    assert call("signbit", x)[:4].tolist() == [0, 1, 0, 1]
    np.testing.assert_array_equal(call("copysign", x, y), np.copysign(x, y))
    np.testing.assert_array_equal(call("fdim", x, y), np.array([2.0, 0.0, INF, 0.0, NAN, 0.0], np.float32))
    np.testing.assert_array_equal(call("abs", x), np.abs(x))
    one = np.array([1.0 + 2.0**-12], np.float32)
    assert call("fma", one, one, -one)[0] == np.float32((1 + 2**-12) ** 2 - (1 + 2**-12))


# Integers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.dtype(np.int32), np.dtype(np.int64)], ids=str)
def test_bits_of_integers(dtype: np.dtype[Any]) -> None:
    bits, info = dtype.itemsize * 8, np.iinfo(dtype)
    rng = np.random.default_rng(2)
    x, y = rng.integers(info.min, info.max, (2, 200), dtype=dtype, endpoint=True)
    x[:5] = [0, 1, -1, info.min, info.max]
    texts = [format(int(value) % 2**bits, f"0{bits}b") for value in x]
    assert call("popc", x).tolist() == [text.count("1") for text in texts]
    assert call("clz", x).tolist() == [bits - len(text.lstrip("0")) for text in texts]
    assert call("ffs", x).tolist() == [bits - text.rindex("1") if "1" in text else 0 for text in texts]
    assert [value % 2**bits for value in call("brev", x).tolist()] == [int(text[::-1], 2) for text in texts]
    exact = [int(a) * int(b) >> bits for a, b in zip(x, y, strict=True)]
    assert call("mulhi", x, y).tolist() == exact
    unsigned = [(int(a) % 2**bits) * (int(b) % 2**bits) >> bits for a, b in zip(x, y, strict=True)]
    assert [value % 2**bits for value in call("umulhi", x, y).tolist()] == unsigned
    np.testing.assert_array_equal(call("abs", x), np.abs(x))


def _wrap(value: int) -> int:
    return (value + 2**31) % 2**32 - 2**31


INTEGER_RULES: dict[str, Callable[..., int]] = {
    "hadd": lambda a, b: (a + b) >> 1,
    "rhadd": lambda a, b: (a + b + 1) >> 1,
    "uhadd": lambda a, b: (a % 2**32 + b % 2**32) >> 1,
    "urhadd": lambda a, b: (a % 2**32 + b % 2**32 + 1) >> 1,
    "mul24": lambda a, b: ((a + 2**23) % 2**24 - 2**23) * ((b + 2**23) % 2**24 - 2**23),
    "umul24": lambda a, b: (a % 2**24) * (b % 2**24),
    "sad": lambda a, b, c: abs(a - b) + c,
    "usad": lambda a, b, c: abs(a % 2**32 - b % 2**32) + c,
    "byte_perm": lambda a, b, s: int.from_bytes(
        (((b % 2**32) << 32 | a % 2**32) >> 8 * ((s >> 4 * i) & 7) & 255 for i in range(4)), "little"
    ),
}


@pytest.mark.parametrize("name", INTEGER_RULES)
def test_integer_functions(name: str) -> None:
    rng = np.random.default_rng(4)
    arity = INTEGER_RULES[name].__code__.co_argcount
    arrays = rng.integers(-(2**31), 2**31, (arity, 100)).astype(np.int32)
    arrays[:, :2] = np.array([[-(2**31), 2**31 - 1]] * arity)
    want = [_wrap(INTEGER_RULES[name](*operands)) for operands in arrays.T.tolist()]
    assert call(name, *arrays).tolist() == want


@pytest.mark.parametrize("mode, rounding", [("rn", np.rint), ("rz", np.trunc), ("rd", np.floor), ("ru", np.ceil)])
def test_conversions_round_and_saturate(mode: str, rounding: Any) -> None:
    x = np.array([0.5, 1.5, -1.5, 2.7, -2.7, 1e30, -1e30, NAN, INF], np.float32)
    inside = np.clip(np.nan_to_num(rounding(x), nan=0.0), -9e18, 9e18).astype(np.int64)
    for name, (low, high) in {"int": (-(2**31), 2**31 - 1), "uint": (0, 2**32 - 1)}.items():
        got = call(f"float2{name}_{mode}", x).astype(np.int64) & (2**32 - 1)
        assert got.tolist() == [max(low, min(int(value), high)) % 2**32 for value in inside]
    wide = call(f"double2ll_{mode}", x.astype(np.float64))
    assert wide[:5].tolist() == inside[:5].tolist()
    assert wide[5:].tolist() == [2**63 - 1, -(2**63), 0, 2**63 - 1]
    assert call(f"double2ull_{mode}", np.array([-5.0, 2.0**64, 7.0])).astype(np.uint64).tolist() == [0, 2**64 - 1, 7]


def test_integers_to_floats_and_bits() -> None:
    x = np.array([0, 1, -1, 2**24 + 1, 2**31 - 1], np.int32)
    np.testing.assert_array_equal(call("int2float_rn", x), x.astype(np.float32))
    np.testing.assert_array_equal(call("uint2double_rn", x), x.astype(np.uint32).astype(np.float64))
    wide = np.array([0, -1, 2**53 + 1, -(2**63)], np.int64)
    np.testing.assert_array_equal(call("ll2double_rn", wide), wide.astype(np.float64))
    np.testing.assert_array_equal(call("ull2float_rn", wide), wide.astype(np.uint64).astype(np.float32))
    np.testing.assert_array_equal(call("int_as_float", x[:4]), x[:4].view(np.float32))
    y = np.array([1.0, -2.5, 1e300, 3.7])
    np.testing.assert_array_equal(call("double_as_longlong", y), y.view(np.int64))
    high, low = call("double2hiint", y), call("double2loint", y)
    np.testing.assert_array_equal(call("hiloint2double", high, low), y)
    np.testing.assert_array_equal(call("double2float_rn", y[[0, 1, 3]]), y[[0, 1, 3]].astype(np.float32))
    assert call("llrint", np.array([2.5, 3.5], np.float32)).tolist() == [2, 4]
    assert call("llround", np.array([2.5, -3.5], np.float32)).tolist() == [3, -4]


# The code -------------------------------------------------------------------------------------------------------

# The most vector instructions that sixteen floats may take with AVX-512, loading and storing them included.
INSTRUCTIONS = {"exp": 19, "exp2": 18, "expm1": 22, "log": 32, "log2": 33, "tanh": 32, "erf": 22, "sin": 26, "cos": 26}


def assembly(
    name: str, operands: list[LType], cpu: str, triple: str = "x86_64-unknown-linux-gnu", permute: str = ""
) -> list[str]:
    """The instructions of a kernel for a processor, one a line."""
    initialised()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu, "", opt=3)
    lines = machine.emit_assembly(optimised(module_text(name, operands, 16, permute)[0], machine)).split("\n")
    return [line.split("#")[0].strip() for line in lines]


def usual_path(name: str) -> list[str]:
    """The vector instructions of a step. Blocks that compute in double are the rare path for huge angles."""
    blocks: list[list[str]] = [[]]
    for line in assembly(name, [F32], "znver4", permute=rows.by_name("x86-64-avx512").permute):
        if line.startswith((".LBB", "j")):
            blocks.append([])
        elif line.startswith(("v", "k")) and line != "vzeroupper":
            blocks[-1].append(line)
    usual = [block for block in blocks[1:] if not any(line.split()[0].endswith("pd") for line in block)]
    return [line for block in usual for line in block if not line.startswith(("vbroadcast", "vpbroadcast"))]


@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_hot_functions_stay_short(name: str) -> None:
    assert 10 < len(usual_path(name)) <= INSTRUCTIONS[name]


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("name", [*BOUNDS, "pow", "atan2", "fmod", "remainder", "hypot", "round"])
def test_no_call_leaves_the_vector_unit(name: str, dtype: LType) -> None:
    operands = [dtype] * (2 if name in ("pow", "atan2", "fmod", "remainder", "hypot") else 1)
    for cpu, triple in (("x86-64-v3", "x86_64-unknown-linux-gnu"), ("neoverse-n1", "aarch64-unknown-linux-gnu")):
        lines = assembly(name, operands, cpu, triple)
        assert "ret" in lines or "retq" in lines
        assert not [line for line in lines if line.split()[:1] in (["call"], ["callq"], ["bl"], ["blr"])]
