"""Attribute values of TTIR text: numbers, strings, dense constants, arrays, dictionaries."""

from __future__ import annotations

import ast
import re
import struct
from typing import Any

from tessera.ir.types import BlockType, ScalarType, Type, element_of

_HEX = re.compile(r"^0x([0-9A-Fa-f]+)$")
_FLOAT_LAYOUT = {"f16": ("<H", "<e"), "f32": ("<I", "<f"), "f64": ("<Q", "<d")}


def split_top(text: str, separator: str) -> list[str]:
    """Split at `separator` outside of brackets and strings."""
    parts, depth, start, i, quoted = [], 0, 0, 0, False
    while i < len(text):
        char = text[i]
        if quoted:
            if char == "\\":
                i += 1
            elif char == '"':
                quoted = False
        elif char == '"':
            quoted = True
        elif text.startswith(separator, i) and depth == 0:
            parts.append(text[start:i])
            i += len(separator)
            start = i
            continue
        elif char in "([{<":
            depth += 1
        elif char in ")]}" or (char == ">" and text[i - 1] != "-"):
            depth -= 1
        i += 1
    parts.append(text[start:])
    return parts


def parse_attributes(text: str) -> dict[str, Any]:
    """The inside of `{end = 128 : i32, start = 0 : i32}`; a lone name is a unit attribute and reads True."""
    found: dict[str, Any] = {}
    for part in split_top(text, ","):
        if not part.strip():
            continue
        name, *value = split_top(part, " = ")
        found[name.strip().strip('"')] = parse_value(value[0]) if value else True
    return found


def parse_value(text: str) -> Any:
    text = text.strip()
    if text.startswith("array<"):
        inner = text[6:-1].split(":", 1)
        return tuple(_number(x) for x in inner[1].split(",")) if len(inner) == 2 and inner[1].strip() else ()
    if text.startswith('"'):
        return unquote(split_top(text, " : ")[0].strip())
    return _number(split_top(text, " : ")[0].strip())


def unquote(text: str) -> str:
    """An MLIR string: `\\0A` is a byte in hex."""
    raw = text[1:-1]
    return re.sub(r"\\([0-9A-Fa-f]{2})", lambda m: chr(int(m[1], 16)), raw).replace("\\\\", "\\").replace('\\"', '"')


def _number(text: str) -> Any:
    text = text.strip()
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def parse_constant(text: str, type: Type) -> Any:
    """The value of `arith.constant`: a Python number, or for a block that is no splat a list of them."""
    text = text.strip()
    element = element_of(type)
    assert isinstance(element, ScalarType), f"a constant of type {type}"
    if text.startswith("dense<"):
        text = text[6:-1].strip()
    if text.startswith('"0x'):
        assert isinstance(type, BlockType)
        return _unpack(bytes.fromhex(text[3:-1]), element, type.numel)
    if text.startswith("["):
        return [_element(item, element) for item in re.findall(r"[^\[\],\s]+", text)]
    return _element(text, element)


def _element(text: str, type: ScalarType) -> int | float:
    if text in ("true", "false"):
        return int(text == "true")
    if match := _HEX.match(text):
        bits = int(match[1], 16)
        return _float_of_bits(bits, type) if type.is_float else bits
    return float(text) if type.is_float else int(text)


def _float_of_bits(bits: int, type: ScalarType) -> float:
    if type.name == "bf16":
        return float(struct.unpack("<f", struct.pack("<I", bits << 16))[0])
    if type.name not in _FLOAT_LAYOUT:
        raise ValueError(f"a hexadecimal constant of type {type} is not supported")
    as_int, as_float = _FLOAT_LAYOUT[type.name]
    return float(struct.unpack(as_float, struct.pack(as_int, bits))[0])


def _unpack(raw: bytes, type: ScalarType, count: int) -> list[int | float]:
    size = max(type.bits, 8) // 8
    # One stored element stands for all.
    items = [int.from_bytes(raw[i : i + size], "little", signed=not type.is_float) for i in range(0, len(raw), size)]
    values: list[int | float] = [_float_of_bits(item, type) if type.is_float else item for item in items]
    return values * count if len(values) == 1 else values
