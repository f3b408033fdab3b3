"""Finds the exchange of neighbours that a sorting network writes as arithmetic.

    x ⊕ broadcast(reduce_xor(x, axis))   →   exchange(x, axis)      along an axis of two elements

since a ⊕ (a ⊕ b) = b. What was a loop over the block and scratch for its result becomes a read of the other element.
"""

from __future__ import annotations

from tessera.ir.nodes import Block, Module, Op, Region, Value, made, placed, substitute
from tessera.ir.types import shape_of


def run(module: Module) -> None:
    """Rewrite every function of the module."""
    for function in module.functions:
        for block, op in placed(function.body):
            if op.name == "xori":
                _rewrite(block, op, function.body)


def _rewrite(block: Block, op: Op, scope: Region) -> None:
    for mine, other in (op.operands, op.operands[::-1]):
        axis = _axis_of_sum(other, mine)
        if axis is not None:
            source = _before_bitcast(mine)
            neighbour = made("exchange", [source], source.type, axis=axis)
            result = made("bitcast", [neighbour], op.result.type)
            new = [value.owner for value in (neighbour, result) if isinstance(value.owner, Op)]
            substitute(scope, block, op, new, [result])
            return


def _before_bitcast(value: Value) -> Value:
    """Numbers are sorted as integers of their bits; it is the numbers themselves that are kept."""
    owner = value.owner
    return owner.operands[0] if isinstance(owner, Op) and owner.name == "bitcast" else value


def _axis_of_sum(value: Value, summed: Value) -> int | None:
    """The axis if `value` is, everywhere, the exclusive or of the two elements of `summed` along that axis."""
    broadcast = value.owner
    if not isinstance(broadcast, Op) or broadcast.name != "broadcast":
        return None
    kept = broadcast.operands[0].owner
    if not isinstance(kept, Op) or kept.name not in ("expand_dims", "reshape"):
        return None
    total = kept.operands[0].owner
    if not isinstance(total, Op) or total.name != "reduce" or total.operands != [summed]:
        return None
    axis: int = total.attrs["axis"]
    shape = shape_of(summed.type)
    alone = (*shape[:axis], 1, *shape[axis + 1 :])
    return axis if shape[axis] == 2 and shape_of(kept.result.type) == alone and _is_exclusive_or(total) else None


def _is_exclusive_or(total: Op) -> bool:
    body = total.regions[0].block
    return [op.name for op in body.ops] == ["xori", "reduce.return"] and set(body.ops[0].operands) == set(body.args)
