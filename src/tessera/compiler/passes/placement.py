"""Decides which block values are computed once into scratch memory, and which again wherever they are used.

An expression is recomputed by every sink that reads it, which costs nothing when one sink does. It goes to scratch when
recomputing costs more than a store and loads, or when it holds a load that some write could overtake.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tessera.compiler.passes import reach
from tessera.compiler.passes.prefixes import is_mask, is_prefix
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Function, Module, Op, Region, Value
from tessera.ir.types import BlockType, PointerType, element_of, shape_of

# Rough cost of one element, in vector instructions a vector.
_COSTS = {
    "exp": 16, "exp2": 14, "log": 20, "log2": 20, "sin": 30, "cos": 30, "erf": 28, "tanh": 28, "sqrt": 8, "rsqrt": 8,
    "divf": 8, "remf": 40, "divsi": 30, "divui": 30, "remsi": 30, "remui": 30, "extern_elementwise": 30, "gather": 30,
    "map_elementwise": 30, "fp4_to_fp": 8, "e8m0_to_fp": 4,
    "precise_divf": 8, "precise_sqrt": 8, "mulhiui": 4, "load": 3,
    "splat": 0, "broadcast": 0, "expand_dims": 0, "trans": 0, "reshape": 0,
}  # fmt: skip
_GATHERED_LOAD = 24
_MASKING = 2
# From this cost on an operation is what takes the time, not a load.
COSTLY = 8
# What reading from scratch costs instead, and how much must be saved before it is worth the trouble.
_SCRATCH_READ = 3
_WORTHWHILE = 3
_INSIDE_A_LOOP = 8
# So many rows that lie anywhere are looked at one by one for whether a store reaches them.
_FEW_ROWS, _LONG_ROW = 16, 64

# Operations that are written into the loop of their consumer. `load` is one of them, under the conditions below.
_NAMES = """
    constant splat make_range expand_dims broadcast trans reshape join split cat gather addptr load select bitcast
    addi subi muli divsi divui remsi remui ceildivsi floordivsi ceildivui shli shrsi shrui andi ori xori
    minsi maxsi minui maxui cmpi mulhiui
    addf subf mulf divf remf negf maxnumf minnumf maximumf minimumf cmpf clampf
    extsi extui trunci sitofp uitofp fptosi fptoui extf truncf fp_to_fp index_cast index_castui int_to_ptr ptr_to_int
    exp exp2 expm1 log log2 log1p log10 sqrt rsqrt sin cos tan tanh erf floor ceil absf absi fma roundeven round trunc
    precise_sqrt precise_divf extern_elementwise poison unsplat ctpop ctlz cttz copysign powf atan2
    map_elementwise fp4_to_fp e8m0_to_fp exchange
"""
LAZY = frozenset(_NAMES.split())

PURE = LAZY | {"get_program_id", "get_num_programs", "reduce", "scan", "dot", "histogram", "insert"}

_BARRIERS = frozenset({"debug_barrier", "gpu.barrier", "ttg.barrier"})
_WRITES = _BARRIERS | {"store", "atomic_rmw", "atomic_cas", "call", "map_with_effects", "print"}


# Where an operation's block is kept: in scratch, or there only if the last store that reads it could overtake it.
SCRATCH, GUARDED = "scratch", "scratch unless apart"


def cost_of_one(op: Op) -> int:
    """What one operation on a vector costs, without its operands."""
    return _COSTS.get(op.name, 1 if op.operands else 0)


@dataclass
class _Place:
    """Where an operation stands: its number in program order and the loops around it, outermost first."""

    number: int
    loops: tuple[Op, ...]


def run(module: Module) -> None:
    """Set `placement` of every lazily computed operation, and tell of a load how many sinks read it if several do."""
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
        self.joined: dict[Op, bool] = {}
        self._number(function.body, ())
        self.writes = [op for op in self.ops if op.name in _WRITES]

    def _number(self, region: Region, loops: tuple[Op, ...]) -> None:
        for block in region.blocks:
            for op in block.ops:
                self.places[op] = _Place(len(self.ops), loops)
                self.ops.append(op)
                for operand in dict.fromkeys(op.operands):
                    self.users.setdefault(operand, []).append(op)
                _ask_steps(op)
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
        own = cost_of_one(op)
        if op.name == "load" and all(step(op.operands[0], dim, usual=True) not in (1, -1) for dim in _long_dims(op)):
            own = _GATHERED_LOAD
        elif op.name == "load":
            own += _MASKING * (len(op.operands) > 1 and not _ends_once(op.operands[1]))
        elif op.name == "select" and _ends_once(op.operands[0]):
            own = 0
        return min(own + inherited, 10_000)

    def run(self) -> None:
        for op in reversed(self.ops):
            if is_lazy(op):
                self.joined[op] = self._is_joined(op)
                sites = self._sites(op)
                saved = self._repeats(op, sites) * (self.costs[op] - _SCRATCH_READ)
                overtaken = self._overtaken(op, sites)
                if op.name == "load" and len(sites) > 1:
                    op.attrs["sinks"] = len(sites)
                if saved > _WORTHWHILE or overtaken:
                    op.placement = SCRATCH
                if saved <= _WORTHWHILE and overtaken and self._only_by_its_store(op, sites):
                    op.placement = GUARDED
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

    @staticmethod
    def _only_adds_to(value: Value, arg: Value) -> bool:
        """Is element i of `value` computed from element i of `arg` and from no other?"""
        whole = reach.identity(len(shape_of(value.type)))
        visits = list(reach.visits(value, whole, lambda visit: visit.value is arg or _kept(visit.value)))
        found = [visit.dims for visit in visits if visit.value is arg]
        aside = [visit.value for visit in visits if visit.value is not arg and _kept(visit.value)]
        return set(found) == {whole} and not any(_reads(value, arg) for value in aside)

    def _sites_of(self, value: Value) -> list[Op]:
        found: dict[Op, None] = {}
        for user in self.users.get(value, []):
            found |= dict.fromkeys(self._sites(user) if is_lazy(user) and user.placement != SCRATCH else [user])
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
        users = [user for result in op.results for user in self.users.get(result, [])]
        weight += _INSIDE_A_LOOP * any(map(self._spread, users))
        # Who exchanges neighbours reads every element twice, and so does who joins what was split.
        weight += any(user.name == "exchange" or (user.name == "split" and self.joined.get(user)) for user in users)
        return weight - 1

    def _is_joined(self, op: Op) -> bool:
        """Does the expression that `op` is part of join blocks? Each element of theirs is computed for both."""
        users = (user for result in op.results for user in self.users.get(result, []))
        return any(
            user.name == "join" or (is_lazy(user) and user.placement != SCRATCH and self.joined[user])
            for user in users
        )

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
                if load.operands[0] is not write.operands[0] or not reads_in_place(load, write):
                    return True
            elif start.number < number < place.number or any(loop in self.places[write].loops for loop in around):
                return True
        return False

    def _only_by_its_store(self, load: Op, sites: list[Op]) -> bool:
        """Is a store the last sink of the load, and the only write that could overtake it? And are the addresses of
        both told by few, so that they can be compared at run time?"""
        if not sites or not isinstance(load.operands[0].type, BlockType):
            return False
        store = max(sites, key=lambda site: self.places[site].number)
        if store.name != "store" or not isinstance(store.operands[0].type, BlockType):
            return False
        if any(self.places[site].loops != self.places[load].loops for site in sites):
            return False
        between = range(self.places[load].number + 1, self.places[store].number)
        if any(self.places[write].number in between for write in self.writes):
            return False
        return _is_bounded(load.operands[0]) and _is_affine(store.operands[0])


def reads_in_place(load: Op, store: Op) -> bool:
    """Does storing one element read that very element of the load, and no other?"""
    for operand in store.operands:
        whole = reach.identity(len(shape_of(operand.type)))
        for visit in reach.visits(operand, whole, lambda visit: _kept(visit.value)):
            if visit.value is load.result and visit.dims != whole:
                return False
    return True


def _kept(value: Value) -> bool:
    """Is it computed apart from the sinks that read it: placed in scratch, or the result of a sink itself?"""
    owner = value.owner
    return not isinstance(owner, Op) or not is_lazy(owner) or owner.placement == SCRATCH


def _reads(value: Value, arg: Value) -> bool:
    """Does the expression `value` read `arg`?"""
    waiting, seen = [value], {value}
    while waiting:
        current = waiting.pop()
        if current is arg:
            return True
        owner = current.owner
        if isinstance(owner, Op) and is_lazy(owner):
            waiting += [operand for operand in owner.operands if operand not in seen]
            seen.update(owner.operands)
    return False


def _ask_steps(op: Op) -> None:
    """Steps come from those of the operands and are remembered: asked for in program order, without deep recursion."""
    for result in op.results:
        for dim in range(len(shape_of(result.type))):
            step(result, dim)


def _is_bounded(pointer: Value) -> bool:
    """Is a block of addresses affine, but for few long rows that lie anywhere?"""
    loose, shape = loose_dims(pointer), shape_of(pointer.type)
    if len(loose) != 1:
        return not loose
    rows = shape[loose[0]]
    return rows <= _FEW_ROWS and math.prod(shape) >= _LONG_ROW * rows


def loose_dims(pointer: Value) -> list[int]:
    """The dimensions along which a block of addresses is not affine."""
    return [dim for dim in range(len(shape_of(pointer.type))) if step(pointer, dim) is None]


def _is_affine(value: Value) -> bool:
    return all(step(value, dim) is not None for dim in range(len(shape_of(value.type))))


def _is_address(op: Op) -> bool:
    """Is this an affine function of the index? Then it is computed on scalars, once for a whole vector."""
    value = op.results[0]
    element = element_of(value.type)
    whole = isinstance(element, PointerType) or not element.is_float
    steps = (step(value, dim, usual=True) for dim in range(len(shape_of(value.type))))
    return whole and op.name != "load" and None not in steps


def _ends_once(value: Value) -> bool:
    """Is this a mask that costs nothing, because loops are split where it ends?"""
    long = [dim for dim, size in enumerate(shape_of(value.type)) if size > 1]
    return bool(long) and is_mask(value) and is_prefix(value, long[-1])


def _long_dims(op: Op) -> list[int]:
    return [dim for dim, size in enumerate(shape_of(op.results[0].type)) if size > 1]
