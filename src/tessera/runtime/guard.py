"""Launches that Triton is not asked about: native code sees that nothing changed, which kernel it is, and runs it.

In:  what must be as it was (watches), and for each way to give arguments what must hold of them (guards) for which
     compiled kernel.
Out: a function that takes (grid, *args, **named), runs the kernel in about 1 µs and returns it, or calls the slow way.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.runtime.caller import word
from tessera.runtime.guard_ir import ALIGNED, NOT_ONE, UNALIGNED, WIDE
from tessera.runtime.native import bind
from tessera.runtime.pool import entries

__all__ = ["ALIGNED", "NOT_ONE", "UNALIGNED", "WIDE", "Form", "Guard", "Known", "ShortLaunch", "Watch"]

Watch = tuple[dict[Any, Any], Any, Any] | tuple[dict[Any, Any], Any]
"""(dict, key, value): it is there, itself or an equal one; (dict, key): it is not there."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """What must hold of one value.

    kind: Triton's word for its type, `constexpr` for what the kernel was compiled for by value.
    object: the constant, the dtype of a tensor, or the type of a number.
    slot: its place among the packed arguments; constants have none.
    flags: of `guard_ir`.
    """

    kind: str
    object: Any
    slot: int = 0
    flags: int = 0


class Known:
    """A compiled kernel at `address`, which takes `slots` packed arguments, for values so guarded; it is run as long as
    `kept[key]` is `compiled`."""

    def __init__(
        self, kept: dict[Any, Any], key: Any, compiled: Any, *, address: int, guards: Sequence[Guard], slots: int
    ) -> None:
        words = [len(guards), slots, address]
        for one in guards:
            words += [one.slot << 32 | one.flags << 16 | word(one.kind), id(one.object)]
        self.compiled = compiled
        self._kept, self._key = kept, key
        self.record = (
            kept, key, compiled, struct.pack(f"<{len(words)}q", *words), tuple(one.object for one in guards),
        )  # fmt: skip

    def is_kept(self) -> bool:
        """Whether Triton still keeps it."""
        return self._kept.get(self._key) is self.compiled


@dataclass(frozen=True)
class Form:
    """A way to give arguments: how many in order, and the names of the others. `parameters` are the names of all, None
    for what is no parameter; `defaults` are of those that are not given. The kernels are tried in order."""

    in_order: int
    names: tuple[str, ...]
    parameters: tuple[str | None, ...]
    defaults: Mapping[str, Any]
    kernels: tuple[Known, ...] = ()


class ShortLaunch:
    """`launch(grid, *args, **named)`: the kernel that ran. What is not the plain case is `slow`'s: a capture that
    records, a grid that is empty or large, an argument that no guard is for."""

    def __init__(self, slow: Callable[..., Any]) -> None:
        self._state: list[Any] = [None]
        self.launch: Callable[..., Any] = bind(entries().short, (self._state, slow))

    def know(self, watches: Sequence[Watch], forms: Sequence[Form]) -> None:
        """Launch so from now on, as long as nothing that is watched changes."""
        records = (
            (form.in_order, form.names, form.parameters, dict(form.defaults), tuple(k.record for k in form.kernels))
            for form in forms
        )
        self._state[0] = tuple(watches), tuple(records)

    def forget(self) -> None:
        """Nothing is launched the short way until something is known again."""
        self._state[0] = None
