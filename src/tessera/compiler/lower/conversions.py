"""Conversions between types of numbers and pointers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import Builder, LType, V, int_const
from tessera.compiler.lower import float8
from tessera.ir.nodes import Op
from tessera.ir.types import ScalarType, element_of

Row = Callable[[Builder, Op, Sequence[V], LType], V]


def convert_float(b: Builder, value: V, to: LType) -> V:
    """To another floating type, rounded to nearest even."""
    if value.type.bits == to.bits and value.type.scalar != to.scalar:
        value = b.cast("fpext", value, value.type.with_scalar("float"))
    if value.type.bits < to.bits:
        return b.cast("fpext", value, to)
    if value.type.scalar == "double" and to.bits == 16:
        # Twice rounded is what PyTorch does as well; a direct conversion would be a call for every element.
        value = b.cast("fptrunc", value, value.type.with_scalar("float"))
    if to.scalar == "half" and not value.type.lanes:
        # Of a scalar that was rounded from float64, LLVM would make one conversion after all.
        value = b.intrinsic("arithmetic.fence", value.type, [value])
    return b.cast("fptrunc", value, to)


def _plain(name: str) -> Row:
    return lambda b, op, args, to: b.cast(name, args[0], to)


def _int_to_float(name: str) -> Row:
    """Half precision by way of float, for which there are vector instructions."""

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        if to.bits > 16:
            return b.cast(name, args[0], to)
        return convert_float(b, b.cast(name, args[0], to.with_scalar("float")), to)

    return row


def _float_to_int(name: str) -> Row:
    """Towards zero; what does not fit wraps through 64 bits for small types, as C compilers for CPUs do."""

    def row(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
        value = args[0]
        if value.type.bits == 16:
            value = b.cast("fpext", value, value.type.with_scalar("float"))
        if to.bits < 32:
            return b.cast("trunc", b.cast("fptosi", value, to.with_scalar("i32")), to)
        return b.cast(name, value, to)

    return row


def _float_to_float(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    source, target = element_of(op.operands[0].type), element_of(op.result.type)
    assert isinstance(source, ScalarType) and isinstance(target, ScalarType)
    for kind in (source, target):
        if kind.name.startswith("f8") and kind.name not in float8.KINDS:
            known = ", ".join(float8.KINDS)
            raise fail(f"the 8-bit float {kind} is not supported on the CPU; known are {known}", op.location)
    towards_zero = op.attrs.get("rounding") == "rtz"
    value = float8.decode(b, args[0], float8.KINDS[source.name]) if source.name in float8.KINDS else args[0]
    if target.name in float8.KINDS:
        return float8.encode(b, value, float8.KINDS[target.name], towards_zero)
    if towards_zero and target.bits < source.bits:
        return _towards_zero(b, value, to, op)
    return convert_float(b, value, to)


def _towards_zero(b: Builder, value: V, to: LType, op: Op) -> V:
    """float32 to half precision: round to nearest, then step back where that went away from zero."""
    if value.type.scalar != "float":
        raise fail("rounding towards zero is supported from float32 only; convert to float32 first", op.location)
    nearest = b.cast("fptrunc", value, to)
    again = b.intrinsic("fabs", value.type, [b.cast("fpext", nearest, value.type)])
    away = b.fcmp("ogt", again, b.intrinsic("fabs", value.type, [value]))
    bits = to.with_scalar("i16")
    code = b.cast("bitcast", nearest, bits)
    return b.cast("bitcast", b.select(away, b.sub(code, int_const(1, bits)), code), to)


def _scale(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return float8.decode_scale(b, args[0])


def _bitcast(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    value = args[0]
    if value.type.scalar == "ptr" or value.type == to:
        return value
    if "i1" in (value.type.scalar, to.scalar):
        return b.cast("zext" if to.bits > 1 else "trunc", value, to)
    return b.cast("bitcast", value, to)


def _index_cast(b: Builder, op: Op, args: Sequence[V], to: LType) -> V:
    return b.cast("sext" if to.bits > args[0].type.bits else "trunc", args[0], to)


ROWS: dict[str, Row] = {
    "extsi": _plain("sext"), "extui": _plain("zext"), "trunci": _plain("trunc"),
    "sitofp": _int_to_float("sitofp"), "uitofp": _int_to_float("uitofp"),
    "fptosi": _float_to_int("fptosi"), "fptoui": _float_to_int("fptoui"),
    "extf": _float_to_float, "truncf": _float_to_float, "fp_to_fp": _float_to_float,
    "e8m0_to_fp": _scale, "bitcast": _bitcast, "index_cast": _index_cast,
    "int_to_ptr": _plain("inttoptr"), "ptr_to_int": _plain("ptrtoint"),
}  # fmt: skip
