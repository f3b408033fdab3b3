"""Finds products that only a store waits for, so that they are stored from the registers that they are summed in.

    for …:                                      for …:
        acc = dot(a, b, acc)          →             acc = dot(a, b, acc)     the last trip also stores
    store(out, f(acc), mask)                    store(out, f(acc), mask)     if that did not

Sums of a short depth cost about as much to put into scratch and to fetch from there again as to compute.

Sets `attrs["ending"]` of a `dot`. Scalars that the kernel computes after the loop are moved before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tessera.compiler.passes.demand import ELEMENTWISE
from tessera.compiler.passes.placement import GUARDED, PURE, SCRATCH, cost_of_one, is_lazy
from tessera.compiler.passes.strides import step
from tessera.ir.nodes import Block, Module, Op, Region, Value, users
from tessera.ir.types import BlockType, shape_of

# What happens to an element before it is stored is written out for each of the sums in registers: it may cost so much.
_MOST = 12


@dataclass(frozen=True)
class Ending:
    """The store that a product ends in. `sums` is the product as the store reads it, `guarded` are loads that the store
    could overtake, unless what they read is apart from what it writes."""

    store: Op
    sums: Value
    guarded: tuple[Value, ...]

    def __str__(self) -> str:
        return f"store of {self.sums}"


def run(module: Module) -> None:
    """Set the ending of every `dot` of the module that has one."""
    for function in module.functions:
        used = users(function.body)
        for block, anchor, dot, sums in list(_products(function.body)):
            ending = _ending(used, block, anchor, sums)
            if ending is not None:
                dot.attrs["ending"] = ending


def _products(region: Region) -> Iterator[tuple[Block, Op, Op, Value]]:
    """Each dot, as a block sees it: as the operation that ends with it, itself or a loop, and that one's result."""
    for block in region.blocks:
        for op in block.ops:
            if op.name == "dot" and "carried" not in op.attrs:
                yield block, op, op, op.result
            if op.name == "for":
                yield from _summed(block, op)
            for inner in op.regions:
                yield from _products(inner)


def _summed(block: Block, loop: Op) -> Iterator[tuple[Block, Op, Op, Value]]:
    """The product that a loop sums, if it does nothing else: after it nothing is read any more."""
    body = loop.regions[0].block
    carried = [number for number, arg in enumerate(body.args[1:]) if isinstance(arg.type, BlockType)]
    dots = [op for op in body.ops if op.name == "dot"]
    if len(dots) != 1 or len(carried) != 1 or dots[0].attrs.get("carried") is not body.args[1 + carried[0]]:
        return
    after = body.ops[body.ops.index(dots[0]) + 1 : -1]
    if all(map(_is_harmless, body.ops[:-1])) and not any(op.name == "load" and not is_lazy(op) for op in after):
        yield block, loop, dots[0], loop.results[carried[0]]


def _is_harmless(op: Op) -> bool:
    """Does an operation write nothing and have nothing inside?"""
    return (op.name in PURE or op.name == "load") and not op.regions


def _ending(used: dict[Value, list[Op]], block: Block, anchor: Op, sums: Value) -> Ending | None:
    store, passed = _only_store(used, sums)
    if store is None or store not in block.ops or len(shape_of(sums.type)) != 2:
        return None
    between = block.ops[block.ops.index(anchor) + 1 : block.ops.index(store)]
    if not all(is_lazy(op) or _is_scalar(op) for op in between) or step(store.operands[0], 1) != 1:
        return None
    needed = _behind(store.operands, between)
    if any(value is not sums and value.owner is anchor for op in (store, *needed) for value in op.operands):
        return None
    if any(op.name == "load" and _is_matrix(op.operands[0]) for op in needed):
        return None
    # What waits in scratch for the store, and numbers, are there before the product is.
    kept = [op for op in needed if op.placement == SCRATCH or not is_lazy(op)]
    early = dict.fromkeys(kept) | dict.fromkeys(_behind([value for op in kept for value in op.operands], between))
    if any(op in passed or op.placement == GUARDED for op in early):
        return None
    for op in [op for op in between if op in early]:
        block.ops.remove(op)
        block.ops.insert(block.ops.index(anchor), op)
    return Ending(store, sums, tuple(op.result for op in needed if op.placement == GUARDED))


def _only_store(used: dict[Value, list[Op]], sums: Value) -> tuple[Op | None, dict[Op, None]]:
    """The one operation that anything of `sums` gets to, and the little that is computed element by element on the
    way."""
    waiting, passed, stores = [sums], dict[Op, None](), dict[Op, None]()
    while waiting:
        value = waiting.pop()
        for user in used.get(value, []):
            if user.name == "store" and [operand is value for operand in user.operands].index(True) == 1:
                stores[user] = None
            elif user.name in ELEMENTWISE and is_lazy(user):
                waiting += [] if user in passed else user.results
                passed[user] = None
            else:
                return None, passed
    if len(stores) != 1 or sum(map(cost_of_one, passed)) > _MOST:
        return None, passed
    [store] = stores
    return None if store.attrs.get("cacheModifier") == "cs" else store, passed


def _is_scalar(op: Op) -> bool:
    return _is_harmless(op) and not any(isinstance(value.type, BlockType) for value in (*op.operands, *op.results))


def _is_matrix(pointer: Value) -> bool:
    """Is every element read from a place of its own? Tile by tile of the product is an order that memory is slow in."""
    return len(shape_of(pointer.type)) == 2 and all(step(pointer, dim, usual=True) != 0 for dim in range(2))


def _behind(values: Sequence[Value], between: Sequence[Op]) -> list[Op]:
    """The operations, of those given, that values are computed by, in their order."""
    found, waiting = set[Op](), list(values)
    while waiting:
        owner = waiting.pop().owner
        if isinstance(owner, Op) and owner in between and owner not in found:
            found.add(owner)
            waiting += owner.operands
    return [op for op in between if op in found]
