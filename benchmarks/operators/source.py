"""What the source of `tessera.ops` says of itself, read as syntax: kernels, reasons for declining, block sizes."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import tessera
from tessera.ops.tiles import Tiles

OPS = Path(tessera.__file__).parent / "ops"
_SIZES = tuple(field.name for field in fields(Tiles) if field.name != "num_warps")


@dataclass(frozen=True)
class Kernel:
    """A Triton kernel that a grid is launched of; `text` is its docstring in one line."""

    name: str
    text: str


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse((OPS / f"{module}.py").read_text(encoding="utf-8"))


def docstring(module: str) -> str:
    return ast.get_docstring(tree(module)) or ""


def kernels(module: str) -> list[Kernel]:
    """The functions that Triton compiles and whose docstring names a grid, of a file and of the one of its kernels."""
    found = []
    beside = f"{module}_kernels"
    for node in [*tree(module).body, *(tree(beside).body if (OPS / f"{beside}.py").exists() else [])]:
        text = " ".join((ast.get_docstring(node) or "").split()) if isinstance(node, ast.FunctionDef) else ""
        if "grid: " in text.lower() and isinstance(node, ast.FunctionDef):
            found.append(Kernel(node.name, text))
    return found


def reasons(module: str) -> list[str]:
    """Why its entries decline calls, in order of the file."""
    calls = (node.exc for node in ast.walk(tree(module)) if isinstance(node, ast.Raise))
    named = [c for c in calls if isinstance(c, ast.Call) and isinstance(c.func, ast.Name) and c.func.id == "Declined"]
    return list(dict.fromkeys(_written(module, c.args[0]) for c in sorted(named, key=lambda c: c.lineno)))


def _written(module: str, text: ast.expr) -> str:
    """A string, with the constants of the file where they stand in it and `…` for what only a call knows."""
    if isinstance(text, ast.JoinedStr):
        return "".join(_written(module, part) for part in text.values)
    if isinstance(text, ast.FormattedValue) and isinstance(text.value, ast.Name):
        return str(_constants(module).get(text.value.id, "…"))
    return str(text.value) if isinstance(text, ast.Constant) else "…"


@functools.cache
def _constants(module: str) -> dict[str, object]:
    assigned = (node for node in tree(module).body if isinstance(node, ast.Assign))
    pairs = ((node.targets[0], node.value) for node in assigned)
    return {t.id: v.value for t, v in pairs if isinstance(t, ast.Name) and isinstance(v, ast.Constant)}


def imported(module: str) -> dict[str, tuple[str, str]]:
    """Local name: (file of `ops`, name there, or "" for the file itself)."""
    found = {}
    for node in tree(module).body:
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("tessera.ops"):
            continue
        file = (node.module or "").removeprefix("tessera.ops").removeprefix(".")
        for alias in node.names:
            found[alias.asname or alias.name] = (file, alias.name) if file else (alias.name, "")
    return found


def block_sizes(module: str, families: frozenset[str]) -> list[str]:
    """The fields of `Tiles` that its launches look at, those of the helpers that it calls among them.

    families: other files with operators of their own, whose launches are theirs.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(module, name) for name in _functions(module)]
    found: set[str] = set()
    while waiting:
        at = waiting.pop()
        if at in seen or (at[0] != module and at[0] in families):
            continue
        seen.add(at)
        node = _functions(at[0]).get(at[1])
        if node is not None:
            found |= {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute) and _is_tiles(n)}
            waiting += _called(at[0], node)
    return [name for name in _SIZES if name in found]


@functools.cache
def _functions(module: str) -> dict[str, ast.FunctionDef]:
    nodes = tree(module).body if (OPS / f"{module}.py").exists() else []
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def _is_tiles(node: ast.Attribute) -> bool:
    """`row.flat`, `tiles.of(device).flat`: the row of the table of block sizes is always called so."""
    of_call = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) in ("tiles.of", "of")
    return node.attr in _SIZES and (of_call or (isinstance(node.value, ast.Name) and node.value.id == "row"))


def _called(module: str, function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    """(file, function) of what a function refers to in `ops`."""
    known = imported(module)
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            yield known.get(node.id, (module, node.id))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
            yield known[node.value.id][0], node.attr
