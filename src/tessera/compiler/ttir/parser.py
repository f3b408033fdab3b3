"""TTIR text → tile IR. MLIR prints one operation a line; regions open with `{` at a line's end and close on a line of
their own."""

from __future__ import annotations

import re

from tessera.compiler.errors import Fault, LoweringError, fail
from tessera.compiler.ttir import formats
from tessera.compiler.ttir.attributes import parse_attributes, split_top
from tessera.compiler.ttir.locations import Locations
from tessera.ir.nodes import Block, Function, Location, Module, Op, Region, Value
from tessera.ir.types import Type, parse_type

_RESULTS = re.compile(r"^(%[\w.$-]+(?::\d+)?(?:, %[\w.$-]+(?::\d+)?)*) = ")
_FUNC = re.compile(r"^tt\.func (public |private |nested )?@([\w.$\"<>-]+)\(")
_FUNC_TAIL = re.compile(r"^\)(?: -> (.*?))?(?: attributes \{.*\})? \{$")
_LABEL = re.compile(r"^\^(bb\d+)(?:\((.*)\))?:")
_LOC = " loc("
_TERMINATORS = {"yield", "condition", "reduce.return", "scan.return"}


def parse_module(text: str) -> Module:
    """Read a whole module.

    Raises:
        LoweringError: something in it is not known to the CPU compiler; all such places at once.
    """
    return _Parser(text).module()


def strip_locations(line: str) -> tuple[str, str]:
    """A line without its `loc(…)` notes, and the content of the last one."""
    last = ""
    while (start := line.rfind(_LOC)) >= 0:
        depth, end = 0, start + len(_LOC) - 1
        while True:
            depth += {"(": 1, ")": -1}.get(line[end], 0)
            end += 1
            if depth == 0:
                break
        last = last or line[start + len(_LOC) : end - 1]
        line = line[:start] + line[end:]
    return line, last


class _Scope(dict[str, Value]):
    """Values by name. A name is missing only when the operation that makes it could not be read, which was said
    there."""

    def __missing__(self, name: str) -> Value:
        raise LoweringError([])


class _Parser:
    def __init__(self, text: str) -> None:
        lines = text.split("\n")
        self.locations = Locations([line for line in lines if line.startswith("#loc")])
        self.lines = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        self.at = 0
        self.values = _Scope()
        self.faults: list[Fault] = []

    def module(self) -> Module:
        functions = []
        while self.at < len(self.lines):
            line, _ = strip_locations(self._next())
            if line.startswith("tt.func "):
                functions.append(self._function(line))
        if self.faults:
            raise LoweringError(self.faults)
        functions.sort(key=lambda function: not function.public)
        return Module(functions)

    def _next(self) -> str:
        line = self.lines[self.at]
        self.at += 1
        return line

    # Functions and regions --------------------------------------------------------------------------------------

    def _function(self, line: str) -> Function:
        match = _FUNC.match(line)
        if match is None:
            raise fail(f"cannot read the function {line!r}")
        inside = split_top(line[match.end() :], ")")[0]
        tail = _FUNC_TAIL.match(line[match.end() + len(inside) :])
        if tail is None:
            raise fail(f"cannot read the function {line!r}")
        self.values = _Scope()
        args, attrs = [], []
        for part in split_top(inside, ","):
            if part.strip():
                declared, _, braces = part.strip().partition(" {")
                args.append(self._argument(declared))
                attrs.append(parse_attributes(braces[:-1]) if braces else {})
        results = [parse_type(part) for part in split_top(_unwrap(tail[1] or ""), ",") if part.strip()]
        body = self._region(cfg=True)
        return Function(match[2], args, body, match[1] == "public ", attrs, results)

    def _argument(self, text: str) -> Value:
        name, type_text = text.strip().split(": ", 1)
        return self._define(name, parse_type(type_text))

    def _define(self, name: str, type: Type, owner: Op | Block | None = None) -> Value:
        value = Value(name.strip().lstrip("%").replace("#", "."), type, owner)
        self.values[name.strip()] = value
        return value

    def _region(self, args: list[Value] | None = None, cfg: bool = False) -> Region:
        """Up to the line that closes the region, which is left for the caller to read."""
        blocks = {"bb0": Block(list(args or []), label="bb0")}
        current = blocks["bb0"]
        for arg in current.args:
            arg.owner = current
        while not self.lines[self.at].startswith("}"):
            line, location = strip_locations(self._next())
            if match := _LABEL.match(line):
                current = blocks.setdefault(match[1], Block(label=match[1]))
                self._block_arguments(current, match[2])
            else:
                current.ops.extend(self._op(line, location))
        if cfg:
            self._link(blocks)
        elif not current.ops or current.ops[-1].name not in _TERMINATORS:
            # MLIR leaves out the terminator of a region that yields nothing.
            current.ops.append(Op("yield", [], []))
        return Region([block for block in blocks.values() if block.ops or block.args])

    def _block_arguments(self, block: Block, text: str | None) -> None:
        for part in split_top(text or "", ","):
            if part.strip():
                arg = self._argument(part)
                arg.owner = block
                block.args.append(arg)

    @staticmethod
    def _link(blocks: dict[str, Block]) -> None:
        """Branches name blocks that may come later in the text; now that all are known, point at them."""
        for block in blocks.values():
            for op in block.ops:
                if "successors" in op.attrs:
                    op.attrs["successors"] = [blocks[name] for name in op.attrs["successors"]]

    # Operations -------------------------------------------------------------------------------------------------

    def _op(self, line: str, location: str) -> list[Op]:
        match = _RESULTS.match(line)
        names = _result_names(match[1]) if match else []
        text = line[match.end() :] if match else line
        place = self.locations.resolve(location)
        try:
            return [self._structured(text, names, place) or self._plain(text, names, place)]
        except LoweringError as error:
            self.faults += [Fault(f.message, f.location or place) for f in error.faults]
        except ValueError as error:
            self.faults.append(Fault(str(error), place))
        return []

    def _plain(self, text: str, names: list[str], place: Location | None) -> Op:
        parsed = formats.read(text, self.values)
        op = Op(parsed.name, parsed.operands, [], parsed.attrs, location=place)
        op.results = [self._define(name, type, op) for name, type in zip(names, parsed.result_types, strict=True)]
        return op

    def _structured(self, text: str, names: list[str], place: Location | None) -> Op | None:
        if text.startswith("scf.for "):
            return self._for(text, names, place)
        if text.startswith("scf.if "):
            return self._if(text, names, place)
        if text.startswith("scf.while "):
            return self._while(text, names, place)
        if text.endswith("({"):
            return self._generic(text, names, place)
        return None

    def _finish(self, op: Op, names: list[str], types: list[Type]) -> Op:
        op.results = [self._define(name, type, op) for name, type in zip(names, types, strict=True)]
        return op

    def _carried(self, text: str) -> tuple[list[str], list[Value]]:
        """`%a = %x, %b = %y` → the names on the left, the values on the right."""
        pairs = [part.split(" = ") for part in split_top(text, ",") if part.strip()]
        return [name.strip() for name, _ in pairs], [self.values[init.strip()] for _, init in pairs]

    def _for(self, text: str, names: list[str], place: Location | None) -> Op:
        match = re.match(
            r"scf\.for (unsigned )?(%\S+) = (%\S+) to (%\S+) step (%\S+)"
            r"(?: iter_args\((.*?)\) -> \((.*)\))?\s*(?:: (\w+))? \{$",
            text,
        )
        if match is None:
            raise fail(f"cannot read the loop {text!r}")
        bounds = [self.values[match[i]] for i in (3, 4, 5)]
        arg_names, inits = self._carried(match[6] or "")
        index = self._define(match[2], bounds[0].type)
        args = [index, *(self._define(name, init.type) for name, init in zip(arg_names, inits, strict=True))]
        op = Op("for", [*bounds, *inits], [], {"unsigned": bool(match[1])}, location=place)
        op.regions = [self._region(args)]
        self._close()
        return self._finish(op, names, [init.type for init in inits])

    def _if(self, text: str, names: list[str], place: Location | None) -> Op:
        match = re.match(r"scf\.if (%\S+)(?: -> \((.*)\))? \{$", text)
        if match is None:
            raise fail(f"cannot read the condition {text!r}")
        op = Op("if", [self.values[match[1]]], [], location=place)
        op.regions = [self._region()]
        if self._close().startswith("} else"):
            op.regions.append(self._region())
            self._close()
        types = [parse_type(part) for part in split_top(match[2] or "", ",") if part.strip()]
        return self._finish(op, names, types)

    def _while(self, text: str, names: list[str], place: Location | None) -> Op:
        match = re.match(r"scf\.while\s*(?:\((.*?)\))? : \((.*)\) -> (.*) \{$", text)
        if match is None:
            raise fail(f"cannot read the loop {text!r}")
        arg_names, inits = self._carried(match[1] or "")
        args = [self._define(name, init.type) for name, init in zip(arg_names, inits, strict=True)]
        op = Op("while", inits, [], location=place)
        op.regions = [self._region(args)]
        self._close()
        op.regions.append(self._region())
        self._close()
        types = [parse_type(part) for part in split_top(_unwrap(match[3]), ",") if part.strip()]
        return self._finish(op, names, types)

    def _generic(self, text: str, names: list[str], place: Location | None) -> Op:
        """`"tt.reduce"(%x) <{axis = 0 : i32}> ({ … }) : (T) -> U`"""
        match = re.match(r'"([\w.]+)"\((.*?)\)\s*(?:<\{(.*)\}>)? \(\{$', text)
        if match is None:
            raise fail(f"cannot read the operation {text!r}")
        operands = [self.values[name.strip()] for name in match[2].split(",")]
        op = Op(formats.short_name(match[1]), operands, [], parse_attributes(match[3] or ""), location=place)
        op.regions = [self._region(cfg=True)]
        closing = self._close()
        result_text = split_top(closing.split(") : ", 1)[1], " -> ")[1]
        return self._finish(
            op, names, [parse_type(part) for part in split_top(_unwrap(result_text), ",") if part.strip()]
        )

    def _close(self) -> str:
        return strip_locations(self._next())[0]


def _unwrap(text: str) -> str:
    text = text.strip()
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text


def _result_names(text: str) -> list[str]:
    """`%a, %b` or `%a:2` → one name a result."""
    names: list[str] = []
    for part in text.split(", "):
        name, _, count = part.partition(":")
        names += [f"{name}#{i}" for i in range(int(count))] if count else [name]
    return names
