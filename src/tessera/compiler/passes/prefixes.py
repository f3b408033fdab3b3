"""Which masks hold for the first elements along an index and for none after them, such as `cols < n`; which remainders
run on by one until they wrap round, such as `cols % n`.

A walk along that index need look at them once: it has a part where a mask holds everywhere, and one where it holds
nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator

from tessera.compiler.passes import reach
from tessera.compiler.passes.strides import REMAINDERS, step
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of, shape_of

# a < b and the like: which operand grows, and what is added to b - a to count how often the comparison holds.
GROWING = {
    "slt": (0, 0), "ult": (0, 0), "sle": (0, 1), "ule": (0, 1),
    "sgt": (1, 0), "ugt": (1, 0), "sge": (1, 1), "uge": (1, 1),
}  # fmt: skip


def is_mask(value: Value) -> bool:
    element = element_of(value.type)
    return isinstance(value.type, BlockType) and isinstance(element, ScalarType) and element.name == "i1"


def moving(value: Value) -> list[int]:
    """The dimensions along which a value is not known to stand still."""
    return [dim for dim in range(len(shape_of(value.type))) if step(value, dim) != 0]


def counts(value: Value, dim: int) -> bool:
    """Is this `a % d` with `a` growing by one along `dim` and `d` the same everywhere?"""
    owner = value.owner
    if not isinstance(owner, Op) or owner.name not in REMAINDERS or not isinstance(value.type, BlockType):
        return False
    dividend, divisor = owner.operands
    return step(dividend, dim) == 1 and not moving(divisor)


def is_corner(mask: Value) -> bool:
    """Is the mask a prefix along each dimension by itself, so that it holds in a corner of the block?"""
    owner = mask.owner
    dims = moving(mask)
    if not dims or not isinstance(owner, Op):
        return not dims
    if owner.name == "andi":
        return all(is_corner(operand) for operand in owner.operands)
    if owner.name == "cmpi":
        return len(dims) == 1 and _compares(owner, dims[0])
    return owner.name in ("broadcast", "expand_dims", "trans") and is_corner(owner.operands[0])


def ends(mask: Value, dims: reach.Dims) -> Iterator[tuple[Value, int]]:
    """Comparisons that all hold wherever a mask does, and along which of the loops' dimensions `dims` each is a
    prefix."""
    owner, own = mask.owner, moving(mask)
    if not isinstance(owner, Op):
        return
    if owner.name in ("andi", "broadcast", "expand_dims", "trans"):
        for operand, inner in reach.operands(owner, dims):
            yield from ends(operand, inner)
    elif owner.name == "cmpi" and len(own) == 1 and _compares(owner, own[0]):
        dim = dims[own[0]]
        if dim is not None and dim >= 0:
            yield mask, dim


def is_prefix(mask: Value, dim: int) -> bool:
    """Does the mask hold first and then no more along `dim`, whatever the other indices? Not so if it stands still."""
    return step(mask, dim) != 0 and _first(mask, dim)


def _first(mask: Value, dim: int) -> bool:
    """As `is_prefix`, or else the same all along `dim`."""
    if step(mask, dim) == 0:
        return True
    owner = mask.owner
    if not isinstance(owner, Op):
        return False
    if owner.name == "andi":
        return all(_first(operand, dim) for operand in owner.operands)
    if owner.name == "cmpi":
        return _compares(owner, dim)
    source = through(owner, dim)
    return source is not None and _first(*source)


def _compares(op: Op, dim: int) -> bool:
    """Is this `a < b` with `a` growing by one along `dim` while `b` stands still?"""
    row = GROWING.get(op.attrs["words"][0])
    element = element_of(op.operands[0].type)
    if row is None or not isinstance(element, ScalarType) or element.bits < 32:
        return False
    growing, still = op.operands[row[0]], op.operands[1 - row[0]]
    return step(growing, dim) == 1 and step(still, dim) == 0


def through(op: Op, dim: int) -> tuple[Value, int] | None:
    """For an operation that only moves elements: where it takes those along `dim` from."""
    if op.name == "broadcast" and shape_of(op.operands[0].type)[dim] != 1:
        return op.operands[0], dim
    if op.name == "expand_dims" and dim != op.attrs["axis"]:
        return op.operands[0], dim - (dim > op.attrs["axis"])
    if op.name == "trans":
        return op.operands[0], op.attrs["order"][dim]
    return None
