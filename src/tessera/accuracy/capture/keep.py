"""Full tensors of chosen operators, kept while a run is repeated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch.utils._pytree import tree_leaves, tree_map

Side = Literal["input", "output", "written"]


class Keep:
    """Copies the inputs and outputs of the operators with the given indices, and all arguments."""

    def __init__(self, indices: frozenset[int]) -> None:
        self._indices = indices
        self.tensors: dict[tuple[int, Side], list[torch.Tensor]] = {}
        self.calls: dict[int, tuple[torch._ops.OpOverload, list[object], dict[str, object]]] = {}

    def before(
        self, index: int, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        """Copy what goes in."""
        if index in self._indices:
            # One copy of a tensor that is given twice, so that an alias stays an alias.
            made: dict[int, torch.Tensor] = {}
            given = tree_map(lambda leaf: _copied(leaf, made), (list(args), dict(kwargs)))
            self.calls[index] = (func, *given)
            self.tensors[index, "input"] = _tensors((args, kwargs))

    def after(self, index: int, func: torch._ops.OpOverload, result: object) -> None:
        """Copy what comes out."""
        if index in self._indices:
            self.tensors[index, "output"] = _tensors(result)
            self.tensors[index, "written"] = _storages(result)

    def tensor(self, index: int, side: Side, position: int) -> torch.Tensor | None:
        """One of the kept tensors; None if the repeated run had none there."""
        rows = self.tensors.get((index, side), [])
        return rows[position] if position < len(rows) else None

    def written(self, index: int, position: int, shape: Sequence[int], stride: Sequence[int]) -> torch.Tensor | None:
        """A whole buffer behind an output, seen with the shape and strides that it was made with."""
        rows = self.tensors.get((index, "written"), [])
        return rows[position].as_strided(shape, stride) if position < len(rows) else None


def _tensors(tree: object) -> list[torch.Tensor]:
    return [leaf.detach().clone() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _storages(tree: object) -> list[torch.Tensor]:
    """All of the memory behind each output, flat, for those that are parts of more."""
    found = []
    for leaf in tree_leaves(tree):
        if isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided and not leaf.is_quantized:
            whole = torch.empty(0, dtype=leaf.dtype, device=leaf.device).set_(leaf.untyped_storage())
            if whole.numel() != leaf.numel():
                found.append(whole.clone())
    return found


def _copied(leaf: object, made: dict[int, torch.Tensor]) -> object:
    if not isinstance(leaf, torch.Tensor):
        return leaf
    return made.setdefault(id(leaf), leaf.detach().clone())
