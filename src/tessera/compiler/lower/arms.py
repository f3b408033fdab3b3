"""Choices by comparing floats of which one arm costs much: it is computed only for vectors with a lane that takes it.

So a function with another formula on one side (of ELU, say) costs that only where there are such numbers. The arm is
written into a branch around it. What it begins with, such as loads, is computed before, since others may use it too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I1, Builder, V
from tessera.compiler.lower.lanes import Lanes, Vector, to_vector
from tessera.compiler.passes.placement import cost_of_one
from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType

if TYPE_CHECKING:
    from tessera.compiler.lower.evaluate import Evaluator
    from tessera.compiler.lower.lanes import Index

# From this cost on, in vector instructions, a branch that is always taken costs little beside it.
_COSTLY = 30
# Of longer expressions the parts are shared with what stands outside.
_MOST = 48

Inside = Callable[[Value], bool]


def costly_arm(ev: Evaluator, op: Op) -> Value | None:
    """The arm of a choice that is worth a branch."""
    if op.name != "select":
        return None
    if op not in ev.branched:
        ev.branched[op] = _costly(op, ev.is_expression)
    return ev.branched[op]


def _costly(op: Op, inside: Inside) -> Value | None:
    condition = op.operands[0]
    by_floats = isinstance(condition.owner, Op) and condition.owner.name == "cmpf"
    if not by_floats or not isinstance(condition.type, BlockType):
        return None
    prices = {arm: sum(map(_price, _expression(arm, inside))) for arm in op.operands[1:]}
    best = max(prices, key=lambda arm: prices[arm])
    return best if prices[best] >= _COSTLY else None


def chosen(ev: Evaluator, op: Op, index: Index) -> Lanes | None:
    """A choice whose costly arm is computed in a branch; None where it has no such arm, or it is known already."""
    arm = costly_arm(ev, op)
    condition = None if arm is None else ev.evaluate(op.operands[0], index)
    if arm is None or not isinstance(condition, Vector) or ev.is_evaluated(arm, index):
        return None
    first = arm is op.operands[1]
    other = to_vector(ev.b, ev.evaluate(op.operands[2 if first else 1], index), ev.width)

    def computed() -> V:
        with ev.frame():
            return to_vector(ev.b, ev.evaluate(arm, index), ev.width)

    return Vector(_choose(ev.b, condition.value, first, computed, other))


def begins_with(arm: Value, inside: Inside) -> list[Value]:
    """The block values that the arm's expression is made of."""
    own = _expression(arm, inside)
    operands = (operand for value in own if isinstance(value.owner, Op) for operand in value.owner.operands)
    return list(dict.fromkeys(x for x in operands if x not in own and isinstance(x.type, BlockType)))


def _expression(arm: Value, inside: Inside) -> dict[Value, None]:
    """The arm and what only leads to it; nothing where that is long."""
    found: dict[Value, None] = {}
    waiting = [arm]
    while waiting:
        value = waiting.pop()
        if value in found or not inside(value) or not isinstance(value.owner, Op):
            continue
        found[value] = None
        waiting += [operand for operand in value.owner.operands if isinstance(operand.type, BlockType)]
        if len(found) > _MOST:
            return {}
    return found


def _price(value: Value) -> int:
    return cost_of_one(value.owner) if isinstance(value.owner, Op) else 0


def _choose(b: Builder, condition: V, first: bool, arm: Callable[[], V], other: V) -> V:
    """`other`, or where the condition (`first`), or its opposite, holds, what `arm` writes."""
    reduction = "vector.reduce.or" if first else "vector.reduce.and"
    found = b.intrinsic(reduction, I1, [condition], [condition.type])
    taken, before, after = b.fresh("taken"), b.current, b.fresh("chosen")
    b.branch_if(found, *((taken, after) if first else (after, taken)))
    b.label(taken)
    computed = arm()
    chosen = b.select(condition, computed, other) if first else b.select(condition, other, computed)
    end = b.current
    b.branch(after)
    b.label(after)
    return b.emit(other.type, f"phi {other.type} [ {other.ref}, %{before} ], [ {chosen.ref}, %{end} ]")
