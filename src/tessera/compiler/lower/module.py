"""A whole module: the kernel's body, and around it the loop over a range of the grid that the runtime calls.

    void NAME(ptr args, i64 begin, i64 end, i32 num_x, i32 num_y, i32 num_z)

`args` holds one 8-byte slot an argument, and behind them the address of an i32 if the kernel has assertions; programs
begin ≤ i < end run in order, along x first unless memory runs along another axis (`passes/grid.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from tessera.compiler.errors import LoweringError, internal
from tessera.compiler.llvm.builder import F32, I8, I32, I64, PTR, Builder, V, int_const
from tessera.compiler.lower.calls import STARTS, symbol
from tessera.compiler.lower.function import FunctionLowering
from tessera.compiler.lower.lanes import ltype
from tessera.compiler.lower.stores import is_streaming
from tessera.compiler.passes import grid
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Function, Module, Op
from tessera.ir.types import element_of

_SLOT_BYTES = 8


def lower_module(module: Module, target: Target) -> str:
    """LLVM IR text of a kernel, ready for llvmlite.

    Raises:
        LoweringError: an operation cannot be lowered.
    """
    kernel = module.kernel
    lowerings = [FunctionLowering(function, target, function is kernel) for function in module.functions]
    bodies = [_lower(lowering) for lowering in lowerings]
    faults = dict.fromkeys(fault for lowering in lowerings for fault in lowering.faults)
    if faults:
        raise LoweringError(list(faults))
    starts = sum(lowering.starts or 0 for lowering in lowerings)
    entry = _entry(kernel, [op for function in module.functions for op in function.walk()], starts, grid.order(module))
    declarations = sorted({line for lowering in lowerings for line in lowering.b.declarations.values()})
    constants = [line for lowering in lowerings for line in lowering.globals]
    attributes = 'attributes #0 = { nounwind "no-trapping-math"="true" }'
    return "\n".join([f'target triple = "{target.triple}"', *constants, *bodies, entry, *declarations, attributes, ""])


def _lower(lowering: FunctionLowering) -> str:
    """One function. Whatever goes wrong in the compiler itself is told with the place in the user's source."""
    try:
        return lowering.lower()
    except Exception as error:
        raise internal(error, lowering.place) from error


def _entry(kernel: Function, ops: Sequence[Op], starts: int, order: str) -> str:
    b = Builder()
    b.raw(f"{STARTS.ref} = alloca [{starts} x i64]")
    b.raw(f"store [{starts} x i64] zeroinitializer, {STARTS}")
    args = [_argument(b, number, kernel) for number in range(len(kernel.args))]
    status = V(PTR, "null")
    if any(op.name == "assert" for op in ops):
        slot = b.offset(V(PTR, "%args"), int_const(len(args) * _SLOT_BYTES, I64), 1)
        status = b.load(PTR, slot, _SLOT_BYTES)
    b.raw("%any = icmp slt i64 %begin, %end")
    b.raw("br i1 %any, label %start, label %leave")
    first = _first_place(b, order)
    b.raw("br label %head")
    b.label("head")
    b.raw("%index = phi i64 [ %begin, %start ], [ %next, %head ]")
    for axis, start in zip(order, first, strict=True):
        b.raw(f"%{axis} = phi i32 [ {start.ref}, %start ], [ %{axis}.next, %head ]")
    places, sizes = ([V(I32, f"%{kind}{axis}") for axis in grid.AXES] for kind in ("", "num."))
    passed = [*args, *places, *sizes, status, STARTS]
    b.raw(f"call void @{symbol(kernel.name)}({', '.join(map(str, passed))})")
    b.raw(_next_place(*order))
    b.raw("%next = add nuw nsw i64 %index, 1")
    b.raw("%more = icmp slt i64 %next, %end")
    b.raw("br i1 %more, label %head, label %leave")
    b.label("leave")
    if any(map(is_streaming, ops)):
        # Stores that go round the caches also go round the order of others, such as that which says that all is done.
        b.raw("fence seq_cst")
    b.raw("ret void")
    head = f"define void @{kernel.name}(ptr %args, i64 %begin, i64 %end, i32 %num.x, i32 %num.y, i32 %num.z) #0 {{"
    return "\n".join([head, "entry:", *b.lines, "}"])


def _first_place(b: Builder, order: str) -> list[V]:
    """Where in the grid the first program of the range is, along each axis. Divided once: a small program is done in
    less than a division takes."""
    b.label("start")
    index = V(I64, "%begin")
    fast, slow = (b.cast("zext", V(I32, f"%num.{axis}"), I64) for axis in order[:2])
    rest = b.binary("udiv", index, fast)
    places = b.binary("urem", index, fast), b.binary("urem", rest, slow), b.binary("udiv", rest, slow)
    return [b.cast("trunc", place, I32) for place in places]


def _next_place(x: str, y: str, z: str) -> str:
    """The next program's place in the grid, axes from the fastest on."""
    return f"""
%{x}.more = add nuw i32 %{x}, 1
%{x}.full = icmp eq i32 %{x}.more, %num.{x}
%{x}.next = select i1 %{x}.full, i32 0, i32 %{x}.more
%{x}.carry = zext i1 %{x}.full to i32
%{y}.more = add nuw i32 %{y}, %{x}.carry
%{y}.full = icmp eq i32 %{y}.more, %num.{y}
%{y}.next = select i1 %{y}.full, i32 0, i32 %{y}.more
%{y}.carry = zext i1 %{y}.full to i32
%{z}.next = add nuw i32 %{z}, %{y}.carry"""


def _argument(b: Builder, number: int, kernel: Function) -> V:
    """Read one argument from its slot; half precision arrives as float, as Triton passes it."""
    to = ltype(element_of(kernel.args[number].type))
    slot = b.offset(V(PTR, "%args"), int_const(number * _SLOT_BYTES, I64), 1)
    if to.scalar in ("half", "bfloat"):
        return b.cast("fptrunc", b.load(F32, slot, _SLOT_BYTES), to)
    if to.bits == 1:
        return b.cast("trunc", b.load(I8, slot, _SLOT_BYTES), to)
    return b.load(to, slot, _SLOT_BYTES)
