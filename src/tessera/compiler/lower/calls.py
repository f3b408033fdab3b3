"""Calls of functions that are not inlined: what they are passed and how they give results.

A function takes its own arguments, scalars by value and blocks as addresses of row-major scratch, then the addresses
for its block results, the program's place in the grid, the grid's size and the address of the kernel's status word. It
returns its scalar results, several of them as one struct.
"""

from __future__ import annotations

from collections.abc import Sequence

from tessera.compiler.llvm.builder import I32, Builder, LType, V
from tessera.compiler.lower.lanes import ltype
from tessera.ir.types import BlockType, Type

GRID = tuple(V(I32, f"%{name}") for name in ("pid.x", "pid.y", "pid.z", "num.x", "num.y", "num.z"))
STATUS = V(LType("ptr"), "%status")
# What only the kernel itself is passed: where it remembers how the blocks of the program before began.
STARTS = V(LType("ptr"), "%starts")


def symbol(name: str) -> str:
    """The LLVM symbol of a function's body; Triton's mangled names hold characters that need quotes."""
    return f'"{name}.body"'


def returned_type(types: Sequence[Type]) -> str:
    """The LLVM type by which a function gives its scalar results."""
    scalars = [str(ltype(type)) for type in types if not isinstance(type, BlockType)]
    if len(scalars) < 2:
        return scalars[0] if scalars else "void"
    return f"{{ {', '.join(scalars)} }}"


def call(b: Builder, callee: str, passed: Sequence[V], types: Sequence[Type]) -> list[V]:
    """Call a function of the module whose results have `types`; its scalar results."""
    scalars = [ltype(type) for type in types if not isinstance(type, BlockType)]
    type = returned_type(types)
    text = f"call {type} @{symbol(callee)}({', '.join(map(str, [*passed, *GRID, STATUS]))})"
    if not scalars:
        b.raw(text)
        return []
    got = f"%{b.fresh('returned')}"
    b.raw(f"{got} = {text}")
    if len(scalars) == 1:
        return [V(scalars[0], got)]
    return [b.emit(scalar, f"extractvalue {type} {got}, {number}") for number, scalar in enumerate(scalars)]


def call_by_lane(b: Builder, callee: str, passed: Sequence[V], types: Sequence[Type]) -> list[V]:
    """Call a function of scalars for every lane of its arguments."""
    lanes = passed[0].type.lanes
    if not lanes:
        return call(b, callee, passed, types)
    found = [call(b, callee, [b.extract(value, lane) for value in passed], types) for lane in range(lanes)]
    return [b.gathered([results[number] for results in found]) for number in range(len(types))]
