"""Which ranks are to blame for what was found in their merged run, and faults that only several ranks can have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.store import Dump
from tessera.accuracy.capture.value import Value, distance
from tessera.accuracy.compare.align import align, reshapes
from tessera.accuracy.ranks.merge import Layout, MergedRun
from tessera.accuracy.ranks.place import OWN
from tessera.accuracy.ranks.record import COLLECTIVE
from tessera.accuracy.ranks.whole import WholeDump
from tessera.accuracy.result import CheckResult, Culprit

# Of the error of the worst rank's part: a part below it is right beside a wrong one.
_SHARE = 0.1
# Relative to a tensor's norm: what rounding to float32 leaves of a fault that was found already.
_SAME = 1e-5
_STORE = "which rank is wrong can be told from dumps with --tensors whole"


def name_ranks(result: CheckResult, ours: WholeDump, theirs: Dump) -> CheckResult:
    """The result with the ranks that are to blame."""
    run, culprit = ours.runs[OWN], result.culprit
    if culprit is None:
        return _parted(result, run) or _drifted(result, run)
    index = index_of(run.trace, culprit)
    if index == len(run.trace.ops):
        return result
    if result.verdict != "clean" and ours.kernels.get(index, ("",))[0] in ("wrong", "non-finite"):
        named = replace(culprit, ranks=(ours.kernel_ranks[index],), where=ours.kernels[index][2])
        return replace(result, culprit=named, reason=str(named))
    told = (
        _unreduced_end(run, index)
        or _argued(run, index)
        or _crossed(run)
        or _unreduced(run)
        or _scaled_end(run, theirs.streams[OWN], index)
        or _weight(ours, theirs, index)
    )
    if told is not None:
        return replace(result, culprit=told, reason=str(told), notes=_with_note(result.notes, not told.ranks))
    ranks, sharded = _ranks_at(culprit, ours, theirs)
    named = replace(culprit, ranks=ranks)
    return replace(result, culprit=named, reason=str(named), notes=_with_note(result.notes, sharded and not ranks))


def _with_note(notes: tuple[str, ...], unknown: bool) -> tuple[str, ...]:
    return (*notes, _STORE) if unknown else notes


def index_of(trace: Trace, culprit: Culprit) -> int:
    """The operator of a run that a culprit stands for; behind all of them if there is none."""
    wanted = (culprit.module, culprit.operator, culprit.phase, culprit.step, culprit.call)
    rows = ((op.index, (op.module, op.short_name, op.phase, op.step, op.call)) for op in trace.ops)
    return next((index for index, row in rows if row == wanted), len(trace.ops))


def _at(op: Op, kind: str, where: str, ranks: tuple[int, ...]) -> Culprit:
    return Culprit(
        module=op.module, operator=op.short_name, kind=kind, where=where, source=op.source, phase=op.phase,
        step=op.step, call=op.call, ranks=ranks,
    )  # fmt: skip


def _off(run: MergedRun, value: Value) -> tuple[int, ...]:
    origin = run.origins.get(id(value))
    return () if origin is None else origin.off


def _is_collective(op: Op) -> bool:
    return op.name.split(".")[0] in COLLECTIVE


def _all_ranks(run: MergedRun) -> tuple[int, ...]:
    return next((origin.layout.ranks for origin in run.origins.values()), ())


# --- what only several ranks can do wrong ---


def _unreduced_end(run: MergedRun, index: int) -> Culprit | None:
    """An end of the run that each rank has for itself, as a gradient that was never averaged."""
    for final in run.trace.finals:
        if final.name in run.unreduced and final.producer in (index, None):
            words = f"{final.name} is each rank's own, and the {run.unreduced[final.name]} over ranks is right"
            return _at(run.trace.ops[index], "not reduced", words, _all_ranks(run))
    return None


def _argued(run: MergedRun, index: int) -> Culprit | None:
    """A number that some ranks give to an operator and others do not."""
    if index not in run.argued:
        return None
    ranks, words = run.argued[index]
    return _at(run.trace.ops[index], "argument", words, ranks)


def _crossed(run: MergedRun) -> Culprit | None:
    """A rank that reads what another operator made than on rank 0, before anything else differs between ranks."""
    index = min(run.crossed, default=None)
    wrong = next((op.index for op in run.trace.ops if any(_off(run, value) for value in op.outputs)), None)
    if index is None or (wrong is not None and wrong < index):
        return None
    rank, words = run.crossed[index]
    return _at(run.trace.ops[index], "wrong input", words, (rank,))


def _unreduced(run: MergedRun) -> Culprit | None:
    """Partial sums that are used as if they were whole."""
    ranks = _all_ranks(run)
    for op in run.trace.ops:
        whole = [run.origins.get(id(value)) for value in op.outputs]
        if _is_collective(op) or reshapes(op) or any(origin and origin.layout.partial for origin in whole):
            continue
        # What is copied to is not read.
        for edge in op.inputs[-1:] if op.short_name == "aten.copy_" else op.inputs:
            origin = run.origins.get(id(edge.value))
            if origin is not None and origin.layout.partial and edge.producer is not None:
                words = f"each rank has its own term of a sum, and {op.short_name} in {op.module} reads it as the sum"
                return _at(_computing(run.trace, edge.producer), "not reduced", words, ranks)
        if any(_off(run, value) for value in op.outputs):
            return None
    return None


def _computing(trace: Trace, index: int) -> Op:
    """The operator that computed what others only hand on in another shape."""
    op = trace.ops[index]
    while (reshapes(op) or op.short_name in ("aten.clone", "aten.detach")) and op.inputs:
        if op.inputs[0].producer is None:
            break
        op = trace.ops[op.inputs[0].producer]
    return op


def _scaled_end(run: MergedRun, reference: Trace, index: int) -> Culprit | None:
    """A gradient that was summed over ranks instead of averaged, or the other way round."""
    size = len(_all_ranks(run))
    ends = (final for final in run.trace.finals if final.name.startswith("gradient "))
    for final, wanted in ((final, reference.final(final.name)) for final in ends):
        if wanted is None or distance(final.value, wanted.value) <= _SAME * wanted.value.norm:
            continue
        way = list(_collectives_behind(run.trace, final.producer))
        for factor, words in ((size, "summed over ranks and not averaged"), (1 / size, "averaged and not summed")):
            left = np.linalg.norm(final.value.sketch - factor * wanted.value.sketch)
            if way and left <= _SAME * factor * np.linalg.norm(wanted.value.sketch):
                return _at(way[0], "scale", f"{final.name} is {words}", _all_ranks(run))
        return None
    return None


def _collectives_behind(trace: Trace, producer: int | None) -> Iterator[Op]:
    """The operators that talk to other ranks on the way to a value, the last one first."""
    waiting, seen = [producer], set[int]()
    while waiting:
        index = waiting.pop(0)
        if index is None or index in seen:
            continue
        seen.add(index)
        if _is_collective(trace.ops[index]):
            yield trace.ops[index]
        else:
            waiting += [edge.producer for edge in trace.ops[index].inputs]


def _weight(ours: WholeDump, theirs: Dump, index: int) -> Culprit | None:
    """The wrong weight behind a collective that handed it on."""
    run, reference = ours.runs[OWN], theirs.streams[OWN]
    if not _is_collective(run.trace.ops[index]):
        return None
    known = {edge.name: (edge.value, op) for op in reference.ops for edge in op.inputs if edge.producer is None}
    for name, value in run.weights.items():
        wanted, reader = known.get(f"parameter {name}", (None, None))
        if wanted is None or reader is None or distance(value, wanted) <= _SAME * wanted.norm:
            continue
        pairs = align(run.trace, reference, lambda a, b: False)
        partner = pairs.of_reference.get(reader.index)
        ranks: tuple[int, ...] = ()
        if partner is not None:
            got, right = ours.tensor(OWN, partner, 0), theirs.tensor(OWN, reader.index, 0)
            if reader.short_name == "aten.t" and got is not None and right is not None:
                ranks = _ranks_off((got - right).t().double(), right.double(), run.origins[id(value)].layout)
        op = run.trace.ops[partner] if partner is not None else run.trace.ops[index]
        return _at(op, "weight", f"parameter {name} differs", ranks or _off(run, value))
    return None


def _parted(result: CheckResult, run: MergedRun) -> CheckResult | None:
    """A rank that runs other operators."""
    if run.parting is None:
        return None
    rank, index, words = run.parting
    if not run.trace.ops:
        return replace(result, verdict="wrong", reason=words)
    op = run.trace.ops[min(index, len(run.trace.ops) - 1)]
    culprit = _at(op, "other operator", words, (rank,))
    return replace(result, verdict="wrong", culprit=culprit, reason=str(culprit))


def _drifted(result: CheckResult, run: MergedRun) -> CheckResult:
    """Replicated weights that are not the same bits on all ranks, although the difference is below all limits."""
    for op in run.trace.ops:
        for edge in op.inputs:
            off = _off(run, edge.value)
            if off and edge.name.startswith(("parameter ", "buffer ")):
                culprit = _at(op, "replicas", f"{edge.name} is not the same bits on all ranks", off)
                return replace(result, verdict="suspicious", culprit=culprit, reason=str(culprit))
    return result


# --- on which rank is an operator wrong? ---


def _ranks_at(culprit: Culprit, ours: WholeDump, theirs: Dump) -> tuple[tuple[int, ...], bool]:
    """By replicas that differ; else by the parts whose elements are wrong. Also whether there are parts at all."""
    sharded = False
    for stream, run in ours.runs.items():
        index = index_of(run.trace, culprit)
        if index == len(run.trace.ops):
            continue
        op = run.trace.ops[index]
        values = (*op.outputs, *(edge.value for edge in op.inputs))
        ranks = next((off for value in values if (off := _off(run, value))), ())
        if not ranks and stream in theirs.streams:
            ranks = _wrong_parts(ours, theirs, stream, index)
        if ranks:
            return ranks, True
        sharded = sharded or any(run.origins[id(value)].layout.dims for value in values if id(value) in run.origins)
    return (), sharded


def _wrong_parts(ours: WholeDump, theirs: Dump, stream: str, index: int) -> tuple[int, ...]:
    """The ranks whose shards of an output, or of an input, are wrong."""
    run, reference = ours.runs[stream], theirs.streams[stream]
    pairs = align(run.trace, reference, lambda a, b: False)
    for number in (index, *(edge.producer for edge in run.trace.ops[index].inputs)):
        partner = None if number is None else pairs.of_candidate.get(number)
        if number is None or partner is None:
            continue
        for position, value in enumerate(run.trace.ops[number].outputs):
            origin = run.origins.get(id(value))
            got, wanted = ours.tensor(stream, number, position), theirs.tensor(stream, partner, position)
            if origin is None or got is None or wanted is None or got.shape != wanted.shape:
                continue
            ranks = _ranks_off(got.double() - wanted.double(), wanted.double(), origin.layout)
            if ranks:
                return ranks
    return ()


def _ranks_off(off: torch.Tensor, wanted: torch.Tensor, layout: Layout) -> tuple[int, ...]:
    """The ranks on whose shards most of an error lies; none if nothing is sharded or all is rounding."""
    if len(layout.axes) != 1 or not layout.dims:
        return ()
    chunks = off.chunk(layout.axes[0], layout.dims[0])
    errors = [float(torch.linalg.vector_norm(chunk)) for chunk in chunks]
    if max(errors) <= _SAME * float(torch.linalg.vector_norm(wanted)):
        return ()
    return tuple(rank for rank, error in zip(layout.ranks, errors, strict=False) if error > _SHARE * max(errors))
