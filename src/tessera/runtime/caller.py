"""The native short way of Triton's launcher: from Python's arguments to a running grid in 0.4 µs.

In:  Triton's signature of a kernel and the function that knows every case and its message.
Out: a function that Triton calls in its place.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from tessera.runtime import caller_ir
from tessera.runtime.arguments import BITS, FLOATS
from tessera.runtime.native import bind
from tessera.runtime.pool import entries


def make_caller(
    signature: tuple[Any, ...], slow: Callable[..., None], failed: Callable[[int], None]
) -> Callable[..., None]:
    """Triton's launcher for kernels of `signature`: `slow`, with a native short way for what is simple.

    Both take (x, y, z, stream, function, kernel's metadata, launch's metadata, enter hook, exit hook, *arguments). The
    short way takes launches without hooks of tensors on the CPU and numbers that fit; all else is `slow`'s. Where a
    kernel left the number of an assertion in its status word, `failed` is called with it.
    """
    if any(isinstance(kind, tuple) for kind in signature):
        return slow
    words = [len(signature), *(word(kind) for kind in signature)]
    return bind(entries().call, (struct.pack(f"<{len(words)}q", *words), slow, failed))


def word(kind: str) -> int:
    """What the native half does with an argument, and how many bits of 64 it must not use."""
    if kind == "constexpr":
        return caller_ir.SKIP
    if kind.startswith("*"):
        return caller_ir.POINTER
    if kind in BITS:
        return caller_ir.BIT
    if kind in FLOATS:
        return caller_ir.DOUBLE if kind == "fp64" else caller_ir.SINGLE
    return (64 - int(kind[1:])) << 8 | (caller_ir.UNSIGNED if kind[0] == "u" else caller_ir.SIGNED)
