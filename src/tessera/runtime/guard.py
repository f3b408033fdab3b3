"""Guarded launches: a compiled kernel that looks at its arguments natively, packs them and runs, in about 1 µs.

In:  a guard for each value that a call gives, and the address of a compiled kernel.
Out: a function that runs the kernel and says True where all guards hold, and else does nothing and says False.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.runtime.caller import word
from tessera.runtime.guard_ir import ALIGNED, NOT_ONE, UNALIGNED, WIDE
from tessera.runtime.native import bind
from tessera.runtime.pool import entries

GuardedLaunch = Callable[..., bool]
"""(x, y, z, enter hook, exit hook, *values)."""

__all__ = ["ALIGNED", "NOT_ONE", "UNALIGNED", "WIDE", "Guard", "GuardedLaunch", "make_guarded"]


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


def make_guarded(address: int, guards: Sequence[Guard], slots: int) -> GuardedLaunch:
    """A launch of the kernel at `address`, which takes `slots` packed arguments, for calls that give values so guarded.

    Launches with hooks, grids that are empty or large, and all while a capture records are not for it.
    """
    words = [len(guards), slots, address]
    for one in guards:
        words += [one.slot << 32 | one.flags << 16 | word(one.kind), id(one.object)]
    state = struct.pack(f"<{len(words)}q", *words), tuple(one.object for one in guards)
    return bind(entries().guarded, state)
