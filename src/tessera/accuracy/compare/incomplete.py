"""Sums that lack a part of their terms, as kernels make them that leave out the last block of the inner dim.

The result has no pattern that one could see: every element is wrong, by an amount of its own. With the operator's
inputs at hand the part can be told: for one element the terms are added from the end (or from the start) until they
make up its error, and what is found there must explain all the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch

from tessera.accuracy.compare.patterns import Clues, Pattern, agree
from tessera.accuracy.result import OpCall

# Both factors of a sum of products in float64: [..., M, K] and [..., K, N].
Factors = tuple[torch.Tensor, torch.Tensor]


def incomplete(call: OpCall, got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Which terms a sum lacks, if that explains every element; None if not, or if the operator is no sum."""
    func, args, _ = call
    name = func._schema.name.removeprefix("aten::")
    got, expected = got.double(), expected.double()
    if name == "cumsum":
        return _restarted(args, got, expected, clues)
    factors = _FACTORS[name](args) if name in _FACTORS else None
    if factors is None:
        return None
    left, right = factors
    shape = (*left.shape[:-1], right.shape[-1])
    if expected.numel() != left.shape[:-1].numel() * right.shape[-1] or left.shape[-1] < 2:
        return None
    off = (expected - got).reshape(shape)
    return _missing_part(left, right, off, got.reshape(shape), expected.reshape(shape), clues)


def _missing_part(
    left: torch.Tensor, right: torch.Tensor, off: torch.Tensor, got: torch.Tensor, expected: torch.Tensor, clues: Clues
) -> Pattern | None:
    place = [int(number) for number in torch.unravel_index(off.abs().argmax(), off.shape)]
    row, column = left[tuple(place[:-1])], right[tuple(place[:-2])][:, place[-1]]
    terms, wanted, size = row * column, off[tuple(place)], left.shape[-1]
    for side, sums in (("last", terms.flip(0).cumsum(0)), ("first", terms.cumsum(0))):
        for count in ((sums - wanted).abs().argsort()[:3] + 1).tolist():
            part = slice(size - count, size) if side == "last" else slice(0, count)
            without = expected - left[..., part] @ right[..., part, :]
            if count < size and agree(got, without, clues):
                where = f"the {side} {count} of the {size} terms of every sum are left out"
                return Pattern(kind="incomplete", where=where, sure=True)
    return None


def _restarted(args: Sequence[object], got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Running sums that begin anew at some places."""
    x, dim = args[0], args[1]
    assert isinstance(x, torch.Tensor) and isinstance(dim, int)
    terms, sums = x.double().movedim(dim, 0), got.movedim(dim, 0)
    places = [place for place in range(1, len(terms)) if agree(sums[place], terms[place], clues)]
    bounds = [0, *places, len(terms)]
    pieces = [terms[first:last].cumsum(0) for first, last in pairwise(bounds)]
    if not places or not agree(sums, torch.cat(pieces), clues):
        return None
    where = f"running sums begin anew at {', '.join(map(str, places[:4]))} along dim {dim}"
    return Pattern(kind="incomplete", where=where, sure=True)


def _product(first: int) -> Callable[[Sequence[object]], Factors | None]:
    def factors(args: Sequence[object]) -> Factors | None:
        left, right = args[first], args[first + 1]
        assert isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)
        return left.double(), right.double()

    return factors


def _beside(args: Sequence[object]) -> Factors:
    """The sum of a batch of products, as one product over batch and K."""
    left, right = args[1], args[2]
    assert isinstance(left, torch.Tensor) and isinstance(right, torch.Tensor)
    return left.double().movedim(0, 1).flatten(1), right.double().flatten(0, 1)


def _reduced(args: Sequence[object]) -> Factors | None:
    """A sum or a mean over one dim, as products with one number."""
    x, dims = args[0], args[1] if len(args) > 1 else None
    if not isinstance(x, torch.Tensor) or not isinstance(dims, (list, tuple)) or len(dims) != 1 or x.dim() == 0:
        return None
    rows = x.double().movedim(int(dims[0]), -1).reshape(-1, x.shape[int(dims[0])])
    return rows, torch.ones(rows.shape[-1], 1, dtype=torch.float64)


def _averaged(args: Sequence[object]) -> Factors | None:
    factors = _reduced(args)
    return None if factors is None else (factors[0] / factors[0].shape[-1], factors[1])


_FACTORS: dict[str, Callable[[Sequence[object]], Factors | None]] = {
    "mm": _product(0),
    "bmm": _product(0),
    "_int_mm": _product(0),
    "addmm": _product(1),
    "baddbmm": _product(1),
    "addbmm": _beside,
    "sum": _reduced,
    "mean": _averaged,
}
