"""Decides which block values are computed once into scratch memory, and which again wherever they are used.

An expression is recomputed by every sink that reads it, which costs nothing when one sink does. It goes to scratch when
recomputing costs more than a store and loads, or when it holds a load that some write could overtake.
"""

from __future__ import annotations

from dataclasses import dataclass

from tessera.compiler.passes.prefixes import is_mask, is_prefix
from tessera.compiler.passes.strides import root, step
from tessera.ir.nodes import Function, Module, Op, Region, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of

# Rough cost of one element, in vector instructions a vector.
_COSTS = {
    "exp": 16, "exp2": 14, "log": 20, "log2": 20, "sin": 30, "cos": 30, "erf": 28, "tanh": 28, "sqrt": 8, "rsqrt": 8,
    "divf": 8, "remf": 40, "divsi": 30, "divui": 30, "remsi": 30, "remui": 30, "extern_elementwise": 30, "gather": 30,
    "precise_divf": 8, "precise_sqrt": 8, "mulhiui": 4, "load": 3,
    "splat": 0, "broadcast": 0, "expand_dims": 0, "trans": 0, "reshape": 0,
}  # fmt: skip
_GATHERED_LOAD = 24
_MASKING = 2
# What reading from scratch costs instead, and how much must be saved before it is worth the trouble.
_SCRATCH_READ = 3
_WORTHWHILE = 3
_INSIDE_A_LOOP = 8

# Operations that are written into the loop of their consumer. `load` is one of them, under the conditions below.
_NAMES = """
    constant splat make_range expand_dims broadcast trans reshape join split cat addptr load select bitcast
    addi subi muli divsi divui remsi remui ceildivsi floordivsi ceildivui shli shrsi shrui andi ori xori
    minsi maxsi minui maxui cmpi mulhiui
    addf subf mulf divf remf negf maxnumf minnumf maximumf minimumf cmpf clampf
    extsi extui trunci sitofp uitofp fptosi fptoui extf truncf fp_to_fp index_cast index_castui int_to_ptr ptr_to_int
    exp exp2 expm1 log log2 log1p log10 sqrt rsqrt sin cos tan tanh erf floor ceil absf absi fma roundeven round trunc
    precise_sqrt precise_divf extern_elementwise poison unsplat ctpop ctlz cttz copysign powf atan2
"""
LAZY = frozenset(_NAMES.split())

PURE = LAZY | {"get_program_id", "get_num_programs"}

_WRITES = frozenset(
    {"store", "atomic_rmw", "atomic_cas", "call", "print", "debug_barrier", "gpu.barrier", "ttg.barrier"}
)


@dataclass
class _Place:
    """Where an operation stands: its number in program order and the loops around it, outermost first."""

    number: int
    loops: tuple[Op, ...]


def run(module: Module) -> None:
    """Set `placement` of every lazily computed operation."""
    for function in module.functions:
        _Placement(function).run()


def is_lazy(op: Op) -> bool:
    return op.name in LAZY and all(isinstance(result.type, BlockType) for result in op.results)


class _Placement:
    def __init__(self, function: Function) -> None:
        self.ops: list[Op] = []
        self.places: dict[Op, _Place] = {}
        self.users: dict[Value, list[Op]] = {}
        self.costs: dict[Op, int] = {}
        self.sites: dict[Op, list[Op]] = {}
        self._number(function.body, ())
        self.writes = [op for op in self.ops if op.name in _WRITES]

    def _number(self, region: Region, loops: tuple[Op, ...]) -> None:
        for block in region.blocks:
            for op in block.ops:
                self.places[op] = _Place(len(self.ops), loops)
                self.ops.append(op)
                for operand in dict.fromkeys(op.operands):
                    self.users.setdefault(operand, []).append(op)
                self.costs[op] = self._cost(op)
                for inner in op.regions:
                    self._number(inner, (*loops, op) if op.name in ("for", "while") else loops)

    def _cost(self, op: Op) -> int:
        if not is_lazy(op):
            return 0
        if _is_address(op) or _ends_once(op.results[0]):
            return 0
        if op.name == "broadcast" and shape_of(op.operands[0].type)[-1] == 1 != shape_of(op.results[0].type)[-1]:
            return 0  # It stands still in the innermost loop, and is computed before.
        inherited = sum(self.costs.get(operand.owner, 0) for operand in op.operands if isinstance(operand.owner, Op))
        own = _COSTS.get(op.name, 1 if op.operands else 0)
        if op.name == "load" and all(step(op.operands[0], dim) not in (1, -1) for dim in _long_dims(op)):
            own = _GATHERED_LOAD
        elif op.name == "load":
            own += _MASKING * (len(op.operands) > 1 and not _ends_once(op.operands[1]))
        elif op.name == "select" and _ends_once(op.operands[0]):
            own = 0
        return min(own + inherited, 10_000)

    def run(self) -> None:
        for op in reversed(self.ops):
            if is_lazy(op):
                sites = self._sites(op)
                saved = self._repeats(op, sites) * (self.costs[op] - _SCRATCH_READ)
                if saved > _WORTHWHILE or self._overtaken(op, sites):
                    op.placement = "scratch"
        for op in self.ops:
            if op.name == "dot":
                self._accumulate_in_place(op)

    def _accumulate_in_place(self, dot: Op) -> None:
        """Mark a dot whose result a loop carries on into the very block that the dot adds to: `acc = dot(a, b, acc)`.

        It may then accumulate in the carried scratch, provided that nothing else reads the old contents.
        """
        for loop in self.places[dot].loops[-1:]:
            body = loop.regions[0].block
            if loop.name != "for" or dot.result not in body.terminator.operands:
                continue
            arg = body.args[body.terminator.operands.index(dot.result) + 1]
            if set(self._sites_of(arg)) == {dot} and self._only_adds_to(dot.operands[2], arg):
                dot.attrs["carried"] = arg

    def _only_adds_to(self, value: Value, arg: Value) -> bool:
        """Is element i of `value` computed from element i of `arg` and from no other?"""
        owner = value.owner
        if value is arg:
            return True
        if not isinstance(owner, Op) or owner.placement or owner.name in _MOVES_ELEMENTS or not is_lazy(owner):
            return False
        through = [operand for operand in owner.operands if _reads(operand, arg)]
        return bool(through) and all(self._only_adds_to(operand, arg) for operand in through)

    def _sites_of(self, value: Value) -> list[Op]:
        found: dict[Op, None] = {}
        for user in self.users.get(value, []):
            found |= dict.fromkeys(self._sites(user) if is_lazy(user) and not user.placement else [user])
        return list(found)

    def _sites(self, op: Op) -> list[Op]:
        """The sinks, and the operations placed in scratch, that evaluate `op`. Users come later in the program than
        `op`,
        so that in the backward walk their placement is settled."""
        if op not in self.sites:
            self.sites[op] = list(dict.fromkeys(site for result in op.results for site in self._sites_of(result)))
        return self.sites[op]

    def _repeats(self, op: Op, sites: list[Op]) -> int:
        """How many times too often `op` would be computed without scratch."""
        here = self.places[op].loops
        weight = sum(_INSIDE_A_LOOP if self.places[site].loops != here else 1 for site in dict.fromkeys(sites))
        weight += _INSIDE_A_LOOP * any(
            self._spread(user) for result in op.results for user in self.users.get(result, [])
        )
        return weight - 1

    @staticmethod
    def _spread(user: Op) -> bool:
        """Does this user repeat its operand along a dimension that an outer loop walks?"""
        if user.name != "broadcast":
            return False
        before, after = shape_of(user.operands[0].type), shape_of(user.results[0].type)
        return any(a == 1 != b for a, b in zip(before[:-1], after[:-1], strict=True)) and before[-1] > 1

    def _overtaken(self, op: Op, sites: list[Op]) -> bool:
        """Could a write happen between the place of a load and a sink that would perform it?"""
        return op.name == "load" and any(self._write_between(op, site) for site in sites)

    def _write_between(self, load: Op, site: Op) -> bool:
        start, place = self.places[load], self.places[site]
        around = [loop for loop in place.loops if loop not in start.loops]
        for write in self.writes:
            number = self.places[write].number
            if write is site:
                if not self._same_elements(load, write):
                    return True
            elif start.number < number < place.number or any(loop in self.places[write].loops for loop in around):
                return True
        return False

    @staticmethod
    def _same_elements(load: Op, store: Op) -> bool:
        """Does the store write, element by element, what the load reads, or else memory of another argument?

        Two pointer arguments are taken to be equal or apart, never to overlap in part, as PyTorch's own operators
        demand.
        """
        if store.name != "store":
            return False
        source, target = load.operands[0], store.operands[0]
        if source is target:
            return True
        if shape_of(source.type) != shape_of(target.type) or not isinstance(source.type, BlockType):
            return False
        if root(source) is None or root(target) is None or root(source) is root(target):
            return False
        return all(step(source, d) == step(target, d) is not None for d in range(len(source.type.shape)))


_MOVES_ELEMENTS = frozenset({"expand_dims", "broadcast", "trans", "reshape", "join", "split", "cat", "gather", "load"})


def _reads(value: Value, arg: Value) -> bool:
    """Does the expression `value` read `arg`?"""
    if value is arg:
        return True
    owner = value.owner
    return isinstance(owner, Op) and is_lazy(owner) and any(_reads(operand, arg) for operand in owner.operands)


def _is_address(op: Op) -> bool:
    """Is this an affine function of the index? Then it is computed on scalars, once for a whole vector."""
    value = op.results[0]
    element = element_of(value.type)
    whole = isinstance(element, PointerType) or not element.is_float
    return whole and op.name != "load" and all(step(value, dim) is not None for dim in range(len(shape_of(value.type))))


def _ends_once(value: Value) -> bool:
    """Is this a mask that costs nothing, because loops are split where it ends?"""
    long = [dim for dim, size in enumerate(shape_of(value.type)) if size > 1]
    return bool(long) and is_mask(value) and is_prefix(value, long[-1])


def _long_dims(op: Op) -> list[int]:
    return [dim for dim, size in enumerate(shape_of(op.results[0].type)) if size > 1]
