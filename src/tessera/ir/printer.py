"""The tile IR as text, one operation a line: what `compiled.asm['tir']` shows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tessera.ir.nodes import Block, Function, Module, Op, Region


def print_module(module: Module) -> str:
    return "\n".join(line for function in module.functions for line in _function(function)) + "\n"


def _function(function: Function) -> Iterator[str]:
    args = ", ".join(f"{arg}: {arg.type}" for arg in function.args)
    yield f"{'kernel' if function.public else 'function'} @{function.name}({args}) {{"
    yield from _region(function.body, "  ")
    yield "}"


def _region(region: Region, indent: str) -> Iterator[str]:
    for block in region.blocks:
        yield from _block(block, indent, named=len(region.blocks) > 1)


def _block(block: Block, indent: str, named: bool) -> Iterator[str]:
    if named or block.args:
        args = ", ".join(f"{arg}: {arg.type}" for arg in block.args)
        yield f"{indent[:-2]}^{block.label or 'body'}({args}):"
    for op in block.ops:
        yield from _op(op, indent)


def _op(op: Op, indent: str) -> Iterator[str]:
    results = ", ".join(map(str, op.results))
    parts = [f"{results} = " if results else "", op.name]
    parts += [" " + ", ".join(map(str, op.operands))] if op.operands else []
    parts += [" {" + ", ".join(f"{key} = {_attr(value)}" for key, value in op.attrs.items()) + "}"] if op.attrs else []
    parts += [" : " + ", ".join(str(result.type) for result in op.results)] if op.results else []
    parts += [f" in {op.placement}"] if op.placement else []
    if not op.regions:
        yield indent + "".join(parts)
        return
    yield indent + "".join(parts) + " {"
    for number, region in enumerate(op.regions):
        if number:
            yield f"{indent}}} {{"
        yield from _region(region, indent + "  ")
    yield f"{indent}}}"


def _attr(value: Any) -> str:
    if isinstance(value, Block):
        return f"^{value.label}"
    if isinstance(value, (list, tuple)) and value and isinstance(value[0], Block):
        return "[" + ", ".join(f"^{block.label}" for block in value) + "]"
    return repr(value) if isinstance(value, str) else str(value)
