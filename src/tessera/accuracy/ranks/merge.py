"""The runs of all ranks as the one run that a single process would have made.

What a tensor declares is followed: shards are put beside one another, partial sums are added, of replicas one is taken.
A plain tensor declares nothing. Its operator's partner in the reference tells which of these its parts make: by the
shapes, and where those leave a choice, by which of the wholes comes nearest to the reference's. Sketches are linear, so
all this needs no tensors. Of replicas that differ the one that is farthest from the reference is taken, so that what is
wrong on one rank is wrong in the merged run, and the rank is kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import TypeVar

import numpy as np
import torch

from tessera.accuracy.capture.records import Edge, Final, ModuleCall, Op, Trace
from tessera.accuracy.capture.value import Value, distance
from tessera.accuracy.compare.align import align

Part = TypeVar("Part")
# Ends of a run that every rank must have alike, unless they declare something else.
_ALIKE = ("gradient ", "parameter ", "buffer ")
_PRODUCTS = frozenset({"aten.mm", "aten.bmm"})
_PASSING = frozenset({"aten.clone", "aten.copy_", "aten.view", "aten.as_strided", "aten.mul", "aten.div"})
_FRACTION = re.compile(r"-?\d+(\.\d+(e[-+]?\d+)?|e[-+]?\d+)")
# What the record of a weight before the run is called.
WEIGHT = "weight "


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the parts make the whole.

    ranks: of the mesh, in order. axes: its sizes. placements: one for each axis, as in `Spread`. part: which sketch of
    a sharded part counts. scale: what the whole is multiplied by. pick: the place taken along each replicated axis.
    """

    ranks: tuple[int, ...]
    axes: tuple[int, ...]
    placements: tuple[str, ...]
    part: int = -1
    scale: float = 1.0
    pick: tuple[int, ...] = ()

    @property
    def partial(self) -> bool:
        """Whether the parts are terms of a sum."""
        return any(name.startswith("P") for name in self.placements)

    @property
    def dims(self) -> tuple[int, ...]:
        """The dims that are sharded."""
        return tuple(int(name[1:]) for name in self.placements if name.startswith("S"))


@dataclass(frozen=True, kw_only=True)
class Merged:
    """A merged value's origin. off: the ranks whose replica is not like the one that is nearest to the reference's."""

    layout: Layout
    off: tuple[int, ...] = ()


@dataclass(slots=True)
class MergedRun:
    """The merged run and what is known of its values, by their id.

    parting: the rank and operator where a rank goes another way than rank 0, which ends the merged run. unreduced: ends
    that each rank has for itself although their `sum` or `avg` is right. weights: by name, before the run. crossed:
    operators of which a rank reads another operator's result than rank 0, in words. argued: operators to which
    some ranks give another number than the reference does, the ranks and the words.
    """

    trace: Trace
    origins: dict[int, Merged] = field(default_factory=dict)
    parting: tuple[int, int, str] | None = None
    unreduced: dict[str, str] = field(default_factory=dict)
    weights: dict[str, Value] = field(default_factory=dict)
    crossed: dict[int, tuple[int, str]] = field(default_factory=dict)
    argued: dict[int, tuple[tuple[int, ...], str]] = field(default_factory=dict)


def merge(ranks: Sequence[Trace], reference: Trace, *, data_parallel: bool, prefix: str) -> MergedRun:
    """Merge the runs of all ranks. prefix: what module names begin with that the reference's do not."""
    return _Merger([_without(prefix, trace) for trace in ranks], reference, data_parallel).run()


class _Merger:
    def __init__(self, ranks: list[Trace], reference: Trace, data_parallel: bool) -> None:
        self._ranks, self._reference = ranks, reference
        self._parallel = data_parallel
        self._first = ranks[0]
        self._known: dict[tuple[int, ...], Value] = {}
        self._made = MergedRun(Trace(dtype=self._first.dtype, error=next((t.error for t in ranks if t.error), "")))

    def run(self) -> MergedRun:
        """Merge operators, modules and ends."""
        length, self._made.parting = _common_length(self._ranks)
        pairs = align(_bare(self._first, length), _bare(self._reference, len(self._reference.ops)), lambda a, b: False)
        # What has a partner first: it tells how the values lie that others only look at.
        for index, partner in pairs.of_candidate.items():
            self._learn(index, self._reference.ops[partner])
            self._note_argued(index, self._reference.ops[partner])
        trace = self._made.trace
        trace.ops = [self._op(index) for index in range(length)]
        trace.modules = list(self._modules(length))
        for number in range(min(len(t.finals) for t in self._ranks)):
            name = self._first.finals[number].name
            if name.startswith(WEIGHT):
                values = [t.finals[number].value for t in self._ranks]
                self._made.weights[name.removeprefix(WEIGHT)] = self._value(values)
            else:
                trace.finals.append(self._final(number, length))
        return self._made

    def _learn(self, index: int, partner: Op) -> None:
        """Merge an operator's inputs and outputs by what its partner read and made."""
        backward = partner.phase == "backward"
        ops = [trace.ops[index] for trace in self._ranks]
        if len(ops[0].outputs) == len(partner.outputs):
            for position, wanted in enumerate(partner.outputs):
                self._value([op.outputs[position] for op in ops], wanted, backward)
        if len(ops[0].inputs) == len(partner.inputs):
            for position, edge in enumerate(partner.inputs):
                self._value([op.inputs[position].value for op in ops], edge.value, backward)

    def _op(self, index: int) -> Op:
        ops = [trace.ops[index] for trace in self._ranks]
        self._note_crossed(index, ops)
        inputs = tuple(
            Edge(self._value([op.inputs[k].value for op in ops]), edge.producer, edge.name)
            for k, edge in enumerate(ops[0].inputs)
        )
        outputs = tuple(self._value([op.outputs[k] for op in ops]) for k in range(len(ops[0].outputs)))
        self._note_contraction(ops[0], inputs, outputs)
        written = tuple(self._value([op.written[k] for op in ops]) for k in range(len(ops[0].written)))
        return replace(ops[0], inputs=inputs, outputs=outputs, written=written)

    def _note_contraction(self, op: Op, inputs: tuple[Edge, ...], outputs: tuple[Value, ...]) -> None:
        """A product over a sharded dim is a term of a sum, and so is its copy, where no partner tells."""
        if not inputs or not outputs or id(outputs[0]) in self._made.origins:
            return
        origins = [self._made.origins.get(id(edge.value)) for edge in inputs]
        dims = [() if origin is None else origin.layout.dims for origin in origins]
        rank = len(inputs[0].value.shape)
        product_ = op.short_name in _PRODUCTS and dims == [(rank - 1,), (rank - 2,)]
        last = origins[-1] if op.short_name == "aten.copy_" else origins[0]
        if product_ or (op.short_name in _PASSING and last is not None and last.layout.partial):
            self._made.origins[id(outputs[0])] = Merged(layout=_everywhere(len(self._ranks), "Psum"))

    def _note_crossed(self, index: int, ops: list[Op]) -> None:
        for rank, op in enumerate(ops):
            for ours, other in zip(op.inputs, ops[0].inputs, strict=True):
                if ours.producer != other.producer and index not in self._made.crossed:
                    here, there = _source(ours, self._ranks[rank]), _source(other, self._first)
                    self._made.crossed[index] = rank, f"rank {rank} reads {here} where rank 0 reads {there}"

    def _note_argued(self, index: int, partner: Op) -> None:
        """Numbers with a fraction are alike on all ranks; whole ones may be sizes and places of parts."""
        rows = [dict(trace.ops[index].arguments) for trace in self._ranks]
        for name, wanted in partner.arguments:
            off = tuple(rank for rank, row in enumerate(rows) if row.get(name, wanted) != wanted)
            if off and len(off) < len(rows) and all(_FRACTION.fullmatch(row.get(name, "")) for row in rows):
                words = f"{name} is {rows[off[0]][name]} where the reference and other ranks have {wanted}"
                self._made.argued[index] = off, words

    def _modules(self, length: int) -> Iterator[ModuleCall]:
        for number, first in enumerate(self._first.modules):
            calls = [trace.modules[number] for trace in self._ranks if number < len(trace.modules)]
            alike = all((call.name, len(call.outputs)) == (first.name, len(first.outputs)) for call in calls)
            if len(calls) == len(self._ranks) and alike and first.last <= length:
                outputs = tuple(
                    (path, self._value([call.outputs[k][1] for call in calls]))
                    for k, (path, _) in enumerate(first.outputs)
                )
                yield replace(first, outputs=outputs)

    def _final(self, number: int, length: int) -> Final:
        """An end of the run. It must be alike on all ranks or be sharded; a sum that is left to do is none."""
        rows = [trace.finals[number] for trace in self._ranks]
        first, values = rows[0], [row.value for row in rows]
        wanted = self._reference.final(first.name)
        producer = first.producer if first.producer is not None and first.producer < length else None
        if wanted is None or values[0].spread is None or values[0].spread.placements:
            return Final(first.name, self._value(values, None if wanted is None else wanted.value), producer)
        alone = values[0].numel == wanted.value.numel and (values[0].numel > 1 or first.name.startswith(_ALIKE))
        if not alone:
            return Final(first.name, self._value(values, wanted.value), producer)
        value = self._joined(values, [_everywhere(len(values), "R")], wanted.value)
        self._note_unreduced(first.name, values, wanted.value, value)
        return Final(first.name, value, producer)

    def _note_unreduced(self, name: str, values: list[Value], wanted: Value, value: Value) -> None:
        off = self._made.origins[id(value)].off
        if not off or distance(value, wanted) <= 1e-3 * wanted.norm:
            return
        for word in ("sum", "avg"):
            whole = _combine(values, _everywhere(len(values), f"P{word}"), wanted)
            if distance(whole, wanted) <= 1e-2 * distance(value, wanted):
                self._made.unreduced[name] = word

    def _value(self, values: list[Value], wanted: Value | None = None, backward: bool = False) -> Value:
        """The whole of which these are the parts on all ranks."""
        key = tuple(id(value) for value in values)
        known = self._known.get(key)
        if known is not None:
            return known
        layouts = _declared(values) or self._guesses(values, wanted, backward)
        if not layouts:
            return values[0]
        self._known[key] = value = self._joined(values, layouts, wanted)
        return value

    def _guesses(self, values: list[Value], wanted: Value | None, backward: bool) -> list[Layout]:
        """How undeclared parts may make the whole that is wanted."""
        size, first = len(values), values[0]
        alike = all(value.digest == first.digest for value in values)
        if alike and (wanted is None or wanted.numel == first.numel):
            return [_everywhere(size, "R")]
        if wanted is None or first.spread is None or any(value.shape != first.shape for value in values):
            return []
        if wanted.numel == first.numel:
            return [_everywhere(size, name) for name in ("R", "Psum", "Pavg")[: 3 if self._parallel else 2]]
        scales = (1.0, 1.0 / size) if self._parallel and backward else (1.0,)
        dims = [
            dim
            for dim in first.spread.parts
            if wanted.shape == (*first.shape[:dim], first.shape[dim] * size, *first.shape[dim + 1 :])
        ]
        return [replace(_everywhere(size, f"S{dim}"), part=dim, scale=scale) for dim in dims for scale in scales]

    def _joined(self, values: list[Value], layouts: list[Layout], wanted: Value | None) -> Value:
        """The whole by the layout that comes nearest to what is wanted; of replicas the one that is farthest."""
        nearest = _nearest([replace(layout, pick=(0,) * len(layout.axes)) for layout in layouts], values, wanted)
        picks = [replace(nearest, pick=pick) for pick in _picks(nearest)]
        wholes = [_combine(values, layout, wanted) for layout in picks]
        if len(picks) == 1 or len({whole.digest for whole in wholes}) == 1:
            return self._noted(wholes[0], Merged(layout=picks[0]))
        if wanted is None:
            return self._noted(wholes[0], Merged(layout=picks[0], off=_ranks_of(picks[1:])))
        gaps = [distance(whole, wanted) for whole in wholes]
        best, worst = min(range(len(gaps)), key=gaps.__getitem__), max(range(len(gaps)), key=gaps.__getitem__)
        off = [layout for layout, whole in zip(picks, wholes, strict=True) if whole.digest != wholes[best].digest]
        if gaps[best] > 0.5 * gaps[worst]:
            off = picks
        return self._noted(wholes[worst], Merged(layout=picks[worst], off=_ranks_of(off)))

    def _noted(self, value: Value, origin: Merged) -> Value:
        self._made.origins[id(value)] = origin
        return value


def _nearest(layouts: list[Layout], values: list[Value], wanted: Value | None) -> Layout:
    if len(layouts) == 1 or wanted is None:
        return layouts[0]

    def gap(layout: Layout) -> float:
        # A replica that is wrong on one rank is still one if that of another rank is right.
        picks = [replace(layout, pick=pick) for pick in _picks(layout)]
        return min(distance(_combine(values, pick, wanted), wanted) for pick in picks)

    return min(layouts, key=gap)


def _picks(layout: Layout) -> list[tuple[int, ...]]:
    spans = [range(size if name == "R" else 1) for size, name in zip(layout.axes, layout.placements, strict=True)]
    return list(product(*spans))


def _ranks_of(layouts: list[Layout]) -> tuple[int, ...]:
    """The ranks that hold what these layouts pick."""
    return tuple(sorted({rank for layout in layouts for rank in _held(layout)}))


def _held(layout: Layout) -> Iterator[int]:
    for number, rank in enumerate(layout.ranks):
        place = np.unravel_index(number, layout.axes)
        rows = zip(place, layout.placements, layout.pick, strict=True)
        if all(name != "R" or int(at) == pick for at, name, pick in rows):
            yield rank


def _everywhere(size: int, placement: str) -> Layout:
    return Layout(ranks=tuple(range(size)), axes=(size,), placements=(placement,), pick=(0,))


def _declared(values: list[Value]) -> list[Layout]:
    spread = values[0].spread
    if spread is None or not spread.placements:
        return []
    return [Layout(ranks=spread.mesh, axes=spread.mesh_shape, placements=spread.placements)]


def _combine(values: list[Value], layout: Layout, wanted: Value | None) -> Value:
    """One value of all parts."""
    first = values[layout.ranks[0]]
    declared = first.spread.whole if first.spread is not None else ()
    shape = declared or (wanted.shape if wanted is not None and layout.dims else first.shape)
    whole = along_axes([_part(values[rank], layout) for rank in layout.ranks], layout, _join_values)
    sketch = whole.sketch * layout.scale
    return replace(whole, shape=shape, stride=first.stride, sketch=sketch, norm=whole.norm * layout.scale)


def _part(value: Value, layout: Layout) -> Value:
    """A part with the sketch that it has in the whole."""
    if not layout.dims or value.spread is None or layout.part not in value.spread.parts:
        return replace(value, spread=None, below=None)
    return replace(value, sketch=value.spread.parts[layout.part], spread=None, below=None)


def along_axes(parts: Sequence[Part], layout: Layout, join: Callable[[str, list[Part]], Part]) -> Part:
    """Join the parts on a mesh along its last axis, then the one before, and so on."""
    rows = list(parts)
    for size, name, pick in reversed(list(zip(layout.axes, layout.placements, layout.pick, strict=True))):
        groups = [rows[start : start + size] for start in range(0, len(rows), size)]
        rows = [group[pick] if name == "R" else join(name, group) for group in groups]
    return rows[0]


def _join_values(name: str, parts: list[Value]) -> Value:
    first = parts[0]
    factor = 1.0 / len(parts) if name == "Pavg" else 1.0
    sketch = np.sum([part.sketch for part in parts], axis=0) * factor
    sharded = name.startswith("S")
    count = sum if sharded else max
    digest = 0
    for part in parts:
        digest = (digest * 0x9E3779B1 + part.digest) % (1 << 63)
    return replace(
        first,
        digest=digest,
        sketch=sketch,
        norm=math.hypot(*(part.norm for part in parts)) if sharded else float(np.linalg.norm(sketch)),
        largest=max(part.largest for part in parts),
        nans=count(part.nans for part in parts),
        infs=count(part.infs for part in parts),
    )


def join_tensors(name: str, parts: list[torch.Tensor]) -> torch.Tensor:
    """The same for tensors."""
    if name.startswith("S"):
        return torch.cat(parts, int(name[1:]))
    total = torch.stack([part.double() for part in parts]).sum(0)
    return (total / len(parts) if name == "Pavg" else total).to(parts[0].dtype)


# --- records ---


def _source(edge: Edge, trace: Trace) -> str:
    if edge.producer is None:
        return edge.name or "a constant"
    op = trace.ops[edge.producer]
    return f"the result of {op.short_name} in {op.module}"


def _common_length(ranks: list[Trace]) -> tuple[int, tuple[int, int, str] | None]:
    """How many operators all ranks have in common, and where one goes another way."""
    length = min(len(trace.ops) for trace in ranks)
    for index in range(length):
        rows = [trace.ops[index] for trace in ranks]
        for rank, op in enumerate(rows):
            if (op.name, op.phase, op.step, len(op.inputs), len(op.outputs), len(op.written)) != (
                rows[0].name, rows[0].phase, rows[0].step, len(rows[0].inputs), len(rows[0].outputs),
                len(rows[0].written),
            ):  # fmt: skip
                words = f"rank {rank} runs {op.short_name} in {op.module} where rank 0 runs {rows[0].short_name}"
                return index, (rank, index, words)
    longest = max(range(len(ranks)), key=lambda rank: len(ranks[rank].ops))
    if len(ranks[longest].ops) == length:
        return length, None
    return length, (longest, length, f"rank {longest} runs {len(ranks[longest].ops) - length} operators more")


def _bare(trace: Trace, length: int) -> Trace:
    """A run without its values, to be paired by structure alone: parts have other shapes than wholes."""
    return Trace(ops=[replace(op, outputs=(), written=()) for op in trace.ops[:length]])


def _without(prefix: str, trace: Trace) -> Trace:
    if not prefix:
        return trace

    def bare(name: str) -> str:
        kind, space, rest = name.rpartition(" ")
        return kind + space + rest.removeprefix(prefix)

    made = Trace(dtype=trace.dtype, error=trace.error)
    made.ops = [
        replace(
            op,
            module=_module(op.module, prefix),
            inputs=tuple(replace(edge, name=bare(edge.name)) for edge in op.inputs),
        )
        for op in trace.ops
    ]
    # The wrapper itself is no module of the reference; the one that it wraps is the whole model.
    made.modules = [replace(c, name=_module(c.name, prefix)) for c in trace.modules if c.name.startswith(prefix[:-1])]
    made.finals = [replace(final, name=_marked(final.name, bare)) for final in trace.finals]
    return made


def _module(name: str, prefix: str) -> str:
    return "(model)" if name == prefix[:-1] else name.removeprefix(prefix)


def _marked(name: str, bare: Callable[[str], str]) -> str:
    """The name of an end without the prefix, before a mark such as `after step 1`."""
    head, mark, step = name.partition(" after step ")
    return bare(head) + mark + step
