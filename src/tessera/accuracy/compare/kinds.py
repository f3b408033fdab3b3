"""From a finding and the tensors at its place to a name for the fault and words for the user."""

from __future__ import annotations

import re

import torch

from tessera.accuracy.capture.records import Op
from tessera.accuracy.compare.blame import Finding
from tessera.accuracy.compare.patterns import Clues, Pattern, classify

# Arguments by whose difference a fault is known, whatever the numbers look like.
ARGUMENT_KINDS: dict[str, str] = {
    "dim": "axis",
    "dims": "axis",
    "dim0": "axis",
    "dim1": "axis",
    "eps": "eps",
    "start": "index",
    "end": "index",
    "index": "index",
    "indices": "index",
    "shifts": "index",
    "diagonal": "mask",
    "is_causal": "mask",
    "p": "dropout",
    "stride": "geometry",
    "padding": "geometry",
    "dilation": "geometry",
    "groups": "geometry",
    "kernel_size": "geometry",
    "scale": "scale",
    "alpha": "scale",
    "beta": "scale",
    "lr": "rate",
    "momentum": "rate",
    "approximate": "variant",
    "reduction": "variant",
}
# Operators whose absence or presence names the fault by itself.
_CASTS = frozenset({"aten._to_copy", "aten.to"})
_SCALES = frozenset({"aten.mul", "aten.div", "aten.mul_", "aten.div_"})
_CLAMPS = frozenset({"aten.clamp", "aten.clamp_", "aten.clamp_min", "aten.clamp_max", "aten.hardtanh"})
_MASKS = frozenset({"aten.masked_fill", "aten.masked_fill_", "aten.where", "aten.tril", "aten.triu"})
_MOVES = frozenset(
    {"aten.roll", "aten.flip", "aten.transpose", "aten.permute", "aten.t", "aten.index_select", "aten.index"}
)
_WRITES = frozenset({"aten.copy_", "aten.fill_", "aten.index_put_", "aten.index_put", "aten.slice_scatter"})
_PICKS = frozenset({"aten.slice", "aten.select", "aten.narrow"})
_STRUCTURE: tuple[tuple[frozenset[str], str], ...] = (
    (_CLAMPS, "saturated"),
    (_MASKS, "mask"),
    (_SCALES, "scale"),
    (_MOVES, "permuted"),
    (_PICKS, "index"),
)
_NUMBER = re.compile(r"-?[0-9.]+(e-?[0-9]+)?")
_LARGEST_EPS = 1e-2
# Patterns that say less than the operators' difference does.
_WEAK = frozenset({"values", "block", "shape", "repeated"})
# Where elements are wrong says less than which operator is missing, another one, or reads the wrong thing.
_STRUCTURAL = frozenset({"missing", "replaced", "input"})
_AMOUNTS = frozenset({"scale", "offset", "sign"})
_TERMS = frozenset({"aten.add", "aten.sub", "aten.add_", "aten.sub_", "aten.rsub", "aten.neg"})


def name_kind(
    finding: Finding,
    ours: Op | None,
    theirs: Op | None,
    got: torch.Tensor | None,
    wanted: torch.Tensor | None,
    clues: Clues,
) -> Pattern:
    """The kind of a fault and where it shows."""
    seen = classify(got, wanted, clues) if got is not None and wanted is not None else None
    by_argument = _by_argument(finding, ours)
    if by_argument is not None:
        return _joined(by_argument, seen)
    if finding.cause == "weight":
        return _joined(Pattern(kind="weight", where=f"{finding.detail} differs", sure=True), seen)
    structure = _by_structure(finding, ours, theirs)
    if structure is None:
        return seen or Pattern(kind="values", where=finding.detail or "the values differ", sure=False)
    if seen is not None and _says_more(seen, finding, ours):
        return _joined(seen, structure)
    return _joined(structure, seen)


def _says_more(seen: Pattern, finding: Finding, ours: Op | None) -> bool:
    """Whether a pattern says more than the difference of the operators."""
    if finding.cause == "extra" and seen.partial:
        # Something was added that changes a part of a tensor: which part says more than what it was done with.
        return ours is not None and _changes_part(ours, seen)
    if finding.cause == "missing" and seen.kind == "zeroed":
        # Where nothing is computed there is nothing.
        return False
    if finding.cause == "replaced" and seen.kind in _AMOUNTS:
        # By how much the result differs says more of factors and terms only.
        return not seen.partial and ours is not None and ours.short_name in _SCALES | _TERMS
    return seen.kind not in _WEAK and not (seen.partial and finding.cause in _STRUCTURAL)


def _changes_part(ours: Op, seen: Pattern) -> bool:
    """Whether an operator works on a part of a tensor alone."""
    part = any(value.numel < seen.numel for value in ours.outputs[:1])
    return part or bool(ours.written) or ours.short_name in _WRITES


def _joined(first: Pattern, second: Pattern | None) -> Pattern:
    words = first.where if second is None else f"{first.where}; {second.where}"
    return Pattern(kind=first.kind, where=words, sure=first.sure)


def _by_argument(finding: Finding, op: Op | None) -> Pattern | None:
    """The fault as a difference of arguments, if a named one differs."""
    rows = [(_argument_kind(*row, op), *row) for row in finding.changed]
    told = next((row for row in rows if row[0]), None)
    if finding.cause not in ("argument", "result") or told is None:
        return None
    kind, name, ours, theirs = told
    return Pattern(kind=kind, where=f"{name} is {ours} where the reference has {theirs}", sure=True)


def _argument_kind(name: str, ours: str, theirs: str, op: Op | None) -> str:
    """The kind that a differing argument tells, empty if none. A tiny number that is added is an epsilon."""
    if op is not None and op.short_name in _MASKS:
        return "mask"
    if name != "other":
        return ARGUMENT_KINDS.get(name, "")
    sizes = [abs(float(text)) if _NUMBER.fullmatch(text) else 1.0 for text in (ours, theirs)]
    return "eps" if 0 < max(sizes) <= _LARGEST_EPS else ""


def _by_structure(finding: Finding, ours: Op | None, theirs: Op | None) -> Pattern | None:
    """The fault as an operator that is there, or not there."""
    if finding.cause == "missing" and theirs is not None:
        return Pattern(
            kind="missing upcast" if theirs.short_name in _CASTS else _structural(theirs, "missing operator"),
            where=f"{theirs.short_name} of the reference's {theirs.module} is missing",
            sure=True,
        )
    if finding.cause == "extra" and ours is not None:
        kind = "short type" if ours.short_name in _CASTS else _structural(ours, "extra operator")
        return Pattern(kind=kind, where=f"{ours.short_name} is not in the reference", sure=True)
    if finding.cause == "replaced" and ours is not None and theirs is not None:
        words = f"{ours.short_name} where the reference has {theirs.short_name}"
        return Pattern(kind="other operator", where=words, sure=True)
    if finding.cause == "input":
        return Pattern(kind="wrong input", where=finding.detail, sure=True)
    if finding.cause == "argument":
        words = ", ".join(f"{name} is {mine} where the reference has {other}" for name, mine, other in finding.changed)
        return Pattern(kind="argument", where=words or "another number of inputs", sure=True)
    return None


def _structural(op: Op, otherwise: str) -> str:
    if op.short_name in _SCALES and len(op.inputs) > 1 and all(edge.value.numel > 1 for edge in op.inputs):
        return otherwise
    return next((kind for names, kind in _STRUCTURE if op.short_name in names), otherwise)
