"""A whole module: the kernel's body, and around it the loop over a range of the grid that the runtime calls.

    void NAME(ptr args, i64 begin, i64 end, i32 num_x, i32 num_y, i32 num_z)

`args` holds one 8-byte slot an argument, and behind them the address of an i32 if the kernel has assertions; programs
begin ≤ i < end run in order, x fastest.
"""

from __future__ import annotations

from tessera.compiler.errors import LoweringError, internal
from tessera.compiler.llvm.builder import F32, I8, I32, I64, PTR, Builder, V, int_const
from tessera.compiler.lower.calls import symbol
from tessera.compiler.lower.function import FunctionLowering
from tessera.compiler.lower.lanes import ltype
from tessera.compiler.targets.rows import Target
from tessera.ir.nodes import Function, Module
from tessera.ir.types import element_of

_SLOT_BYTES = 8


def lower_module(module: Module, target: Target) -> str:
    """LLVM IR text of a kernel, ready for llvmlite.

    Raises:
        LoweringError: an operation cannot be lowered.
    """
    kernel = module.kernel
    lowerings = [FunctionLowering(function, target) for function in module.functions]
    bodies = [_lower(lowering) for lowering in lowerings]
    faults = dict.fromkeys(fault for lowering in lowerings for fault in lowering.faults)
    if faults:
        raise LoweringError(list(faults))
    asserts = any(op.name == "assert" for function in module.functions for op in function.walk())
    entry = _entry(kernel, asserts)
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


def _entry(kernel: Function, asserts: bool) -> str:
    b = Builder()
    args = [_argument(b, number, kernel) for number in range(len(kernel.args))]
    status = V(PTR, "null")
    if asserts:
        slot = b.offset(V(PTR, "%args"), int_const(len(args) * _SLOT_BYTES, I64), 1)
        status = b.load(PTR, slot, _SLOT_BYTES)
    num_x, num_y = V(I64, "%wide.x"), V(I64, "%wide.y")
    b.raw("%wide.x = zext i32 %num.x to i64")
    b.raw("%wide.y = zext i32 %num.y to i64")
    b.raw("%any = icmp slt i64 %begin, %end")
    b.raw("br i1 %any, label %head, label %leave")
    b.label("head")
    index = V(I64, "%index")
    b.raw("%index = phi i64 [ %begin, %entry ], [ %next, %head ]")
    x = b.binary("urem", index, num_x)
    rest = b.binary("udiv", index, num_x)
    y, z = b.binary("urem", rest, num_y), b.binary("udiv", rest, num_y)
    places = [b.cast("trunc", value, I32) for value in (x, y, z)]
    passed = [*args, *places, *(V(I32, f"%num.{axis}") for axis in "xyz"), status]
    b.raw(f"call void @{symbol(kernel.name)}({', '.join(map(str, passed))})")
    b.raw("%next = add nuw nsw i64 %index, 1")
    b.raw("%more = icmp slt i64 %next, %end")
    b.raw("br i1 %more, label %head, label %leave")
    b.label("leave")
    b.raw("ret void")
    head = f"define void @{kernel.name}(ptr %args, i64 %begin, i64 %end, i32 %num.x, i32 %num.y, i32 %num.z) #0 {{"
    return "\n".join([head, "entry:", *b.lines, "}"])


def _argument(b: Builder, number: int, kernel: Function) -> V:
    """Read one argument from its slot; half precision arrives as float, as Triton passes it."""
    to = ltype(element_of(kernel.args[number].type))
    slot = b.offset(V(PTR, "%args"), int_const(number * _SLOT_BYTES, I64), 1)
    if to.scalar in ("half", "bfloat"):
        return b.cast("fptrunc", b.load(F32, slot, _SLOT_BYTES), to)
    if to.bits == 1:
        return b.cast("trunc", b.load(I8, slot, _SLOT_BYTES), to)
    return b.load(to, slot, _SLOT_BYTES)
