"""Tensor descriptors made on the host (`triton.tools.tensor_descriptor.TensorDescriptor`) as a kernel takes them.

Triton's own pass takes a descriptor argument apart: the kernel has the address, the shape and the strides, one bit a
flag (is the padding NaN? are fp32 elements rounded to tf32?), and then shape and strides once more.

In:  Triton's signature of a kernel; per launch, its arguments.
Out: signature and arguments with a tuple in the place of every descriptor, as `arguments.make_packer` reads them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tessera.runtime.arguments import ArgumentError

_KIND = re.compile(r"tensordesc<([^\[>]*)\[([^\]]*)\]")


def is_descriptor(kind: Any) -> bool:
    """Is a type of a signature, or a part of it, a tensor descriptor?"""
    if isinstance(kind, tuple):
        return any(map(is_descriptor, kind))
    return isinstance(kind, str) and kind.startswith("tensordesc")


def expanded_kind(kind: Any, flags: Sequence[str]) -> Any:
    """The types that stand for one of a signature. `flags` are the names of a descriptor's bits, in their order."""
    if isinstance(kind, tuple):
        return tuple(expanded_kind(part, flags) for part in kind)
    match = _KIND.match(kind) if isinstance(kind, str) else None
    if match is None:
        return kind
    rank = match[2].count(",") + 1
    return (f"*{match[1]}", *["i64"] * (2 * rank), *["i1"] * len(flags), *["i32"] * rank, *["i64"] * rank)


def expanded(kind: Any, value: Any, flags: Sequence[str], path: str) -> Any:
    """The values that stand for one argument.

    Raises:
        ArgumentError: something that is no descriptor is passed where the kernel takes one.
    """
    if not is_descriptor(kind):
        return value
    if isinstance(kind, tuple):
        return tuple(expanded(k, v, flags, f"{path}[{i}]") for i, (k, v) in enumerate(zip(kind, value, strict=True)))
    if not hasattr(value, "block_shape"):
        raise ArgumentError(
            f"argument {path} is a {type(value).__name__}; the kernel takes {kind} there: pass a "
            "triton.tools.tensor_descriptor.TensorDescriptor"
        )
    bits = [value.padding == "nan" if flag == "padding" else bool(getattr(value, flag)) for flag in flags]
    return (value.base, *value.shape, *value.strides, *bits, *value.shape, *value.strides)
