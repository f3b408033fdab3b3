"""Conversions between floats and integers, and rounding to whole numbers."""

from __future__ import annotations

from collections.abc import Callable

from tessera.compiler.llvm.mathlib.number import Num

Function = Callable[..., Num]
# LLVM's intrinsic for each direction of rounding, as CUDA abbreviates them.
ROUNDING = {"rn": "roundeven", "rz": "trunc", "rd": "floor", "ru": "ceil"}
# Integer types by the names that CUDA's conversions use.
INTEGERS = {"int": ("i32", True), "uint": ("i32", False), "ll": ("i64", True), "ull": ("i64", False)}


def to_integer(rounding: str, scalar: str, signed: bool) -> Function:
    """Round, then convert; what does not fit becomes the nearest integer that does, and NaN becomes 0."""
    intrinsic = "fptosi.sat" if signed else "fptoui.sat"

    def convert(x: Num) -> Num:
        to = x.type.with_scalar(scalar)
        whole = x.call(rounding)
        return Num(x.b, x.b.intrinsic(intrinsic, to, [whole.v], [to, x.type]))

    return convert


def from_integer(scalar: str, signed: bool) -> Function:
    return lambda x: x.cast("sitofp" if signed else "uitofp", scalar)


def _rounded(intrinsic: str) -> Function:
    return lambda x: Num(x.b, x.b.rounded(intrinsic, x.v))


def reinterpret(scalar: str) -> Function:
    return lambda x: x.cast("bitcast", scalar)


def hiloint2double(high: Num, low: Num) -> Num:
    return (high.cast("zext", "i64") << 32 | low.cast("zext", "i64")).as_float()


def double2loint(x: Num) -> Num:
    return x.bits().to_int("i32")


def double2hiint(x: Num) -> Num:
    return x.bits().logical_shift_right(32).to_int("i32")


def conversions() -> dict[str, Function]:
    """Every conversion by its name, such as `float2int_rz`."""
    table: dict[str, Function] = {
        "int_as_float": reinterpret("float"),
        "float_as_int": reinterpret("i32"),
        "longlong_as_double": reinterpret("double"),
        "double_as_longlong": reinterpret("i64"),
        "hiloint2double": hiloint2double,
        "double2loint": double2loint,
        "double2hiint": double2hiint,
        "double2float_rn": lambda x: x.cast("fptrunc", "float"),
        "llrint": to_integer("roundeven", "i64", True),
        "llround": to_integer("round", "i64", True),
    }
    for name, (scalar, signed) in INTEGERS.items():
        for mode, rounding in ROUNDING.items():
            table[f"float2{name}_{mode}"] = table[f"double2{name}_{mode}"] = to_integer(rounding, scalar, signed)
        table[f"{name}2float_rn"] = from_integer("float", signed)
        table[f"{name}2double_rn"] = from_integer("double", signed)
    for name in ("floor", "ceil", "trunc", "rint", "nearbyint", "round", "roundeven"):
        table[name] = _rounded(name)
    return table
