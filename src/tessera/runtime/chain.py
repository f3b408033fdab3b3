"""Chains: launches that were recorded once and run again by one native call.

In:  launches in order, each with packed arguments of which some are *patched*: an address among the chain's pointers
     plus an offset, written over one 8-byte slot when the chain runs.
Out: a function of Python that takes the pointers. It runs launch after launch; each has ended when the next begins.
Errors: `UsageError` for too many threads, as every launch. A wrong number of pointers is an error of ours.

An eager operator is a chain whose pointers are its tensors; a captured graph is chains without pointers.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tessera.runtime.arguments import PackedArgs
from tessera.runtime.calls_ir import HEADER, LAUNCH
from tessera.runtime.native import bind
from tessera.runtime.pool import entries, launch, listener

Chain = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Patch:
    """Argument `slot` is pointer number `source` of the chain, `offset` bytes further on.

    The pointer behind the chain's last one is the memory of the packed arguments themselves: what is packed behind the
    arguments is a table of the launch.
    """

    slot: int
    source: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One grid that is not empty, over the kernel at `address`."""

    address: int
    packed: PackedArgs
    grid: tuple[int, int, int]
    patches: tuple[Patch, ...] = ()

    @property
    def programs(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


def make_chain(launches: Sequence[Launch], num_pointers: int = 0, keep: Any = None) -> Chain:
    """The function that runs `launches`; it keeps `keep` alive, which should be what holds the kernels' code."""
    assert all(p.source <= num_pointers for one in launches for p in one.patches), "a patch names no pointer"
    state = (record_of(launches, num_pointers), _one_by_one(tuple(launches), num_pointers), keep)
    return bind(entries().chain, state)


def record_of(launches: Sequence[Launch], num_pointers: int) -> bytes:
    """What the native half reads; its layout is told in `calls_ir`."""
    most = max((len(one.packed) // 8 for one in launches), default=0)
    words = [len(launches), num_pointers, most, int(any(one.programs > 1 for one in launches))]
    assert len(words) == HEADER
    for one in launches:
        lead = (one.address, *one.grid, len(one.packed) // 8, len(one.patches))
        assert len(lead) == LAUNCH
        words += lead
        words += struct.unpack(f"<{len(one.packed) // 8}q", one.packed)
        words += [word for p in one.patches for word in (p.slot, p.source, p.offset)]
    return struct.pack(f"<{len(words)}q", *words)


def _one_by_one(launches: tuple[Launch, ...], num_pointers: int) -> Chain:
    """The same for one who listens: every launch goes through `pool.launch`."""

    def run(*pointers: int) -> None:
        assert len(pointers) == num_pointers, f"a chain of {num_pointers} pointers was given {len(pointers)}"
        for one in launches:
            packed = _patched(one, pointers)
            if (who := listener()) is not None:
                who.given((_Table(packed),))
            launch(one.address, packed.raw, *one.grid)

    return run


@dataclass(frozen=True)
class _Table:
    """Arguments that a launch may be given the address of: who records the launch keeps them."""

    packed: ctypes.Array[ctypes.c_char]

    def data_ptr(self) -> int:
        return ctypes.addressof(self.packed)


def _patched(one: Launch, pointers: tuple[int, ...]) -> ctypes.Array[ctypes.c_char]:
    """The arguments, in memory that holds the table while the launch runs."""
    packed = ctypes.create_string_buffer(one.packed, len(one.packed))
    sources = (*pointers, ctypes.addressof(packed))
    for patch in one.patches:
        struct.pack_into("<Q", packed, 8 * patch.slot, sources[patch.source] + patch.offset)
    return packed
