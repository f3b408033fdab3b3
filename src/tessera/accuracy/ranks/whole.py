"""A folder with one dump a rank, read as one dump."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from tessera.accuracy.capture.store import Dump, read_dump
from tessera.accuracy.capture.value import Value
from tessera.accuracy.compare.kernels import SEVERITY
from tessera.accuracy.ranks.merge import MergedRun, along_axes, join_tensors, merge
from tessera.accuracy.ranks.place import DOUBLE, OWN, rank_folder
from tessera.core.errors import UsageError


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
