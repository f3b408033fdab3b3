"""One function of the tile IR → one LLVM function: operations in order, each by its row in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.errors import fail
from tessera.compiler.llvm.builder import I32, I64, PTR, Builder, V, const, int_const
from tessera.compiler.lower import diagnostics, dot, memory, reductions, stores
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.elementwise import ROWS
from tessera.compiler.lower.lanes import Uniform, ltype
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes.placement import is_lazy
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Block, Function, Op, Value
from tessera.ir.types import BlockType, Type, element_of

# What every function gets besides its own arguments: the place in the grid and the grid's size.
GRID = ("pid.x", "pid.y", "pid.z", "num.x", "num.y", "num.z")


class FunctionLowering(Sweeper):
    """The lowering of one function. `lower()` runs it.

    A function that is called, not inlined, takes and gives scalars by value and blocks as
    addresses of row-major scratch.
    """

    def __init__(self, function: Function, target: Target) -> None:
        super().__init__(Builder(), function.name, target)
        self.function = function
        self.returned: list[Buffer | None] = []
        self._incoming: dict[Block, list[tuple[str, list[V]]]] = {}
        self._phi_places: dict[Block, int] = {}

    def lower(self) -> str:
        """LLVM IR of the function `NAME.body`: the kernel's arguments, then `GRID`."""
        params = [self._parameter(number, arg) for number, arg in enumerate(self.function.args)]
        self.returned = [self._returned(number, type) for number, type in enumerate(self.function.result_types)]
        params += [str(buffer.pointer) for buffer in self.returned if buffer is not None]
        params += [f"i32 %{name}" for name in GRID]
        params.append(str(diagnostics.STATUS))
        for position, block in enumerate(self.function.body.blocks):
            self._cfg_block(block, first=position == 0)
        self._place_phis()
        result = returned_type(self.function.result_types)
        head = f"define internal {result} @{symbol(self.function.name)}({', '.join(params)}) #0 {{"
        return "\n".join([head, "entry:", *self.b.entry, "  br label %bb0", *self.b.lines, "}"])

    def _parameter(self, number: int, arg: Value) -> str:
        element = ltype(element_of(arg.type))
        if isinstance(arg.type, BlockType):
            self.buffers[arg] = Buffer(V(PTR, f"%arg.{number}"), element, arg.type.shape)
            return f"ptr %arg.{number}"
        self.scalars[arg] = V(element, f"%arg.{number}")
        return str(self.scalars[arg])

    @staticmethod
    def _returned(number: int, type: Type) -> Buffer | None:
        """Where the caller wants a block result."""
        if not isinstance(type, BlockType):
            return None
        return Buffer(V(PTR, f"%result.{number}"), ltype(type.element), type.shape)

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
        self.receive(target, [self.scalar(value) for value in values])

    def receive(self, target: Block, values: list[V]) -> None:
        """Record that the current block branches to `target` and passes `values`."""
        self._incoming.setdefault(target, []).append((self.b.current, values))

    def leave(self) -> None:
        """End the program here, whatever the function was to give back."""
        type = returned_type(self.function.result_types)
        self.b.raw("ret void" if type == "void" else f"ret {type} poison")

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


def symbol(name: str) -> str:
    """The LLVM symbol of a function's body; Triton's mangled names hold characters that need quotes."""
    return f'"{name}.body"'


def returned_type(types: Sequence[Type]) -> str:
    """The LLVM type by which a function gives its scalar results."""
    scalars = [str(ltype(type)) for type in types if not isinstance(type, BlockType)]
    if not scalars:
        return "void"
    return scalars[0] if len(scalars) == 1 else "{ " + ", ".join(scalars) + " }"


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
            "gpu.barrier": _nothing, "ttg.barrier": _nothing, "debug_barrier": _nothing, "llvm.intr.assume": _assume,
            "call": _call, "split": _split, "histogram": stores.histogram,
            "assert": diagnostics.check, "print": diagnostics.show,
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
    scalars = []
    for value, buffer in zip(op.operands, low.returned, strict=True):
        if buffer is not None:
            low.fill(buffer, value)
        else:
            scalars.append(low.scalar(value))
    if len(scalars) < 2:
        low.b.raw(f"ret {scalars[0]}" if scalars else "ret void")
        return
    type, packed = returned_type(low.function.result_types), "poison"
    for number, scalar in enumerate(scalars):
        name = low.b.fresh("packed")
        low.b.raw(f"%{name} = insertvalue {type} {packed}, {scalar}, {number}")
        packed = f"%{name}"
    low.b.raw(f"ret {type} {packed}")


def _call(low: FunctionLowering, op: Op) -> None:
    """Call a function that was not to be inlined."""
    low.flush()
    passed = []
    for operand in op.operands:
        passed.append(low.in_scratch(operand).pointer if isinstance(operand.type, BlockType) else low.scalar(operand))
    blocks = {result: low.scratch(result) for result in op.results if isinstance(result.type, BlockType)}
    passed += [buffer.pointer for buffer in blocks.values()]
    grid = ", ".join([*(f"i32 %{name}" for name in GRID), str(diagnostics.STATUS)])
    type = returned_type([result.type for result in op.results])
    text = f"call {type} @{symbol(op.attrs['callee'])}({', '.join([*map(str, passed), grid])})"
    low.buffers.update(blocks)
    scalars = [result for result in op.results if result not in blocks]
    if not scalars:
        low.b.raw(text)
        return
    got = low.b.fresh("returned")
    low.b.raw(f"%{got} = {text}")
    for number, result in enumerate(scalars):
        element = ltype(element_of(result.type))
        one = len(scalars) == 1
        low.scalars[result] = (
            V(element, f"%{got}") if one else low.b.emit(element, f"extractvalue {type} %{got}, {number}")
        )


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
    if then is otherwise:
        _choose_and_branch(low, low.scalar(condition), passed[:split], passed[split:], then)
        return
    low.jump(then, passed[:split])
    low.jump(otherwise, passed[split:])
    low.b.branch_if(low.scalar(condition), then.label, otherwise.label)


def _choose_and_branch(
    low: FunctionLowering, condition: V, yes: Sequence[Value], no: Sequence[Value], target: Block
) -> None:
    """Both ways lead to one block: what it receives is chosen before the branch."""
    chosen = [low.b.select(condition, low.scalar(a), low.scalar(b)) for a, b in zip(yes, no, strict=True)]
    low.receive(target, chosen)
    low.b.branch(target.label)


def _assume(low: FunctionLowering, op: Op) -> None:
    low.b.call("llvm.assume", None, [low.scalar(op.operands[0])])


def _split(low: FunctionLowering, op: Op) -> None:
    """A block of two elements into two scalars."""
    low.flush()
    with low.lanes(0):
        for side, result in enumerate(op.results):
            lanes = low.evaluate(op.operands[0], (Uniform(int_const(side, I64)),))
            assert isinstance(lanes, Uniform)
            low.scalars[result] = lanes.value
