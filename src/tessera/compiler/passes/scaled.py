"""`dot_scaled` becomes conversions, products with the scales, and a plain `dot`.

    dot_scaled a scale s, b scale t, c   →   dot (float(a) · 2^(s − 127)), (float(b) · 2^(t − 127)), c

A scale stands for a group of neighbours along K: s[…, m, k // group] and t[…, n, k // group]. Sources: Open Compute
Project, "Microscaling Formats (MX) Specification"; the semantics of `tl.dot_scaled`.

The products are exact in bfloat16, which has the exponents of the scales and more mantissa than 8- and 4-bit floats,
unless an operand is float16.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.errors import fail
from tessera.ir.nodes import Block, Module, Op, Region, Value, made, placed, substitute
from tessera.ir.types import BlockType, ScalarType, Type, element_of, shape_of

_F32 = ScalarType("f32")
_FORMATS = ("e2m1", "e4m3", "e5m2", "bf16", "fp16")


def run(module: Module) -> None:
    """Rewrite every `dot_scaled` of the module."""
    for function in module.functions:
        for block, op in placed(function.body):
            if op.name == "dot_scaled":
                _rewrite(block, op, function.body)


@dataclass(frozen=True)
class _Side:
    """One operand; `depth` and `across` count from the end of its shape. 4-bit floats are packed along `packed`."""

    value: Value
    scale: Value | None
    format: str
    depth: int
    across: int
    packed: int


def _sides(op: Op) -> list[_Side]:
    operands = iter(op.operands)
    sides = []
    for name, scaled, depth, across in zip(("lhs", "rhs"), op.attrs["scaled"], (-1, -2), (-2, -1), strict=True):
        format = op.attrs[name]
        if format not in _FORMATS:
            raise fail(f"dot_scaled of {format} is not supported; known are {', '.join(_FORMATS)}", op.location)
        packed = depth if op.attrs.get(f"{name}_k_pack", True) else across
        sides.append(_Side(next(operands), next(operands) if scaled else None, format, depth, across, packed))
    return sides


def _rewrite(block: Block, op: Op, scope: Region) -> None:
    sides = _sides(op)
    exact = ScalarType("f32" if any(side.format == "fp16" for side in sides) else "bf16")
    new: list[Op] = []
    product = _add(new, "dot", [*(_factor(new, side, exact) for side in sides), op.operands[-1]], op.result.type)
    substitute(scope, block, op, new, [product])


def _add(new: list[Op], name: str, operands: list[Value], type: Type, **attrs: object) -> Value:
    value = made(name, operands, type, **attrs)
    assert isinstance(value.owner, Op)
    new.append(value.owner)
    return value


def _factor(new: list[Op], side: _Side, exact: ScalarType) -> Value:
    """One factor of the plain product."""
    wide = _widened(new, side)
    if side.scale is not None:
        wide = _add(new, "mulf", [wide, _spread(new, side, _scale(new, side.scale), shape_of(wide.type))], wide.type)
    return wide if exact == _F32 else _add(new, "truncf", [wide], BlockType(shape_of(wide.type), exact))


def _widened(new: list[Op], side: _Side) -> Value:
    """The operand's elements as float."""
    shape = list(shape_of(side.value.type))
    if side.format != "e2m1":
        name = "fp_to_fp" if side.format.startswith("e") else "extf"
        return _add(new, name, [side.value], BlockType(tuple(shape), _F32))
    shape[side.packed] *= 2
    return _add(new, "fp4_to_fp", [side.value], BlockType(tuple(shape), _F32), axis=len(shape) + side.packed)


def _scale(new: list[Op], scale: Value) -> Value:
    element = element_of(scale.type)
    coded = isinstance(element, ScalarType) and element.is_float
    return _add(new, "fp_to_fp" if coded else "e8m0_to_fp", [scale], BlockType(shape_of(scale.type), _F32))


def _spread(new: list[Op], side: _Side, scale: Value, shape: tuple[int, ...]) -> Value:
    """Every scale […, M or N, K // group] repeated over its group, in the shape of its operand."""
    rank = len(shape)
    if side.depth == -2:
        order = (*range(rank - 2), rank - 1, rank - 2)
        turned = tuple(shape_of(scale.type)[dim] for dim in order)
        scale = _add(new, "trans", [scale], BlockType(turned, _F32), order=order)
    at = rank + side.depth + 1
    own = shape_of(scale.type)
    group = shape[side.depth] // own[side.depth]
    scale = _add(new, "expand_dims", [scale], BlockType((*own[:at], 1, *own[at:]), _F32), axis=at)
    scale = _add(new, "broadcast", [scale], BlockType((*own[:at], group, *own[at:]), _F32))
    return _add(new, "reshape", [scale], BlockType(shape, _F32))
