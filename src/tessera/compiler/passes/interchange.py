"""Loop interchange: a loop that reads several rows at once becomes a loop over rows with that loop inside.

    for k:                                        for r:
        acc += load(rows + k) · x[k]                  for k:
    total = sum(acc, axis=1)               →              sums += load(rows[r] + k) · x[k]
                                                      total[r] = sum(sums)

A row is then read from its beginning to its end. Processors fetch ahead along such a row; of many rows that are read a
piece of each at a time they lose track, and memory gives a third of what it could. The sums of one row stay in
registers, too.

It is done where rows know nothing of each other, where nothing is written meanwhile, and where what all rows read is
cheap to compute again for each of them. A row's numbers are added in the same order. Rows that one trip reads whole
are better taken together: where only the running kernel knows it has both.

Source: Allen and Kennedy, "Automatic Loop Interchange", SIGPLAN 1984
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tessera.compiler.passes.dimensions import Place, blocks_of, same
from tessera.compiler.passes.placement import COSTLY, LAZY, cost_of_one
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Block, Function, Module, Op, Region, Value, made, walk
from tessera.ir.types import BlockType, ScalarType, Type, element_of, shape_of

_I32 = ScalarType("i32")
# Bytes of a row that one trip reads at least: with fewer, the loop around them would cost more than they do.
_PIECE_BYTES = 64
# Elements so far apart still come from memory together.
_NEAR = range(-4, 5)
# Expressions that are deeper than this are read from where they are, not written anew.
_DEEP = 64

# What gives the same wherever it stands between the same writes.
_REORDERED = LAZY | {"reduce"}
# What may stand in a loop that is turned: it computes, reads, or is control flow of these.
_QUIET = LAZY | {"reduce", "scan", "for", "if", "yield", "reduce.return", "scan.return", "map_elementwise.return"}


def run(module: Module) -> bool:
    """Turn every loop of the module that gains by it, outer loops first. Returns whether there was one."""
    turned = [_region(function, function.body) for function in module.functions]
    return any(turned)


def _region(function: Function, region: Region) -> bool:
    turned = False
    for block in region.blocks:
        for op in list(block.ops):
            around: Block | None = block
            while around is not None and op.name == "for":
                # A second time it is in the branch of many trips.
                around = _turn(function, around, op, many=around is not block or _has_many_trips(op) is True)
                turned |= around is not None
            for inner in op.regions:
                turned |= _region(function, inner)
    return turned


def _has_many_trips(loop: Op) -> bool | None:
    """More than one, if its text tells."""
    numbers = [op.attrs["value"] for op in _owners(loop.operands[:3]) if op.name == "constant"]
    return bool(range(*numbers)[1:]) if len(numbers) == 3 else None


def _turn(function: Function, block: Block, loop: Op, many: bool) -> Block | None:
    """Interchange `loop` with the rows of what it reads, if that can be done and is worth it; the block in which it
    stands then. Unless it is known to have `many` trips it also stays as it was, for a single one."""
    seeds = [(load.result, dim) for load in walk(loop.regions[0]) for dim in _rows_of(load)]
    if not seeds or _has_many_trips(loop) is False or not all(op.name in _QUIET for op in walk(loop.regions[0])):
        return None
    ahead, reduced, behind = _around(block, loop)
    nest = _Nest([loop, *reduced])
    for seed in seeds:
        rows = _Rows(nest, seed)
        if rows.are_apart() and rows.share_little():
            outputs = rows.outputs(function)
            if outputs is not None:
                body, ops = _rewritten(function, rows, outputs, many)
                block.ops = [*ahead, *ops, *behind]
                return body
    return None


def _around(block: Block, loop: Op) -> tuple[list[Op], list[Op], list[Op]]:
    """What a block computes before a loop, the reductions of what the loop gives, which are taken of a row when it was
    read, and what comes then."""
    at = block.ops.index(loop)
    after = list(itertools.takewhile(lambda op: op.name in _REORDERED, block.ops[at + 1 :]))
    given, from_loop = set(loop.results), list[Op]()
    for op in after:
        if given & set(op.operands):
            from_loop.append(op)
            given |= set(op.results)
    needed, reduced = set[Value](), list[Op]()
    for op in reversed(from_loop):
        if op.name == "reduce" or (op.name != "load" and needed & set(op.results)):
            needed |= set(op.operands)
            reduced.insert(0, op)
    ahead = [*block.ops[:at], *(op for op in after if op not in from_loop)]
    return ahead, reduced, [*(op for op in from_loop if op not in reduced), *block.ops[at + 1 + len(after) :]]


def _rows_of(load: Op) -> Iterator[int]:
    """The dimensions of a load along which there are rows, each of them somewhere else in memory."""
    if load.name != "load" or not isinstance(load.result.type, BlockType):
        return
    pointer, shape = load.operands[0], load.result.type.shape
    size_bytes = max(1, _bits(load.result.type) // 8)
    pieces = [size for dim, size in enumerate(shape) if step(pointer, dim) == 1]
    if not pieces or pieces[0] * size_bytes < _PIECE_BYTES:
        return
    for dim, size in enumerate(shape):
        if size > 1 and step(pointer, dim) not in (0, 1, -1, pieces[0]):
            yield dim


def _bits(type: Type) -> int:
    element = element_of(type)
    return element.bits if isinstance(element, ScalarType) else 64


class _Nest:
    """Operations that move into a loop over rows, with those inside of them."""

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops
        self.inside = [inner for op in ops for inner in (op, *(o for region in op.regions for o in walk(region)))]
        self.links: dict[Place, list[Place]] = {}
        self.mixed: set[Place] = set()
        for op in self.inside:
            groups = list(same(op))
            for group in groups:
                for place in group:
                    self.links.setdefault(place, []).extend(group)
            if not op.name.endswith((".return", "yield")):
                places = {(value, dim) for value in blocks_of(op) for dim in range(len(shape_of(value.type)))}
                self.mixed |= places.difference(*groups)


@dataclass
class _Rows:
    """One dimension of the blocks of a nest: every place `of` a value that counts the same rows as `seed`."""

    nest: _Nest
    seed: Place
    of: dict[Value, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        value, dim = self.seed
        return shape_of(value.type)[dim]

    def are_apart(self) -> bool:
        """Does no row know of another one? Fills `of`."""
        waiting = [self.seed]
        while waiting:
            value, dim = place = waiting.pop()
            if place in self.nest.mixed or self.of.setdefault(value, dim) != dim:
                return False
            if shape_of(value.type)[dim] != self.size:
                return False
            linked = dict.fromkeys(self.nest.links.get(place, ()))
            if any(self.of.get(other, at) != at for other, at in linked):
                return False
            waiting += [other for other in linked if other[0] not in self.of]
        return True

    def share_little(self) -> bool:
        """Is what all rows read cheap enough to be read and computed for each, and no more than a row?"""
        piece = math.prod(shape_of(self.seed[0].type)) // self.size
        return all(
            cost_of_one(op) < COSTLY
            and math.prod(shape_of(result.type)) <= piece
            and (op.name != "load" or _runs(op))
            and op.name not in ("reduce", "scan")
            for op in self.nest.inside
            for result in op.results
            if isinstance(result.type, BlockType) and result not in self.of
        )

    def outputs(self, function: Function) -> list[Value] | None:
        """The blocks that the rest of the program needs, or None where it needs what is not of the rows."""
        own = set(self.nest.inside)
        made_here = {result for op in self.nest.inside for result in op.results}
        needed = {operand for op in function.walk() if op not in own for operand in op.operands} & made_here
        if not all(value in self.of and set(shape_of(value.type)[: self.of[value]]) <= {1} for value in needed):
            return None
        return [result for op in self.nest.inside for result in op.results if result in needed]

    def captured(self) -> list[Value]:
        """What comes from outside and has rows."""
        known = {value for op in self.nest.inside for value in op.results}
        known |= {arg for op in self.nest.inside for region in op.regions for arg in region.block.args}
        return [value for value in self.of if value not in known]


def _runs(load: Op) -> bool:
    """Does it read memory from end to end, or every few elements of it?"""
    pointer = load.operands[0]
    long = [dim for dim, size in enumerate(shape_of(pointer.type)) if size > 1]
    return not long or any(step(pointer, dim) in _NEAR for dim in long)


# Rewriting --------------------------------------------------------------------------------------------------------


def _rewritten(function: Function, rows: _Rows, outputs: list[Value], many: bool) -> tuple[Block, list[Op]]:
    """The body of the loop over rows; that loop with what it needs to begin, as a choice if there may be one trip."""
    nest = rows.nest
    own = set(nest.inside)
    others = [op for op in function.walk() if op not in own]
    types = {value: value.type for value in outputs}
    copies = None if many else _copies(nest.ops)
    around, body = _over_rows(rows, outputs)
    ops = [*_owners(around.operands), around]
    results = around.results
    if copies is not None:
        copied, counterpart = copies
        loop = nest.ops[0]
        then = Block(ops=[*ops, Op("yield", list(around.results), [])])
        otherwise = Block(ops=[*copied, Op("yield", [counterpart[value] for value in outputs], [])])
        second = made("addi", [loop.operands[0], loop.operands[2]], loop.operands[0].type)
        is_there = made("cmpi", [second, loop.operands[1]], ScalarType("i1"), words=("slt",))
        choice = Op("if", [is_there], [], {}, [Region([then]), Region([otherwise])], loop.location)
        results = choice.results = [Value(value.name, types[value], choice) for value in outputs]
        ops = [*_owners([second, is_there]), choice]
    for value, result in zip(outputs, results, strict=True):
        _use(others, value, result)
    return body, ops


def _copies(ops: list[Op]) -> tuple[list[Op], dict[Value, Value]]:
    """Copies of operations and all that is inside them, and the counterparts of their values."""
    counterpart: dict[Value, Value] = {}

    def copy(op: Op) -> Op:
        operands = [counterpart.get(operand, operand) for operand in op.operands]
        new = Op(op.name, operands, [], dict(op.attrs), [], op.location)
        new.results = [value_of(result, new) for result in op.results]
        new.regions = [Region([block_of(block) for block in region.blocks]) for region in op.regions]
        return new

    def block_of(block: Block) -> Block:
        new = Block(label=block.label)
        new.args = [value_of(arg, new) for arg in block.args]
        new.ops = [copy(op) for op in block.ops]
        return new

    def value_of(value: Value, owner: Op | Block) -> Value:
        counterpart[value] = Value(value.name, value.type, owner)
        return counterpart[value]

    return [copy(op) for op in ops], counterpart


def _over_rows(rows: _Rows, outputs: list[Value]) -> tuple[Op, Block]:
    """The loop over rows, and its body."""
    nest, body = rows.nest, Block()
    around = Op("for", _bounds(rows.size), [], {"unsigned": False}, [Region([body])], nest.ops[0].location)
    row = Value("row", _I32, body)
    body.args.append(row)
    versions = _Versions(row)
    for value in rows.captured():
        _use(nest.inside, value, versions.of(value, rows.of[value]))
    inserts = list[Value]()
    for value in outputs:
        into = Value(f"{value.name}.rows", value.type, body)
        around.operands.append(made("poison", [], value.type))
        around.results.append(Value(value.name, value.type, around))
        body.args.append(into)
        inserts.append(made("insert", [into, value, row], value.type, axis=rows.of[value]))
    _shorten(rows, versions)
    body.ops = [*versions.ops, *nest.ops, *_owners(inserts), Op("yield", inserts, [])]
    return around, body


def _use(ops: Iterable[Op], old: Value, new: Value) -> None:
    for op in ops:
        op.operands = [new if operand is old else operand for operand in op.operands]


def _owners(values: Iterable[Value]) -> list[Op]:
    return [value.owner for value in values if isinstance(value.owner, Op)]


def _bounds(size: int) -> list[Value]:
    names = {"first": 0, "last": size, "one": 1}
    found = [made("constant", [], _I32, value=number) for number in names.values()]
    for value, name in zip(found, names, strict=True):
        value.name = f"rows.{name}"
    return found


def _shorten(rows: _Rows, versions: _Versions) -> None:
    """Let blocks that have rows have one. A range of rows becomes the number of that one."""
    captured = set(rows.captured())
    for value, dim in rows.of.items():
        if value not in captured:
            value.type = _one(value.type, dim)
    for op in rows.nest.inside:
        if op.name == "make_range" and op.result in rows.of:
            op.name, op.operands, op.attrs = "splat", [versions.number(op.attrs["start"])], {}


def _one(type: Type, dim: int) -> BlockType:
    assert isinstance(type, BlockType)
    return BlockType((*type.shape[:dim], 1, *type.shape[dim + 1 :]), type.element)


class _Versions:
    """Blocks of several rows, computed for one of them."""

    def __init__(self, row: Value) -> None:
        self.row = row
        self.ops: list[Op] = []
        self._known: dict[Place, Value] = {}

    def of(self, value: Value, dim: int, depth: int = 0) -> Value:
        if (value, dim) not in self._known:
            one = self._known[value, dim] = self._of(value, dim, depth)
            one.name = f"{value.name}.row"
        return self._known[value, dim]

    def number(self, start: int) -> Value:
        """The number of the row, counted from `start`."""
        if start == 0:
            return self.row
        return self._new("addi", [self.row, self._new("constant", [], _I32, value=start)], _I32)

    def _of(self, value: Value, dim: int, depth: int) -> Value:
        op, type = value.owner, _one(value.type, dim)
        if not isinstance(op, Op) or not _written_anew(op, dim) or depth > _DEEP:
            index = self._new("splat", [self.row], BlockType(type.shape, _I32))
            return self._new("gather", [value, index], type, axis=dim)
        if op.name == "make_range":
            return self._new("splat", [self.number(op.attrs["start"])], type)
        inner = dict(place for group in same(op) if (value, dim) in group for place in group if place[0] is not value)
        operands = [self.of(o, inner[o], depth + 1) if o in inner else o for o in op.operands]
        return self._new(op.name, operands, type, **op.attrs)

    def _new(self, name: str, operands: list[Value], type: Type, **attrs: object) -> Value:
        result = made(name, operands, type, **attrs)
        assert isinstance(result.owner, Op)
        self.ops.append(result.owner)
        return result


def _written_anew(op: Op, dim: int) -> bool:
    """Is it an expression without effect or memory, of which each row can be computed by itself?"""
    if op.name == "load" or op.name not in LAZY or op.regions or len(op.results) != 1:
        return False
    if op.name == "constant":
        return not isinstance(op.attrs["value"], list)
    return any((op.result, dim) in group for group in same(op)) and op.name not in ("reshape", "join")
