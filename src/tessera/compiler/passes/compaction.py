"""Stores that put the elements for which a mask holds one behind the other: `store(to + cumsum(mask) - 1, x, mask)`.

Source: Blelloch, "Prefix Sums and Their Applications", 1990, Carnegie Mellon CMU-CS-90-190 (there: pack)
"""

from __future__ import annotations

from collections.abc import Iterator

from tessera.compiler.passes.prefixes import is_mask
from tessera.compiler.passes.strides import step, uniform_scalar
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, ScalarType, element_of, shape_of

_WIDER = ("extsi", "extui")
_BYTES = {"ptr<i1>", "ptr<i8>"}


def is_packing(pointer: Value, mask: Value) -> bool:
    """Does each element of a row for which `mask` holds lie behind the last one for which it holds?"""
    if not isinstance(pointer.type, BlockType) or len(pointer.type.shape) != 1:
        return False
    terms = [term for term in _terms(pointer) if step(term, 0) != 0]
    return len(terms) == 1 and _counts(terms[0], mask)


def _terms(value: Value) -> Iterator[Value]:
    """What a value is the sum of, but for what is subtracted, which stands still."""
    owner = value.owner
    if not isinstance(owner, Op):
        yield value
    elif owner.name in ("addptr", "addi"):
        for operand in owner.operands:
            yield from _terms(operand)
    elif owner.name in _WIDER or _keeps_size(owner) or (owner.name == "subi" and step(owner.operands[1], 0) == 0):
        yield from _terms(owner.operands[0])
    else:
        yield value


def _keeps_size(op: Op) -> bool:
    """Is this a pointer to truth values, taken for one to the bytes that they are kept in?"""
    return op.name == "bitcast" and {str(element_of(op.operands[0].type)), str(element_of(op.result.type))} == _BYTES


def _counts(value: Value, mask: Value) -> bool:
    """Is this how often `mask` holds up to each element?"""
    owner = value.owner
    if not isinstance(owner, Op) or owner.name != "scan" or len(owner.operands) != 1 or owner.attrs.get("reverse"):
        return False
    combiner = owner.regions[0].block
    adds = [op.name for op in combiner.ops] == ["addi", "scan.return"]
    counted = _widened(owner.operands[0])
    if not adds or set(combiner.ops[0].operands) != set(combiner.args) or not _holds_all(owner.operands[0]):
        return False
    return is_mask(counted) and _same(counted, mask)


def _holds_all(counted: Value) -> bool:
    """Can the type of what is counted hold as large a number as the row is long?"""
    element = element_of(counted.type)
    return isinstance(element, ScalarType) and shape_of(counted.type)[0] < 1 << (element.bits - 1)


def _widened(value: Value) -> Value:
    """The mask that is 1 where it holds in `value`, and 0 elsewhere; something else if there is none."""
    while isinstance(value.owner, Op) and value.owner.name in _WIDER and not is_mask(value):
        owner, value = value.owner, value.owner.operands[0]
        if owner.name == "extsi" and is_mask(value):
            # -1 where it holds.
            return owner.result
    return value


def _same(one: Value, other: Value) -> bool:
    return one is other or _asked(one) is _asked(other)


def _asked(mask: Value) -> Value:
    """What a mask asks whether it is not 0, through masks that were widened and asked again."""
    while isinstance(owner := mask.owner, Op) and (owner.name == "extui" or _asks(owner)):
        mask = owner.operands[0]
    return mask


def _asks(op: Op) -> bool:
    """Is this whether a value is not 0?"""
    return op.name == "cmpi" and op.attrs["words"][0] == "ne" and uniform_scalar(op.operands[1]) == 0
