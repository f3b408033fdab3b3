"""The families: files of `tessera.ops` that serve operators, with the rows of the catalogue that are theirs."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.operators import source
from benchmarks.operators.docstring import Parts, parse
from tessera.ops.catalogue import ROWS
from tessera.ops.table import VARIANTS


@dataclass(frozen=True)
class Operator:
    """A row of the catalogue: `names` of overloads, those that are `derived` from them, and what is computed."""

    names: tuple[str, ...]
    derived: tuple[str, ...]
    computes: str


@dataclass(frozen=True)
class Family:
    """`module` is the file's name without its ending."""

    module: str
    parts: Parts
    operators: tuple[Operator, ...]

    @property
    def num_overloads(self) -> int:
        return sum(len(operator.names) + len(operator.derived) for operator in self.operators)


def _module(entry: Callable[..., Any]) -> str:
    return entry.__module__.rpartition(".")[2]


@functools.cache
def families() -> dict[str, Family]:
    """By file, in the order of the alphabet."""
    rows: dict[str, list[Operator]] = {}
    for row in ROWS:
        names = tuple(_name(name) for name in row.names)
        rows.setdefault(_module(row.entry), []).append(Operator(names, tuple(_derived(row.names)), computes(row.entry)))
    return {
        module: Family(module, parse(source.docstring(module)), tuple(rows[module])) for module in sorted(rows)
    }


def _name(name: str) -> str:
    return VARIANTS[f"aten::{name}"].name if f"aten::{name}" in VARIANTS else name


def _derived(names: tuple[str, ...]) -> Iterator[str]:
    bases = {f"aten::{name}" for name in names}
    for full_name, variant in VARIANTS.items():
        if variant.base._name in bases and full_name not in bases:
            yield variant.name


def computes(entry: Callable[..., Any]) -> str:
    """What an entry computes: its docstring, else its scalar function, else what made it."""
    text = inspect.getdoc(entry)
    if text:
        return text.split("\n\n")[0].replace("\n", " ")
    scalar = _scalar(entry)
    return _of_scalar(scalar) if scalar is not None else _of_maker(entry)


def _scalar(entry: Callable[..., Any]) -> Any:
    """The function that Triton compiles into a generic kernel, where the entry stands for one."""
    inside = inspect.getclosurevars(entry).nonlocals
    found = [value for name, value in inside.items() if name in ("fn", "floating") and hasattr(value, "src")]
    nested = (_scalar(value) for value in inside.values() if inspect.isfunction(value) and value is not entry)
    return found[0] if found else next((value for value in nested if value is not None), None)


def _of_scalar(scalar: Any) -> str:
    """Its docstring, or the one expression that it is."""
    function = ast.parse(textwrap.dedent(inspect.getsource(scalar.fn))).body[0]
    assert isinstance(function, ast.FunctionDef), "a scalar function is a function"
    text = ast.get_docstring(function)
    if text:
        return text.replace("\n", " ")
    last = function.body[-1]
    if len(function.body) > 1 or not isinstance(last, ast.Return) or last.value is None:
        return ""
    return f"`{ast.unparse(last.value).replace('libdevice.', '').replace('tl.', '')}`"


def _of_maker(entry: Callable[..., Any]) -> str:
    """The docstring of the function that made the entry."""
    maker = getattr(inspect.getmodule(entry), entry.__qualname__.partition(".")[0])
    return (inspect.getdoc(maker) or "").split("\n\n")[0].replace("\n", " ")
