"""`tl.extra.libdevice` for the CPU: every name of Triton's portable list.

In:  calls in a kernel; the compiler's front end finds this module through the back end's module map.
Out: `tt.extern_elementwise` with the symbol `tessera_NAME`, which the compiler looks up in its table of functions.

Types are exact, as on GPUs: a float function takes fp32 or fp64, and what does not fit raises with the types that do.
"""

from __future__ import annotations

import difflib
from typing import Any

from triton.language import core

# Types of the operands → (name in the compiler's table, type of the result).
Overloads = dict[tuple[str, ...], tuple[str, str]]

_FLOATS = ("fp32", "fp64")


def _same(symbol: str, arity: int = 1, types: tuple[str, ...] = _FLOATS) -> Overloads:
    """Operands and result of one type."""
    return {(type,) * arity: (symbol, type) for type in types}


def _to(result: str, symbol: str, types: tuple[str, ...] = _FLOATS) -> Overloads:
    """One operand of any of `types`."""
    return {(type,): (symbol, result) for type in types}


def _of_order(symbol: str) -> Overloads:
    """An order before the operand."""
    return {("int32", type): (symbol, type) for type in _FLOATS}


_ONE_FLOAT = (
    "exp exp2 exp10 expm1 log log2 log10 log1p sin cos tan sinpi cospi asin acos atan sinh cosh tanh asinh acosh atanh "
    "erf erfc erfcx normcdf erfinv erfcinv normcdfinv lgamma tgamma sqrt rsqrt cbrt rcbrt "
    "floor ceil trunc rint nearbyint round logb "
    "j0 j1 y0 y1 cyl_bessel_i0 cyl_bessel_i1"
)
_TWO_FLOATS = "atan2 hypot rhypot fmod remainder copysign nextafter fdim"
# Quick versions on a GPU; here the accurate ones are quick enough.
_FAST = "sin cos tan exp exp10 log log2 log10 tanh"
_ROUNDED = {"add": 2, "sub": 2, "mul": 2, "div": 2, "rcp": 1, "sqrt": 1, "fma": 3}
_DIRECTED = ("rd", "ru", "rz")
_CONVERTED = {"int": "int32", "uint": "int32", "ll": "int64", "ull": "int64"}
_SOURCES = {"int": "int32", "uint": "uint32", "ll": "int64", "ull": "uint64"}


def _float_functions() -> dict[str, Overloads]:
    table = {name: _same(name) for name in _ONE_FLOAT.split()}
    table |= {name: _same(name, 2) for name in _TWO_FLOATS.split()}
    table |= {f"fast_{name}f": _same(name, types=("fp32",)) for name in _FAST.split()}
    table |= {f"{name}_rn": _same(name, arity) for name, arity in _ROUNDED.items()}
    for mode in _DIRECTED:
        table |= {f"{name}_{mode}": _same(f"{name}_{mode}", arity) for name, arity in _ROUNDED.items()}
    table |= {f"{prefix}norm{n}d": _same(f"{prefix}norm{n}d", n) for prefix in ("", "r") for n in (3, 4)}
    scaled: Overloads = {(type, "int32"): ("ldexp", type) for type in _FLOATS}
    powers: Overloads = {(type, "int32"): ("powi", type) for type in _FLOATS}
    return table | {
        "fma": _same("fma", 3),
        "pow": powers | _same("pow", 2),
        "jn": _of_order("jn"),
        "yn": _of_order("yn"),
        "ldexp": scaled,
        "scalbn": scaled,
        "rsqrt_rn": _same("rsqrt", types=("fp32",)),
        "saturatef": _same("saturate", types=("fp32",)),
        "fast_powf": _same("pow", 2, ("fp32",)),
        "fast_dividef": _same("div", 2, ("fp32",)),
        "isnan": _to("int1", "isnan"),
        "isinf": _to("int1", "isinf"),
        "finitef": _to("int1", "isfinite", ("fp32",)),
        "isfinited": _to("int1", "isfinite", ("fp64",)),
        "signbit": _to("int32", "signbit"),
        "ilogb": _to("int32", "ilogb"),
    }


def _signed_or_not(name: str, arity: int, bits: tuple[int, ...] = (32,)) -> Overloads:
    """An integer function with a second version for unsigned operands."""
    overloads: Overloads = {}
    for width in bits:
        overloads |= _same(name, arity, (f"int{width}",)) | _same(f"u{name}", arity, (f"uint{width}",))
    return overloads


def _integer_functions() -> dict[str, Overloads]:
    integers = ("int32", "int64")
    return {
        "abs": _same("abs", types=(*integers, *_FLOATS)),
        "clz": _to("int32", "clz", integers),
        "popc": _to("int32", "popc", integers),
        "ffs": _to("int32", "ffs", integers),
        "brev": _same("brev", types=integers),
        "mulhi": _signed_or_not("mulhi", 2, (32, 64)),
        "mul24": _signed_or_not("mul24", 2),
        "hadd": _signed_or_not("hadd", 2),
        "rhadd": _signed_or_not("rhadd", 2),
        "sad": {("int32", "int32", "uint32"): ("sad", "int32"), ("uint32",) * 3: ("usad", "uint32")},
        "byte_perm": _same("byte_perm", 3, ("int32",)),
    }


def _conversions() -> dict[str, Overloads]:
    table: dict[str, Overloads] = {
        "int_as_float": _to("fp32", "int_as_float", ("int32",)),
        "uint_as_float": _to("fp32", "int_as_float", ("uint32",)),
        "float_as_int": _to("int32", "float_as_int", ("fp32",)),
        "float_as_uint": _to("uint32", "float_as_int", ("fp32",)),
        "longlong_as_double": _to("fp64", "longlong_as_double", ("int64",)),
        "double_as_longlong": _to("int64", "double_as_longlong", ("fp64",)),
        "hiloint2double": {("int32", "int32"): ("hiloint2double", "fp64")},
        "double2loint": _to("int32", "double2loint", ("fp64",)),
        "double2hiint": _to("int32", "double2hiint", ("fp64",)),
        "rcp64h": _to("fp64", "rcp64h", ("fp64",)),
        "llrint": _to("int64", "llrint"),
        "llround": _to("int64", "llround"),
    }
    for kind, type in (("float", "fp32"), ("double", "fp64")):
        for name, result in _CONVERTED.items():
            for mode in ("rn", *_DIRECTED):
                symbol = f"{kind}2{name}_{mode}"
                table[symbol] = _to(result, symbol, (type,))
        for name, source in _SOURCES.items():
            exact = source.endswith("32") and kind == "double"
            for mode in ("rn", *(() if exact else _DIRECTED)):
                symbol = f"{name}2{kind}_{mode}"
                table[symbol] = _to(type, symbol, (source,))
    for symbol in ("double2float_rn", *(f"double2float_{mode}" for mode in _DIRECTED)):
        table[symbol] = _to("fp32", symbol, ("fp64",))
    return table


FUNCTIONS: dict[str, Overloads] = _float_functions() | _integer_functions() | _conversions()


def _check(name: str, overloads: Overloads, args: tuple[Any, ...], semantic: Any) -> None:
    """Raises ValueError, which Triton shows with the kernel's line."""
    given = tuple(str(semantic.to_tensor(arg).dtype) for arg in args)
    if given not in overloads:
        known = " or ".join(f"({', '.join(types)})" for types in overloads)
        raise ValueError(
            f"libdevice.{name} got ({', '.join(given)}) but takes {known}; convert with .to(), as in x.to(tl.float32)"
        )


def _extern(name: str, overloads: Overloads) -> Any:
    table = {
        tuple(core.dtype(type) for type in types): (f"tessera_{symbol}", core.dtype(result))
        for types, (symbol, result) in overloads.items()
    }

    def function(*args: Any, _semantic: Any = None) -> Any:
        _check(name, overloads, args, _semantic)
        return core.extern_elementwise("", "", list(args), table, is_pure=True, _semantic=_semantic)

    function.__name__ = function.__qualname__ = name
    return core.extern(function)


def _no_such(name: str) -> str:
    near = difflib.get_close_matches(name, FUNCTIONS, n=3, cutoff=0.5)
    return (
        f"libdevice.{name} has no CPU version; the {len(FUNCTIONS)} names that do are listed in "
        f"tessera.triton_cpu.libdevice.FUNCTIONS{', nearest: ' + ', '.join(near) if near else ''}"
    )


def __getattr__(name: str) -> Any:
    """The function of this name; made when asked for, as a kernel uses few of them."""
    if name in FUNCTIONS:
        return globals().setdefault(name, _extern(name, FUNCTIONS[name]))
    raise AttributeError(_no_such(name))
