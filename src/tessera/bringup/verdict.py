"""When a model is ready: it runs on our kernels from end to end, and its numbers are right.

Operators that fall to the vendor's kernels and a speed below PyTorch's are reported, not held against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from tessera.accuracy.layers import LayerCheck
from tessera.accuracy.result import CheckResult
from tessera.bringup.result import Operators, Search

# Of a float32 embedding to PyTorch's: noise is 1e-12 off one, and 1e-4 already is an angle of almost one degree.
LEAST_COSINE = 0.9999
# Of the check's verdicts, those that say that an operator is wrong. A run that failed is a reason of its own.
_WRONG = ("wrong", "non-finite", "overflow", "non-deterministic")


def reasons_against(
    accuracy: LayerCheck,
    checked: CheckResult | None,
    operators: Operators | None,
    search: Search | None,
    dtype: str,
) -> tuple[str, ...]:
    """Why the model is not ready, most telling first; empty if it is."""
    return tuple(_reasons(accuracy, checked, operators, search, dtype))


def _reasons(
    accuracy: LayerCheck,
    checked: CheckResult | None,
    operators: Operators | None,
    search: Search | None,
    dtype: str,
) -> Iterator[str]:
    if accuracy.candidate_error:
        yield f"the run on our kernels failed: {accuracy.candidate_error}"
    fault = accuracy.first_fault
    if fault is not None:
        wrong = sum(not layer.judgement.ok for layer in accuracy.layers)
        yield (
            f"{wrong} of {len(accuracy.layers)} layers are outside the accuracy rule, "
            f"first {fault.name} ({fault.kind}): {fault.judgement.reason}"
        )
    if checked is not None and checked.verdict in _WRONG:
        yield f"an operator is {checked.verdict} on its own inputs: {checked.reason}"
    if operators is not None and operators.ours == 0:
        yield "no operator call ran on our kernels"
    if search is not None and not search.agrees:
        queries = [answer.query for answer in search.answers if not answer.agrees]
        yield f"the ranking for {queries[0]!r} is not PyTorch's"
    if search is not None and dtype == "float32" and not search.cosine >= LEAST_COSINE:
        yield f"an embedding has cosine {search.cosine:.6f} to PyTorch's; {LEAST_COSINE} is the least in float32"
