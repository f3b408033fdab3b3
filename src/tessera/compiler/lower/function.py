"""One function of the tile IR → one LLVM function: operations in order, each by its row in the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tessera.compiler.errors import Fault, LoweringError
from tessera.compiler.llvm.builder import I32, I64, PTR, Builder, V, const, int_const
from tessera.compiler.lower import buffers, diagnostics, dot, memory, reductions, scans, stores
from tessera.compiler.lower.buffers import Buffer
from tessera.compiler.lower.calls import GRID, STARTS, STATUS, call, returned_type, symbol
from tessera.compiler.lower.elementwise import ROWS
from tessera.compiler.lower.evaluate import unsupported
from tessera.compiler.lower.lanes import Uniform, ltype, size_bytes
from tessera.compiler.lower.memory import zero
from tessera.compiler.lower.sweep import Sweeper
from tessera.compiler.passes.placement import GUARDED, is_lazy
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Block, Function, Location, Op, Value, users
from tessera.ir.types import BlockType, Type, element_of, shape_of


class FunctionLowering(Sweeper):
    """The lowering of one function. `lower()` runs it. `calls.py` says what it is passed."""

    def __init__(self, function: Function, target: Target, is_kernel: bool) -> None:
        builder = Builder(target.has("avx512bf16"), target.permute, target.strides)
        super().__init__(builder, function.name, target)
        self.starts = 0 if is_kernel else None
        self.function = function
        self.returned: list[Buffer | None] = []
        self.faults: list[Fault] = []
        # The bodies of the loops around this place and before it, and who uses what.
        self.for_bodies: set[Block] = set()
        self.users = users(function.body)
        self.place: Location | None = None
        self._incoming: dict[Block, list[tuple[str, list[V]]]] = {}
        self._phi_places: dict[Block, int] = {}

    def lower(self) -> str:
        """LLVM IR of the function `NAME.body`."""
        params = [self._parameter(number, arg) for number, arg in enumerate(self.function.args)]
        self.returned = [self._returned(number, type) for number, type in enumerate(self.function.result_types)]
        params += [str(buffer.pointer) for buffer in self.returned if buffer is not None]
        params += map(str, [*GRID, STATUS] if self.starts is None else [*GRID, STATUS, STARTS])
        for position, block in enumerate(self.function.body.blocks):
            self._cfg_block(block, first=position == 0)
        self._place_phis()
        result = returned_type(self.function.result_types)
        head = f"define internal {result} @{symbol(self.function.name)}({', '.join(params)}) #0 {{"
        return "\n".join([head, *self.b.body("bb0"), "}"])

    def _parameter(self, number: int, arg: Value) -> str:
        element = ltype(element_of(arg.type))
        if isinstance(arg.type, BlockType):
            self.buffers[arg] = Buffer(V(PTR, f"%arg.{number}"), element, arg.type.shape)
            return f"ptr %arg.{number}"
        self.scalars[arg] = V(element, f"%arg.{number}")
        # What Triton made the kernel for: it is called with such pointers only.
        divisor = self.function.arg_attrs[number].get("tt.divisibility") if self.function.arg_attrs else None
        aligned = f" align {divisor}" if element == PTR and divisor else ""
        return f"{element}{aligned} {self.scalars[arg].ref}"

    @staticmethod
    def _returned(number: int, type: Type) -> Buffer | None:
        """Where the caller wants a block result."""
        if not isinstance(type, BlockType):
            return None
        return Buffer(V(PTR, f"%result.{number}"), ltype(type.element), type.shape)

    def _cfg_block(self, block: Block, first: bool) -> None:
        self.b.label(block.label or "bb0")
        self._phi_places[block] = len(self.b.lines)
        for arg in [] if first else block.args:
            if not isinstance(arg.type, BlockType):
                self.scalars[arg] = V(ltype(element_of(arg.type)), f"%{self.b.fresh('arg')}")
        before = set(self.buffers)
        self.ops(block.ops)
        own = {*before, *block.args, *(result for op in block.ops for result in op.results)}
        # What only this block needed of others in scratch may not have been computed where another one needs it.
        self.buffers = {value: buffer for value, buffer in self.buffers.items() if value in own or _receives(value)}

    def _place_phis(self) -> None:
        for block, sources in sorted(self._incoming.items(), key=lambda item: -self._phi_places[item[0]]):
            lines = []
            scalars = [arg for arg in block.args if not isinstance(arg.type, BlockType)]
            for number, arg in enumerate(scalars):
                value = self.scalars[arg]
                incoming = ", ".join(f"[ {values[number].ref}, %{label} ]" for label, values in sources)
                lines.append(f"  {value.ref} = phi {value.type} {incoming}")
            at = self._phi_places[block]
            self.b.lines[at:at] = lines

    def jump(self, target: Block, values: Sequence[Value]) -> None:
        """Branch to a block of the function's body, which receives scalars in phis and blocks in scratch of its own."""
        for arg, value in zip(target.args, values, strict=True):
            if isinstance(arg.type, BlockType):
                if arg not in self.buffers:
                    self.buffers[arg] = self.scratch(arg)
                self.fill(self.buffers[arg], value)
        scalars = [self.scalar(value) for value in values if not isinstance(value.type, BlockType)]
        self._incoming.setdefault(target, []).append((self.b.current, scalars))
        self.b.branch(target.label)

    def leave(self) -> None:
        """End the program here, whatever the function was to give back."""
        type = returned_type(self.function.result_types)
        self.b.raw("ret void" if type == "void" else f"ret {type} poison")

    def ops(self, ops: Sequence[Op]) -> None:
        """Lower a straight line of operations. What cannot be lowered is noted, and the rest looked at all the same."""
        for op in ops:
            self.place = op.location or self.place
            try:
                self.op(op)
            except LoweringError as error:
                self.faults += [Fault(fault.message, fault.location or op.location) for fault in error.faults]
                self._invent(op)

    def _invent(self, op: Op) -> None:
        """Give the results of an operation that could not be lowered any value, for those that use them."""
        for result in op.results:
            if isinstance(result.type, BlockType):
                self.buffers[result] = self.scratch(result)
            else:
                self.scalars[result] = zero(ltype(result.type))

    def op(self, op: Op) -> None:
        """Lower one operation: a sink at once, an expression when it is used, a scalar here."""
        if is_lazy(op):
            if op.placement == GUARDED:
                self.guarded[op.result] = None
            elif op.placement:
                for result in op.results:
                    self.postpone(result)
            return
        handler = handlers().get(op.name)
        if handler is not None:
            handler(self, op)
        elif op.name in ROWS:
            self.scalars[op.result] = self._scalar_op(op)
        else:
            raise unsupported(op)

    def _scalar_op(self, op: Op) -> V:
        to = ltype(element_of(op.result.type))
        return ROWS[op.name](self.b, op, [self.scalar(operand) for operand in op.operands], to)


def _receives(value: Value) -> bool:
    """Is this an argument of a block of the function's body, which branches fill?"""
    return isinstance(value.owner, Block)


Handler = Callable[[FunctionLowering, Op], None]


def handlers() -> dict[str, Handler]:
    """The table of operations that are more than an expression."""
    from tessera.compiler.lower import control

    if not _HANDLERS:
        _HANDLERS.update({
            "constant": _constant, "get_program_id": _program_id, "get_num_programs": _num_programs,
            "addptr": _addptr, "load": _load, "store": stores.store, "unsplat": _unsplat,
            "atomic_rmw": stores.atomic_rmw, "atomic_cas": stores.atomic_cas,
            "reduce": reductions.reduce, "scan": scans.scan, "dot": dot.dot,
            "for": control.for_loop, "while": control.while_loop, "if": control.if_else,
            "return": _return, "br": _branch, "cond_br": _conditional_branch,
            "gpu.barrier": _nothing, "ttg.barrier": _nothing, "debug_barrier": _nothing, "llvm.intr.assume": _assume,
            "call": _call, "split": _split, "histogram": stores.histogram,
            "map_with_effects": stores.map_with_effects, "insert": _insert,
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
    returned = call(low.b, op.attrs["callee"], passed, [result.type for result in op.results])
    low.buffers.update(blocks)
    low.scalars.update(zip((result for result in op.results if result not in blocks), returned, strict=True))


def _branch(low: FunctionLowering, op: Op) -> None:
    low.flush()
    (target,) = op.attrs["successors"]
    low.jump(target, op.operands)


def _conditional_branch(low: FunctionLowering, op: Op) -> None:
    low.flush()
    condition, *passed = op.operands
    split = op.attrs["counts"][0]
    labels = [low.b.fresh("taken"), low.b.fresh("untaken")]
    low.b.branch_if(low.scalar(condition), *labels)
    for label, target, values in zip(labels, op.attrs["successors"], (passed[:split], passed[split:]), strict=True):
        low.b.label(label)
        low.jump(target, values)


def _assume(low: FunctionLowering, op: Op) -> None:
    low.b.call("llvm.assume", None, [low.scalar(op.operands[0])])


def _insert(low: FunctionLowering, op: Op) -> None:
    """Part of a block that a loop carries, one index wide along `axis`, which no long dimension comes before."""
    into, part, at = op.operands
    low.flush()
    whole, axis = low.buffers[into], op.attrs["axis"]
    size = buffers.buffer_strides(whole.shape)[axis] * size_bytes(whole.stored)
    place = low.b.offset(whole.pointer, low.scalar(at), size)
    low.fill(Buffer(place, whole.element, shape_of(part.type)), part)
    low.buffers[op.result] = whole


def _split(low: FunctionLowering, op: Op) -> None:
    """A block of two elements into two scalars."""
    low.flush()
    with low.lanes(0):
        for side, result in enumerate(op.results):
            lanes = low.evaluate(op.operands[0], (Uniform(int_const(side, I64)),))
            assert isinstance(lanes, Uniform)
            low.scalars[result] = lanes.value
