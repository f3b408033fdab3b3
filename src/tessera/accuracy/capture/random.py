"""Random numbers, replayed: what the first run drew is what every later run gets, in whatever type it asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from torch.utils._pytree import tree_flatten, tree_unflatten

# Operators that draw and compute at once; their draw alone cannot be put back, and the seed must do.
_MIXED = ("dropout", "rrelu", "attention")


@lru_cache(maxsize=4096)
def draws(func: torch._ops.OpOverload) -> bool:
    """Whether the operator's result is nothing but what it drew from a generator."""
    mixed = any(word in func._schema.name for word in _MIXED)
    return torch.Tag.nondeterministic_seeded in func.tags and not mixed


class RandomTape:
    """Results of the random operators of one run, in order; `rewind` before the next run to have them replayed.

    An operator that does not fit what is on the tape (another operator, another shape) draws for itself: the runs
    differ
    there, and it is for the comparison to say so.
    """

    def __init__(self) -> None:
        self._drawn: list[tuple[str, list[torch.Tensor]]] = []
        self._recording = True
        self._used = False
        self._next = 0

    def rewind(self) -> None:
        """The next run begins: the first one records, all others replay from the start."""
        self._recording = not self._used
        self._used = True
        self._next = 0

    def draw(self, func: torch._ops.OpOverload, args: Sequence[object], run: Callable[[], object]) -> object:
        """The result of one random operator: from the tape, or of `run`, which is then recorded."""
        result = run()
        leaves, spec = tree_flatten(result)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if self._recording:
            self._drawn.append((func._schema.name, [tensor.detach().clone() for tensor in tensors]))
            return result
        kept = self._take(func, tensors)
        if kept is None:
            return result
        if func._schema.is_mutable and isinstance(args[0], torch.Tensor):
            args[0].copy_(kept[0])
            return args[0]
        replayed = iter(old.to(new.dtype) for old, new in zip(kept, tensors, strict=True))
        return tree_unflatten([next(replayed) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves], spec)

    def _take(self, func: torch._ops.OpOverload, tensors: list[torch.Tensor]) -> list[torch.Tensor] | None:
        if self._next >= len(self._drawn):
            return None
        name, kept = self._drawn[self._next]
        if name != func._schema.name or [old.shape for old in kept] != [new.shape for new in tensors]:
            return None
        self._next += 1
        return kept
