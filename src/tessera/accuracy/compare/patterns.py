"""What the wrong elements of a tensor have in common: a table of small functions, the most telling first.

Each looks at `got` and `expected` (float64, one shape) and answers with the kind of fault and words for the user, or
with
None if that is not it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise, permutations

import torch

# Fewer errors than this are too few to speak of their distribution.
_MANY = 64
# The limits of a saturating type above and below differ by one of its numbers.
_ONE_SIDED = 2.0**-6
# Nor can a number for each line be told from shorter lines.
_LINE = 4
# Where every element is within this of what it should be, nothing was put in another's place.
ABOUT = 1 / 16
# A relative difference below this is no difference between two runs in float64.
_EQUAL = 1e-8


@dataclass(frozen=True, kw_only=True)
class Clues:
    """What else is known: the same tensor in the call before, if there was one; the type that the candidate runs in."""

    previous: torch.Tensor | None = None
    dtype: torch.dtype = torch.float32
    equal: float = _EQUAL


@dataclass(frozen=True, kw_only=True)
class Pattern:
    """kind: one word or two. where: which elements, in words. sure: it explains every wrong element.

    partial: it says which of the `numel` elements are wrong or how each line is, not how they became so.
    """

    kind: str
    where: str
    sure: bool
    partial: bool = False
    numel: int = 0


Classifier = Callable[[torch.Tensor, torch.Tensor, Clues], Pattern | None]


def classify(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern:
    """The pattern of a wrong tensor, by the first row of the table that fits."""
    if got.shape != expected.shape and got.numel() != expected.numel():
        return Pattern(kind="shape", where=f"{list(got.shape)} instead of {list(expected.shape)}", sure=True)
    got, expected = _wide(got), _wide(expected)
    for row in (*WHOLE, *PLACED):
        same_shape = got.reshape(expected.shape) if got.shape != expected.shape else got
        found = row(same_shape, expected, clues)
        if found is not None:
            return replace(found, partial=row in _PARTIAL, numel=expected.numel())
    return Pattern(kind="values", where=_share(_wrong(got.reshape(expected.shape), expected, clues)), sure=False)


def _wide(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach()
    plain = plain.dequantize() if plain.is_quantized else plain
    plain = torch.view_as_real(plain) if plain.is_complex() else plain
    return plain.to(device="cpu", dtype=torch.float64)


def _wrong(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> torch.Tensor:
    """Which elements differ by more than noise, relative to their own size or a thousandth of the tensor's."""
    finite = expected[torch.isfinite(expected)]
    size = float(finite.abs().mean()) if finite.numel() else 0.0
    # In float64 small elements are right too; in a model's own type they may carry the rounding of large terms.
    least = 1e-3 * size if clues.equal <= _EQUAL else size
    off = (got - expected).abs() > clues.equal * (expected.abs() + least)
    same_special = (got == expected) | (got.isnan() & expected.isnan())
    return (off | ~torch.isfinite(got) | ~torch.isfinite(expected)) & ~same_special


def agree(a: torch.Tensor, b: torch.Tensor, clues: Clues) -> bool:
    """Whether no element differs by more than noise."""
    return a.shape == b.shape and not bool(_wrong(a, b, clues).any())


# --- the tensor as a whole ---


def _not_finite(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    bad = ~torch.isfinite(got) & torch.isfinite(expected)
    if not bool(bad.any()):
        return None
    overflow = bool((expected.abs()[bad] > torch.finfo(clues.dtype).max).all()) and clues.dtype.is_floating_point
    return Pattern(kind="overflow" if overflow else "non-finite", where=_place(bad), sure=True)


def _stale(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    if clues.previous is None or clues.previous.numel() != got.numel() or got.numel() < 2:
        return None
    before = _wide(clues.previous).reshape(got.shape)
    if not agree(got, before, clues) or agree(before, expected, clues):
        return None
    return Pattern(kind="stale", where="equals the previous call's output", sure=True)


def _scaled(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    power = float((expected * expected).sum())
    factor = float((got * expected).sum()) / power if 0 < power < math.inf else math.nan
    if not math.isfinite(factor) or factor == 0 or got.numel() < 2 or not agree(got, expected * factor, clues):
        return None
    if abs(factor + 1) <= clues.equal + 1e-12:
        return Pattern(kind="sign", where="every element has the other sign", sure=True)
    return Pattern(kind="scale", where=f"every element is {factor:.6g} times what it should be", sure=True)


def _offset(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    difference = float((got - expected).mean()) if got.numel() > 1 else math.nan
    if not math.isfinite(difference) or not agree(got, expected + difference, clues):
        return None
    return Pattern(kind="offset", where=f"every element is off by {difference:.6g}", sure=True)


def _by_line(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Scaled or moved by one number for each place along a dim, or each line, as a forgotten scale or bias makes it.

    In lines of a few elements such a number would be found by chance, and where few lines are wrong, which says more.
    """
    wrong = _wrong(got, expected, clues)
    for name, dims in _lines(expected):
        if float(wrong.movedim(dims, tuple(range(len(dims)))).flatten(0, len(dims) - 1).any(0).double().mean()) < 0.5:
            continue
        power = (expected * expected).sum(dims, keepdim=True)
        factor = (got * expected).sum(dims, keepdim=True) / power.where(power > 0, 1.0)
        if bool((factor != 0).all()) and agree(got, expected * factor, clues):
            return Pattern(kind="scale", where=f"every {name} is scaled by a number of its own", sure=True)
        if agree(got, expected + (got - expected).mean(dims, keepdim=True), clues):
            return Pattern(kind="offset", where=f"every {name} is off by a number of its own", sure=True)
    return None


def _lines(tensor: torch.Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Ways to cut a tensor into parts, those of few parts first: what they are called, and the dims of a part."""
    rows = []
    for dim, size in enumerate(tensor.shape):
        others = tuple(other for other in range(tensor.dim()) if other != dim)
        rows.append((size, f"place along dim {dim}", others))
        rows.append((tensor.numel() // max(size, 1), f"line along dim {dim}", (dim,)))
    return [
        (name, dims) for count, name, dims in sorted(rows) if dims and count > 1 and tensor.numel() >= _LINE * count
    ]


def _vanished(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Numbers too small to be normal ones of their type became zero."""
    if not clues.dtype.is_floating_point:
        return None
    wrong = (got == 0) & (expected != 0)
    small = wrong & (expected.abs() <= torch.finfo(clues.dtype).tiny)
    if not bool(wrong.any()) or not bool((wrong == small).all()) or bool((_wrong(got, expected, clues) & ~small).any()):
        return None
    where = f"numbers below {torch.finfo(clues.dtype).tiny:.3g} became zero: {_place(small)}"
    return Pattern(kind="underflow", where=where, sure=True)


def _zero(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    wrong = _wrong(got, expected, clues)
    if bool(wrong.all()) and bool((got == 0).all()):
        return Pattern(kind="zeroed", where="every element is zero", sure=True)
    return None


def _rearranged(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """The same numbers in other places: transposed, moved, swapped."""
    if got.numel() < 2 or not agree(got.flatten().sort().values, expected.flatten().sort().values, clues):
        return None
    if not bool(_wrong(got, expected, clues).any()) or (clues.equal > _EQUAL and about_right(got, expected)):
        return None
    return _transposed(got, expected, clues) or _moved(got, expected, clues) or _swapped(got, expected, clues)


def about_right(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether every element is nearly what it should be: no fault of what is computed, but of how well."""
    size = expected.abs()
    return bool(((got - expected).abs() <= ABOUT * (size + size.mean())).all())


def _transposed(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    for order in permutations(range(expected.dim())) if 2 <= expected.dim() <= 5 else ():
        if list(order) == sorted(order):
            continue
        if agree(got.flatten(), expected.permute(order).flatten(), clues):
            return Pattern(kind="transposed", where=f"dims are in the order {list(order)}", sure=True)
    return None


def _moved(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    for dim in range(expected.dim()):
        if agree(got, expected.flip(dim), clues):
            return Pattern(kind="permuted", where=f"dim {dim} is reversed", sure=True)
        size = expected.shape[dim]
        for shift in {1, -1, 2, -2, size // 2}:
            if shift % max(size, 1) and agree(got, expected.roll(shift, dim), clues):
                return Pattern(kind="shifted", where=f"moved by {shift} along dim {dim}", sure=True)
    return None


def _swapped(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern:
    wrong = _wrong(got, expected, clues)
    return Pattern(kind="permuted", where=f"the right numbers in other places: {_place(wrong)}", sure=True)


def _repeated(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """The first part of a dim stands in all the others."""
    for dim in range(expected.dim()):
        size = expected.shape[dim]
        for count in (count for count in (1, 2, size // 4, size // 2) if 0 < count < size and size % count == 0):
            first = expected.narrow(dim, 0, count)
            repeats = [size // count if other == dim else 1 for other in range(expected.dim())]
            if agree(got, first.repeat(repeats), clues):
                where = f"the first {count} of {size} along dim {dim} stand in place of all others"
                return Pattern(kind="repeated", where=where, sure=True)
    return None


def _wrapped(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Integers that are off by whole ranges of a shorter type."""
    if clues.dtype.is_floating_point or clues.dtype == torch.bool:
        return None
    off = (got - expected)[got != expected]
    for bits in (32, 16, 8):
        if off.numel() and bool((off.remainder(2.0**bits) == 0).all()) and bool((got.abs() <= 2.0**bits).all()):
            return Pattern(
                kind="overflow", where=f"sums wrapped around at {bits} bits: {_place(got != expected)}", sure=True
            )
    return None


def _saturated(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Everything beyond a limit has the limit's value, everything within it is right."""
    wrong = _wrong(got, expected, clues)
    if not bool(wrong.any()) or bool(wrong.all()) or bool((wrong & ~(expected.abs() > 0)).any()):
        return None
    limits = []
    # A shorter type may reach one further below than above.
    for sign in (1.0, -1.0):
        beyond = wrong & (sign * expected > 0)
        if not bool(beyond.any()):
            continue
        values = sign * got[beyond]
        limit = float(values.max())
        outside = sign * expected > limit * (1 - 1e-6)
        if limit <= 0 or float(values.min()) < limit * (1 - 1e-6) or not bool((outside | ~beyond).all()):
            return None
        limits.append(limit)
    if min(limits) < max(limits) * (1 - _ONE_SIDED):
        return None
    limit = max(limits)
    return Pattern(kind="saturated", where=f"all values beyond {limit:.6g} in size are {limit:.6g}", sure=True)


_SHORT_TYPES = {8: "bfloat16", 11: "TF32 or float16", 4: "float8 (3 bits)", 3: "float8 (2 bits)"}


def _rounded(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Every element is the right one, rounded to fewer bits, or wrong by as much as that type rounds."""
    if got.numel() < 8 or not bool(_wrong(got, expected, clues).any()):
        return None
    mantissa, exponent = torch.frexp(expected)
    most = 23 if clues.equal > _EQUAL else 25
    # Below the noise of the comparison no rounding can be told from it.
    for bits in (bits for bits in range(3, most) if 2.0**-bits > 2 * clues.equal):
        rounded = torch.ldexp((mantissa * 2.0**bits).round() / 2.0**bits, exponent)
        if agree(got, rounded, clues):
            looks = f": looks like {_SHORT_TYPES[bits]}" if bits in _SHORT_TYPES else ""
            return Pattern(kind="short type", where=f"rounded to {bits} bits{looks}", sure=True)
    relative = float(torch.linalg.vector_norm(got - expected) / torch.linalg.vector_norm(expected).clamp_min(1e-300))
    if clues.dtype == torch.float32 and 2.0**-14 < relative < 2.0**-10 and bool(_spread(got, expected)):
        return Pattern(
            kind="short type", where=f"relative error {relative:.2g} everywhere: looks like TF32", sure=False
        )
    return None


def _spread(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether errors have no preferred sign and no large element: rounding of inputs looks like that."""
    off = (got - expected).flatten()
    rms = float(off.square().mean().sqrt())
    return off.numel() >= _MANY and abs(float(off.mean())) < 0.3 * rms and float(off.abs().max()) < 8 * rms


# --- some elements of it ---


def _edge(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """All wrong elements lie in the first or last few places of a dim, and those are wrong all along it."""
    wrong = _wrong(got, expected, clues)
    if not bool(wrong.any()) or bool(wrong.all()):
        return None
    for dim in reversed(range(wrong.dim())):
        size = wrong.shape[dim]
        lines = _any_but(wrong, dim).nonzero().flatten().tolist()
        count = len(lines)
        if count > max(1, size // 2) or count == size:
            continue
        for side, span in (("last", list(range(size - count, size))), ("first", list(range(count)))):
            if lines == span:
                state = "zero" if bool((got[wrong] == 0).all()) else "wrong"
                return Pattern(
                    kind="edge", where=f"the {side} {count} of {size} along dim {dim} are {state}", sure=True
                )
    return None


def _every_nth(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    wrong = _wrong(got, expected, clues)
    for dim in reversed(range(wrong.dim())):
        lines = _any_but(wrong, dim).nonzero().flatten().tolist()
        steps = {b - a for a, b in pairwise(lines)}
        # Two lines alone may be chance, unless no further one would fit.
        full = len(lines) >= 2 and lines[0] < min(steps) and lines[-1] + min(steps) >= wrong.shape[dim] >= 4
        if (len(lines) >= 3 or full) and len(steps) == 1 and min(steps) > 1:
            where = f"every {min(steps)}th along dim {dim}, starting at {lines[0]}"
            return Pattern(kind="stride", where=where, sure=True)
    return None


def _zero_part(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    wrong = _wrong(got, expected, clues)
    if bool(wrong.any()) and bool((got[wrong] == 0).all()):
        return Pattern(kind="zeroed", where=f"wrong elements are zero: {_place(wrong)}", sure=True)
    return None


def _single(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    wrong = _wrong(got, expected, clues)
    if int(wrong.sum()) != 1 or wrong.numel() < 2:
        return None
    place = wrong.nonzero()[0].tolist()
    where = f"element {place} is {float(got[tuple(place)]):.6g} instead of {float(expected[tuple(place)]):.6g}"
    return Pattern(kind="single element", where=where, sure=True)


def _block(got: torch.Tensor, expected: torch.Tensor, clues: Clues) -> Pattern | None:
    """Few wrong elements, inside a box that they fill."""
    wrong = _wrong(got, expected, clues)
    count = int(wrong.sum())
    if count == 0 or 2 * count > wrong.numel():
        return None
    return Pattern(kind="block", where=_place(wrong), sure=False)


WHOLE: tuple[Classifier, ...] = (
    _not_finite, _stale, _single, _vanished, _zero, _scaled, _offset, _rearranged, _repeated, _wrapped, _saturated,
    _rounded, _by_line,
)  # fmt: skip
PLACED: tuple[Classifier, ...] = (_edge, _every_nth, _zero_part, _block)
_PARTIAL = (_single, _by_line, *PLACED)


def _any_but(mask: torch.Tensor, dim: int) -> torch.Tensor:
    """For every place along one dim, whether anything there is set."""
    return mask.movedim(dim, 0).flatten(1).any(1) if mask.dim() > 1 else mask


def _share(wrong: torch.Tensor) -> str:
    return f"{int(wrong.sum())} of {wrong.numel()} elements"


def _place(wrong: torch.Tensor) -> str:
    """The box around the marked elements, as in `3 of 64 elements, rows 1:2 of dim 0`."""
    if wrong.dim() == 0:
        return "the only element"
    spans = []
    for dim in range(wrong.dim()):
        lines = _any_but(wrong, dim).nonzero().flatten()
        if lines.numel() and lines.numel() < wrong.shape[dim]:
            first, last = int(lines[0]), int(lines[-1])
            spans.append(f"dim {dim} at {first}" if first == last else f"dim {dim} within {first}..{last}")
    return ", ".join([_share(wrong), *spans])
