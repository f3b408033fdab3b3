"""Two runs that are the same in float64: where does one lose what the other keeps?

Each value of the candidate and of the reference has an error against float64. Where the candidate's is several times
the reference's, and the operators before it are not the reference's, the candidate rounds where it should not. The
error of a whole run alone accuses no one: without a difference of the programs it is what rounding does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tessera.accuracy.capture.records import Trace
from tessera.accuracy.capture.value import Value, distance
from tessera.accuracy.compare.align import Pairs, align
from tessera.accuracy.compare.noise import cancelled

# Against the reference's own error: two programs that round in other places differ by less (three roundings instead of
# one give 1.7), and sketches tell a norm to about a tenth.
LIMIT = 4.0
_UNITS = {"float32": 2.0**-24, "bfloat16": 2.0**-8 / 2, "float16": 2.0**-11, "float64": 2.0**-53}


@dataclass(frozen=True, slots=True)
class Losses:
    """Relative errors of each result of each operator of a run in its own type, against its run in float64."""

    of_value: Mapping[int, float]

    @classmethod
    def between(cls, own: Trace, double: Trace) -> Losses:
        """Measure a run against the run of the same program in float64.

        What differs by half of its size or more is no pair: kernels may make of one call others than float64's do. What
        is rounding even in float64 loses nothing.
        """
        nothing = cancelled(double)
        pairs = align(own, double, _alike)
        found: dict[int, float] = {}
        for op in own.ops:
            partner = pairs.of_candidate.get(op.index)
            if partner is None:
                continue
            for value, exact in zip(op.results, double.ops[partner].results, strict=False):
                if exact.digest in nothing:
                    found[id(value)] = 0.0
                elif _alike(value, exact):
                    found[id(value)] = relative(value, exact)
        for mine, exact_final in zip(own.finals, double.finals, strict=False):
            found.setdefault(id(mine.value), relative(mine.value, exact_final.value))
        return cls(found)


def _alike(value: Value, exact: Value) -> bool:
    return not value.floating or distance(value, exact) <= max(value.norm, exact.norm) / 2


def relative(value: Value, exact: Value) -> float:
    """|value - exact| / |exact|, with the smallest float32 for a norm of zero."""
    return distance(value, exact) / max(exact.norm, 1e-38)


def unit(value: Value) -> float:
    """The relative rounding error of one operation in the value's type."""
    return _UNITS.get(value.dtype, 0.0)


class Careful:
    """The rule by which values of two runs count as the same: the candidate's loses at most a few times as much."""

    def __init__(self, ours: Losses, theirs: Losses) -> None:
        self._ours = ours.of_value
        self._theirs = theirs.of_value
        self._noise = 0.0

    def __call__(self, ours: Value, theirs: Value) -> bool:
        """Whether `ours` is as good as `theirs`."""
        if not ours.floating:
            return True
        if ours.numel != theirs.numel or ours.finite != theirs.finite:
            return False
        mine, other = self._ours.get(id(ours)), self._theirs.get(id(theirs))
        if mine is None or other is None:
            return distance(ours, theirs) <= 64 * unit(ours) * theirs.norm
        # In few elements the reference may be right by luck; then its largest error so far tells the noise.
        floor = max(unit(theirs), self._noise if ours.numel < 64 else 0.0)
        self._noise = max(self._noise, other if ours.numel >= 64 else 0.0)
        return mine <= LIMIT * max(other, floor)


def differs(ours: Trace, theirs: Trace, pairs: Pairs) -> bool:
    """Whether the programs differ at all in their own type: operators without a partner, or other types of results."""
    if len(pairs.of_candidate) < len(ours.ops) or len(pairs.of_reference) < len(theirs.ops):
        return True
    return any(
        [value.dtype for value in ours.ops[a].outputs] != [value.dtype for value in theirs.ops[b].outputs]
        for a, b in pairs.of_candidate.items()
    )
