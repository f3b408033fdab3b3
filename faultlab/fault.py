"""What a fault in model code is: a row that the tables are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Compute = Callable[..., Any]
ALL = ("float32", "bfloat16", "int8")
FLOATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Fault:
    """A planted fault. make: from a part and its right work to the wrong work. backward: it shows in gradients only."""

    name: str
    role: str
    kinds: frozenset[str]
    operators: frozenset[str]
    make: Callable[[Any, Compute], Compute]
    dtypes: tuple[str, ...] = ALL
    backward: bool = False


def row(
    name: str, role: str, kinds: str, operators: str, make: Callable[[Any, Compute], Compute], **more: Any
) -> Fault:
    """kinds are separated by commas, operators by blanks."""
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Fault(name, role, frozenset(kind.strip() for kind in kinds.split(",")), named, make, **more)
