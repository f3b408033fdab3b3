"""Numbers that a type cannot hold: where one that is finite in float64 became infinite or no number, or became zero."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.value import Value
from tessera.accuracy.compare.align import align
from tessera.accuracy.result import Culprit, Verdict


def beyond_the_type(own: Trace, exact: Trace) -> dict[str, Any] | None:
    """The verdict on a run in its own type that lost numbers which it has in float64, if an end of it did; or None."""
    ends = {final.name: final.value for final in exact.finals}
    pairs = [(final.value, ends[final.name]) for final in own.finals if final.name in ends]
    if any(not mine.finite and wide.finite for mine, wide in pairs):
        return next((_birth(op, wide) for op, wide in _paired(own, exact) if _stopped(op, wide)), None)
    if any(_lost(mine, wide) for mine, wide in pairs):
        return next((_death(op, wide) for op, wide in _paired(own, exact) if _sank(op, wide)), None)
    return None


def _paired(own: Trace, exact: Trace) -> Iterator[tuple[Op, tuple[Value, ...]]]:
    """Each operator with what its partner made in float64."""
    pairs = align(own, exact, lambda a, b: True)
    for op in own.ops:
        partner = pairs.of_candidate.get(op.index)
        if partner is not None:
            yield op, exact.ops[partner].results


def _stopped(op: Op, wide: tuple[Value, ...]) -> bool:
    """Whether numbers went in, something else came out, and not so in float64."""
    read = all(edge.value.finite for edge in op.inputs) and all(value.finite for value in wide)
    return read and not all(value.finite for value in op.results)


def _sank(op: Op, wide: tuple[Value, ...]) -> bool:
    """Whether all that an operator made is zero, though what it read is not, nor is its result in float64."""
    read = all(edge.value.norm > 0 for edge in op.inputs if edge.value.floating)
    return read and any(_lost(mine, value) for mine, value in zip(op.results, wide, strict=False))


def _lost(mine: Value, wide: Value) -> bool:
    """Whether all is zero that in float64 is too small for the type and not zero."""
    if not mine.floating or mine.norm > 0 or not mine.finite:
        return False
    return 0 < wide.largest < torch.finfo(getattr(torch, mine.dtype)).tiny


def _birth(op: Op, wide: tuple[Value, ...]) -> dict[str, Any]:
    largest = max(value.largest for value in wide)
    dtype = next(value.dtype for value in op.results if not value.finite)
    limit = torch.finfo(getattr(torch, dtype)).max
    overflow = largest > limit
    where = f"float64 has values up to {largest:.3g}, {dtype} holds {limit:.3g}" if overflow else "finite in float64"
    return _found("overflow" if overflow else "non-finite", op, f"the first that is no number is born here; {where}")


def _death(op: Op, wide: tuple[Value, ...]) -> dict[str, Any]:
    lost, value = next(row for row in zip(op.results, wide, strict=False) if _lost(*row))
    least = torch.finfo(getattr(torch, lost.dtype)).tiny
    where = f"float64 has values up to {value.largest:.3g}, the normal numbers of {lost.dtype} begin at {least:.3g}"
    return _found("underflow", op, f"all became zero here; {where}")


def _found(verdict: Verdict, op: Op, where: str) -> dict[str, Any]:
    culprit = culprit_of(op, verdict, where)
    return {"verdict": verdict, "reason": str(culprit), "culprit": culprit}


def culprit_of(op: Op, kind: str, where: str) -> Culprit:
    """An operator of a run as the reason for a verdict."""
    return Culprit(
        module=op.module,
        operator=op.short_name,
        kind=kind,
        where=where,
        source=op.source,
        phase=op.phase,
        step=op.step,
        call=op.call,
    )
