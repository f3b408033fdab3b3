"""Plans: what an operator does for one layout of its arguments, found out once and then done without thinking.

In:  an entry of the table and arguments that stand for all calls with the same *key*: the same types, shapes, strides
     and numbers. Pointers are no part of the key.
Out: a function of the tensors alone. It allocates what the entry allocated and runs the entry's launches as one chain.

An entry is planned by running it with its launches recorded instead of run, and watched meanwhile: what it allocates
becomes the plan's memory, operators of ours that it calls are planned with it, views cost nothing; the seed of random
numbers is drawn anew in each call, before the launches; results may be cut to a length that the launches find. An entry
that looks at values, or calls an operator of the vendor's, cannot be planned (`Unplanned`) and is run as it is, each
time. Where two arguments share memory, all but the first are planned in memory of their own, so that each pointer of a
launch belongs to one argument; whether a call's arguments may share memory is decided at the call.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.aten import record
from tessera.ops.declined import Declined
from tessera.ops.launch import Addresses, Compiled, Given, Numbers, ValueNeeded, recorded_by, shorten
from tessera.ops.table import VARIANTS, Variant
from tessera.runtime.arguments import make_packer
from tessera.runtime.chain import Launch, Patch, make_chain
from tessera.runtime.recall import OWN, Held, Steps

Run = Callable[..., Any]
"""Takes the tensor arguments in the schema's order, lists spread out, whatever else stands there (None, a number)
included, then the variant's `numbers`; returns the operator's result, or NotImplemented where the vendor is to run,
with the reason in `record.DEPTH.reason`."""

# The source of a patch that is the address of the launch's own arguments; below it, those that are the call's numbers.
_OWN = -1
_FIRST_NUMBER = -2
# From so many pairs on, of which one is written, all tensors are looked at together, and only where they moved.
_MANY_PAIRS = 8
OVERLAP = "an input overlaps the output"
_ALLOCATIONS = frozenset(
    f"aten::{name}" for name in ("empty.memory_format", "empty_strided", "empty_like", "new_empty", "new_empty_strided")
)
# Draws the seed of a call, a number in memory of its own, from PyTorch's generator.
_SEED = "aten::random_"
# Questions about types, which no values enter.
_OF_TYPES = frozenset(
    f"aten::{name}" for name in ("can_cast", "promote_types", "result_type.Scalar", "result_type.Scalar_Scalar",
                                 "result_type.Scalar_Tensor", "result_type.Tensor")
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What serves calls of one key; `steps` are the same for a recalled call, None where all are the vendor's."""

    run: Run
    steps: Steps | None


class Unplanned(Exception):
    """Raised while an entry is being planned that has to see its arguments' values, or to call the vendor."""


def declined(reason: str) -> Run:
    """The plan of calls that are the vendor's."""

    def run(*_: Any) -> Any:
        record.DEPTH.reason = reason
        return NotImplemented

    return run


def extent_bytes(x: torch.Tensor) -> int:
    """From the first to behind the last byte that belongs to `x`; 0 where it has no elements."""
    if x.is_contiguous():
        return x.nbytes
    if x.numel() == 0:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True))
    return (last + 1) * x.element_size()


def memory_of(x: torch.Tensor) -> int:
    """What tells a tensor's storage from all others, also where it is empty; views have that of their tensor."""
    storage: int = x.untyped_storage()._cdata
    return storage


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors at the same address are the same elements: each is read before it is written."""
    return a.dtype == b.dtype and a.shape == b.shape and a.stride() == b.stride()


def overlaps(written: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether writing `written` could change elements of `other` that are still to be read."""
    return overlaps_ahead(written, other, other.data_ptr() - written.data_ptr())


def overlaps_ahead(written: torch.Tensor, other: torch.Tensor, ahead: int) -> bool:
    """The same where `other` starts so many bytes ahead, wherever the two are."""
    if ahead == 0 and alike(written, other):
        return False
    return -extent_bytes(other) < ahead < extent_bytes(written) and meeting(written, other)(ahead)


def meeting(written: torch.Tensor, other: torch.Tensor) -> Callable[[int], bool]:
    """Whether two tensors, whose memory overlaps, have an element in common where `other` starts so many bytes ahead.

    Told apart are tensors with the same strides, as slices of one tensor have; others may have one.
    """
    if written.dtype != other.dtype or written.stride() != other.stride():
        return lambda ahead: True
    steps = zip(written.stride(), written.shape, other.shape, strict=True)
    dims = tuple(sorted(((step, m, n) for step, m, n in steps if step and max(m, n) > 1), reverse=True))
    return functools.partial(_meet, dims, written.element_size())


@functools.lru_cache(maxsize=1024)
def _meet(dims: tuple[tuple[int, int, int], ...], item_bytes: int, ahead: int) -> bool:
    """Whether i - j, i inside the first tensor and j inside the second, can make up the distance, dim by dim."""
    if ahead % item_bytes:
        return True
    if not dims:
        return ahead == 0
    (step, m, n), *inner = dims
    distance = ahead // item_bytes
    most = sum(s * (a - 1) for s, a, _ in inner)
    least = -sum(s * (b - 1) for s, _, b in inner)
    first, last = max(1 - n, -((most - distance) // step)), min(m - 1, (distance - least) // step)
    return any(_meet(tuple(inner), item_bytes, ahead - d * step * item_bytes) for d in range(first, last + 1))


class _Watch(TorchDispatchMode):
    """What an entry does while it is planned. `memory` maps a storage to its number among the pointers: the arguments'
    first, then what was allocated."""

    def __init__(self, inputs: list[torch.Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inputs = inputs
        self.allocated: list[torch.Tensor] = []
        self.launches: list[Launch] = []
        self.checks: list[Callable[[], None]] = []
        self.flags: list[torch.Tensor] = []
        self.fills: list[tuple[int, Callable[[torch.Tensor], Any]]] = []
        self.cuts: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.kept: list[Any] = []
        self._depth = 0
        self._fixed: set[int] = set()
        self.memory = {memory_of(x): number for number, x in enumerate(inputs)}

    @property
    def pointers(self) -> list[torch.Tensor]:
        return self.inputs + self.allocated

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._name
        if name in _ALLOCATIONS:
            made = func(*args, **kwargs)
            self.memory[memory_of(made)] = len(self.pointers)
            self.allocated.append(made)
            return made
        number = self._allocation(args[0]) if name == _SEED else None
        if number is not None:
            self.fills.append((number, functools.partial(func._op, **kwargs)))
            return args[0]
        parts = record.parts_key(func)
        # What may give a view may also give a copy, which its parts tell (`contiguous`, `reshape`, `to`).
        if name in _OF_TYPES or (func.is_view and parts is None):
            return func(*args, **kwargs)
        with self:
            if name in VARIANTS:
                return self._planned_with(VARIANTS[name], args, kwargs)
            if parts is not None:
                return func._op_dk(parts, *args, **kwargs)
        raise Unplanned(name)

    def _planned_with(self, variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator of ours that the entry calls, as a part of the entry's plan."""
        self._depth += 1
        try:
            return variant.call(*args, **kwargs)
        except Declined as error:
            raise Unplanned(error.reason) from error
        finally:
            self._depth -= 1

    def _allocation(self, x: torch.Tensor) -> int | None:
        """The number of the memory that was allocated as `x`; None where x is anything else."""
        number = self.memory.get(memory_of(x), -1)
        return number if number >= len(self.inputs) and x.numel() == self.pointers[number].numel() else None

    def launched(self, compiled: Compiled, grid: tuple[int, int, int], args: tuple[Any, ...]) -> None:
        """Record one launch."""
        if self.cuts:
            raise Unplanned("a launch of what is as long as values say")
        kinds = compiled.signature
        values, patches = list(args) + list(compiled.tail), []
        taken = [index for index, kind in enumerate(kinds) if kind != "constexpr"]
        tables: list[Any] = []
        for slot, index in enumerate(taken):
            value = values[index]
            if isinstance(value, Addresses | Numbers):
                table: tuple[Any, ...] = value.tensors if isinstance(value, Addresses) else value.values
                patches += [Patch(slot=slot, source=_OWN, offset=8 * (len(taken) + len(tables)))]
                patches += [
                    self._patch(len(taken) + place, x) for place, x in enumerate(table, len(tables)) if _moves(x)
                ]  # fmt: skip
                tables += [0.0 if _moves(x) else x for x in table]
                values[index] = None
            elif isinstance(value, Given):
                if kinds[index] != "fp64":
                    raise Unplanned("a number of each call that is no float64")
                patches.append(self._patch(slot, value))
                values[index] = 0.0
            elif isinstance(value, torch.Tensor) and value.data_ptr() not in self._fixed:
                patches.append(self._patch(slot, value))
                values[index] = None
        packed = make_packer(kinds)(tuple(values)) + struct.pack(f"<{len(tables)}d", *tables)
        if 0 not in grid:
            address = compiled.address
            self.launches.append(Launch(address=address, packed=packed, grid=grid, patches=tuple(patches)))
            self.kept.append(compiled.loaded)

    def fixed(self, table: torch.Tensor) -> None:
        """A constant of the plan, which keeps it."""
        self._fixed.add(table.data_ptr())
        self.kept.append(table)

    def checked(self, flag: torch.Tensor, check: Callable[[], None]) -> None:
        """The flag's address is a constant of the plan."""
        self._fixed.add(flag.data_ptr())
        self.checks.append(check)
        self.flags.append(flag)

    def shortened(self, num: torch.Tensor, row: torch.Tensor) -> None:
        """Of the entry alone, not of one that it calls, whose result is looked at."""
        if self._depth:
            raise Unplanned("a result as long as values say")
        self.cuts.append((num, row))

    def _patch(self, slot: int, x: torch.Tensor | Given) -> Patch:
        if isinstance(x, Given):
            return Patch(slot=slot, source=_FIRST_NUMBER - x.place, offset=0)
        number = self.memory.get(memory_of(x))
        if number is None:
            raise Unplanned("memory that is neither an argument nor new")
        return Patch(slot=slot, source=number, offset=x.data_ptr() - self.pointers[number].data_ptr())

    def ends(self) -> list[tuple[int, int]]:
        """The numbers of the memory that holds a length, and of the result that is cut to it."""
        pairs = [(self.source(num), self.source(row)) for num, row in self.cuts]
        return [(num, row) for num, row in pairs if num is not None and row is not None]

    def source(self, result: Any) -> int | None:
        """The number of the memory that `result` is all of, None for no tensor."""
        if result is None:
            return None
        if not isinstance(result, torch.Tensor):
            raise Unplanned("a result that is no tensor")
        for number, x in enumerate(self.inputs):
            if result is x:
                return number
        number = self.memory.get(memory_of(result), -1)
        if number < len(self.inputs) or extent_bytes(result) != result.untyped_storage().nbytes():
            raise Unplanned("a result that is no memory of its own")
        return number


def _moves(entry: Any) -> bool:
    """Whether an entry of a launch's table is another one in each call."""
    return isinstance(entry, torch.Tensor | Given)


def make_plan(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any], any_numbers: bool = False) -> Plan:
    """The plan of `variant` for calls like this one. Raises `Unplanned`; a call that the entry declines has a plan.

    any_numbers: for calls with other numbers, too; raises `ValueNeeded` where it depends on them.
    """
    try:
        slots, watch, result = _observed(variant, args, kwargs, any_numbers)
    except Declined as error:
        if any_numbers:
            raise ValueNeeded from error
        return Plan(declined(error.reason), None)
    several = isinstance(result, list | tuple)
    results = list(result) if several else [result]
    sources = [watch.source(one) for one in results]
    given = [number for number in sources if number is not None]
    if len(set(given)) < len(given):
        raise Unplanned("two results in one memory")
    made = {number: x for number, x in zip(sources, results, strict=True) if number is not None}
    if any(not any(x is row for x in results) for _, row in watch.cuts):
        raise Unplanned("a view of what is as long as values say")
    run = _compose(slots, watch, made, sources, several, len(numbers_of(variant, args, kwargs)))
    return Plan(run, _steps(slots, watch, made, sources, several))


def _steps(
    slots: list[_Slot], watch: _Watch, made: dict[int, torch.Tensor], sources: list[int | None], several: bool
) -> Steps:
    """The plan as a recalled call does it."""
    num_inputs = len(watch.inputs)
    patched = {p.source for one in watch.launches for p in one.patches}
    drawn = {number for number, _ in watch.fills}
    allocated = sorted(number for number in patched | set(made) | drawn if number >= num_inputs)
    places = {number: number for number in range(num_inputs)} | {_OWN: OWN}
    places |= {number: num_inputs + index for index, number in enumerate(allocated)}
    places |= {number: number - _FIRST_NUMBER - 1 for number in patched if number <= _FIRST_NUMBER}
    new = [made.get(number, watch.pointers[number]) for number in allocated]
    forms: dict[Any, int] = {}
    held = [slot for slot in slots if isinstance(slot.value, torch.Tensor)]
    return Steps(
        tensors=tuple(
            Held(
                extent_bytes=extent_bytes(x.value), written=x.written,
                layout=forms.setdefault((x.value.dtype, x.value.shape, x.value.stride()), len(forms)),
            )
            for x in held
        ),
        layouts=tuple((tuple(x.shape), x.stride(), x.dtype) for x in new),
        results=tuple(None if number is None else places[number] for number in sources),
        single=not several,
        launches=tuple(_renumbered(one, places) for one in watch.launches),
        checks=tuple(zip((flag.data_ptr() for flag in watch.flags), watch.checks, strict=True)),
        fills=tuple((places[number], fill) for number, fill in watch.fills),
        ends=tuple((places[num], places[row], shorten) for num, row in watch.ends()),
        kept=(watch.kept, watch.flags),
    )  # fmt: skip


def numbers_of(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """The call's numbers that the entry only hands on, lists spread out, in the schema's order."""
    given = dict(zip((a.name for a in variant.arguments), args, strict=False)) | kwargs
    found = [given[name] for name in variant.numbers if name in given]
    return [x for value in found for x in (value if isinstance(value, list | tuple) else [value])]


def is_handed(x: Any) -> bool:
    """Whether one plan serves all values of such a number: not 0 and 1, which an entry may ask for."""
    return x.__class__ in (int, float) and x not in (0, 1)


def refusal(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Why the entry declines a call like this; empty where it takes it, or has to see values to tell."""
    try:
        _observed(variant, args, kwargs)
    except Declined as error:
        return error.reason
    except Unplanned:
        return ""
    return ""


def _observed(
    variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any], any_numbers: bool = False
) -> tuple[list[_Slot], _Watch, Any]:
    """What the entry does with a call like this: nothing is launched. Raises `Declined` and `Unplanned`; with
    `any_numbers` also `ValueNeeded`."""
    if any_numbers:
        args, kwargs = _with_places(variant, args, kwargs)
    args, kwargs, slots = _apart(variant, args, kwargs)
    watch = _Watch([slot.value for slot in slots if isinstance(slot.value, torch.Tensor)])
    with recorded_by(watch), watch:
        return slots, watch, variant.call(*args, **kwargs)


def _with_places(
    variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments with the places of the numbers that are handed on instead of their values."""
    places = itertools.count()

    def handed(x: Any) -> Any:
        place = next(places)
        return Given(place) if is_handed(x) else x

    def each(name: str, value: Any) -> Any:
        if name not in variant.numbers:
            return value
        return [handed(x) for x in value] if isinstance(value, list | tuple) else handed(value)

    names = [a.name for a in variant.arguments]
    positional = tuple(each(name, x) for name, x in zip(names, args, strict=False))
    return positional, {name: each(name, kwargs[name]) for name in names if name in kwargs}


@dataclass(frozen=True)
class _Slot:
    """One tensor argument, or what stands in its place; `written` as the schema says."""

    value: Any
    written: bool


def _apart(
    variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any], list[_Slot]]:
    """The arguments with memory of its own for each tensor that shares it with one before, and the tensors' slots.

    The new memory is only spoken of, never touched.
    """
    seen: set[int] = set()
    slots: list[_Slot] = []

    def own(name: str, x: Any) -> Any:
        if isinstance(x, torch.Tensor) and (place := x.untyped_storage().data_ptr()):
            if place in seen:
                x = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
            seen.add(place)
        slots.append(_Slot(x, name in variant.written))
        return x

    def each(name: str, value: Any) -> Any:
        if name not in variant.tensors:
            return value
        return [own(name, x) for x in value] if isinstance(value, list | tuple) else own(name, value)

    names = [a.name for a in variant.arguments]
    positional = tuple(each(name, x) for name, x in zip(names, args, strict=False))
    return positional, {name: each(name, kwargs[name]) for name in names if name in kwargs}, slots


def _compose(
    slots: list[_Slot], watch: _Watch, made: dict[int, torch.Tensor], sources: list[int | None], several: bool,
    num_numbers: int,
) -> Run:  # fmt: skip
    """The plan's function, in Python text: straight-line code of its structure, with its sizes as constants."""
    tensors = [index for index, slot in enumerate(slots) if isinstance(slot.value, torch.Tensor)]
    patched = {p.source for one in watch.launches for p in one.patches}
    used = sorted(number for number in patched | set(made) | {number for number, _ in watch.fills} if number >= 0)
    filled = sorted(number for number in patched if number <= _FIRST_NUMBER)
    names = {number: f"s{tensors[number]}" if number < len(tensors) else f"n{number}" for number in used}
    lines, constants, known = _overlap_test(slots)
    named = {number for number, slot in enumerate(tensors) if slot in known}
    addresses = [f"a{tensors[number]}" if number in named else f"{names[number]}.data_ptr()" for number in used]
    for number in used:
        if number >= len(tensors):
            x = made.get(number, watch.pointers[number])
            constants |= {f"shape{number}": tuple(x.shape), f"strides{number}": x.stride(), f"type{number}": x.dtype}
            lines.append(f"n{number} = empty(shape{number}, strides{number}, type{number})")
    for index, (number, fill) in enumerate(watch.fills):
        constants[f"fill{index}"] = fill
        lines.append(f"fill{index}(n{number})")
    if watch.launches:
        order = {number: index for index, number in enumerate([*used, *filled, _OWN])}
        constants["chain"] = make_chain([_renumbered(one, order) for one in watch.launches], order[_OWN], watch.kept)
        if filled:
            constants["words"] = _words(len(filled))
            addresses.append(f"*words({', '.join(f'f{_FIRST_NUMBER - number}' for number in filled)})")
        lines.append(f"chain({', '.join(addresses)})")
    for number, check in enumerate(watch.checks):
        constants[f"check{number}"] = check
        lines.append(f"check{number}()")
    for num, row in watch.ends():
        constants["shorten"] = shorten
        lines.append(f"shorten({names[num]}, {names[row]})")
    returned = ["None" if number is None else names[number] for number in sources]
    lines.append(f"return ({', '.join(returned)},)" if several else f"return {returned[0]}")
    return _maker(len(slots), num_numbers, tuple(lines), tuple(constants))(**constants)


@functools.cache
def _words(num: int) -> Callable[..., tuple[int, ...]]:
    """The bits of so many float64."""
    pack, unpack = struct.Struct(f"<{num}d").pack, struct.Struct(f"<{num}Q").unpack
    return lambda *numbers: unpack(pack(*numbers))


def _renumbered(one: Launch, order: dict[int, int]) -> Launch:
    return replace(one, patches=tuple(replace(p, source=order[p.source]) for p in one.patches))


def _overlap_test(slots: list[_Slot]) -> tuple[list[str], dict[str, Any], list[int]]:
    """What sends a call to the vendor of which an output shares memory with another tensor, but is not that tensor.

    Behind the text and its constants: the slots whose addresses it names, `a` and the number of the slot.
    """
    lines: list[str] = []
    constants: dict[str, Any] = {}
    held = {i: slot.value for i, slot in enumerate(slots) if isinstance(slot.value, torch.Tensor)}
    some = [i for i, x in held.items() if extent_bytes(x)]
    pairs = [(w, r) for w, r in itertools.permutations(some, 2) if slots[w].written]
    if len(pairs) >= _MANY_PAIRS:
        lines.append(f"at = ({', '.join(f'(a{i} := s{i}.data_ptr())' for i in some)})")
        lines.append("if at != several.apart and several.meet(at): return overlapping()")
        return lines, {"several": _Several([slots[i] for i in some])}, some
    for w, r in pairs:
        constants |= {f"before{w}_{r}": -extent_bytes(held[r]), f"behind{w}_{r}": extent_bytes(held[w])}
        test = f"before{w}_{r} < s{r}.data_ptr() - s{w}.data_ptr() < behind{w}_{r}"
        constants[f"meet{w}_{r}"] = meeting(held[w], held[r])
        test += f" and meet{w}_{r}(s{r}.data_ptr() - s{w}.data_ptr())"
        if alike(held[w], held[r]):
            test += f" and s{r}.data_ptr() != s{w}.data_ptr()"
        lines.append(f"if {test}: return overlapping()")
    return lines, constants, []


class _Several:
    """Tensors of which some are written; `apart` is where they were found to be apart the last time."""

    def __init__(self, slots: list[_Slot]) -> None:
        self.apart: tuple[int, ...] = ()
        self._written = [slot.written for slot in slots]
        given = [slot.value for slot in slots]
        self._layouts = [torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta") for x in given]
        self._extents = [extent_bytes(x) for x in given]

    def meet(self, at: tuple[int, ...]) -> bool:
        """Whether one that is written overlaps another, with the tensors at these addresses: a walk in their order."""
        reaching: list[int] = []
        for here, index in sorted(zip(at, range(len(at)), strict=True)):
            reaching = [i for i in reaching if at[i] + self._extents[i] > here]
            if any(self._overlap(i, index, here - at[i]) for i in reaching):
                return True
            reaching.append(index)
        self.apart = at
        return False

    def _overlap(self, first: int, second: int, ahead: int) -> bool:
        a, b = self._layouts[first], self._layouts[second]
        return (self._written[first] and overlaps_ahead(a, b, ahead)) or (
            self._written[second] and overlaps_ahead(b, a, -ahead)
        )


@functools.lru_cache(maxsize=1024)
def _maker(
    num_slots: int, num_numbers: int, lines: tuple[str, ...], constants: tuple[str, ...]
) -> Callable[..., Run]:
    """What makes the functions of one structure, given their constants."""
    slots = ", ".join([f"s{index}" for index in range(num_slots)] + [f"f{index}" for index in range(num_numbers)])
    body = "\n".join(f"        {line}" for line in lines)
    source = f"def make({', '.join(constants)}):\n    def run({slots}):\n{body}\n    return run\n"
    # The allocation that Inductor's programs call, past the dispatcher, which we have passed: half the time.
    empty = torch._C._dynamo.guards._empty_strided_cpu  # type: ignore[attr-defined]
    scope: dict[str, Any] = {"empty": empty, "overlapping": declined(OVERLAP)}
    exec(compile(source, "<tessera plan>", "exec"), scope)
    made: Callable[..., Run] = scope["make"]
    return made
