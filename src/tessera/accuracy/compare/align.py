"""Which operator of one run belongs to which of the other.

First by structure: the longest common subsequence of (phase, operator, shapes of the results, module where names are
shared). Then by value: an operator that made what an unpaired one of the other run made is its partner, so that
layers in another order find one another. Names of modules are a help, never a condition.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from difflib import SequenceMatcher

from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.value import Value

Same = Callable[[Value, Value], bool]
_Key = tuple[object, ...]


@dataclass(slots=True)
class Pairs:
    """Partners by index, both ways."""

    of_candidate: dict[int, int] = field(default_factory=dict)
    of_reference: dict[int, int] = field(default_factory=dict)

    def join(self, candidate: int, reference: int) -> None:
        """Make two operators partners; former partners of either are left alone."""
        self.of_reference.pop(self.of_candidate.pop(candidate, -1), None)
        self.of_candidate.pop(self.of_reference.pop(reference, -1), None)
        self.of_candidate[candidate] = reference
        self.of_reference[reference] = candidate


def align(candidate: Trace, reference: Trace, same: Same) -> Pairs:
    """Pair the operators of two runs."""
    named = _share_names(candidate, reference)
    left = [_key(op, named) for op in candidate.ops]
    right = [_key(op, named) for op in reference.ops]
    pairs = Pairs()
    for first, second in _common(left, right):
        pairs.join(first, second)
    _join_by_value(candidate, reference, pairs, same, named)
    return pairs


def _share_names(candidate: Trace, reference: Trace) -> bool:
    """Whether most modules have the same names in both."""
    left = {op.module for op in candidate.ops}
    right = {op.module for op in reference.ops}
    return 2 * len(left & right) >= max(len(left), len(right))


def _key(op: Op, named: bool) -> _Key:
    shapes = tuple(value.shape for value in op.outputs)
    return (op.phase, op.step, op.name, shapes, op.module if named else "")


def _common(left: list[_Key], right: list[_Key]) -> list[tuple[int, int]]:
    """Index pairs of a common subsequence; equal starts and ends, which are most of it, are stripped first."""
    start = 0
    while start < min(len(left), len(right)) and left[start] == right[start]:
        start += 1
    end = 0
    while end < min(len(left), len(right)) - start and left[-1 - end] == right[-1 - end]:
        end += 1
    pairs = [(index, index) for index in range(start)]
    middle = SequenceMatcher(None, left[start : len(left) - end], right[start : len(right) - end], autojunk=False)
    for block in middle.get_matching_blocks():
        pairs += [(start + block.a + k, start + block.b + k) for k in range(block.size)]
    return pairs + [(len(left) - end + k, len(right) - end + k) for k in range(end)]


def _join_by_value(candidate: Trace, reference: Trace, pairs: Pairs, same: Same, named: bool) -> None:
    """Join operators without a partner, or with one that made something else, to those that made the same.

    Where modules have the same names, an operator with a partner gets another one of its module only if what it had
    finds one too: then two operators ran in the other order. Otherwise that it made what another one should have made
    is a fault to be found.
    """

    def settled(index: int, other: int | None) -> bool:
        return other is not None and same_results(candidate.ops[index], reference.ops[other], same)

    open_reference: dict[_Key, list[Op]] = defaultdict(list)
    for op in reference.ops:
        partner = pairs.of_reference.get(op.index)
        if partner is None or not settled(partner, op.index):
            open_reference[_key(op, False)].append(op)

    def replaceable(op: Op, row: Op) -> bool:
        former = pairs.of_reference.get(row.index)
        rows = [] if former is None else open_reference[_key(candidate.ops[former], False)]
        return row.module == op.module and (
            former is None
            or any(other is not row and same_results(candidate.ops[former], other, same) for other in rows)
        )

    for op in candidate.ops:
        if settled(op.index, pairs.of_candidate.get(op.index)):
            continue
        rows = open_reference.get(_key(op, False), [])
        bound = named and op.index in pairs.of_candidate
        if bound and reshapes(op):
            # Which part of a tensor it shows is its work, and not whose numbers these are.
            continue
        match = next((row for row in rows if same_results(op, row, same) and (not bound or replaceable(op, row))), None)
        if match is not None:
            rows.remove(match)
            pairs.join(op.index, match.index)


def same_results(candidate: Op, reference: Op, same: Same) -> bool:
    """Whether two operators made the same, also in the buffers behind what they wrote."""
    ours, theirs = candidate.results, reference.results
    return len(ours) == len(theirs) and all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def reshapes(op: Op) -> bool:
    """Whether an operator computes nothing: it looks at its input in another way, or hands out memory."""
    return "empty" in op.name or op.short_name.endswith(
        (".view", ".slice", ".select", ".expand", ".unsqueeze", ".as_strided", "._unsafe_view")
    )
