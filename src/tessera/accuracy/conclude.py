"""From the evidence of all runs to one verdict, one culprit and a row for every layer."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch

from tessera.accuracy.capture.keep import Keep
from tessera.accuracy.capture.records import Edge, Final, ModuleCall, Op, Trace
from tessera.accuracy.capture.value import Value, close
from tessera.accuracy.compare.align import Same, align
from tessera.accuracy.compare.blame import Comparison, Finding, Known, Site, start_of_call
from tessera.accuracy.compare.incomplete import incomplete
from tessera.accuracy.compare.kernels import KernelVerdict
from tessera.accuracy.compare.kinds import name_kind
from tessera.accuracy.compare.noise import excused_by_weights, excusing
from tessera.accuracy.compare.patterns import Clues, Pattern, about_right, classify
from tessera.accuracy.compare.precision import Careful, Losses, differs, relative, unit
from tessera.accuracy.extremes import beyond_the_type, culprit_of
from tessera.accuracy.picture import picture
from tessera.accuracy.result import CheckResult, Class, Exhibit, Layer, OpCall, Verdict

# Between two float64 runs of one computation: far above what float64 rounds, far below any fault worth the name.
DOUBLE_TOLERANCE = 1e-9

_STALE = Pattern(kind="stale", where="equals a result of the previous call", sure=True)
_VIEWS = (
    ".t", ".transpose", ".view", ".permute", ".expand", ".unsqueeze", ".squeeze", ".slice", ".select", ".detach",
)  # fmt: skip


class Zoom(Protocol):
    """Repeats a run to look closer."""

    def keep(self, side: str, double: bool, indices: frozenset[int]) -> Keep:
        """The full tensors of the operators with these indices, of the `candidate` or the `reference`."""

    def previous(self, double: bool) -> Trace:
        """The candidate's call before the watched one."""

    def moved(self, names: frozenset[str]) -> Trace:
        """The candidate in float64, with the weights of these names moved by a rounding of their own type."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All runs of a check. ours, again: the candidate in its own type, twice; None where a run could not be made."""

    ours: Trace
    again: Trace
    theirs: Trace
    ours_double: Trace | None
    theirs_double: Trace | None
    kernels: Mapping[int, KernelVerdict]
    notes: tuple[str, ...] = ()
    # By which values of runs without float64 count as the same; None: by their own roundings alone.
    same_own: Same | None = None


def conclude(evidence: Evidence, zoom: Zoom) -> CheckResult:
    """The result of a check: the first of the questions that is answered with no decides."""
    base = CheckResult(
        verdict="clean",
        reason="the same computation, and no operator loses more than PyTorch's own kernels do",
        layers=tuple(_layers(evidence)),
        operators=dict(Counter(row.verdict for row in evidence.kernels.values())),
        notes=evidence.notes,
    )
    for question in (_failed, _unstable, _other_program, _wrong_kernel, _careless):
        found = question(evidence, zoom)
        if found is not None:
            return replace(base, **found)
    beyond = None if evidence.theirs_double is None else beyond_the_type(evidence.ours, evidence.theirs_double)
    return base if beyond is None else replace(base, **beyond)


Found = dict[str, Any]


def _failed(evidence: Evidence, zoom: Zoom) -> Found | None:
    """A run that ended early: by what differs before, for where it ends is seldom where it went wrong."""
    ours, theirs = evidence.ours, evidence.theirs
    if not ours.error:
        return None
    reason = f"the candidate's run ended early: {' '.join(ours.error.split())[:200]}"
    before = None if ours is theirs else _first_difference(ours, theirs, zoom)
    if before is not None:
        return {**before, "verdict": "failed", "reason": f"{reason}; first difference: {before['reason']}"}
    last = ours.ops[-1] if ours.ops else None
    culprit = None if last is None else culprit_of(last, "failed", f"after this operator: {reason}")
    return {"verdict": "failed", "reason": reason, "culprit": culprit}


def _first_difference(ours: Trace, theirs: Trace, zoom: Zoom) -> Found | None:
    """The reason for the first module output that differs."""
    left, right = replace(ours, finals=_module_ends(ours)), replace(theirs, finals=_module_ends(theirs))
    comparison = Comparison(left, right, align(left, right, _same_own), _same_own)
    finding = comparison.find()
    return None if finding is None else _described(finding, comparison, zoom, False, "failed")


def _module_ends(trace: Trace) -> list[Final]:
    ends = []
    for name, call, value in _outputs(trace):
        makers = (op.index for op in reversed(trace.ops[: call.last]) if any(value is made for made in op.results))
        ends.append(Final(f"module {name}", value, next(makers, None)))
    return ends


# --- does it give the same twice? ---


def _unstable(evidence: Evidence, zoom: Zoom) -> Found | None:
    """The first operator that made two things of the same inputs."""
    first, second = evidence.ours, evidence.again
    ends = {final.name: final.value.digest for final in second.finals}
    if all(ends.get(final.name) == final.value.digest for final in first.finals):
        return None
    pairs = align(first, second, lambda a, b: a.digest == b.digest)
    undefined: set[int | None] = set()
    for op in first.ops:
        other = pairs.of_candidate.get(op.index)
        twin = None if other is None else second.ops[other]
        if _undefined(op) or (_is_view(op) and any(edge.producer in undefined for edge in op.inputs)):
            undefined.add(op.index)
        if twin is None or op.index in undefined or [v.digest for v in op.results] == [v.digest for v in twin.results]:
            continue
        if any(
            a.value.digest != b.value.digest and _explained(a, undefined)
            for a, b in zip(op.inputs, twin.inputs, strict=False)
        ):
            continue
        maker = _left_behind(op, twin, evidence)
        if maker is not None:
            culprit = culprit_of(maker, "stale", "what is read for its result was made before this run, and varies")
            return {"verdict": "wrong", "reason": str(culprit), "culprit": culprit}
        where = _varying(zoom, op.index, other if other is not None else op.index)
        culprit = culprit_of(op, "non-deterministic", f"the same input twice gives two results: {where}")
        return {"verdict": "non-deterministic", "reason": str(culprit), "culprit": culprit}
    return None


def _left_behind(op: Op, twin: Op, evidence: Evidence) -> Op | None:
    """Whose result is missing where an operator reads what varies and was made before the run; None if none is."""
    ours, theirs = evidence.ours, evidence.theirs
    if ours is theirs:
        return None
    pairs = align(ours, theirs, _same_own)
    partner = pairs.of_candidate.get(op.index)
    if partner is None:
        return None
    for a, b, right in zip(op.inputs, twin.inputs, theirs.ops[partner].inputs, strict=False):
        varies = a.value.digest != b.value.digest and a.producer is None and not a.name
        if varies and right.producer is not None and right.value.shape == a.value.shape:
            maker = pairs.of_reference.get(right.producer)
            return theirs.ops[right.producer] if maker is None else ours.ops[maker]
    return None


def _undefined(op: Op) -> bool:
    return any(word in op.name for word in ("empty", "resize"))


def _is_view(op: Op) -> bool:
    return op.short_name.endswith(_VIEWS)


def _explained(edge: Edge, undefined: set[int | None]) -> bool:
    """Whether an input that varies was made by an operator that was already looked at.

    Undefined memory and constants that vary are no fault themselves; what is made of them is.
    """
    return edge.producer is not None and edge.producer not in undefined


def _varying(zoom: Zoom, index: int, other: int) -> str:
    first = zoom.keep("candidate", False, frozenset({index})).tensor(index, "output", 0)
    second = zoom.keep("candidate", False, frozenset({other})).tensor(other, "output", 0)
    if first is None or second is None or torch.equal(first, second):
        return "not in every run"
    return classify(first, second, Clues(equal=0.0, dtype=first.dtype)).where


# --- is it the same computation? ---


def _other_program(evidence: Evidence, zoom: Zoom) -> Found | None:
    ours, theirs = evidence.ours_double, evidence.theirs_double
    double = ours is not None and theirs is not None
    if ours is None or theirs is None:
        ours, theirs = evidence.ours, evidence.theirs
    same = _same_double if double else evidence.same_own or _same_own
    if ours is theirs:
        return None
    pairs = align(ours, theirs, same)
    comparison = Comparison(ours, theirs, pairs, excusing(same, ours, theirs, pairs) if double else same)
    finding = comparison.find()
    if finding is None or (double and excused_by_weights(comparison, zoom.moved)):
        return None
    return _described(finding, comparison, zoom, double, "wrong")


def _same_double(a: Value, b: Value) -> bool:
    return close(a, b, DOUBLE_TOLERANCE)


def _same_own(a: Value, b: Value) -> bool:
    """Without float64, two runs of one program on the same kernels agree to the last bit; others to a few roundings."""
    return close(a, b, 64 * max(unit(a), unit(b)))


def _described(finding: Finding, comparison: Comparison, zoom: Zoom, double: bool, verdict: Verdict) -> Found:
    finding, stale = _returned_by(finding, comparison, zoom, double)
    ours = None if finding.op is None else comparison.candidate.ops[finding.op]
    ours = _user(ours, comparison.candidate) if finding.cause == "weight" and ours is not None else ours
    theirs = None if finding.expected is None else comparison.reference.ops[finding.expected]
    got = _seen(finding.got, "candidate", zoom, double, comparison.candidate)
    wanted = _seen(finding.wanted, "reference", zoom, double, comparison.reference)
    dtype = getattr(torch, comparison.candidate.dtype, torch.float32)
    clues = Clues(dtype=dtype, equal=1e-8 if double else 64 * torch.finfo(dtype).eps)
    pattern = stale or name_kind(finding, ours, theirs, got, wanted, clues)
    guilty = ours or theirs
    if guilty is None:
        return {"verdict": verdict, "reason": f"{finding.detail}: {pattern.where}"}
    # All parameters pass through the same lines of an optimizer.
    first = f"; first seen in {finding.end}" if guilty.phase == "step" else ""
    culprit = culprit_of(guilty, pattern.kind, pattern.where + first)
    seen = picture(got, wanted) if got is not None and wanted is not None else None
    exhibit = Exhibit(
        ours=_call_of(zoom, "candidate", double, ours if finding.op is not None else None),
        theirs=_call_of(zoom, "reference", double, theirs),
        got=got,
        wanted=wanted,
    )
    return {"verdict": verdict, "reason": str(culprit), "culprit": culprit, "picture": seen, "exhibit": exhibit}


def _call_of(zoom: Zoom, side: str, double: bool, op: Op | None) -> OpCall | None:
    return None if op is None else zoom.keep(side, double, frozenset({op.index})).calls.get(op.index)


def _user(op: Op, trace: Trace) -> Op:
    """The operator that computes with a weight, behind those that only turn or reshape it."""
    for later in trace.ops[op.index + 1 :]:
        if not _is_view(op):
            break
        if any(edge.producer == op.index for edge in later.inputs):
            op = later
    return op


def _returned_by(finding: Finding, comparison: Comparison, zoom: Zoom, double: bool) -> tuple[Finding, Pattern | None]:
    """Where an operator reads what no operator of this run made: who should have made it, and whether it is old."""
    if finding.cause not in ("input", "output") or finding.expected is None:
        return finding, None
    if finding.cause == "output" and finding.op is None:
        ends = [final.value for final in comparison.candidate.finals if f"of {final.name}" == finding.detail]
        old = bool(ends) and ends[0] in Known(zoom.previous(double), comparison.same)
        return finding, _STALE if old else None
    if finding.got is None or finding.wanted is None or finding.got.side == "output":
        return finding, None
    ours = comparison.candidate.ops[finding.got.op].inputs[finding.got.position]
    theirs = comparison.reference.ops[finding.wanted.op].inputs[finding.wanted.position]
    if theirs.producer is None:
        return finding, None
    if ours.producer is not None:
        return _earlier(finding, comparison, ours.producer, theirs.producer)
    maker = comparison.pairs.of_reference.get(theirs.producer)
    if maker is not None and _is_read(maker, comparison.candidate):
        # It stands for another operator of the reference, whose own partner the candidate does not have.
        maker = None
    finding = replace(finding, op=maker, expected=theirs.producer)
    before = zoom.previous(double)
    if ours.value in Known(before, comparison.same):
        return finding, _STALE
    return finding, None


def _is_read(index: int, trace: Trace) -> bool:
    return any(edge.producer == index for op in trace.ops for edge in op.inputs)


def _earlier(finding: Finding, comparison: Comparison, ours: int, theirs: int) -> tuple[Finding, Pattern | None]:
    """Whether what is read is what the same operator of the same module made before, in this very run."""
    read, wanted = comparison.candidate.ops[ours], comparison.reference.ops[theirs]
    maker = comparison.pairs.of_reference.get(theirs)
    if finding.cause != "input" or maker is None or maker <= ours:
        return finding, None
    if start_of_call(read, comparison.candidate) == start_of_call(
        comparison.candidate.ops[maker], comparison.candidate
    ):
        # Both were made in one call of the module, for different things.
        return finding, None
    if (read.module, read.name, read.arguments) != (wanted.module, wanted.name, wanted.arguments):
        return finding, None
    pattern = Pattern(kind="stale", where="an earlier result of this operator is used instead", sure=True)
    return replace(finding, op=maker, expected=theirs), pattern


def _seen(site: Site | None, side: str, zoom: Zoom, double: bool, trace: Trace) -> torch.Tensor | None:
    if site is None:
        return None
    kept, op = zoom.keep(side, double, frozenset({site.op})), trace.ops[site.op]
    if site.side == "input" or site.position < len(op.outputs):
        return kept.tensor(site.op, site.side, site.position)
    whole = op.results[site.position]
    return kept.written(site.op, site.position - len(op.outputs), whole.shape, whole.stride)


# --- does every kernel compute what it should? ---


def _wrong_kernel(evidence: Evidence, zoom: Zoom) -> Found | None:
    """The first operator call that is wrong on its own inputs; a suspicious one if none is wrong."""
    ops = evidence.ours.ops
    for classes in (("wrong", "non-finite"), ("suspicious",), ("layout",)):
        rows = {index: row for index, row in sorted(evidence.kernels.items()) if row.verdict in classes}
        for index, row in rows.items():
            # What is wrong with an operator may be plainer in a later call of it.
            told = next((other.kind for k, other in rows.items() if other.kind and ops[k].name == ops[index].name), "")
            return _kernel_fault(ops[index], replace(row, kind=told))
    return None


def _kernel_fault(op: Op, row: KernelVerdict) -> Found:
    pattern = Pattern(kind=row.kind or row.verdict, where=row.reason, sure=False)
    seen = None
    if row.got is not None and row.expected is not None and row.verdict != "layout":
        pattern = _kernel_pattern(row, row.got, row.expected)
        seen = picture(row.got, row.expected)
    verdict = "underflow" if pattern.kind == "underflow" else row.verdict
    culprit = culprit_of(op, pattern.kind, pattern.where)
    exhibit = Exhibit(ours=row.call, got=row.got, wanted=row.expected)
    return {"verdict": verdict, "reason": str(culprit), "culprit": culprit, "picture": seen, "exhibit": exhibit}


def _kernel_pattern(row: KernelVerdict, got: torch.Tensor, expected: torch.Tensor) -> Pattern:
    """What is wrong with a result: by its numbers, by the operator's inputs, by earlier calls, by how wrong it is."""
    if row.verdict == "suspicious" and row.kind:
        return Pattern(kind=row.kind, where=row.reason, sure=True)
    # A kernel may sum in another order in float32, and rounds its result to its type.
    clues = Clues(dtype=got.dtype, equal=_rounding(got))
    pattern = classify(got, expected, clues)
    if pattern.partial or pattern.kind == "values":
        lacking = None if row.call is None else incomplete(row.call, got, expected, clues)
        kind = row.kind or (
            "accuracy" if pattern.kind in ("values", "block") and _poor(got, expected) else pattern.kind
        )
        pattern = lacking or replace(pattern, kind=kind)
    return replace(pattern, where=f"{pattern.where}; {row.reason}")


def _poor(got: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether every element of a floating result is about right."""
    return got.is_floating_point() and about_right(got.double(), expected.double())


def _rounding(tensor: torch.Tensor) -> float:
    """What one rounding to the tensor's type, and sums in float32 before it, may change relative to the mean size."""
    if tensor.is_floating_point():
        return 2 * torch.finfo(tensor.dtype).eps + 32 * torch.finfo(torch.float32).eps
    return 1.01 / max(float(tensor.double().abs().mean()), 1.0)


# --- is it as careful in its own type? ---


def _careless(evidence: Evidence, zoom: Zoom) -> Found | None:
    if evidence.ours_double is None or evidence.theirs_double is None:
        return None
    ours, theirs = evidence.ours, evidence.theirs
    same = Careful(Losses.between(ours, evidence.ours_double), Losses.between(theirs, evidence.theirs_double))
    pairs = align(ours, theirs, same)
    if not differs(ours, theirs, pairs):
        return None
    comparison = Comparison(ours, theirs, pairs, same)
    finding = comparison.find()
    return None if finding is None else _described(finding, comparison, zoom, False, "wrong")


# --- a row for every layer ---

_WORST: tuple[Class, ...] = ("exact", "rounding", "layout", "suspicious", "non-finite", "wrong")


def _layers(evidence: Evidence) -> list[Layer]:
    """Every output of every module call of the candidate, in order of completion."""
    exact = _by_name(evidence.theirs_double)
    native = _by_name(evidence.theirs)
    rows = []
    for name, call, value in _outputs(evidence.ours):
        wide, plain = exact.get(name), native.get(name)
        error = None if wide is None else relative(value, wide)
        theirs = None if wide is None or plain is None else relative(plain, wide)
        rows.append(
            Layer(
                name=name,
                kind=call.kind,
                shape=value.shape,
                error=_finite(error),
                reference_error=_finite(theirs),
                ratio=None if error is None or theirs is None else _finite(error / max(theirs, unit(value))),
                verdict=_worst(evidence.kernels, call),
                operators=call.last - call.first,
                isolated=_worst_ratio(evidence.kernels, call),
            )
        )
    return rows


def _outputs(trace: Trace) -> list[tuple[str, ModuleCall, Value]]:
    calls: Counter[str] = Counter()
    rows = []
    for call in trace.modules:
        calls[call.name] += 1
        numbered = call.name if calls[call.name] == 1 else f"{call.name}#{calls[call.name]}"
        rows += [(numbered + path, call, value) for path, value in call.outputs]
    return rows


def _by_name(trace: Trace | None) -> dict[str, Value]:
    return {} if trace is None else {name: value for name, _, value in _outputs(trace)}


def _worst(kernels: Mapping[int, KernelVerdict], call: ModuleCall) -> Class:
    inside = [kernels[index].verdict for index in range(call.first, call.last) if index in kernels]
    return max(inside, key=_WORST.index, default="exact")


def _worst_ratio(kernels: Mapping[int, KernelVerdict], call: ModuleCall) -> float | None:
    inside = [kernels[index].ratio for index in range(call.first, call.last) if index in kernels]
    return _finite(max(inside)) if inside else None


def _finite(number: float | None) -> float | None:
    return number if number is not None and math.isfinite(number) else None
