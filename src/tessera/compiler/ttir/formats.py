"""What is particular about the text of each operation: which attributes it takes before its types, and its result
type."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tessera.compiler.errors import fail
from tessera.compiler.ttir.attributes import parse_attributes, parse_constant, split_top, unquote
from tessera.ir.nodes import Value
from tessera.ir.types import PointerType, ScalarType, Type, element_of, parse_type, with_element

_VALUE = re.compile(r"%[\w.$-]+(?:#\d+)?")
_KEYWORD = re.compile(r"(\w+) = ([\w.]+)")
_QUOTED = re.compile(r'\s*("(?:[^"\\]|\\.)*")')
_I1 = ScalarType("i1")


@dataclass(frozen=True)
class Parsed:
    """One plain operation as read from its line."""

    name: str
    operands: list[Value]
    attrs: dict[str, Any]
    result_types: list[Type]


def short_name(name: str) -> str:
    """The tile IR drops the dialect where that leaves no doubt: `arith.addi` is `addi`, `tt.load` is `load`."""
    dialect, _, rest = name.partition(".")
    return rest if dialect in ("arith", "math", "tt", "scf", "cf", "ub") else name


def read(text: str, values: Mapping[str, Value]) -> Parsed:
    """Read an operation without regions; `values` are those defined above it."""
    opcode = re.match(r'"?([\w.]+)"?', text)
    assert opcode is not None, f"no operation in {text!r}"
    name = short_name(opcode[1])
    rest = text[opcode.end() :]
    special = _SPECIAL.get(name)
    if special is not None:
        return special(name, rest, values)
    return _usual(name, rest, values)


def _usual(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`op keywords %a, %b, key = value {attributes} : types`"""
    head, signature = _split_signature(rest)
    head, attrs = _take_braces(head)
    operands = [values[found] for found in _VALUE.findall(head)]
    bare = _VALUE.sub("", head)
    attrs |= dict(_KEYWORD.findall(bare))
    words = re.findall(r"[A-Za-z_]\w*", _KEYWORD.sub("", re.sub(r"(fastmath|overflow)<[^>]*>", "", bare)))
    if words:
        attrs["words"] = tuple(words)
    return Parsed(name, operands, attrs, _result_types(name, signature, operands))


def _split_signature(rest: str) -> tuple[str, str]:
    parts = split_top(rest, " : ")
    return parts[0], " : ".join(parts[1:])


def _take_braces(head: str) -> tuple[str, dict[str, Any]]:
    start = head.find("{")
    if start < 0:
        return head, {}
    end = head.rfind("}")
    before, after = head[:start].rstrip("<"), head[end + 1 :].lstrip(">")
    return before + after, parse_attributes(head[start + 1 : end])


def _types(text: str) -> list[Type]:
    text = text.strip()
    if text.startswith("(") and text.endswith(")"):
        text = text[1:-1]
    return [parse_type(part) for part in split_top(text, ",") if part.strip()]


def _result_types(name: str, signature: str, operands: list[Value]) -> list[Type]:
    if not signature or name in _NO_RESULT:
        return []
    for arrow in (" -> ", " to "):
        if len(sides := split_top(signature, arrow)) == 2:
            return _types(sides[1])
    types = _types(signature)
    if name in ("cmpi", "cmpf"):
        return [with_element(types[0], _I1)]
    if name == "load":
        pointer = element_of(types[0])
        assert isinstance(pointer, PointerType)
        return [with_element(types[0], pointer.pointee)]
    if name == "unsplat":
        return [element_of(types[0])]
    return [types[0]] if name == "addptr" else [types[-1]]


def _split(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`%lhs, %rhs = tt.split %x : T -> U`: one type for both results."""
    parsed = _usual(name, rest, values)
    return Parsed(name, parsed.operands, parsed.attrs, parsed.result_types * 2)


_NO_RESULT = {
    "store", "return", "yield", "condition", "reduce.return", "scan.return", "map_elementwise.return", "assert",
    "print", "llvm.intr.assume", "gpu.barrier", "ttg.barrier", "debug_barrier",
}  # fmt: skip


def _constant(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    rest = rest.strip()
    if rest in ("true", "false"):
        return Parsed(name, [], {"value": int(rest == "true")}, [_I1])
    rest, _ = _take_braces(rest) if rest.startswith("{") else (rest, {})
    value, signature = _split_signature(rest)
    type = parse_type(signature)
    return Parsed(name, [], {"value": parse_constant(value, type)}, [type])


def _print(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`tt.print "prefix: " {hex = false, isSigned = array<i32: 1>} : %x : i32`"""
    quoted = _QUOTED.match(rest)
    assert quoted is not None, f"no text in {rest!r}"
    parts = split_top(rest[quoted.end() :], " : ")
    _, attrs = _take_braces(parts[0])
    operands = [values[found] for part in parts[1:2] for found in _VALUE.findall(part)]
    return Parsed(name, operands, attrs | {"prefix": unquote(quoted[1])}, [])


def _assembly(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`tt.elementwise_inline_asm "text" {constraints = "=r,r", packed_element = 1 : i32, …} %x, … : T, … -> U, …`"""
    quoted, constraints = _QUOTED.match(rest), re.compile(r'constraints = "(?:[^"\\]|\\.)*", ')
    assert quoted is not None, f"no text in {rest!r}"
    parsed = _usual(name, constraints.sub("", rest[quoted.end() :]), values)
    return Parsed(name, parsed.operands, parsed.attrs | {"text": unquote(quoted[1])}, parsed.result_types)


def _assert(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    head, _ = _split_signature(rest)
    condition, message = split_top(head, ", ")[:2]
    return Parsed(name, [values[condition.strip()]], {"message": unquote(message.strip())}, [])


def _dot_scaled(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`tt.dot_scaled %a scale %s, %b, %c lhs = e4m3 rhs = bf16 …`: either operand may have a scale."""
    parsed = _usual(name, rest, values)
    parsed.attrs["scaled"] = tuple(" scale " in part for part in split_top(rest, ",")[:2])
    return parsed


def _branch(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    """`cf.cond_br %c, ^bb1(%x : i32), ^bb2` and `cf.br ^bb3(%y : i32)`"""
    targets = re.findall(r"\^(bb\d+)(?:\(([^)]*)\))?", rest)
    operands = [values[_VALUE.findall(rest)[0]]] if name == "cond_br" else []
    counts = []
    for _, passed in targets:
        found = [values[value] for value in _VALUE.findall(passed.split(" : ")[0])]
        counts.append(len(found))
        operands += found
    return Parsed(name, operands, {"successors": [label for label, _ in targets], "counts": tuple(counts)}, [])


def _call(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    head, signature = _split_signature(rest)
    callee = re.match(r"\s*@([\w.$\"<>-]+)\(", head)
    if callee is None:
        raise fail(f"cannot read the call {rest!r}")
    operands = [values[found] for found in _VALUE.findall(head[callee.end() :])]
    return Parsed(name, operands, {"callee": callee[1]}, _types(split_top(signature, " -> ")[1]))


def _poison(name: str, rest: str, values: Mapping[str, Value]) -> Parsed:
    return Parsed(name, [], {}, [parse_type(rest.split(":", 1)[1])])


_SPECIAL: dict[str, Callable[[str, str, Mapping[str, Value]], Parsed]] = {
    "constant": _constant,
    "split": _split,
    "print": _print,
    "elementwise_inline_asm": _assembly,
    "assert": _assert,
    "br": _branch,
    "cond_br": _branch,
    "call": _call,
    "dot_scaled": _dot_scaled,
    "poison": _poison,
}
