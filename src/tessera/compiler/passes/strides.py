"""How far an integer or pointer block moves when one index grows by one, as far as the program's text tells.

A step is an `int` (counted in elements), a text for a product or sum that is only known at run time (equal texts are
equal
steps), or `None` when the block is no affine function of that index.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Union

from tessera.ir.nodes import Op, Value
from tessera.ir.types import BlockType, PointerType, shape_of

Step = Union[int, str, None]  # noqa: UP007

_PASS_THROUGH = {"extsi", "extui", "trunci", "index_cast", "bitcast"}
REMAINDERS = frozenset({"remsi", "remui"})


def step(value: Value, dim: int, usual: bool = False) -> Step:
    """The step of `value` along `dim` of its shape. `usual` takes remainders not to wrap round, which is a guess."""
    if shape_of(value.type)[dim] == 1:
        return 0
    return _step(value, dim, usual)


@lru_cache(maxsize=65536)
def _step(value: Value, dim: int, usual: bool) -> Step:
    op = value.owner
    if not isinstance(op, Op):
        return None
    rule = _RULES.get(op.name)
    if rule is not None:
        return rule(op, dim, usual)
    if op.name in _PASS_THROUGH or (usual and op.name in REMAINDERS and step(op.operands[1], dim) == 0):
        return step(op.operands[0], dim, usual)
    # Anything else that does not vary along an index has step 0 there.
    if op.results[0].type != value.type or not op.operands or op.regions:
        return None
    blocks = [operand for operand in op.operands if isinstance(operand.type, BlockType)]
    same_shape = all(shape_of(operand.type) == shape_of(value.type) for operand in blocks)
    return 0 if blocks and same_shape and all(step(operand, dim, usual) == 0 for operand in blocks) else None


def _constant(op: Op, dim: int, usual: bool) -> Step:
    return None if isinstance(op.attrs["value"], list) else 0


def _expand_dims(op: Op, dim: int, usual: bool) -> Step:
    axis = op.attrs["axis"]
    return 0 if dim == axis else step(op.operands[0], dim - (dim > axis), usual)


def _broadcast(op: Op, dim: int, usual: bool) -> Step:
    return 0 if shape_of(op.operands[0].type)[dim] == 1 else step(op.operands[0], dim, usual)


def _trans(op: Op, dim: int, usual: bool) -> Step:
    return step(op.operands[0], op.attrs["order"][dim], usual)


def _add(op: Op, dim: int, usual: bool) -> Step:
    return add_steps(step(op.operands[0], dim, usual), step(op.operands[1], dim, usual))


def _sub(op: Op, dim: int, usual: bool) -> Step:
    left, right = (step(operand, dim, usual) for operand in op.operands)
    if right == 0:
        return left
    return left - right if isinstance(left, int) and isinstance(right, int) else None


def _mul(op: Op, dim: int, usual: bool) -> Step:
    steps = [step(operand, dim, usual) for operand in op.operands]
    if steps == [0, 0]:
        return 0
    for moving, factor in ((0, 1), (1, 0)):
        scale = uniform_scalar(op.operands[factor])
        if steps[moving] is not None and scale is not None:
            return _scaled(steps[moving], scale)
    return None


def _scaled(moving: Step, scale: int | Value) -> Step:
    if isinstance(moving, int) and isinstance(scale, int):
        return moving * scale
    return 0 if moving == 0 else f"{moving}*{scale}"


def add_steps(left: Step, right: Step) -> Step:
    if left is None or right is None:
        return None
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    if left == 0 or right == 0:
        return left or right
    return f"({left}+{right})"


_RULES = {
    "make_range": lambda op, dim, usual: 1,
    "splat": lambda op, dim, usual: 0,
    "constant": _constant,
    "expand_dims": _expand_dims,
    "broadcast": _broadcast,
    "trans": _trans,
    "addi": _add,
    "addptr": _add,
    "subi": _sub,
    "muli": _mul,
}


def uniform_scalar(value: Value) -> int | Value | None:
    """The scalar that every element of a block equals, as far as the text tells: a number, the scalar's value, or
    None."""
    if not isinstance(value.type, BlockType):
        return value
    op = value.owner
    if not isinstance(op, Op):
        return None
    if op.name == "splat":
        inner = op.operands[0].owner
        if isinstance(inner, Op) and inner.name == "constant" and isinstance(inner.attrs["value"], int):
            return int(inner.attrs["value"])
        return op.operands[0]
    if op.name == "constant" and isinstance(op.attrs["value"], int):
        return int(op.attrs["value"])
    if op.name in ("broadcast", "expand_dims", "reshape", "trans"):
        return uniform_scalar(op.operands[0])
    return None


def root(pointer: Value) -> Value | None:
    """The pointer argument that an address is computed from, or None where that is not known."""
    while isinstance(pointer.owner, Op):
        if pointer.owner.name not in ("addptr", "splat", "broadcast", "expand_dims", "trans", "reshape", "bitcast"):
            return None
        pointer = pointer.owner.operands[0]
    return pointer if isinstance(pointer.type, PointerType) else None
