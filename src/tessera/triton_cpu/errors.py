"""Faults of the compiler as Triton's own `CompilationError`, with the source line and a caret."""

from __future__ import annotations

import ast
import linecache

from triton.compiler.errors import CompilationError

from tessera.compiler.errors import Fault


class CPUCompilationError(CompilationError):
    """A kernel that the CPU back end cannot compile: every fault with file, line, source text and a caret."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        super().__init__(None, _node(faults[0]), "\n".join(_describe(fault) for fault in faults))

    def _format_message(self) -> str:
        return str(self.error_message)

    def __reduce__(self) -> tuple[type[CPUCompilationError], tuple[list[Fault]]]:
        return (type(self), (self.faults,))


def _node(fault: Fault) -> ast.AST:
    node = ast.Pass()
    node.lineno = fault.location.line if fault.location else 1
    node.col_offset = fault.location.column - 1 if fault.location else 0
    return node


def _describe(fault: Fault) -> str:
    if fault.location is None:
        return fault.message
    line = linecache.getline(fault.location.file, fault.location.line).rstrip()
    caret = " " * max(fault.location.column - 1, 0) + "^"
    return f"{fault.location}: {fault.message}\n{line}\n{caret}" if line else f"{fault.location}: {fault.message}"
