"""Where a dump is made: in the only process, or on one rank of several, each of which writes a folder of its own."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from tessera.accuracy.capture.memory import local_of
from tessera.accuracy.capture.recorder import Observer, Recorder
from tessera.accuracy.capture.records import Final
from tessera.accuracy.capture.run import MakeRecorder, direction_of, fixed_direction
from tessera.accuracy.compare.kernels import KernelJudge, KernelVerdict
from tessera.accuracy.ranks.merge import WEIGHT
from tessera.accuracy.ranks.record import RankJudge, RankMemory, RankRecorder, is_distributed
from tessera.core.errors import UsageError

Context = Callable[[], AbstractContextManager[object]]
OWN, DOUBLE = "own", "float64"


def rank_folder(rank: int) -> str:
    """The folder of one rank's dump."""
    return f"rank-{rank:05d}"


class Alone:
    """The only process."""

    facts: dict[str, object]

    def __init__(self, native: Context) -> None:
        self._judge = KernelJudge(native)
        self.facts = {}

    def folder(self, path: Path) -> Path:
        """Where the dump goes."""
        return path

    def streams(self, model: nn.Module) -> tuple[str, ...]:
        """Which runs are made."""
        return OWN, DOUBLE

    def watcher(self, stream: str) -> tuple[MakeRecorder, list[Observer]]:
        """What watches a run."""
        return Recorder, [self._judge] if stream == OWN else []

    def direction(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the backward pass starts with."""
        return fixed_direction

    def around(self, model: nn.Module, context: Context) -> Context:
        """The context of the runs."""
        return context

    def weights(self, model: nn.Module) -> list[Final]:
        """Records of the weights besides those of operators that read them."""
        return []

    def verdicts(self) -> Sequence[KernelVerdict]:
        """The judgements on kernels."""
        return list(self._judge.verdicts.values())

    def finish(self, path: Path) -> None:
        """The dump is written."""


class Rank:
    """One of several ranks.

    data_parallel: every rank has its own part of the batch, in order, and gradients are averaged over ranks.
    """

    def __init__(self, native: Context, model: nn.Module, data_parallel: bool | None) -> None:
        self._rank, self._size = dist.get_rank(), dist.get_world_size()
        self._judge = RankJudge(native)
        self._parallel = is_data_parallel(model) if data_parallel is None else data_parallel
        self.facts: dict[str, object] = {
            "rank": self._rank,
            "ranks": self._size,
            "data parallel": self._parallel,
            "prefix": "module." if _is_wrapped(model) else "",
        }

    def folder(self, path: Path) -> Path:
        """Where this rank's dump goes, within a folder that gets its name when all ranks are done."""
        if path.exists():
            raise UsageError(f"{path} is there already; remove it or choose another name")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}; create it or choose another")
        folder = path.with_name(path.name + ".partial") / rank_folder(self._rank)
        folder.parent.mkdir(exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        return folder

    def streams(self, model: nn.Module) -> tuple[str, ...]:
        """Which runs are made: what gathers or reduces in buffers of its own keeps their type and has no float64."""
        return (OWN,) if is_data_parallel(model) else (OWN, DOUBLE)

    def watcher(self, stream: str) -> tuple[MakeRecorder, list[Observer]]:
        """What watches a run."""
        judge = self._judge if stream == OWN else None
        return partial(RankRecorder, rank=self._rank, size=self._size, judge=judge), []

    def direction(self, model: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
        """What the backward pass starts with: this rank's part of what a single process starts with.

        With data parallelism times the number of ranks, as a mean over the rank's own part of the batch would give.
        """

        def made(tensor: torch.Tensor) -> torch.Tensor:
            if is_distributed(tensor):
                return _distributed(tensor)
            if not self._parallel or tensor.dim() == 0:
                return fixed_direction(tensor)
            size = tensor.shape[0]
            whole = direction_of((size * self._size, *tensor.shape[1:]))[size * self._rank : size * (self._rank + 1)]
            return whole.to(dtype=tensor.dtype, device=tensor.device) * self._size

        return made

    def around(self, model: nn.Module, context: Context) -> Context:
        """The context of the runs; weights that they gathered are let go after them."""

        @contextmanager
        def made() -> Iterator[None]:
            with context():
                yield
            for module in sharded_modules(model):
                module.reshard()

        return made

    def weights(self, model: nn.Module) -> list[Final]:
        """Records of the weights: operators read them gathered, or as flat parts."""
        memory = RankMemory({}, self._rank, self._size)
        rows = model.named_parameters()
        return [Final(f"{WEIGHT}{name}", memory.edge(weight).value, None) for name, weight in rows]

    def verdicts(self) -> Sequence[KernelVerdict]:
        """The judgements on this rank's kernels."""
        return list(self._judge.verdicts.values())

    def finish(self, path: Path) -> None:
        """Wait for all ranks; then the first one on each machine gives the folder its name."""
        dist.barrier()
        if int(os.environ.get("LOCAL_RANK", self._rank)) == 0:
            path.with_name(path.name + ".partial").rename(path)
        dist.barrier()


def here(native: Context, model: nn.Module, data_parallel: bool | None) -> Alone | Rank:
    """Where this process stands. Errors: `UsageError` if what is asked for cannot be done there."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return Rank(native, model, data_parallel)
    if data_parallel:
        raise UsageError("data_parallel is for several ranks and this is the only process; start it with torchrun")
    return Alone(native)


def is_data_parallel(model: nn.Module) -> bool:
    """Whether the model is wrapped by DistributedDataParallel or fully sharded."""
    return _is_wrapped(model) or bool(sharded_modules(model))


def sharded_modules(model: nn.Module) -> list[Any]:
    """The modules that `fully_shard` was called on."""
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _is_wrapped(model: nn.Module) -> bool:
    return isinstance(model, nn.parallel.DistributedDataParallel)


def _distributed(tensor: Any) -> torch.Tensor:
    """The direction for a distributed output, laid out as it is; every rank knows it, so nothing is sent."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    placements = [Replicate() if placement.is_partial() else placement for placement in tensor.placements]
    whole = direction_of(tensor.shape).to(dtype=tensor.dtype, device=local_of(tensor).device)
    return distribute_tensor(whole, tensor.device_mesh, placements, src_data_rank=None)
