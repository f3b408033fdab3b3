"""`device_assert` and `device_print`.

A failed assertion ends its program and leaves its number in the kernel's status word, which the launcher looks at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tessera.compiler.llvm.builder import I1, I8, I64, LType, V, int_const
from tessera.compiler.lower import buffers
from tessera.compiler.lower.calls import GRID, STATUS
from tessera.compiler.lower.float8 import KINDS, decode
from tessera.compiler.lower.lanes import Index, Uniform, to_vector
from tessera.compiler.lower.sweep import Plan
from tessera.ir.nodes import Module, Op, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of

if TYPE_CHECKING:
    from tessera.compiler.lower.function import FunctionLowering


def number_assertions(module: Module) -> list[str]:
    """Give every assertion of a module its number, from 1; return what each one says when it fails."""
    said = []
    for function in module.functions:
        for op in function.walk():
            if op.name == "assert":
                place = f" at {op.location}" if op.location else ""
                said.append(f"device_assert failed{place}: {op.attrs['message']}")
                op.attrs["number"] = len(said)
    return said


def check(low: FunctionLowering, op: Op) -> None:
    """`assert condition, message`: every element must hold."""
    b = low.b
    held = _all_hold(low, op.operands[0])
    fine, failed = b.fresh("holds"), b.fresh("fails")
    b.branch_rarely(b.binary("xor", held, int_const(1, I1)), failed, fine)
    b.label(failed)
    b.raw(f"store atomic i32 {op.attrs['number']}, {STATUS} monotonic, align 4")
    low.leave()
    b.label(fine)


def _all_hold(low: FunctionLowering, condition: Value) -> V:
    if not isinstance(condition.type, BlockType):
        return low.scalar(condition)
    low.flush()
    total = buffers.allocate(low.b, I1, (1,))
    low.b.store(int_const(1, I8), total.pointer, 1)

    def body(index: Index) -> None:
        lanes = to_vector(low.b, low.evaluate(condition, index), low.width)
        every = low.b.intrinsic("vector.reduce.and", I1, [lanes], [lanes.type]) if lanes.type.lanes else lanes
        before = low.b.load(I8, total.pointer, 1)
        low.b.store(low.b.binary("and", before, low.b.cast("zext", every, I8)), total.pointer, 1)

    low.sweep(low.plan(condition.type.shape, [condition]), [condition], body)
    return low.b.cast("trunc", low.b.load(I8, total.pointer, 1), I1)


def show(low: FunctionLowering, op: Op) -> None:
    """`print "prefix" : values`: a line an element, as GPUs print it.

        pid (x, y, z) idx (i, j)PREFIX(operand n) VALUE

    Indices are as wide as the largest of their dimension. Without values there is one line, `pid (x, y, z)PREFIX`.
    """
    low.flush()
    if not op.operands:
        _print_line(low, "", op.attrs["prefix"], [], "", None)
    for position, value in enumerate(op.operands):
        shape = value.type.shape if isinstance(value.type, BlockType) else ()

        def line(index: Index, value: Value = value, position: int = position) -> None:
            lanes = low.evaluate(value, index)
            assert isinstance(lanes, Uniform)
            _print_element(low, op, position, index, lanes.value)

        if shape:
            low.sweep(Plan(shape, None, 0, 1), [value], line)
        else:
            line(())
    low.b.declarations["fflush"] = "declare i32 @fflush(ptr)"
    low.b.raw("call i32 @fflush(ptr null)")


def _print_element(low: FunctionLowering, op: Op, position: int, index: Index, value: V) -> None:
    directive, shown = _formatted(low, op, position, value)
    widths = [len(str(size - 1)) for size in shape_of(op.operands[position].type)]
    places = [place.value for place in index if isinstance(place, Uniform)]
    where = f" idx ({', '.join(f'%{width}lld' for width in widths)})"
    label = f"(operand {position}) " if len(op.operands) > 1 else ""
    _print_line(low, where, f"{op.attrs['prefix']}{label}", places, directive, shown)


def _print_line(
    low: FunctionLowering, where: str, prefix: str, places: list[V], directive: str, shown: V | None
) -> None:
    low.b.declarations["printf"] = "declare i32 @printf(ptr, ...)"
    values = [*GRID[:3], *places, *([shown] if shown is not None else [])]
    text = f"pid (%d, %d, %d){where}{prefix.replace('%', '%%')}{directive}\n"
    arguments = ", ".join(map(str, [low.text(text), *values]))
    low.b.raw(f"call i32 (ptr, ...) @printf({arguments})")


def _formatted(low: FunctionLowering, op: Op, position: int, value: V) -> tuple[str, V]:
    """The directive of C's printf for one operand, and the value widened to what it expects."""
    element = element_of(op.operands[position].type)
    if isinstance(element, PointerType):
        return "%p", value
    if element.name in KINDS:
        value = decode(low.b, value, KINDS[element.name])
    if value.type.is_float:
        return "%f", low.b.cast("fpext", value, LType("double"))
    signed = op.attrs.get("isSigned", ())
    is_signed = bool(signed[position]) if position < len(signed) else True
    if op.attrs.get("hex"):
        return f"0x%0{max(value.type.bits // 4, 1)}llx", low.b.cast("zext", value, I64)
    wide = low.b.cast("sext" if is_signed and value.type.bits > 1 else "zext", value, I64)
    return ("%lld" if is_signed else "%llu"), wide
