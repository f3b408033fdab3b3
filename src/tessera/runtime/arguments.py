"""Pack the arguments of a launch as kernels read them.

In:  Triton's signature of a kernel (one type a leaf) and, per launch, the tuple of its arguments.
Out: `bytes`, one 8-byte little-endian slot per argument that the kernel takes, in order; constants take none.
     Pointers are 64-bit addresses; integers hold their own width in the low bytes, zero above; a bit is set by any
     int but 0; fp16, bf16 and fp32 are all a 4-byte float (Triton passes small floats as fp32); fp64 is a double.
Errors: `ArgumentError` (a `TypeError`) for a wrong type, `UsageError` (a `ValueError`) for a value out of range.

One function is generated per signature: it unpacks, reads each address and calls `struct` once. What it cannot pack (a
raw address, None, a value to complain about) is done again by the slow path, which knows every case and its message.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from tessera.core.errors import TesseraError, UsageError

PackedArgs: TypeAlias = bytes
"""Immutable, so that launches from several threads never share a buffer."""

_FORMATS = {
    "i1": "B7x", "u1": "B7x",
    "i8": "b7x", "i16": "h6x", "i32": "i4x", "i64": "q",
    "u8": "B7x", "u16": "H6x", "u32": "I4x", "u64": "Q",
    "fp16": "f4x", "bf16": "f4x", "fp32": "f4x", "fp64": "d",
}  # fmt: skip
FLOATS = ("fp16", "bf16", "fp32", "fp64")
BITS = ("i1", "u1")


class ArgumentError(TesseraError, TypeError):
    """An argument of a launch has a type that the kernel's signature does not allow."""


def make_packer(signature: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], PackedArgs]:
    """The function that packs one launch's arguments for kernels of `signature`.

    `signature` is the values of Triton's: `'*fp32'`, `'i32'`, `'fp64'`, `'constexpr'`, ..., or a tuple of these where
    the argument is a tuple. Raises `UsageError` for a type that no CPU kernel can take.
    """
    leaves = [kind for _, kind in _leaves(signature)]
    record = struct.Struct("<" + "".join(_format(kind) for kind in leaves if kind != "constexpr"))

    def pack_slowly(args: tuple[Any, ...]) -> PackedArgs:
        values = _flatten(signature, args)
        return record.pack(*(_slot(path, kind, value) for path, kind, value in values if kind != "constexpr"))

    return _generate(signature, record, pack_slowly)


def _leaves(signature: tuple[Any, ...], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(path, type) of every leaf in order; the path reads `2` or `2[0]`."""
    for index, kind in enumerate(signature):
        path = f"{prefix}[{index}]" if prefix else str(index)
        if isinstance(kind, tuple):
            yield from _leaves(kind, path)
        else:
            yield path, kind


def _format(kind: str) -> str:
    if kind.startswith("*"):
        return "Q"
    if kind not in _FORMATS:
        raise UsageError(f"a kernel argument has type {kind!r}, which is none of: pointers, {', '.join(_FORMATS)}")
    return _FORMATS[kind]


def _generate(
    signature: tuple[Any, ...], record: struct.Struct, slow: Callable[[tuple[Any, ...]], PackedArgs]
) -> Callable[[tuple[Any, ...]], PackedArgs]:
    """The fast path: straight-line code for tensors and plain numbers, `slow` for everything else."""
    values: list[str] = []
    tensors: list[str] = []

    def target(kind: Any) -> str:
        if isinstance(kind, tuple):
            return f"[{', '.join(target(part) for part in kind)}]"
        name = f"a{len(values)}_{len(tensors)}"
        if kind == "constexpr":
            return "_"
        if kind.startswith("*"):
            tensors.append(f"{name}.is_cpu")
            values.append(f"{name}.data_ptr()")
        else:
            values.append(f"index({name}) != 0" if kind in BITS else name)
        return name

    unpack = target(signature)
    guard = f"if {' and '.join(tensors)}:" if tensors else "if True:"
    source = (
        "def pack(args):\n"
        "    try:\n"
        f"        {unpack} = args\n"
        f"        {guard}\n"
        f"            return record({', '.join(values)})\n"
        "    except (AttributeError, KeyError, OverflowError, TypeError, ValueError, error):\n"
        "        pass\n"
        "    return slow(args)\n"
    )
    scope: dict[str, Any] = {
        "record": record.pack, "slow": slow, "index": operator.index, "error": struct.error,
    }  # fmt: skip
    exec(compile(source, "<tessera argument packer>", "exec"), scope)
    pack: Callable[[tuple[Any, ...]], PackedArgs] = scope["pack"]
    return pack


def _flatten(signature: tuple[Any, ...], args: Any, prefix: str = "") -> Iterator[tuple[str, str, Any]]:
    """(path, type, value) of every leaf. Raises `ArgumentError` where the arguments are not shaped as the signature."""
    where = f"argument {prefix}" if prefix else "the launch"
    if not isinstance(args, tuple | list):
        raise ArgumentError(f"{where} is a {type(args).__name__}; the kernel takes a tuple of {len(signature)} there")
    if len(args) != len(signature):
        raise ArgumentError(f"{where} has {len(args)} arguments; the kernel takes {len(signature)}: {signature}")
    for index, (kind, value) in enumerate(zip(signature, args, strict=True)):
        path = f"{prefix}[{index}]" if prefix else str(index)
        if isinstance(kind, tuple):
            yield from _flatten(kind, value, path)
        else:
            yield path, kind, value


def _slot(path: str, kind: str, value: Any) -> int | float:
    if kind.startswith("*"):
        return _address(path, kind, value)
    if kind in FLOATS:
        return _float(path, kind, value)
    return _integer(path, kind, value)


def _address(path: str, kind: str, value: Any) -> int:
    if value is None:
        return 0
    if hasattr(value, "data_ptr"):
        device = getattr(value, "device", None)
        if device is not None and getattr(device, "type", device) != "cpu":
            raise ArgumentError(
                f"argument {path} is a {_name(value)} on device {device}; the kernel runs on the CPU and takes "
                f"{kind} there: pass tensor.to('cpu')"
            )
        return _in_range(path, "u64", operator.index(value.data_ptr()))
    if isinstance(value, int) and not isinstance(value, bool):
        return _in_range(path, "u64", value)
    raise _wrong(path, kind, value, "a tensor on the CPU, an address as int, or None")


def _float(path: str, kind: str, value: Any) -> float:
    try:
        number = float(value) if not isinstance(value, str | bytes) else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise _wrong(path, kind, value, "a number")
    if kind == "fp64":
        return number
    try:
        struct.pack("<f", number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")  # what a conversion to float gives in a kernel
    return number


def _integer(path: str, kind: str, value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise _wrong(path, kind, value, "an int") from None
    return int(number != 0) if kind in BITS else _in_range(path, kind, number)


def _in_range(path: str, kind: str, number: int) -> int:
    bits = int(kind[1:])
    low, high = (0, 2**bits - 1) if kind[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if not low <= number <= high:
        raise UsageError(f"argument {path} is {number}, outside the range of {kind}; pass a value in {low}..{high}")
    return number


def _wrong(path: str, kind: str, value: Any, wanted: str) -> ArgumentError:
    return ArgumentError(f"argument {path} is a {_name(value)}; the kernel takes {kind} there: pass {wanted}")


def _name(value: Any) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
