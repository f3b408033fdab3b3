"""Arguments of one size and type, seeded: what the makers of calls are made of."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

_SEED = 0
_MOST_COLUMNS = 1024


class NoSample(Exception):
    """Raised where an operator has no call of a type; says why."""


@dataclass(frozen=True)
class Call:
    """The arguments of one call, as PyTorch's schema has them."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)


def call(*args: Any, **kwargs: Any) -> Call:
    return Call(args, kwargs)


class Maker:
    """Makes tensors of about `elements` elements, [rows, columns] where no shape is given."""

    def __init__(self, operator: str, elements: int, dtype: torch.dtype) -> None:
        self.operator, self.elements, self.dtype = operator, elements, dtype
        self.columns = min(_MOST_COLUMNS, 2 ** round(math.log2(elements) / 2 + 1))
        self.rows = max(1, elements // self.columns)
        self._random = torch.Generator().manual_seed(_SEED)

    def x(self, *shape: int) -> torch.Tensor:
        """Numbers between 0.1 and 0.9, where most functions are defined; of an integer type from 1 to 6."""
        size = shape or (self.rows, self.columns)
        if not self.dtype.is_floating_point:
            return torch.randint(1, 7, size, dtype=self.dtype, generator=self._random)
        return (torch.rand(size, generator=self._random) * 0.8 + 0.1).to(self.dtype)

    def mask(self, *shape: int) -> torch.Tensor:
        """True and false, as often."""
        return torch.rand(shape or (self.rows, self.columns), generator=self._random) < 0.5

    def below(self, bound: int, *shape: int) -> torch.Tensor:
        """int64 indices."""
        return torch.randint(bound, shape, generator=self._random)

    def side(self, dims: int, of: int | None = None, least: int = 1) -> int:
        """The side of a cube of as many dims that has about `of` elements."""
        return max(least, round(math.pow(of or self.elements, 1 / dims)))
