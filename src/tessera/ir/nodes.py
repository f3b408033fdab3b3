"""Nodes of the tile IR: values in SSA form, operations, blocks of operations, regions, one kernel a function."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tessera.ir.types import Type


@dataclass(frozen=True)
class Location:
    """Where in the user's source an operation comes from; line and column count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(eq=False)
class Value:
    """One SSA value. `owner` is the operation that makes it, or the code block whose argument it is."""

    name: str
    type: Type
    owner: Op | Block | None = None

    def __str__(self) -> str:
        return f"%{self.name}"


@dataclass(eq=False)
class Op:
    """One operation. `attrs` holds what Triton wrote in braces or as keywords, already as Python values.

    `placement` is what the placement pass decided of its results: "" computed where it is used,
    "scratch" computed once, at this point of the program, into scratch memory.
    """

    name: str
    operands: list[Value]
    results: list[Value]
    attrs: dict[str, Any] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)
    location: Location | None = None
    placement: str = ""

    @property
    def result(self) -> Value:
        assert len(self.results) == 1, f"{self.name} has {len(self.results)} results"
        return self.results[0]


@dataclass(eq=False)
class Block:
    """A straight line of operations with arguments; the last operation is its terminator."""

    args: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    label: str = ""

    @property
    def terminator(self) -> Op:
        return self.ops[-1]


@dataclass(eq=False)
class Region:
    """The body of a structured operation; only a function's body may have more than one block."""

    blocks: list[Block] = field(default_factory=list)

    @property
    def block(self) -> Block:
        assert len(self.blocks) == 1, f"a region of {len(self.blocks)} blocks where one was expected"
        return self.blocks[0]


@dataclass(eq=False)
class Function:
    """A kernel, or a function that a kernel calls without inlining."""

    name: str
    args: list[Value]
    body: Region
    public: bool = True
    arg_attrs: list[dict[str, Any]] = field(default_factory=list)
    result_types: list[Type] = field(default_factory=list)

    def walk(self) -> Iterator[Op]:
        """Every operation, in program order, an operation before what is inside it."""
        yield from walk(self.body)


@dataclass(eq=False)
class Module:
    """All functions of one kernel's source, the kernel first."""

    functions: list[Function]

    @property
    def kernel(self) -> Function:
        return next(function for function in self.functions if function.public)

    @property
    def name(self) -> str:
        return self.kernel.name

    def __str__(self) -> str:
        from tessera.ir.printer import print_module

        return print_module(self)


def walk(region: Region) -> Iterator[Op]:
    """Every operation in a region, in program order, an operation before what is inside it."""
    for block in region.blocks:
        for op in block.ops:
            yield op
            for inner in op.regions:
                yield from walk(inner)


def placed(region: Region) -> Iterator[tuple[Block, Op]]:
    """Every operation in a region with its block, what is inside of it first. The blocks may be changed meanwhile."""
    for block in region.blocks:
        for op in list(block.ops):
            for inner in op.regions:
                yield from placed(inner)
            yield block, op


def made(name: str, operands: list[Value], type: Type, **attrs: Any) -> Value:
    """The result of a new operation, which stands nowhere yet: put `value.owner` into a block."""
    op = Op(name, operands, [], attrs)
    op.results = [Value(f"{operands[0].name}.{name}" if operands else name, type, op)]
    return op.result


def replace_uses(region: Region, old: Value, new: Value) -> None:
    """Let every operation in a region use another value."""
    for op in walk(region):
        op.operands = [new if operand is old else operand for operand in op.operands]


def substitute(scope: Region, block: Block, op: Op, new: list[Op], results: list[Value]) -> None:
    """Put operations in the place of one, whose results become those of `new` throughout the scope."""
    for step in new:
        step.location = op.location
    at = block.ops.index(op)
    block.ops[at : at + 1] = new
    for old, value in zip(op.results, results, strict=True):
        replace_uses(scope, old, value)


def users(region: Region) -> dict[Value, list[Op]]:
    """For each value the operations that use it as an operand, in program order."""
    found: dict[Value, list[Op]] = {}
    for op in walk(region):
        for operand in dict.fromkeys(op.operands):
            found.setdefault(operand, []).append(op)
    return found
