"""Faults as changed lines of a subject: `old` became `new`.

A row says which operators and kinds name the fault rightly, on which lines: the changed one, and those of `also`. It
was written before the fault was first run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
    """A changed line. operators, kinds: that name it (`*`: any operator); also: further lines that are to blame."""

    subject: str
    name: str
    old: str
    new: str
    operators: frozenset[str]
    kinds: frozenset[str]
    also: tuple[str, ...] = ()
    dtype: str = "float32"
    backward: bool = False
    steps: int = 0


def edit(subject: str, name: str, old: str, new: str, operators: str, kinds: str, **more: object) -> Edit:
    """kinds are separated by commas, operators by blanks."""
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Edit(subject, name, old, new, named, frozenset(kind.strip() for kind in kinds.split(",")), **more)  # type: ignore[arg-type]
