"""In which order programs run: neighbours in memory one after the other.

    rows = program_id(0) · BM + range        tiles of a matrix, row-major: the tile beside this one is the next along
    cols = program_id(1) · BN + range        axis 1, while a grid counts along axis 0 first

Programs may run in any order, and which one comes next costs nothing on a chip that runs hundreds at once. A thread
that runs one after the other reads memory from end to end in one order, and a piece of each row in another.
"""

from __future__ import annotations

from tessera.compiler.passes.strides import Step, add_steps, step, uniform_scalar
from tessera.ir.nodes import Block, Function, Module, Op, Value
from tessera.ir.types import shape_of

AXES = "xyz"

# Programs that wait for others, or tell them something, expect these to have begun; what is printed has an order. A dot
# reads operands that lie both ways, and takes longer than memory.
_ORDERED = frozenset({"atomic_rmw", "atomic_cas", "print", "assert", "call", "dot", "map_with_effects", "histogram"})
_SAME = frozenset(
    {"splat", "unsplat", "broadcast", "expand_dims", "trans", "reshape", "extsi", "extui", "trunci", "index_cast"}
)


def order(module: Module) -> str:
    """The axes of the grid, fastest first: `xyz`, unless all that is read and written lies along another one. Where a
    table tells the places, its author knew best."""
    kernel = module.kernel
    ops = list(kernel.walk())
    if any(op.name in _ORDERED for op in ops):
        return AXES
    moves = _Moves(kernel)
    pointers = [op.operands[0] for op in ops if op.name in ("load", "store")]
    if any(moves.step(pointer, axis) is None for pointer in pointers for axis in AXES):
        return AXES
    along = {axis for pointer in pointers for axis in moves.along(pointer)}
    return {"y": "yxz", "z": "zyx"}.get("".join(along), AXES)


class _Moves:
    """How far values move from one program of a kernel to the next one along an axis of the grid."""

    def __init__(self, kernel: Function) -> None:
        self._known: dict[tuple[Value, str], Step] = {}
        self._firsts: dict[Value, Value] = {}
        for op in kernel.walk():
            if op.name == "for":
                body = op.regions[0].block
                self._firsts |= zip(body.args, [op.operands[0], *op.operands[3:]], strict=True)
            # In program order, so that none asks deeply.
            for value in (*op.operands, *op.results):
                for axis in AXES:
                    self.step(value, axis)

    def along(self, pointer: Value) -> list[str]:
        """The axes along which memory runs on from the block of one program to that of the next, if any."""
        shape = shape_of(pointer.type)
        longest = max((size for dim, size in enumerate(shape) if step(pointer, dim) == 1), default=0)
        steps = {axis: self.step(pointer, axis) for axis in AXES}
        return [axis for axis, moved in steps.items() if isinstance(moved, int) and 0 < moved <= longest]

    def step(self, value: Value, axis: str) -> Step:
        if (value, axis) not in self._known:
            self._known[value, axis] = self._step(value, axis)
        return self._known[value, axis]

    def _step(self, value: Value, axis: str) -> Step:
        op = value.owner
        if op is None or isinstance(op, Block):
            # What a loop carries is taken to be where it begins.
            first = self._firsts.get(value)
            return 0 if op is None else self.step(first, axis) if first is not None else None
        if op.name == "get_program_id":
            return int(op.attrs["words"][0] == axis)
        steps = [self.step(operand, axis) for operand in op.operands]
        if not any(moved != 0 for moved in steps):
            return 0
        if op.name in _SAME:
            return steps[0]
        if op.name in ("addi", "addptr"):
            return add_steps(*steps)
        if op.name == "muli":
            return self._product(op, steps)
        return None

    @staticmethod
    def _product(op: Op, steps: list[Step]) -> Step:
        moving = 0 if steps[1] == 0 else 1
        factor = uniform_scalar(op.operands[1 - moving])
        if steps[1 - moving] != 0 or factor is None or steps[moving] is None:
            return None
        if isinstance(factor, Value) and isinstance(factor.owner, Op) and factor.owner.name == "constant":
            factor = int(factor.owner.attrs["value"])
        moved = steps[moving]
        return moved * factor if isinstance(moved, int) and isinstance(factor, int) else f"{moved}*{factor}"
