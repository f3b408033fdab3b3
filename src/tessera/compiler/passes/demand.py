"""Finds how much of a `dot` anything needs, so that what masks leave out is neither read nor multiplied.

    a, b = load(…, rows < M & depth < K, 0), …      products from K on are 0 · 0
    acc = dot(a, b, acc)
    store(out, relu(acc), rows < M & cols < N)      rows from M on and columns from N on are never seen

It is the mask of what happens to the result that bounds rows and columns, not those of the operands: a row of zeros
times an infinity is NaN, and a kernel that sums over its block has to see it.

Sets `attrs["extents"]` of every `dot`. Comparisons that the kernel makes later are moved before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tessera.compiler.passes import reach
from tessera.compiler.passes.placement import LAZY
from tessera.compiler.passes.prefixes import ends
from tessera.compiler.passes.strides import uniform_scalar
from tessera.ir.nodes import Block, Function, Module, Op, Region, Value
from tessera.ir.types import BlockType, shape_of

ROWS, COLUMNS, DEPTH = range(3)

# Comparisons that all hold for every index that is needed, with the dimension of the dot along which each is a prefix.
_Known = frozenset[tuple[Value, int]]

_DIVISIONS = frozenset({"divsi", "divui", "remsi", "remui", "ceildivsi", "floordivsi", "ceildivui"})
_SCALAR = frozenset({"get_program_id", "get_num_programs"})
# An element of the result needs the elements of the operands at its own index, and whatever they are, no harm is done.
ELEMENTWISE = LAZY - _DIVISIONS - {
    "expand_dims", "broadcast", "trans", "reshape", "join", "split", "cat", "gather", "exchange", "fp4_to_fp",
    "load", "addptr", "int_to_ptr", "map_elementwise", "unsplat",
}  # fmt: skip
# Zero stays zero.
_KEEPS_ZERO = frozenset({"extf", "truncf", "extsi", "extui", "fp_to_fp", "trans", "expand_dims", "broadcast"})
# What may be computed earlier, and although nobody asks for it.
_MOVABLE = ELEMENTWISE | {"expand_dims", "broadcast"} | _SCALAR
# A result that is used in more ways is needed whole.
_MOST_USES, _MOST_STEPS = 8, 256
# What is further from the values at hand is not computed earlier.
_MOST_DEEP = 64


@dataclass(frozen=True)
class Extents:
    """For the dimensions of a product, the ways in which it is needed: along each an index is needed if all the
    comparisons of some way hold for it. No ways: all of it is needed."""

    rows: tuple[tuple[Value, ...], ...] = ()
    columns: tuple[tuple[Value, ...], ...] = ()
    depth: tuple[tuple[Value, ...], ...] = ()

    def __str__(self) -> str:
        named = ("rows", self.rows), ("columns", self.columns), ("depth", self.depth)
        return "; ".join(f"{name} {_told(ways)}" for name, ways in named if ways) or "all"


def _told(ways: tuple[tuple[Value, ...], ...]) -> str:
    return " or ".join(" & ".join(map(str, way)) for way in ways)


def run(module: Module) -> None:
    """Set the extents of every `dot` of the module."""
    for function in module.functions:
        for dot in [op for op in function.walk() if op.name == "dot"]:
            dot.attrs["extents"] = _Demand(function, dot).extents()


@dataclass(frozen=True)
class _Use:
    """A value whose elements are needed no further than `known` says, as far as one has seen. `dims` tells which of its
    dimensions are the rows and columns of the dot; `back` are the loops it was carried round."""

    value: Value
    dims: reach.Dims
    known: _Known
    back: frozenset[Op]


class _Demand:
    def __init__(self, function: Function, dot: Op) -> None:
        self.dot = dot
        self.entry = function.body.blocks[0]
        self.places: dict[Op, tuple[Block, int, Op | None]] = {}
        self.users: dict[Value, list[tuple[Op, int]]] = {}
        self._read(function.body, None)
        self.path = self._path()

    def _read(self, region: Region, parent: Op | None) -> None:
        for block in region.blocks:
            for number, op in enumerate(block.ops):
                self.places[op] = block, number, parent
                for position, operand in enumerate(op.operands):
                    self.users.setdefault(operand, []).append((op, position))
                for inner in op.regions:
                    self._read(inner, op)

    def _path(self) -> list[Op]:
        """The operations around the dot, outermost first, and the dot."""
        path, op = list[Op](), self.dot
        while True:
            path.insert(0, op)
            parent = self.places[op][2]
            if parent is None:
                return path
            op = parent

    def extents(self) -> Extents:
        ways = self._ways()
        rows, columns = (_along(ways, dim) for dim in (ROWS, COLUMNS))
        rank = len(shape_of(self.dot.result.type))
        outer: reach.Dims = (None,) * (rank - 2)
        sides = zip(self.dot.operands, ((*outer, None, DEPTH), (*outer, DEPTH, None)), strict=False)
        depth = _along([self._at_hand(_zeros_behind(*side)) for side in sides], DEPTH)
        for comparison in dict.fromkeys(value for way in (*rows, *columns, *depth) for value in way):
            self._move(comparison)
        return Extents(rows, columns, depth)

    # What is needed ---------------------------------------------------------------------------------------------

    def _ways(self) -> list[_Known]:
        """What is known in each of the ways in which the result is needed; nothing, if they are too many."""
        rank = len(shape_of(self.dot.result.type))
        waiting = [_Use(self.dot.result, (*(None,) * (rank - 2), ROWS, COLUMNS), frozenset(), frozenset())]
        seen, ways = set(waiting), dict[_Known, None]()
        while waiting:
            use = waiting.pop()
            for op, position in self.users.get(use.value, []):
                known = self._known(use, op, position)
                following = self._following(use, op, position)
                if following is None:
                    ways[known] = None
                    continue
                found = [_Use(value, dims, known, back) for value, dims, back in following]
                waiting += [one for one in found if one not in seen]
                seen.update(found)
            if len(ways) > _MOST_USES or len(seen) > _MOST_STEPS or frozenset() in ways:
                return []
        return list(ways)

    def _known(self, use: _Use, op: Op, position: int) -> _Known:
        """What is known of the elements that an operation needs of an operand."""
        if op.name == "store" and position == 1 and len(op.operands) > 2:
            mask = op.operands[2]
        elif op.name == "select" and position == 1:
            mask = op.operands[0]
        else:
            return use.known
        found = ends(mask, use.dims) if isinstance(mask.type, BlockType) else ()
        return use.known | self._at_hand(found, use.back)

    def _following(self, use: _Use, op: Op, position: int) -> list[tuple[Value, reach.Dims, frozenset[Op]]] | None:
        """The values whose elements need those of an operand; None: the way ends here."""
        if op.name == "yield":
            return self._yielded(use, self.places[op][2], position)
        if op.name == "for" and position >= 3:
            number = position - 3
            values = op.regions[0].block.args[number + 1], op.results[number]
            return [(value, use.dims, use.back) for value in values]
        dims = _forward(op, position, use.dims)
        return None if dims is None else [(result, dims, use.back) for result in op.results]

    @staticmethod
    def _yielded(use: _Use, around: Op | None, position: int) -> list[tuple[Value, reach.Dims, frozenset[Op]]] | None:
        if around is None or around.name not in ("for", "if"):
            return None
        after = [(around.results[position], use.dims, use.back)]
        if around.name == "if":
            return after
        return [*after, (around.regions[0].block.args[position + 1], use.dims, use.back | {around})]

    # Where it is known ------------------------------------------------------------------------------------------

    def _at_hand(self, comparisons: Iterable[tuple[Value, int]], back: Iterable[Op] = ()) -> _Known:
        """Those comparisons that can be made before the dot."""
        return frozenset(found for found in comparisons if self._level(found[0], back) is not None)

    def _level(self, value: Value, back: Iterable[Op] = ()) -> int | None:
        """Before which operation of the path a value is there or can be computed, the same in all trips of the loops
        `back`; None: before none."""
        limits = [self.path.index(loop) for loop in back if loop in self.path]
        return self._least_level(value, min(limits, default=len(self.path) - 1), {}, _MOST_DEEP)

    def _least_level(self, value: Value, limit: int, known: dict[Value, int | None], deep: int) -> int | None:
        """`known`: what was asked for before; `deep`: so many operations above each other may be moved."""
        if value not in known:
            known[value] = self._found_level(value, limit, known, deep) if deep else None
        return known[value]

    def _found_level(self, value: Value, limit: int, known: dict[Value, int | None], deep: int) -> int | None:
        owner = value.owner
        if owner is None or owner is self.entry:
            return 0
        if isinstance(owner, Block):
            return next((level for level, op in enumerate(self.path[: limit + 1]) if owner is self.places[op][0]), None)
        there = self._there(owner)
        if there is not None and there <= limit:
            return there
        if not _is_movable(owner):
            return None
        levels = [self._least_level(operand, limit, known, deep - 1) for operand in owner.operands]
        return None if None in levels else max((level for level in levels if level is not None), default=0)

    def _there(self, op: Op) -> int | None:
        """Before which operation of the path an operation stands."""
        block, number, _ = self.places[op]
        for level, step in enumerate(self.path):
            home, place, _ = self.places[step]
            if home is block:
                return level if number < place else None
        return 0 if block is self.entry else None

    def _move(self, value: Value) -> None:
        """Let a value be computed before the dot."""
        owner = value.owner
        if not isinstance(owner, Op) or self._there(owner) is not None:
            return
        level = self._level(value)
        assert level is not None
        for operand in owner.operands:
            self._move(operand)
        home, target = self.places[owner][0], self.places[self.path[level]][0]
        home.ops.remove(owner)
        target.ops.insert(target.ops.index(self.path[level]), owner)
        for block in (home, target):
            for number, op in enumerate(block.ops):
                self.places[op] = block, number, self.places[op if op is not owner else self.path[level]][2]


def _is_movable(op: Op) -> bool:
    if op.name in _DIVISIONS:
        divisor = uniform_scalar(op.operands[1])
        if isinstance(divisor, Value) and isinstance(divisor.owner, Op):
            divisor = divisor.owner.attrs.get("value")
        return isinstance(divisor, int) and divisor > 0
    return op.name in _MOVABLE


def _along(ways: Iterable[_Known], dim: int) -> tuple[tuple[Value, ...], ...]:
    """The comparisons of each way along one dimension, in an order that is the same each time; none, if some way has
    none."""
    found = [tuple(sorted((value for value, along in way if along == dim), key=str)) for way in ways]
    return tuple(dict.fromkeys(found)) if all(found) else ()


def _forward(op: Op, position: int, dims: reach.Dims) -> reach.Dims | None:
    """Which dimensions of an operation's results need an operand at `dims`; None: the operand is needed whole."""
    if op.name in ELEMENTWISE:
        return dims
    if op.name == "expand_dims":
        axis = op.attrs["axis"]
        return (*dims[:axis], None, *dims[axis:])
    if op.name == "broadcast":
        sizes = zip(shape_of(op.operands[0].type), shape_of(op.result.type), dims, strict=True)
        return tuple(None if before != after else dim for before, after, dim in sizes)
    if op.name == "trans":
        return tuple(dims[origin] for origin in op.attrs["order"])
    if op.name == "reduce" and isinstance(op.results[0].type, BlockType):
        axis = op.attrs["axis"]
        return (*dims[:axis], *dims[axis + 1 :])
    if op.name == "dot":
        # A row of the result needs that row of A, a column that column of B.
        return ((*dims[:-1], None), (*dims[:-2], None, dims[-1]), dims)[position]
    return None


def _zeros_behind(value: Value, dims: reach.Dims) -> Iterator[tuple[Value, int]]:
    """Comparisons where they do not hold, a block is zero."""
    while isinstance(value.owner, Op):
        owner = value.owner
        if owner.name == "load":
            if len(owner.operands) == 2 or (len(owner.operands) > 2 and _is_zero(owner.operands[2])):
                yield from ends(owner.operands[1], dims)
            return
        if owner.name not in _KEEPS_ZERO:
            return
        [(value, dims)] = reach.operands(owner, dims)


def _is_zero(value: Value) -> bool:
    owner = value.owner
    if isinstance(owner, Op) and owner.name in ("splat", "broadcast"):
        return _is_zero(owner.operands[0])
    return isinstance(owner, Op) and owner.name == "constant" and owner.attrs["value"] == 0
