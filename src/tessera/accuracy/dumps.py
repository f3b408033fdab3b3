"""Dumps made here and compared there: the runs of a check, on disk."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.capture.keep import Keep
from tessera.accuracy.capture.memory import local_of
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.run import Job, MakeOptimizer, Setup, plain_descent, watch
from tessera.accuracy.capture.state import main_type
from tessera.accuracy.capture.store import Dump, Writer, read_dump
from tessera.accuracy.capture.value import value_of
from tessera.accuracy.compare.align import Same
from tessera.accuracy.compare.kernels import KernelVerdict, results
from tessera.accuracy.compare.precision import Careful, Losses
from tessera.accuracy.conclude import Evidence, conclude
from tessera.accuracy.ranks.name import index_of, name_ranks
from tessera.accuracy.ranks.place import DOUBLE, OWN, here
from tessera.accuracy.ranks.whole import WholeDump, is_ranks, read_ranks, whole_dump
from tessera.accuracy.result import CheckResult, Class
from tessera.core.errors import UsageError

Tensors = Literal["none", "slices", "whole"]


def dump(
    model: nn.Module,
    inputs: object,
    path: Path,
    *,
    backward: bool = False,
    steps: int = 0,
    optimizer: MakeOptimizer = plain_descent,
    budget: int = 2 << 30,
    tensors: Tensors = "none",
    context: Callable[[], AbstractContextManager[object]] = nullcontext,
    native: Callable[[], AbstractContextManager[object]] = nullcontext,
    data_parallel: bool | None = None,
) -> str:
    """Record a model in its own type and in float64, judge its kernels, and write it all to a folder.

    On several ranks of torch.distributed every rank calls it, and the folder has one dump a rank.

    Args:
        path: the folder to make; while it is being made it is called `NAME.partial`.
        budget: bytes that it may take.
        tensors: which full tensors to store besides statistics and sketches: none, the first 65,536 elements of each
            operator's outputs, or all of them as far as half of the budget reaches.
        data_parallel: whether each rank gets its own part of the batch; None: if the model is wrapped by
            DistributedDataParallel or fully sharded.

    Returns what was left out, in words, empty if nothing was.
    Errors: `UsageError` if the folder exists or cannot be made.
    """
    call = Call.of(inputs)
    dtype = main_type(model)
    place = here(native, model, data_parallel)
    job = Job(calls=(call,), backward=backward, steps=steps, optimizer=optimizer, direction=place.direction(model))
    writer = Writer(place.folder(path), budget=budget)
    tape = RandomTape()
    for stream in place.streams(model):
        double = stream == DOUBLE
        setup = Setup(inputs=dtype, double=double, context=place.around(model, nullcontext if double else context))
        make_recorder, observers = place.watcher(stream)
        if tensors != "none":
            observers.append(_Tensors(writer, stream, whole=tensors == "whole"))
        trace = watch(model, job, setup, tape, observers, _sink(writer, stream), make_recorder)
        trace.finals += place.weights(model) if stream == OWN else []
        writer.end(stream, trace)
    for row in place.verdicts():
        writer.kernel(row.index, row.verdict, row.ratio, row.reason)
    writer.finish(
        {
            "model": type(model).__name__,
            "inputs": _digests(call),
            "backward": backward,
            "steps": steps,
            "torch": torch.__version__,
            **place.facts,
        }
    )
    place.finish(path)
    return f"{writer.left_out} operator calls did not fit into the budget" if writer.left_out else ""


def _digests(call: Call) -> dict[str, int]:
    """Checksums of the inputs, floating ones in bfloat16 so that the type that they were given in does not matter."""
    tensors = call.tensors().items()
    locals_ = {name: local_of(tensor) for name, tensor in tensors}
    return {name: value_of(t.bfloat16() if t.is_floating_point() else t).digest for name, t in locals_.items()}


def _sink(writer: Writer, stream: str) -> Callable[[Op], None]:
    return lambda op: writer.op(stream, op)


class _Tensors:
    """An observer that stores outputs."""

    def __init__(self, writer: Writer, stream: str, *, whole: bool) -> None:
        self._writer, self._stream, self._whole = writer, stream, whole

    def before(self, index: int, func: object, args: object, kwargs: object) -> None:
        """Nothing to do."""

    def after(self, index: int, func: object, result: object) -> None:
        """Store what came out."""
        self._writer.tensors(self._stream, index, [local_of(tensor) for tensor in results(result)], whole=self._whole)


def compare(candidate: Path, reference: Path) -> CheckResult:
    """Judge one dump against another, made on other machines perhaps.

    Errors: `UsageError` if one cannot be read, or if they are not of the same work.
    """
    if is_ranks(reference):
        return _compare_each(candidate, reference)
    if not is_ranks(candidate):
        ours, theirs = read_dump(candidate), read_dump(reference)
    else:
        theirs = read_dump(reference)
        ours = whole_dump(candidate, theirs)
    _check_fit(ours, theirs)
    result = conclude(_evidence(ours, theirs), _Shelf(ours, theirs))
    return name_ranks(result, ours, theirs) if isinstance(ours, WholeDump) else result


def _compare_each(candidate: Path, reference: Path) -> CheckResult:
    """Two runs on equally many ranks, rank by rank; the fault that comes first is told, for collectives spread it."""
    if not is_ranks(candidate):
        raise UsageError(
            f"{reference} has one dump a rank and {candidate} is of a single process; give the former first, "
            "as the candidate, to have it merged"
        )
    ours, theirs = read_ranks(candidate), read_ranks(reference)
    if len(ours) != len(theirs):
        raise UsageError(
            f"{candidate} was made on {len(ours)} ranks and {reference} on {len(theirs)}; "
            "compare each with the dump of a single process"
        )
    results = [compare(mine.path, other.path) for mine, other in zip(ours, theirs, strict=True)]
    places = {
        rank: -1 if result.culprit is None else index_of(ours[rank].streams[OWN], result.culprit)
        for rank, result in enumerate(results)
        if not result.ok
    }
    first = [rank for rank, place in places.items() if place == min(places.values())]
    found = results[first[0] if first else 0]
    if found.culprit is None:
        return found
    culprit = replace(found.culprit, ranks=tuple(first))
    return replace(found, culprit=culprit, reason=str(culprit))


def against_dump(live: Evidence, keep: Any, reference: Path, call: Call) -> CheckResult:
    """Judge a candidate that was just run against a dump."""
    theirs = read_dump(reference)
    if theirs.facts.get("inputs") not in (None, _digests(call)):
        raise UsageError(f"{reference} was made on other inputs; make it again on these, or give its inputs here")
    _check_outputs(live.ours, theirs.streams[OWN], "the candidate", str(reference))
    evidence = Evidence(
        ours=live.ours,
        again=live.again,
        theirs=theirs.streams[OWN],
        ours_double=live.ours_double,
        theirs_double=_usable(theirs.streams.get(DOUBLE)),
        kernels=live.kernels,
        notes=(*live.notes, *_notes(theirs)),
    )
    return conclude(evidence, _Shelf(keep, theirs))


def _check_fit(ours: Dump, theirs: Dump) -> None:
    for dump_ in (ours, theirs):
        if OWN not in dump_.streams:
            raise UsageError(f"{dump_.path} holds no operator; its capture was ended too early, make it again")
    for name in ("inputs", "backward", "steps"):
        mine, other = ours.facts.get(name), theirs.facts.get(name)
        if None not in (mine, other) and mine != other:
            raise UsageError(
                f"{ours.path} and {theirs.path} were made with other {name}"
                + ("" if name == "inputs" else f" ({mine} and {other})")
                + "; make both in the same way"
            )
    _check_outputs(ours.streams[OWN], theirs.streams[OWN], str(ours.path), str(theirs.path))


def _check_outputs(ours: Trace, theirs: Trace, left: str, right: str) -> None:
    """Two runs are of one model if they have outputs of one name and size."""
    mine = {final.name: final.value.numel for final in ours.finals if final.name.startswith("output")}
    other = {final.name: final.value.numel for final in theirs.finals if final.name.startswith("output")}
    if mine and other and not any(other.get(name) == size for name, size in mine.items()):
        raise UsageError(
            f"{left} and {right} are of different models: their outputs have {sorted(mine.values())} and "
            f"{sorted(other.values())} elements; compare runs of the same model on the same inputs"
        )


def _evidence(ours: Dump, theirs: Dump) -> Evidence:
    own = ours.streams[OWN]
    kernels = {
        index: KernelVerdict(index=index, name="", verdict=cast(Class, verdict), ratio=ratio, reason=reason)
        for index, (verdict, ratio, reason) in ours.kernels.items()
    }
    double, exact = _double(ours), _double(theirs)
    return Evidence(
        ours=own,
        again=own,
        theirs=theirs.streams[OWN],
        ours_double=double,
        theirs_double=exact,
        kernels=kernels,
        notes=(*_notes(ours), *_notes(theirs)),
        same_own=None if double is not None or exact is None else _as_careful(own, theirs.streams[OWN], exact),
    )


def _double(dump_: Dump) -> Trace | None:
    """The run in float64: of a model in float64 its own."""
    own = dump_.streams[OWN]
    return _usable(dump_.streams.get(DOUBLE)) or (_usable(own) if own.dtype == DOUBLE else None)


def _as_careful(own: Trace, theirs: Trace, exact: Trace) -> Same:
    """Without a float64 run of the candidate, its values may err as the reference's own do, against its float64."""
    return Careful(Losses.between(own, exact), Losses.between(theirs, exact))


def _usable(trace: Trace | None) -> Trace | None:
    return None if trace is None or trace.error or not trace.finals else trace


def _notes(dump_: Dump) -> tuple[str, ...]:
    notes = []
    if not dump_.whole:
        notes.append(f"{dump_.path} is the start of a capture that was ended; what came later is not judged")
    if dump_.facts.get("left out"):
        notes.append(f"{dump_.path} lacks {dump_.facts['left out']} operator calls that did not fit into its budget")
    return tuple(notes)


class _Shelf:
    """Looks closer by what is stored: tensors of dumps, or a repeated run of a live candidate."""

    def __init__(self, ours: Any, theirs: Dump) -> None:
        self._ours, self._theirs = ours, theirs

    def keep(self, side: str, double: bool, indices: frozenset[int]) -> Keep:
        """The stored outputs of the operators with these indices; inputs are not stored."""
        source = self._ours if side == "candidate" else self._theirs
        if not isinstance(source, Dump):
            kept: Keep = source.keep(side, double, indices)
            return kept
        stream = DOUBLE if double else OWN
        kept = Keep(indices)
        for index in indices:
            found = [source.tensor(stream, index, position) for position in range(8)]
            kept.tensors[index, "output"] = [tensor for tensor in found if tensor is not None]
            op = source.streams[stream].ops[index]
            inputs = [self._input(source, stream, op, position) for position in range(len(op.inputs))]
            if all(tensor is not None for tensor in inputs):
                kept.tensors[index, "input"] = [tensor for tensor in inputs if tensor is not None]
        return kept

    def _input(self, source: Dump, stream: str, op: Op, position: int) -> torch.Tensor | None:
        """An input, as the output of the operator that made it."""
        edge = op.inputs[position]
        if edge.producer is None:
            return None
        made = source.streams[stream].ops[edge.producer].outputs
        number = next((k for k, value in enumerate(made) if value.digest == edge.value.digest), None)
        return None if number is None else source.tensor(stream, edge.producer, number)

    def previous(self, double: bool) -> Trace:
        """Dumps have none."""
        return Trace() if isinstance(self._ours, Dump) else cast(Trace, self._ours.previous(double))

    def moved(self, names: frozenset[str]) -> Trace:
        """A dump cannot be run again."""
        return Trace() if isinstance(self._ours, Dump) else cast(Trace, self._ours.moved(names))
