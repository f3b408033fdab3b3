"""A folder with one dump a rank, read as one dump, and the ranks that are to blame for what was found in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.store import Dump, read_dump
from tessera.accuracy.capture.value import Value
from tessera.accuracy.compare.align import align
from tessera.accuracy.compare.kernels import SEVERITY
from tessera.accuracy.ranks.merge import Layout, MergedRun, along_axes, join_tensors, merge
from tessera.accuracy.ranks.place import DOUBLE, OWN, rank_folder
from tessera.accuracy.ranks.record import COLLECTIVE
from tessera.accuracy.result import CheckResult, Culprit
from tessera.core.errors import UsageError

# Of the error of the worst rank's part: a part below it is right beside a wrong one.
_SHARE = 0.1


def is_ranks(path: Path) -> bool:
    """Whether a folder has one dump a rank, whole or as far as a capture that was ended came."""
    folder = path if path.is_dir() else path.with_name(path.name + ".partial")
    return any(folder.glob("rank-*"))


def read_ranks(path: Path) -> list[Dump]:
    """The dumps of all ranks, in order.

    Errors: `UsageError` if one is missing, cannot be read, or belongs to another run.
    """
    folder = path if path.is_dir() else path.with_name(path.name + ".partial")
    first = read_dump(next(iter(sorted(folder.glob("rank-*")))))
    # A capture that was ended does not say how many ranks there were.
    size = int(first.facts.get("ranks", len(list(folder.glob("rank-*")))))
    for rank in range(size):
        name = rank_folder(rank)
        if not (folder / name).is_dir() and not (folder / f"{name}.partial").is_dir():
            raise UsageError(f"{path} lacks {name} of {size} ranks; copy the folders of all machines into one")
    dumps = [read_dump(folder / rank_folder(rank)) for rank in range(size)]
    for dump in dumps:
        if dump.facts.get("ranks", size) != size:
            raise UsageError(f"{path} mixes runs on {size} and {dump.facts['ranks']} ranks; make it again")
        if OWN not in dump.streams:
            raise UsageError(f"{dump.path} holds no operator; its capture was ended too early, make it again")
    return dumps


@dataclass(frozen=True, kw_only=True)
class WholeDump(Dump):
    """All ranks as one dump."""

    ranks: Sequence[Dump] = ()
    runs: Mapping[str, MergedRun] = field(default_factory=dict)
    # The rank whose kernel the judgement on an operator is about.
    kernel_ranks: Mapping[int, int] = field(default_factory=dict)

    def tensor(self, stream: str, op: int, position: int) -> torch.Tensor | None:
        """A stored tensor, joined of all ranks' parts."""
        parts = self.parts(stream, op, position)
        origin = self.runs[stream].origins.get(id(self._value(stream, op, position)))
        if origin is None or any(rank not in parts for rank in origin.layout.ranks):
            return None
        whole = along_axes([parts[rank] for rank in origin.layout.ranks], origin.layout, join_tensors)
        return whole * origin.layout.scale if origin.layout.scale != 1 else whole

    def parts(self, stream: str, op: int, position: int) -> dict[int, torch.Tensor]:
        """What each rank stored of it."""
        found = {rank: dump.tensor(stream, op, position) for rank, dump in enumerate(self.ranks)}
        return {rank: tensor for rank, tensor in found.items() if tensor is not None}

    def _value(self, stream: str, op: int, position: int) -> Value | None:
        outputs = self.streams[stream].ops[op].outputs
        return outputs[position] if position < len(outputs) else None


def whole_dump(path: Path, reference: Dump) -> WholeDump:
    """Read all ranks and merge them as the reference's run shows."""
    ranks = read_ranks(path)
    _check_meshes(path, ranks)
    facts = ranks[0].facts
    runs = {}
    for stream in (name for name in (OWN, DOUBLE) if all(name in dump.streams for dump in ranks)):
        other = reference.streams.get(stream) or reference.streams[OWN]
        traces = [dump.streams[stream] for dump in ranks]
        runs[stream] = merge(
            traces, other, data_parallel=bool(facts.get("data parallel")), prefix=str(facts.get("prefix", ""))
        )
    kernels, kernel_ranks = _kernels(ranks)
    shared = {name: value for name, value in facts.items() if name != "inputs" or not facts.get("data parallel")}
    left_out = sum(int(dump.facts.get("left out", 0)) for dump in ranks)
    return WholeDump(
        path=path,
        streams={name: run.trace for name, run in runs.items()},
        facts={**shared, "left out": left_out},
        kernels=kernels,
        whole=all(dump.whole for dump in ranks),
        ranks=ranks,
        runs=runs,
        kernel_ranks=kernel_ranks,
    )


def _check_meshes(path: Path, ranks: list[Dump]) -> None:
    """What lies on a part of the ranks alone has no place in one run yet."""
    for op in ranks[0].streams[OWN].ops:
        for value in op.outputs:
            spread = value.spread
            if spread is not None and spread.placements and sorted(spread.mesh) != list(range(len(ranks))):
                raise UsageError(
                    f"{path}: {op.short_name} in {op.module} runs on ranks {list(spread.mesh)} of {len(ranks)}; "
                    "make the dump with one mesh over all ranks, or with as many ranks as the mesh has"
                )


def _kernels(ranks: list[Dump]) -> tuple[dict[int, tuple[str, float, str]], dict[int, int]]:
    """The worst judgement on each operator's kernels, and whose it is."""
    worst: dict[int, tuple[str, float, str]] = {}
    where: dict[int, int] = {}
    for rank, dump in enumerate(ranks):
        for index, row in dump.kernels.items():
            if index not in worst or _severity(row[0]) > _severity(worst[index][0]):
                worst[index], where[index] = row, rank
    return worst, where


def _severity(verdict: str) -> int:
    return [str(name) for name in SEVERITY].index(verdict)


# --- which ranks? ---


def name_ranks(result: CheckResult, ours: WholeDump, theirs: Dump) -> CheckResult:
    """The result with the ranks that are to blame, and what only several ranks can do wrong."""
    run = ours.runs[OWN]
    culprit = result.culprit
    if culprit is None:
        return _parted(result, run) or _drifted(result, run)
    index = _index_of(run, culprit)
    if index is None:
        return result
    if index in ours.kernel_ranks and result.verdict != "clean" and ours.kernels[index][0] in ("wrong", "non-finite"):
        return _blamed(result, culprit, (ours.kernel_ranks[index],))
    told = _crossed(result, run, index) or _unreduced(result, run, index)
    return told or _found(result, culprit, ours, theirs)


def _index_of(run: MergedRun, culprit: Culprit) -> int | None:
    wanted = (culprit.module, culprit.operator, culprit.phase, culprit.step, culprit.call)
    rows = ((op.index, (op.module, op.short_name, op.phase, op.step, op.call)) for op in run.trace.ops)
    return next((index for index, row in rows if row == wanted), None)


def _blamed(result: CheckResult, culprit: Culprit, ranks: tuple[int, ...]) -> CheckResult:
    named = replace(culprit, ranks=ranks)
    return replace(result, culprit=named, reason=str(named))


def _at(op: Op, kind: str, where: str, ranks: tuple[int, ...]) -> Culprit:
    return Culprit(
        module=op.module, operator=op.short_name, kind=kind, where=where, source=op.source, phase=op.phase,
        step=op.step, call=op.call, ranks=ranks,
    )  # fmt: skip


def _crossed(result: CheckResult, run: MergedRun, index: int) -> CheckResult | None:
    """A rank that reads what another operator made, at the guilty operator or one that it reads from."""
    near = {index, *(edge.producer for edge in run.trace.ops[index].inputs)}
    near |= {op.index for op in run.trace.ops if any(edge.producer == index for edge in op.inputs)}
    for number in sorted(near & run.crossed.keys(), key=str):
        assert number is not None
        rank, words = run.crossed[number]
        op = run.trace.ops[number]
        if any(rank in _off(run, edge.value) for edge in op.inputs):
            culprit = _at(op, "wrong input", words, (rank,))
            return replace(result, culprit=culprit, reason=str(culprit))
    return None


def _unreduced(result: CheckResult, run: MergedRun, index: int) -> CheckResult | None:
    """Partial sums that were used, or left at the end of the run, as if they were whole."""
    ranks = tuple(range(len(run.origins[next(iter(run.origins))].layout.ranks)))
    for final in run.trace.finals:
        if final.name in run.unreduced and final.producer in (index, None):
            words = f"{final.name} is each rank's own, and the {run.unreduced[final.name]} over ranks is right"
            culprit = _at(run.trace.ops[index], "not reduced", words, ranks)
            return replace(result, culprit=culprit, reason=str(culprit))
    op = run.trace.ops[index]
    if op.name.split(".")[0] in COLLECTIVE or not all(len(_off(run, v)) == len(ranks) for v in op.outputs):
        return None
    for edge in op.inputs:
        origin = run.origins.get(id(edge.value))
        if origin is not None and origin.layout.partial and edge.producer is not None:
            maker = _computing(run.trace, edge.producer)
            words = f"each rank has its own term of a sum, and {op.short_name} in {op.module} reads it as the sum"
            culprit = _at(maker, "not reduced", words, ranks)
            return replace(result, culprit=culprit, reason=str(culprit))
    return None


def _computing(trace: Trace, index: int) -> Op:
    """The operator that computed what one that only looks at it hands on."""
    op = trace.ops[index]
    while op.short_name.endswith((".view", ".detach", ".alias", ".unsqueeze", ".squeeze")):
        if op.inputs[0].producer is None:
            break
        op = trace.ops[op.inputs[0].producer]
    return op


def _off(run: MergedRun, value: Value) -> tuple[int, ...]:
    origin = run.origins.get(id(value))
    return () if origin is None else origin.off


def _found(result: CheckResult, culprit: Culprit, ours: WholeDump, theirs: Dump) -> CheckResult:
    """By replicas that differ; else by the parts whose elements are wrong, as far as tensors are stored."""
    sharded = False
    for stream, run in ours.runs.items():
        index = _index_of(run, culprit)
        if index is None:
            continue
        op = run.trace.ops[index]
        values = (*op.outputs, *(edge.value for edge in op.inputs))
        ranks = next((off for value in values if (off := _off(run, value))), ())
        if not ranks and stream in theirs.streams:
            ranks = _wrong_parts(ours, theirs, stream, index)
        if ranks:
            return _blamed(result, culprit, ranks)
        sharded = sharded or any(run.origins[id(value)].layout.dims for value in values if id(value) in run.origins)
    note = "which rank is wrong can be told from dumps with --tensors whole"
    return replace(result, notes=(*result.notes, note)) if sharded else result


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
    if max(errors) <= 1e-5 * float(torch.linalg.vector_norm(wanted)):
        return ()
    return tuple(rank for rank, error in zip(layout.ranks, errors, strict=False) if error > _SHARE * max(errors))


def _parted(result: CheckResult, run: MergedRun) -> CheckResult | None:
    """A rank that runs other operators."""
    if run.parting is None:
        return None
    rank, index, words = run.parting
    if not run.trace.ops:
        return replace(result, verdict="wrong", reason=words)
    op = run.trace.ops[min(index, len(run.trace.ops) - 1)]
    culprit = _at(op, "other operator", f"after this operator {words}", (rank,))
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
