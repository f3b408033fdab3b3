"""One function of the tile IR → one LLVM function: operations in order, each by its row in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import I32, I64, Builder, V, const, int_const
from tessera.compiler.lower import dot, memory, reductions, stores
from tessera.compiler.lower.elementwise import ROWS
from tessera.compiler.lower.lanes import Uniform, ltype
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes.placement import is_lazy
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Block, Function, Op, Value
from tessera.ir.types import BlockType, element_of

# What every function gets besides its own arguments: the place in the grid and the grid's size.
GRID = ("pid.x", "pid.y", "pid.z", "num.x", "num.y", "num.z")


class FunctionLowering(Sweeper):
    """The lowering of one function. `text()` runs it."""

    def __init__(self, function: Function, target: Target) -> None:
        super().__init__(Builder(), target)
        self.function = function
        self._incoming: dict[Block, list[tuple[str, list[V]]]] = {}
        self._phi_places: dict[Block, int] = {}

    def text(self) -> str:
        """LLVM IR of the function `NAME.body`: the kernel's arguments, then `GRID`."""
        params = [f"{ltype(element_of(arg.type))} %arg.{number}" for number, arg in enumerate(self.function.args)]
        for number, arg in enumerate(self.function.args):
            self.scalars[arg] = V(ltype(element_of(arg.type)), f"%arg.{number}")
        blocks = self.function.body.blocks
        for position, block in enumerate(blocks):
            self._cfg_block(block, first=position == 0)
        self._place_phis()
        params += [f"i32 %{name}" for name in GRID]
        head = f"define internal void @{self.function.name}.body({', '.join(params)}) #0 {{"
        return "\n".join([head, "entry:", *self.b.entry, "  br label %bb0", *self.b.lines, "}"])

    def _cfg_block(self, block: Block, first: bool) -> None:
        self.b.label(block.label or "bb0")
        self._phi_places[block] = len(self.b.lines)
        if not first:
            for arg in block.args:
                if isinstance(arg.type, BlockType):
                    raise fail(
                        "a block value that crosses an early return is not supported on the CPU yet; use if/else"
                    )
                self.scalars[arg] = V(ltype(element_of(arg.type)), f"%{self.b.fresh('arg')}")
        self.ops(block.ops)

    def _place_phis(self) -> None:
        for block, sources in sorted(self._incoming.items(), key=lambda item: -self._phi_places[item[0]]):
            lines = []
            for number, arg in enumerate(block.args):
                value = self.scalars[arg]
                incoming = ", ".join(f"[ {values[number].ref}, %{label} ]" for label, values in sources)
                lines.append(f"  {value.ref} = phi {value.type} {incoming}")
            at = self._phi_places[block]
            self.b.lines[at:at] = lines

    def jump(self, target: Block, values: Sequence[Value]) -> None:
        """Record a branch to a block of the function's body, with what it passes."""
        self._incoming.setdefault(target, []).append((self.b.current, [self.scalar(value) for value in values]))

    def ops(self, ops: Sequence[Op]) -> None:
        """Lower a straight line of operations."""
        for op in ops:
            self.op(op)

    def op(self, op: Op) -> None:
        """Lower one operation: a sink at once, an expression when it is used, a scalar here."""
        if is_lazy(op):
            if op.placement == "scratch":
                self.pending.update(dict.fromkeys(op.results))
            return
        handler = handlers().get(op.name)
        if handler is not None:
            handler(self, op)
        elif op.name in ROWS:
            self.scalars[op.result] = self._scalar_op(op)
        else:
            raise fail(f"the operation {op.name!r} is not supported on the CPU yet", op.location)

    def _scalar_op(self, op: Op) -> V:
        to = ltype(element_of(op.result.type))
        return ROWS[op.name](self.b, op, [self.scalar(operand) for operand in op.operands], to)


Handler = Callable[[FunctionLowering, Op], None]


def handlers() -> dict[str, Handler]:
    """The table of operations that are more than an expression."""
    from tessera.compiler.lower import control

    if not _HANDLERS:
        _HANDLERS.update({
            "constant": _constant, "get_program_id": _program_id, "get_num_programs": _num_programs,
            "addptr": _addptr, "load": _load, "store": stores.store, "unsplat": _unsplat,
            "atomic_rmw": stores.atomic_rmw, "atomic_cas": stores.atomic_cas,
            "reduce": reductions.reduce, "scan": reductions.scan, "dot": dot.dot,
            "for": control.for_loop, "while": control.while_loop, "if": control.if_else,
            "return": _return, "br": _branch, "cond_br": _conditional_branch,
            "gpu.barrier": _nothing, "ttg.barrier": _nothing, "debug_barrier": _nothing, "llvm.intr.assume": _nothing,
        })  # fmt: skip
    return _HANDLERS


_HANDLERS: dict[str, Handler] = {}


def _nothing(low: FunctionLowering, op: Op) -> None:
    """A program runs on one thread, so that a barrier has nobody to wait for."""


def _constant(low: FunctionLowering, op: Op) -> None:
    low.scalars[op.result] = const(op.attrs["value"], ltype(element_of(op.result.type)))


def _program_id(low: FunctionLowering, op: Op) -> None:
    low.scalars[op.result] = V(I32, f"%pid.{op.attrs['words'][0]}")


def _num_programs(low: FunctionLowering, op: Op) -> None:
    low.scalars[op.result] = V(I32, f"%num.{op.attrs['words'][0]}")


def _addptr(low: FunctionLowering, op: Op) -> None:
    pointer, index = (Uniform(low.scalar(operand)) for operand in op.operands)
    moved = low._evenly_spaced(op, [pointer, index])
    assert isinstance(moved, Uniform)
    low.scalars[op.result] = moved.value


def _load(low: FunctionLowering, op: Op) -> None:
    pointer, *rest = (Uniform(low.scalar(operand)) for operand in op.operands)
    mask = rest[0] if rest else None
    other = rest[1] if len(rest) > 1 else None
    loaded = memory.load(low.b, pointer, mask, other, ltype(element_of(op.result.type)), 0)
    assert isinstance(loaded, Uniform)
    low.scalars[op.result] = loaded.value


def _unsplat(low: FunctionLowering, op: Op) -> None:
    """A block of one element as a scalar."""
    source = op.operands[0]
    assert isinstance(source.type, BlockType)
    low.flush()
    with low.lanes(0):
        lanes = low.evaluate(source, tuple(Uniform(int_const(0, I64)) for _ in source.type.shape))
    assert isinstance(lanes, Uniform)
    low.scalars[op.result] = lanes.value


def _return(low: FunctionLowering, op: Op) -> None:
    low.flush()
    low.b.raw("ret void")


def _branch(low: FunctionLowering, op: Op) -> None:
    low.flush()
    (target,) = op.attrs["successors"]
    low.jump(target, op.operands)
    low.b.branch(target.label)


def _conditional_branch(low: FunctionLowering, op: Op) -> None:
    low.flush()
    condition, *passed = op.operands
    then, otherwise = op.attrs["successors"]
    split = op.attrs["counts"][0]
    low.jump(then, passed[:split])
    low.jump(otherwise, passed[split:])
    low.b.branch_if(low.scalar(condition), then.label, otherwise.label)
