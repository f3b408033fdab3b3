"""Inline assembly of NVIDIA's virtual machine becomes plain operations, where these do the same.

    elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" a, b, c   →   fma a, b, c

What authors of kernels write so is mostly an approximation that a GPU has an instruction for (`tanh.approx.f32`): here
it is the function itself. Registers hold 32 or 64 bits without a type, each instruction says what it takes them for.
Text with any other instruction stays as it is and is an error that names it. Source: NVIDIA, "PTX ISA", chapter 9.7.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence

from tessera.ir.nodes import Block, Module, Op, Region, Value, made, placed, substitute
from tessera.ir.types import ScalarType, Type, element_of, with_element

_OPERATION = "elementwise_inline_asm"


def run(module: Module) -> None:
    """Rewrite the assembly of the module; of what is not known, `unknown` of its operation says which part."""
    for function in module.functions:
        for block, op in placed(function.body):
            if op.name == _OPERATION:
                _rewrite(block, op, function.body)


def _rewrite(block: Block, op: Op, scope: Region) -> None:
    program = _Program(op)
    try:
        results = program.run()
    except _Unknown as unknown:
        op.attrs["unknown"] = str(unknown)
        return
    substitute(scope, block, op, program.ops, results)


class _Unknown(Exception):
    """A part of the text that is not understood."""


class _Program:
    """The instructions of one operation, done one after the other with the values of registers."""

    def __init__(self, op: Op) -> None:
        self.ops: list[Op] = []
        self._op = op
        self._registers: dict[str, Value] = {}

    def run(self) -> list[Value]:
        """The operation's results. Raises `_Unknown`."""
        op, results = self._op, self._op.results
        if op.attrs["packed_element"] != 1:
            raise _Unknown(f"pack={op.attrs['packed_element']}")
        for value in (*op.operands, *results):
            if _bits(value.type) not in (32, 64):
                raise _Unknown(f"a register for {element_of(value.type)}")
        self._registers = {f"${len(results) + at}": value for at, value in enumerate(op.operands)}
        for line in re.split(r"[;{}\n]", re.sub(r"//[^\n]*|/\*.*?\*/", "", op.attrs["text"], flags=re.DOTALL)):
            if line.strip() and not line.strip().startswith(".reg"):
                self._instruction(line.strip())
        found = [self._registers.get(f"${at}") for at in range(len(results))]
        if None in found:
            raise _Unknown(f"a text that sets no ${found.index(None)}")
        return [self._as(value, result.type) for value, result in zip(found, results, strict=True) if value is not None]

    def _instruction(self, text: str) -> None:
        opcode, _, rest = text.partition(" ")
        name, *modifiers = opcode.split(".")
        target, *sources = (part.strip() for part in rest.split(","))
        kind = modifiers[-1] if modifiers else ""
        exact = (modifier for modifier in modifiers[:-1] if modifier not in _IGNORED)
        make = _INSTRUCTIONS.get(".".join((name, *exact, kind[:1])))
        if make is None or kind not in _TYPES:
            raise _Unknown(f"{text!r}")
        type = with_element(self._op.results[0].type, ScalarType(_TYPES[kind]))
        try:
            self._registers[target] = make(self, type, [self._read(source, type) for source in sources])
        except (ValueError, IndexError):  # another number of operands than the instruction has
            raise _Unknown(f"{text!r}") from None

    def _read(self, source: str, type: Type) -> Value:
        """A register or a number, as a value of `type`."""
        if source in self._registers:
            return self._as(self._registers[source], type)
        if re.fullmatch(r"0[fF][0-9a-fA-F]{8}", source):
            return self.number(struct.unpack(">f", bytes.fromhex(source[2:]))[0], type)
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)[uU]?", source) and not _is_float(type):
            bits, number = _bits(type), int(source.rstrip("uU"), 0)
            return self.number((number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1), type)
        raise _Unknown(f"the operand {source!r}")

    def _as(self, value: Value, type: Type) -> Value:
        """The same bits."""
        if value.type == type:
            return value
        if _bits(value.type) != _bits(type):
            raise _Unknown(f"a register of {_bits(value.type)} bits for {element_of(type)}")
        return self.add("bitcast", [value], type)

    def add(self, name: str, operands: Sequence[Value], type: Type, **attrs: object) -> Value:
        value = made(name, list(operands), type, **attrs)
        assert isinstance(value.owner, Op)
        self.ops.append(value.owner)
        return value

    def number(self, value: float, type: Type) -> Value:
        return self.add("constant", [], type, value=value)


_Make = Callable[[_Program, Type, list[Value]], Value]


def _plain(name: str, count: int) -> _Make:
    """An instruction that is one operation of the tile IR."""

    def make(program: _Program, type: Type, sources: list[Value]) -> Value:
        if len(sources) != count:
            raise ValueError(f"{len(sources)} operands")
        return program.add(name, sources, type)

    return make


def _move(program: _Program, type: Type, sources: list[Value]) -> Value:
    (source,) = sources
    return source


def _reciprocal(program: _Program, type: Type, sources: list[Value]) -> Value:
    (source,) = sources
    return program.add("divf", [program.number(1.0, type), source], type)


def _not(program: _Program, type: Type, sources: list[Value]) -> Value:
    (source,) = sources
    return program.add("xori", [source, program.number(-1, type)], type)


def _negative(program: _Program, type: Type, sources: list[Value]) -> Value:
    (source,) = sources
    return program.add("subi", [program.number(0, type), source], type)


def _multiply_add(program: _Program, type: Type, sources: list[Value]) -> Value:
    a, b, c = sources
    return program.add("addi", [program.add("muli", [a, b], type), c], type)


def _any_logic(program: _Program, type: Type, sources: list[Value]) -> Value:
    """Bit by bit what a table of eight bits says of three: the place in it is a · 4 + b · 2 + c."""
    *inputs, table = sources
    bits = table.owner.attrs["value"] if isinstance(table.owner, Op) and table.owner.name == "constant" else None
    if bits is None or len(inputs) != 3:
        raise ValueError("no table")
    opposite = [_not(program, type, [one]) for one in inputs]
    found = program.number(0, type)
    for place in (place for place in range(8) if bits >> place & 1):
        a, b, c = (inputs[at] if place >> (2 - at) & 1 else opposite[at] for at in range(3))
        found = program.add("ori", [found, program.add("andi", [program.add("andi", [a, b], type), c], type)], type)
    return found


def _bits(type: Type) -> int:
    element = element_of(type)
    return int(re.sub(r"\D", "", element.name)) if isinstance(element, ScalarType) and element.name[1:].isdigit() else 0


def _is_float(type: Type) -> bool:
    element = element_of(type)
    return isinstance(element, ScalarType) and element.is_float


# How exact an instruction is, or how it rounds: ours is exact or rounds to nearest.
_IGNORED = frozenset(("approx", "ftz", "rn", "full"))
_TYPES = {
    "f32": "f32", "f64": "f64", **{f"{kind}32": "i32" for kind in "bsu"}, **{f"{kind}64": "i64" for kind in "bsu"},
}  # fmt: skip
# By name and the first letter of the type.
_INSTRUCTIONS: dict[str, _Make] = {
    **{f"{name}.f": _plain(f"{name}f", 2) for name in ("add", "sub", "mul", "div")},
    "min.f": _plain("minnumf", 2), "max.f": _plain("maxnumf", 2), "min.NaN.f": _plain("minimumf", 2),
    "max.NaN.f": _plain("maximumf", 2), "fma.f": _plain("fma", 3), "mad.f": _plain("fma", 3),
    "abs.f": _plain("absf", 1), "neg.f": _plain("negf", 1), "sqrt.f": _plain("sqrt", 1), "rsqrt.f": _plain("rsqrt", 1),
    "rcp.f": _reciprocal, "sin.f": _plain("sin", 1), "cos.f": _plain("cos", 1), "tanh.f": _plain("tanh", 1),
    "ex2.f": _plain("exp2", 1), "lg2.f": _plain("log2", 1),
    **{
        f"{name}.{kind}": make
        for kind in "su"
        for name, make in {
            "add": _plain("addi", 2), "sub": _plain("subi", 2), "mul.lo": _plain("muli", 2), "mad.lo": _multiply_add,
            "min": _plain(f"min{kind}i", 2), "max": _plain(f"max{kind}i", 2), "shr": _plain(f"shr{kind}i", 2),
        }.items()
    },
    "mul.hi.u": _plain("mulhiui", 2), "neg.s": _negative, "abs.s": _plain("absi", 1), "popc.b": _plain("ctpop", 1),
    "clz.b": _plain("ctlz", 1), "and.b": _plain("andi", 2), "or.b": _plain("ori", 2), "xor.b": _plain("xori", 2),
    "not.b": _not, "shl.b": _plain("shli", 2), "shr.b": _plain("shrui", 2), "lop3.b": _any_logic,
    **{f"mov.{kind}": _move for kind in "fbsu"},
}  # fmt: skip
