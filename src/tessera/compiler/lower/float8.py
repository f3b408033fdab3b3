"""The 8-bit floats: to and from float, by integer arithmetic on vectors.

Sources: Open Compute Project, "8-bit Floating Point Specification" (E4M3, E5M2); LLVM's APFloat for the FNUZ kinds.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.llvm.builder import Builder, LType, V, const, float_const, int_const


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One format. `largest` is the code of the largest finite number; `nan` the code of a NaN.

    `infinity` is the code of infinity if there is one; `signed_zero` tells whether −0 exists (if not, its code is the
    NaN).
    """

    mantissa: int
    bias: int
    largest: int
    nan: int
    infinity: int | None = None
    signed_zero: bool = True


KINDS = {
    "f8E4M3FN": Kind(mantissa=3, bias=7, largest=0x7E, nan=0x7F),
    "f8E5M2": Kind(mantissa=2, bias=15, largest=0x7B, nan=0x7F, infinity=0x7C),
    "f8E4M3FNUZ": Kind(mantissa=3, bias=8, largest=0x7F, nan=0x80, signed_zero=False),
    "f8E5M2FNUZ": Kind(mantissa=2, bias=16, largest=0x7F, nan=0x80, signed_zero=False),
}


def decode(b: Builder, code: V, kind: Kind) -> V:
    """The float of an 8-bit code.

    The code's exponent and mantissa, moved to their places in a float, are too small by 2^(127 − bias); the product
    with
    that power is exact, and turns what are denormals of the small format into normal floats.
    """
    wide = b.cast("zext", code, code.type.with_scalar("i32"))
    type, floats = wide.type, code.type.with_scalar("float")
    magnitude = b.binary("and", wide, int_const(0x7F, type))
    placed = b.binary("shl", magnitude, int_const(23 - kind.mantissa, type))
    value = b.mul(b.cast("bitcast", placed, floats), float_const(2.0 ** (127 - kind.bias), floats))
    sign = b.binary("shl", b.binary("and", wide, int_const(0x80, type)), int_const(24, type))
    bits = b.binary("or", b.cast("bitcast", value, type), sign)
    if kind.infinity is not None:
        special = b.binary("or", b.binary("or", placed, int_const(0x7F800000, type)), sign)
        bits = b.select(b.icmp("uge", magnitude, int_const(kind.infinity, type)), special, bits)
    else:
        compared = magnitude if kind.signed_zero else wide
        bits = b.select(b.icmp("eq", compared, int_const(kind.nan, type)), int_const(0x7FC00000, type), bits)
    return b.cast("bitcast", bits, floats)


def decode_scale(b: Builder, code: V) -> V:
    """The float 2^(code − 127) of an e8m0 scale; 255 is a NaN."""
    wide = b.cast("zext", code, code.type.with_scalar("i32"))
    type = wide.type
    placed = b.binary("shl", wide, int_const(23, type))
    placed = b.select(b.icmp("eq", wide, int_const(0, type)), int_const(1 << 22, type), placed)
    bits = b.select(b.icmp("eq", wide, int_const(255, type)), int_const(0x7FC00000, type), placed)
    return b.cast("bitcast", bits, code.type.with_scalar("float"))


def decode_e2m1(b: Builder, code: V) -> V:
    """The float of a 4-bit code: sign, two bits of exponent with bias 1, one of mantissa.

    0 and ½ are the codes without an exponent; all others lie in a float as they are.
    """
    wide = b.cast("zext", code, code.type.with_scalar("i32"))
    type = wide.type
    magnitude = b.binary("and", wide, int_const(7, type))
    half = int_const(126 << 23, type)
    normal = b.add(b.binary("shl", magnitude, int_const(22, type)), half)
    small = b.icmp("ule", magnitude, int_const(1, type))
    bits = b.select(small, b.mul(magnitude, half), normal)
    sign = b.binary("shl", b.binary("and", wide, int_const(8, type)), int_const(28, type))
    return b.cast("bitcast", b.binary("or", bits, sign), code.type.with_scalar("float"))


def encode(b: Builder, value: V, kind: Kind, towards_zero: bool) -> V:
    """The 8-bit code of a number, rounded to nearest even or towards zero; what is too large becomes the largest
    finite.

    In double the value times 2^(bias − 1023) has its exponent and mantissa just above the code's, denormals included,
    so
    that one rounding of the bits is the rounding of the number.
    """
    lanes = value.type.lanes
    doubles, type = LType("double", lanes), LType("i64", lanes)
    wide = b.cast("fpext", value, doubles) if value.type.scalar != "double" else value
    bits = b.cast("bitcast", wide, type)
    sign = b.binary("lshr", b.binary("and", bits, int_const(-(1 << 63), type)), int_const(56, type))
    scaled = b.mul(b.intrinsic("fabs", doubles, [wide]), float_const(2.0 ** (kind.bias - 1023), doubles))
    exact = b.cast("bitcast", scaled, type)
    shift = 52 - kind.mantissa
    if not towards_zero:
        odd = b.binary("and", b.binary("lshr", exact, int_const(shift, type)), int_const(1, type))
        exact = b.add(b.add(exact, int_const((1 << (shift - 1)) - 1, type)), odd)
    code = b.intrinsic("umin", type, [b.binary("lshr", exact, int_const(shift, type)), int_const(kind.largest, type)])
    signed = b.binary("or", code, sign)
    if not kind.signed_zero:
        signed = b.select(b.icmp("eq", code, const(0, type)), const(0, type), signed)
    code = b.select(b.fcmp("uno", wide, wide), int_const(kind.nan, type), signed)
    return b.cast("trunc", code, LType("i8", lanes))
