"""Watching one rank: tensors are measured as parts of those that lie on all ranks, and nothing is sent to tell.

An operator on a distributed tensor is recorded once, with its placements; the kernels that this rank runs for it are
judged one by one. What a collective returns is waited for before it is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tessera.accuracy.capture.memory import Memory, Place, local_of, place_of
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.recorder import Observer, Recorder
from tessera.accuracy.capture.records import Op
from tessera.accuracy.capture.unwatched import unwatched
from tessera.accuracy.capture.value import Spread, Value, value_of
from tessera.accuracy.compare.kernels import SEVERITY, KernelJudge, KernelVerdict

# Operators that talk to other ranks: repeated by one rank alone they would wait for ever.
COLLECTIVE = frozenset({"c10d", "_c10d_functional", "_c10d_functional_autograd", "fsdp", "symm_mem"})
_WAIT = "_c10d_functional::wait_tensor"


def is_collective(func: torch._ops.OpOverload) -> bool:
    """Whether an operator talks to other ranks."""
    return func._schema.name.split("::")[0] in COLLECTIVE


def is_distributed(value: object) -> bool:
    """Whether a value is a tensor that lies on several ranks by its own type."""
    return isinstance(value, torch.Tensor) and hasattr(value, "_local_tensor")


def placement_name(placement: Any) -> str:
    """`S0`, `R`, `Psum` or `Pavg`; other placements by their own text, which nothing can merge."""
    if type(placement).__name__ == "Shard":
        return f"S{placement.dim}"
    if placement.is_replicate():
        return "R"
    if placement.is_partial() and placement.reduce_op in ("sum", "avg"):
        return f"P{placement.reduce_op}"
    return str(placement)


class RankMemory(Memory):
    """Memory that knows how tensors lie on ranks: as they declare, and for others as equal parts along any dim."""

    def __init__(self, names: Mapping[int, str], rank: int, size: int) -> None:
        super().__init__(names)
        self._rank, self._size = rank, size
        self._declared: dict[Place, tuple[Spread, tuple[int, ...]]] = {}

    def edge(self, tensor: torch.Tensor) -> Any:
        """The record of a tensor that is read."""
        return super().edge(self._seen(tensor))

    def viewed(self, index: int, tensor: torch.Tensor) -> Value:
        """The record of a view."""
        return super().viewed(index, self._seen(tensor))

    def wrote(self, index: int, tensor: torch.Tensor, *, made: bool) -> tuple[Value, Value | None]:
        """The records of a tensor that was written."""
        return super().wrote(index, self._seen(tensor), made=made)

    def measured(self, tensor: torch.Tensor, place: Place, version: int) -> Value:
        """The measure of this rank's part, and of it as a part of the whole."""
        declared = self._declared.get(place)
        if declared is None:
            return replace(value_of(tensor), spread=Spread(parts=self._equal_parts(tensor)))
        spread, offset = declared
        sharded = any(name.startswith("S") for name in spread.placements)
        parts = {-1: _sketch_in(tensor, spread.whole, offset)} if sharded else {}
        return replace(value_of(tensor), spread=replace(spread, parts=parts))

    def _seen(self, tensor: torch.Tensor) -> torch.Tensor:
        """This rank's part; how it lies is kept for it, also when it is looked at as a plain tensor later."""
        local = local_of(tensor)
        if is_distributed(tensor):
            place = place_of(local)
            if place not in self._declared:
                self._declared[place] = _declaration(tensor)
                self._known.pop(place, None)
        return local

    def _equal_parts(self, tensor: torch.Tensor) -> dict[int, Any]:
        shape = tuple(tensor.shape)
        wholes = {dim: (*shape[:dim], size * self._size, *shape[dim + 1 :]) for dim, size in enumerate(shape) if size}
        offsets = {dim: tuple(self._rank * size * (at == dim) for at, size in enumerate(shape)) for dim in wholes}
        return {dim: _sketch_in(tensor, whole, offsets[dim]) for dim, whole in wholes.items()}


def _declaration(tensor: Any) -> tuple[Spread, tuple[int, ...]]:
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    mesh = tensor.device_mesh
    spread = Spread(
        mesh=tuple(mesh.mesh.flatten().tolist()),
        mesh_shape=tuple(mesh.mesh.shape),
        placements=tuple(placement_name(placement) for placement in tensor.placements),
        whole=tuple(tensor.shape),
    )
    _, offset = compute_local_shape_and_global_offset(tensor.shape, mesh, tensor.placements)
    return spread, tuple(offset)


def _sketch_in(tensor: torch.Tensor, whole: tuple[int, ...], offset: tuple[int, ...]) -> Any:
    """The sketch of a tensor of zeros with this one at an offset in it."""
    room = torch.zeros(whole, dtype=tensor.dtype, device=tensor.device)
    spans = tuple(slice(start, start + size) for start, size in zip(offset, tensor.shape, strict=True))
    room[spans] = tensor.detach()
    return value_of(room).sketch


class RankJudge:
    """Judges the kernels that one rank runs, each under the number of the recorded operator that it runs for."""

    def __init__(self, native: Callable[[], AbstractContextManager[object]]) -> None:
        self._judge = KernelJudge(native)
        self.verdicts: dict[int, KernelVerdict] = {}

    def run(
        self, index: int, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        """Run one kernel on this rank's own tensors and judge what it made."""
        # Distributed tensors plan with fake ones how an operator is to be spread.
        if is_collective(func) or not all(_is_plain(leaf) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        with unwatched():
            self._judge.before(index, func, args, kwargs)
        result = func(*args, **kwargs)
        with unwatched():
            self._judge.after(index, func, result)
        found = self._judge.verdicts.pop(index, None)
        if found is not None:
            known = self.verdicts.get(index, found)
            self.verdicts[index] = max(known, found, key=lambda row: SEVERITY.index(row.verdict))
        return result


def _is_plain(leaf: object) -> bool:
    return not isinstance(leaf, torch.Tensor) or type(leaf) in (torch.Tensor, torch.nn.Parameter)


class _LocalKernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sees the kernels that an operator on distributed tensors comes to on this rank."""

    def __init__(self, run: Callable[..., object]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._run = run

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Let distributed tensors come down to local ones first."""
        if any(hasattr(kind, "_local_tensor") for kind in types):
            return NotImplemented
        return self._run(func, args, kwargs or {})


class RankRecorder(Recorder):
    """Records one rank. judge: of its kernels; None: they are not judged."""

    def __init__(
        self,
        tape: RandomTape,
        names: Mapping[int, str],
        observers: Sequence[Observer],
        sink: Callable[[Op], None] | None,
        *,
        rank: int,
        size: int,
        judge: RankJudge | None,
    ) -> None:
        super().__init__(tape, names, observers, sink, memory=lambda known: RankMemory(known, rank, size))
        self._judge = judge

    def call(self, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """Run one operator, its kernels judged, and wait for what it sends."""
        result = self._run(func, args, kwargs)
        with unwatched():
            _settle(func, result)
        return result

    def _run(self, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        if self._judge is None:
            return func(*args, **kwargs)
        judge, index = self._judge, len(self.trace.ops)
        if not any(is_distributed(leaf) for leaf in tree_leaves((args, kwargs))):
            return judge.run(index, func, args, kwargs)
        with _LocalKernels(lambda *given: judge.run(index, *given)):  # type: ignore[no-untyped-call]
            return func(*args, **kwargs)


def _settle(func: torch._ops.OpOverload, result: object) -> None:
    """Wait for a collective, so that what is measured is what it made."""
    if not is_collective(func) or func._schema.name == _WAIT:
        return
    for leaf in tree_leaves(result):
        if isinstance(leaf, torch.ScriptObject) and hasattr(leaf, "wait"):
            leaf.wait()
        elif isinstance(leaf, torch.Tensor) and func._schema.name.startswith("_c10d_functional"):
            torch.ops._c10d_functional.wait_tensor(leaf)
