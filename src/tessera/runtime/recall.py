"""Recalled calls: an operator's call that is like one before runs with no Python, in about 0.5 µs beyond the kernel.

In:  what served a call, as launches among its tensors and what it allocated.
Out: a function that PyTorch calls for the operator: it spells each call into a key, and runs what is known for it.
"""

from __future__ import annotations

import ctypes
import functools
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tessera.runtime.chain import Launch, record_of
from tessera.runtime.native import bind, torch_function
from tessera.runtime.pool import entries
from tessera.runtime.spelling_ir import MOST_POINTERS

Known = dict[bytes, Any]
"""By key: an entry of `make_entry` or of `handed_on`, or None: call `slow`."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """A tensor argument: from its first to behind its last byte, whether it is written, and its layout as a number."""

    extent_bytes: int
    written: bool
    layout: int


@dataclass(frozen=True, kw_only=True)
class Steps:
    """What serves calls of one layout.

    tensors: the arguments that are tensors, in order. layouts: shape, strides and dtype of what is allocated.
    results: places among the two, None for no tensor. single: one result, and it stands alone.
    launches: their patches name a place among the two, or below zero a number of the call: -1 the first. checks: what
    is called behind the launches where an int32 is not zero, with the int32's address. fills: what is called before the
    launches with what is allocated, by its place, to put numbers there that are new in each call. ends: what is called
    behind the checks with two of what is allocated.
    """

    tensors: tuple[Held, ...]
    layouts: tuple[tuple[Any, ...], ...]
    results: tuple[int | None, ...]
    single: bool
    launches: tuple[Launch, ...]
    checks: tuple[tuple[int, Callable[[], None]], ...]
    fills: tuple[tuple[int, Callable[[Any], Any]], ...]
    ends: tuple[tuple[int, int, Callable[[Any, Any], Any]], ...]
    kept: Any = field(repr=False)


def make_entry(steps: Steps, numbers: Sequence[float | None], gain: float = 0.0) -> Any:
    """What a `Known` holds for calls that `steps` serve; None where they are too many.

    numbers: of the call, in order; None for those that each call gives anew. gain: what the account is given.
    """
    first, given = len(steps.tensors) + len(steps.layouts), numbers.count(None)
    constants = [x for x in numbers if x is not None]
    num_pointers = first + len(numbers)
    if num_pointers >= MOST_POINTERS:
        return None
    places = _places(numbers, first, given)
    launches = [_renumbered(one, places, num_pointers) for one in steps.launches]
    results = [-1 if place is None else place for place in steps.results]
    head = (len(steps.tensors), given, len(steps.layouts), len(constants), sum(x.written for x in steps.tensors))
    words = [*head, -1 if steps.single else len(results)]
    tensors = [word for x in steps.tensors for word in (x.extent_bytes, int(x.written), x.layout)]
    record = (
        struct.pack(f"<{len(words)}qd", *words, gain)
        + struct.pack(f"<{len(constants)}d", *constants)
        + struct.pack(f"<{len(tensors) + len(results)}q", *tensors, *results)
        + record_of(launches, num_pointers)
    )
    flags = struct.pack(f"<{len(steps.checks)}q", *(flag for flag, _ in steps.checks))
    checks = tuple(check for _, check in steps.checks)
    filled = struct.pack(f"<{len(steps.fills)}q", *(place for place, _ in steps.fills))
    fills = tuple(fill for _, fill in steps.fills)
    ended = struct.pack(f"<{2 * len(steps.ends)}q", *(place for *two, _ in steps.ends for place in two))
    ends = tuple(end for _, _, end in steps.ends)
    apart = bytearray(8 + 8 * len(steps.tensors))
    return record, steps.layouts, apart, checks, flags, fills, filled, _alone(steps), ends, ended, steps.kept


def _alone(steps: Steps) -> bytes | None:
    """What is allocated, for native code that needs no interpreter: for each number of dimensions, dtype, sizes and
    strides. None where the call needs it all the same."""
    if steps.fills or steps.ends:
        return None
    words: list[int] = []
    for shape, strides, dtype in steps.layouts:
        number = _number_of(dtype)
        if number is None:
            return None
        words += [len(shape), number, *shape, *strides]
    return struct.pack(f"<{len(words)}q", *words)


@functools.cache
def _number_of(dtype: Any) -> int | None:
    """PyTorch's number for a dtype; None where its C interface has none."""
    code = torch_function(f"aoti_torch_dtype_{str(dtype).removeprefix('torch.')}")
    return ctypes.CFUNCTYPE(ctypes.c_int32)(code)() if code else None


def handed_on(kernel: Callable[..., Any], gain: float) -> Any:
    """What a `Known` holds for calls that `kernel` serves, which is given `first`, then the arguments."""
    return kernel, struct.pack("<6qd", *[0] * 6, gain)


def _places(numbers: Sequence[float | None], first: int, given: int) -> list[int]:
    """Among the pointers: those that a call gives come first."""
    places, anew, constant = [], first, first + given
    for x in numbers:
        places.append(anew if x is None else constant)
        anew, constant = anew + (x is None), constant + (x is not None)
    return places


def _renumbered(one: Launch, places: Sequence[int], own: int) -> Launch:
    def place(source: int) -> int:
        return source if source >= 0 else own if source == OWN else places[-1 - source]

    return replace(one, patches=tuple(replace(p, source=place(p.source)) for p in one.patches))


# The source of a patch that is the address of the launch's own arguments.
OWN = -(1 << 32)


@dataclass(frozen=True, kw_only=True)
class Spelling:
    """What belongs to the key of an operator's calls.

    places, names: of the arguments that are only handed on, by which one plan serves all numbers but 0 and 1; those
    that are given by their place, and those by name. views: whether tensors are to be read negated or conjugated.
    account: the address of a float64 to which the gain of each call is added, or 0. front: the address of the
    operator's front, or 0.
    """

    places: Collection[int] = ()
    names: Collection[str] = ()
    views: bool = False
    account: int = 0
    front: int = 0

    def record(self) -> bytes:
        mask = sum(1 << place for place in self.places)
        words = [int(self.views), self.account, len(self.names), self.front, *map(hash, self.names)]
        return struct.pack(f"<Q{len(words)}q", mask, *words)


def make_recall(
    known: Known, slow: Callable[..., Any], watching: list[Any], spelling: Spelling, first: Any
) -> Callable[..., Any]:
    """The function of an operator.

    known: which calls it knows; it may be changed. slow: serves all others; it takes the call's key, or None where the
    call is not to be learned, then the arguments. watching: while it is not empty, all calls are `slow`'s. first: what
    the vendor's kernels are given before the arguments.
    """
    return bind(entries().recall, (known, slow, watching, spelling.record(), first))
