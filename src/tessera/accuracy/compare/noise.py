"""Values that are nothing but rounding, and differ from run to run by all of their size without any fault.

Where the terms of a sum cancel (the gradient of a bias before a norm, or of the keys' bias before a softmax), what is
left in float64 is about 1e-16 of the terms, whichever program computed it. Two such values are as good as equal. What
is computed from them differs as well: an optimizer that divides by the size of a gradient makes full steps of it.

Weights that were computed anew, as when adapters are merged or norms folded into them, were rounded anew.
"""

from __future__ import annotations

from collections.abc import Callable

from tessera.accuracy.capture.records import Op, Trace
from tessera.accuracy.capture.value import Value, distance
from tessera.accuracy.compare.align import Pairs, Same, same_results
from tessera.accuracy.compare.blame import Comparison

# A sum in float64 that is smaller than this part of its terms has lost all of its digits but a few.
_LEFT = 1e-12
_SUMS = frozenset(
    {
        "aten.sum",
        "aten.mean",
        "aten.cumsum",
        "aten.embedding_dense_backward",
        "aten.convolution_backward",
        "aten.native_layer_norm_backward",
        "aten.native_group_norm_backward",
        "aten.native_batch_norm_backward",
        "aten._softmax_backward_data",
        "aten._log_softmax_backward_data",
    }
)
_PARAMETER = "parameter "
# A rounding moves a weight by half of the step that a move to its neighbour is, at most.
_ROUNDINGS = 1.0
_ADDITIONS = frozenset(
    {"aten.add", "aten.sub", "aten.add_", "aten.sub_", "aten.index_add", "aten.index_add_", "aten.scatter_add"}
)
_PRODUCTS = frozenset({"aten.mm", "aten.bmm", "aten.addmm", "aten.baddbmm", "aten.addbmm", "aten.mv", "aten.dot"})


def cancelled(trace: Trace) -> set[int]:
    """The digests of all values of a run in float64 whose terms cancelled."""
    return {
        value.digest
        for op in trace.ops
        for value in op.outputs
        if value.floating and value.finite and value.norm <= _LEFT * _terms(op)
    }


def _terms(op: Op) -> float:
    """The size of the terms that an operator adds up; 0 if it adds none."""
    norms = [edge.value.norm for edge in op.inputs if edge.value.floating]
    if not norms:
        return 0.0
    if op.short_name in _SUMS:
        return norms[0]
    if op.short_name in _ADDITIONS:
        return max(norms)
    return norms[-1] * norms[-2] if op.short_name in _PRODUCTS and len(norms) > 1 else 0.0


def excusing(same: Same, candidate: Trace, reference: Trace, pairs: Pairs) -> Same:
    """`same`, but two values that are rounding alone, or follow from such by the same operators, count as the same."""
    noise = (cancelled(candidate), cancelled(reference))

    def wide(a: Value, b: Value) -> bool:
        return same(a, b) or (a.digest in noise[0] and b.digest in noise[1])

    if noise[0] and noise[1]:
        for op in candidate.ops:
            partner = pairs.of_candidate.get(op.index)
            if partner is not None:
                _follow(op, reference.ops[partner], same, wide, noise)
    return wide


def _follow(
    op: Op, partner: Op, same: Same, wide: Callable[[Value, Value], bool], noise: tuple[set[int], set[int]]
) -> None:
    """Add the results of two operators to the noise if they differ for no other reason."""
    if op.arguments != partner.arguments or len(op.inputs) != len(partner.inputs) or same_results(op, partner, wide):
        return
    edges = [(a.value, b.value) for a, b in zip(op.inputs, partner.inputs, strict=True)]
    if all(wide(a, b) for a, b in edges) and not all(same(a, b) for a, b in edges):
        noise[0].update(value.digest for value in op.results)
        noise[1].update(value.digest for value in partner.results)


def excused_by_weights(comparison: Comparison, moved: Callable[[frozenset[str]], Trace]) -> bool:
    """Whether weights differ, and the ends of the runs by no more than they do when these weights are rounded anew.

    moved: a run of the candidate in float64 with the named weights moved to neighbours in their own type.
    """
    assert comparison.known is not None
    leaves = {
        edge.name.removeprefix(_PARAMETER): edge.value
        for op in comparison.candidate.ops
        for edge in op.inputs
        if edge.name.startswith(_PARAMETER)
    }
    own = frozenset(name for name, value in leaves.items() if value not in comparison.known)
    wrong = comparison.wrong_finals()
    # Where a value is half of what it should be, no run is needed to tell.
    if not own or any(distance(ours.value, theirs.value) > theirs.value.norm / 2 for ours, theirs in wrong):
        return False
    ends = {final.name: final.value for final in moved(own).finals}
    return all(
        ours.name in ends and distance(ours.value, theirs.value) <= _ROUNDINGS * distance(ours.value, ends[ours.name])
        for ours, theirs in wrong
    )
