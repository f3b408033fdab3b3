"""From two runs that end differently to the one operator that is the reason.

A wrong end is followed backwards through values that the reference run never had, to the earliest pair of operators
that made different things. If what they read was the same, the operator itself is wrong (or its arguments are). If they
read different things although nothing before them is wrong, something between was added, left out, or wired wrongly:
the unpaired operators on the way tell which.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import Literal

from tessera.accuracy.capture.records import Edge, Final, Op, Trace
from tessera.accuracy.capture.value import Value, scalar_of
from tessera.accuracy.compare.align import Pairs, Same, reshapes, same_results

Cause = Literal["result", "argument", "extra", "missing", "replaced", "input", "weight", "output"]
# How far a chain of operators without partners is followed.
_MOST_STEPS = 200
_TURNS = frozenset({"aten.t", "aten.transpose", "aten.permute"})


@dataclass(frozen=True, slots=True)
class Site:
    """Where a tensor can be seen: an input or an output of an operator."""

    op: int
    side: Literal["input", "output"]
    position: int


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Why two runs differ. op: the guilty operator of the candidate; expected: of the reference, either may be absent.

    got, wanted: where the wrong and the right values can be seen. changed: arguments as (name, candidate's,
    reference's). end: the first end of the run that is wrong for it.
    """

    cause: Cause
    op: int | None
    expected: int | None
    got: Site | None
    wanted: Site | None
    changed: tuple[tuple[str, str, str], ...] = ()
    detail: str = ""
    end: str = ""


class Known:
    """All values of a run, to ask whether one of them equals a given one."""

    def __init__(self, trace: Trace, same: Same) -> None:
        self._same = same
        by_size: dict[int, list[Value]] = defaultdict(list)
        for op in trace.ops:
            for value in (*op.results, *(edge.value for edge in op.inputs)):
                by_size[value.numel].append(value)
        self._rows = {size: sorted(values, key=lambda value: value.norm) for size, values in by_size.items()}
        self._norms = {size: [value.norm for value in values] for size, values in self._rows.items()}

    def __contains__(self, value: Value) -> bool:
        norms = self._norms.get(value.numel, [])
        slack = 1e-6 * value.norm
        first, last = bisect_left(norms, value.norm - slack), bisect_right(norms, value.norm + slack)
        return any(self._same(value, row) for row in self._rows.get(value.numel, [])[first:last])


@dataclass(slots=True)
class Comparison:
    """Two runs with their pairs and the rule by which values count as the same."""

    candidate: Trace
    reference: Trace
    pairs: Pairs
    same: Same
    known: Known | None = None

    def wrong_finals(self) -> list[tuple[Final, Final]]:
        """Ends of the runs that have one name and different values."""
        theirs = {final.name: final for final in self.reference.finals}
        ends = [(final, theirs[final.name]) for final in self.candidate.finals if final.name in theirs]
        return [(ours, other) for ours, other in ends if not self.same(ours.value, other.value)]

    def partner(self, op: Op) -> Op | None:
        """The reference's operator that belongs to one of the candidate's."""
        index = self.pairs.of_candidate.get(op.index)
        return None if index is None else self.reference.ops[index]

    def find(self) -> Finding | None:
        """The reason for the first wrong end, None if no end is wrong."""
        wrong = self.wrong_finals()
        if not wrong:
            return None
        self.known = Known(self.reference, self.same)
        return replace(self._reason(*wrong[0]), end=wrong[0][0].name)

    def _reason(self, ours: Final, theirs: Final) -> Finding:
        """Why one end is wrong."""
        # Ends are in order of time; what comes later may only follow from what is wrong in the first.
        behind = self._behind([ours.producer])
        for index in sorted(behind):
            op = self.candidate.ops[index]
            partner = self.partner(op)
            if partner is not None and not same_results(op, partner, self.same):
                return self._explain(op, partner, set())
        return self._explain_end(ours, theirs)

    def _behind(self, starts: list[int | None]) -> set[int]:
        """The operators that led to wrong ends through values that the reference never had."""
        assert self.known is not None
        waiting = [start for start in starts if start is not None]
        found: set[int] = set()
        while waiting:
            index = waiting.pop()
            if index in found:
                continue
            found.add(index)
            for edge in self.candidate.ops[index].inputs:
                if edge.producer is not None and edge.producer not in found and edge.value not in self.known:
                    waiting.append(edge.producer)
        return found

    def _explain(self, op: Op, partner: Op, seen: set[int]) -> Finding:
        seen.add(op.index)
        changed = changed_arguments(op, partner)
        got, wanted = _first_difference(op, partner, self.same)
        base = Finding(cause="result", op=op.index, expected=partner.index, got=got, wanted=wanted, changed=changed)
        if len(op.inputs) != len(partner.inputs):
            return replace(base, cause="argument")
        for position, (ours, theirs) in enumerate(zip(op.inputs, partner.inputs, strict=True)):
            if not self.same(ours.value, theirs.value):
                sites = Site(op.index, "input", position), Site(partner.index, "input", position)
                found = self._explain_input(ours, theirs, op, partner, sites, seen)
                if found is not None:
                    return found
        if changed:
            return replace(base, cause="argument")
        return self._explain_shapes(op, partner) or self._explain_memory(op, partner, base) or base

    def _explain_shapes(self, op: Op, partner: Op) -> Finding | None:
        """Where the numbers that were read are the same, and their shapes are not."""
        for position, (ours, theirs) in enumerate(zip(op.inputs, partner.inputs, strict=True)):
            added = _chain(ours, self.candidate, self.pairs.of_candidate)
            left_out = _chain(theirs, self.reference, self.pairs.of_reference)
            if ours.value.shape != theirs.value.shape and added and left_out:
                sites = Site(op.index, "input", position), Site(partner.index, "input", position)
                base = Finding(cause="input", op=op.index, expected=partner.index, got=sites[0], wanted=sites[1])
                return self._explain_chains(added, left_out, base)
        return None

    def _explain_memory(self, op: Op, partner: Op, base: Finding) -> Finding | None:
        """Where a right part was written to a buffer that another operator had written to before."""
        if base.got is None or base.got.position < len(op.outputs) or not op.inputs:
            return None
        ours, theirs = _beneath(op.inputs[0], self.candidate), _beneath(partner.inputs[0], self.reference)
        if ours.producer is None or self.pairs.of_candidate.get(ours.producer) == theirs.producer:
            return None
        if self.same(ours.value, theirs.value):
            return None
        return replace(base, cause="input", detail=self._wiring(ours, theirs))

    def _explain_input(
        self, ours: Edge, theirs: Edge, op: Op, partner: Op, sites: tuple[Site, Site], seen: set[int]
    ) -> Finding | None:
        """Why an operator read something else than its partner; None if it is not to be told."""
        base = Finding(cause="input", op=op.index, expected=partner.index, got=sites[0], wanted=sites[1])
        if ours.producer is not None and theirs.producer is not None:
            before = self.candidate.ops[ours.producer]
            after = self.reference.ops[theirs.producer]
            partners = self.pairs.of_candidate.get(before.index) == after.index
            if partners and before.index not in seen and not same_results(before, after, self.same):
                return self._explain(before, after, seen)
        added = _chain(ours, self.candidate, self.pairs.of_candidate)
        left_out = _chain(theirs, self.reference, self.pairs.of_reference)
        if not added and not left_out:
            return self._explain_leaf(ours, theirs, base) or self._explain_wiring(ours, theirs, op, base)
        assert self.known is not None
        if added and _reads(added, theirs.value, self.same):
            return self._explain_chains(added, [], base)
        if left_out and ours.value.norm > 0 and _reads(left_out, ours.value, self.same):
            return self._explain_chains([], left_out, base)
        if added and ours.value.norm > 0 and ours.value in self.known:
            # Made in another way, but one of the reference's own values: the wrong one of them.
            return self._explain_wiring(ours, theirs, op, base)
        return self._explain_chains(added, left_out, base)

    def _explain_leaf(self, ours: Edge, theirs: Edge, base: Finding) -> Finding | None:
        """A weight or an input that no operator made: another one was read, or it has other values."""
        if ours.producer is not None or theirs.producer is not None:
            return None
        assert self.known is not None
        # Inputs may be parts of one tensor, and then have its name in common.
        other = ours.name != theirs.name or ours.name.startswith("input")
        if other and ours.name and theirs.name and ours.value in self.known:
            return replace(base, detail=self._wiring(ours, theirs))
        if not ours.name and not theirs.name and ours.value.numel == theirs.value.numel == 1:
            mine, wanted = f"{scalar_of(ours.value):.6g}", f"{scalar_of(theirs.value):.6g}"
            return replace(base, cause="argument", changed=(("constant", mine, wanted),))
        return replace(base, cause="weight", detail=ours.name or theirs.name or "a constant")

    def _explain_wiring(self, ours: Edge, theirs: Edge, op: Op, base: Finding) -> Finding:
        """One of the reference's values was read for another, perhaps for an operator that the reference lacks."""
        foreign = self._foreign_behind(ours, op)
        if foreign is None:
            return replace(base, detail=self._wiring(ours, theirs))
        before = foreign.inputs[0].producer if foreign.inputs else None
        twin = None if before is None else self.pairs.of_candidate.get(before)
        sites = (base.got, base.wanted)
        if before is not None and twin is not None and self.candidate.ops[before].outputs:
            sites = Site(foreign.index, "output", 0), Site(twin, "output", 0)
        return replace(base, cause="extra", op=foreign.index, expected=None, got=sites[0], wanted=sites[1])

    def _foreign_behind(self, edge: Edge, op: Op) -> Op | None:
        """The first operator without a partner that moved the numbers of a value, in the call of the module that read.

        An operator that computes may do in one what the reference does in parts; then the parts are right.
        """
        assert self.known is not None
        first = start_of_call(op, self.candidate)
        waiting, found = [edge], set()
        while waiting:
            producer = waiting.pop().producer
            if producer is not None and producer >= first and producer not in found:
                found.add(producer)
                waiting += self.candidate.ops[producer].inputs
        for index in sorted(found - self.pairs.of_candidate.keys()):
            maker = self.candidate.ops[index]
            if _moves(maker) and maker.inputs[0].value in self.known and maker.outputs[0] not in self.known:
                return maker
        return None

    def _explain_chains(self, added: list[Op], left_out: list[Op], base: Finding) -> Finding:
        """By the operators without partners on the way to a tensor, in the candidate and in the reference."""
        if left_out and all(_is_blank(op) for op in added):
            return replace(base, cause="missing", op=None, expected=_most_telling(left_out).index)
        if not left_out:
            return replace(base, cause="extra", op=self._first_foreign(_computing(added)).index, expected=None)
        twins = [(a, b) for a in added for b in left_out if a.name == b.name and len(a.inputs) == len(b.inputs)]
        for ours, theirs in twins:
            if all(self.same(a.value, b.value) for a, b in zip(ours.inputs, theirs.inputs, strict=True)):
                changed = changed_arguments(ours, theirs)
                return replace(base, cause="argument", op=ours.index, expected=theirs.index, changed=changed)
        if lacking := _beyond(left_out, added):
            return replace(base, cause="missing", op=None, expected=_most_telling(lacking).index)
        guilty = self._first_foreign(added)
        twin = next((b for a, b in twins if a is guilty), left_out[0])
        return replace(base, cause="replaced", op=guilty.index, expected=twin.index)

    def _first_foreign(self, ops: list[Op]) -> Op:
        """The first operator that made what the reference never had."""
        known = self.known
        assert known is not None
        foreign = [op for op in ops if any(value not in known for value in op.results)] or ops
        return next((op for op in foreign if not reshapes(op)), foreign[0])

    def _wiring(self, ours: Edge, theirs: Edge) -> str:
        return f"reads {_origin(ours, self.candidate)} where the reference reads {_origin(theirs, self.reference)}"

    def _explain_end(self, ours: Final, theirs: Final) -> Finding:
        """All pairs are right, so the difference lies between the last of them and the end."""
        name = ours.name
        edges = Edge(ours.value, ours.producer), Edge(theirs.value, theirs.producer)
        got, wanted = _site_of(edges[0], self.candidate), _site_of(edges[1], self.reference)
        base = Finding(
            cause="output", op=ours.producer, expected=theirs.producer, got=got, wanted=wanted, detail=f"of {name}"
        )
        added = _chain(edges[0], self.candidate, self.pairs.of_candidate)
        left_out = _chain(edges[1], self.reference, self.pairs.of_reference)
        return self._explain_chains(added, left_out, base) if added or left_out else base


def changed_arguments(op: Op, partner: Op) -> tuple[tuple[str, str, str], ...]:
    """Arguments that differ, as (name, candidate's, reference's); absent ones are `default`."""
    ours, theirs = dict(op.arguments), dict(partner.arguments)
    names = list(dict.fromkeys([*ours, *theirs]))
    rows = [(name, ours.get(name, "default"), theirs.get(name, "default")) for name in names]
    return tuple(row for row in rows if row[1] != row[2])


def _first_difference(op: Op, partner: Op, same: Same) -> tuple[Site, Site]:
    """The first result that differs. Written buffers are numbered after the outputs."""
    rows = list(zip(op.results, partner.results, strict=False))
    position = next((k for k, (a, b) in enumerate(rows) if not same(a, b)), 0)
    return Site(op.index, "output", position), Site(partner.index, "output", position)


def _site_of(edge: Edge, trace: Trace) -> Site | None:
    """Where the value of an edge can be seen: among the results of its producer."""
    if edge.producer is None:
        return None
    rows = trace.ops[edge.producer].results
    position = next((k for k, value in enumerate(rows) if value.digest == edge.value.digest), 0)
    return Site(edge.producer, "output", position)


def _chain(edge: Edge, trace: Trace, partners: dict[int, int]) -> list[Op]:
    """The operators without a partner that led to a tensor, in order of execution."""
    found: dict[int, Op] = {}
    waiting = [edge]
    while waiting and len(found) < _MOST_STEPS:
        producer = waiting.pop().producer
        if producer is not None and producer not in partners and producer not in found:
            found[producer] = trace.ops[producer]
            waiting += trace.ops[producer].inputs
    return [found[index] for index in sorted(found)]


def _computing(ops: list[Op]) -> list[Op]:
    """Those that compute, if there are any; else those that turn a tensor, which say more than views of it."""
    moving = [op for op in ops if not reshapes(op)] or ops
    turning = [op for op in moving if op.short_name != "aten.clone"] or moving
    return [op for op in turning if op.short_name not in _TURNS] or turning


def _is_blank(op: Op) -> bool:
    """Whether it hands out zeros for what nothing computes, as PyTorch does for gradients that nothing has."""
    return op.short_name in ("aten.zeros", "aten.new_zeros") and not op.inputs


def _most_telling(left_out: list[Op]) -> Op:
    """The operator by which a chain of missing ones is known.

    The last one is what the rest led to: of a mask that is made and applied, the application. A gradient that is not
    computed ends where its forward pass was cut, which is where its chain begins.
    """
    telling = _computing(left_out)
    return telling[0] if telling[0].phase == "backward" else telling[-1]


def _beyond(left_out: list[Op], added: list[Op]) -> list[Op]:
    """What the reference computes besides all that the candidate does as well; nothing if the candidate has more."""
    names = Counter(op.name for op in _computing(added))
    if names - Counter(op.name for op in left_out):
        return []
    rest = []
    for op in reversed(_computing(left_out)):
        if names[op.name]:
            names[op.name] -= 1
        else:
            rest.append(op)
    return rest[::-1]


def _moves(op: Op) -> bool:
    """Whether the numbers that come out are those that went in, in other places. Weights are turned at all times."""
    if reshapes(op) or not op.inputs or not op.outputs or op.inputs[0].producer is None:
        return False
    before, after = op.inputs[0].value, op.outputs[0]
    return before.numel == after.numel and abs(before.norm - after.norm) <= 1e-9 * before.norm


def _reads(ops: list[Op], value: Value, same: Same) -> bool:
    """Whether a value goes into one of the operators."""
    return any(same(edge.value, value) for op in ops for edge in op.inputs)


def _beneath(edge: Edge, trace: Trace) -> Edge:
    """The buffer that a tensor is a part of, as it was when the part was taken."""
    while edge.producer is not None and reshapes(trace.ops[edge.producer]) and trace.ops[edge.producer].inputs:
        edge = trace.ops[edge.producer].inputs[0]
    return edge


def start_of_call(op: Op, trace: Trace) -> int:
    """Where the call of the module begins that an operator ran in."""
    calls = [call for call in trace.modules if call.name == op.module and call.first <= op.index < call.last]
    return max((call.first for call in calls), default=0)


def _origin(edge: Edge, trace: Trace) -> str:
    if edge.producer is None:
        return edge.name or "a constant"
    op = trace.ops[edge.producer]
    return f"the result of {op.short_name} in {op.module}"
