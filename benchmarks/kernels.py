"""Kernels: our entries, called past PyTorch's dispatcher, against PyTorch's operators, each at every number of threads.

What PyTorch's dispatcher and our registration add to a call is measured apart (`overhead.py`), so that figures of small
tensors here are those of kernels and what prepares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import triton

from benchmarks.case import Case, Rivals
from tessera.bench import turns
from tessera.bench.markdown import significant
from tessera.bench.turns import Effort
from tessera.ops.declined import Declined

Row = dict[str, Any]

# What is read to know the bandwidth of memory: more than a last-level cache.
_READ_ELEMENTS = 64 * 2**20
# Largest difference to PyTorch, relative to its largest value: both round, in bfloat16 to 8 bits; a wrong kernel is
# beyond it. What kernels must fulfil is judged in the tests.
_SAME = 0.05


def measure(cases: Sequence[Case], threads: Sequence[int], effort: Effort, say: Callable[[str], None]) -> Iterator[Row]:
    """The rows of each case, one for each number of threads; `say` is told the name of a case before it runs.

    A case that our library does not run gives one row with the reason under `skipped`.
    """
    source = torch.ones(_READ_ELEMENTS) if any(case.kernel.read_share for case in cases) else None
    for case in cases:
        say(case.name)
        torch.manual_seed(0)
        rivals = case.kernel.make(case.spec.shape, case.spec.dtype)
        reason = _fault(rivals)
        if reason:
            yield {**_identity(case), "skipped": reason}
            continue
        for count in threads:
            torch.set_num_threads(count)
            yield {**_identity(case), "threads": count, **_row(case, rivals, effort, source)}


def _identity(case: Case) -> Row:
    return {
        "family": case.spec.family, "kernel": case.spec.kernel, "shape": case.shape, "dtype": case.dtype,
        "peer": case.kernel.peer,
    }  # fmt: skip


def _fault(rivals: Rivals) -> str:
    """Why ours is not to be timed: it is not run by our kernel, or it is wrong. Empty where it is right."""
    try:
        ours = rivals.ours()
    except Declined as declined:
        return f"declined: {declined.reason}"
    except triton.CompilationError as error:
        return f"does not compile: {str(error).strip().splitlines()[-1]}"
    off = _difference(ours, rivals.torch())
    return "" if off <= _SAME else f"wrong: differs from PyTorch by {off:.2g} of its largest value"


def _difference(ours: Any, theirs: Any) -> float:
    """Largest difference of the results' first tensors, relative to the largest value."""
    mine, other = (x[0] if isinstance(x, (tuple, list)) else x for x in (ours, theirs))
    mine, other = mine.float(), other.float()
    return float((mine - other).abs().max() / other.abs().max().clamp_min(1e-30))


def _row(case: Case, rivals: Rivals, effort: Effort, source: torch.Tensor | None) -> Row:
    calls = {"ours": rivals.ours, "torch": rivals.torch}
    share = case.kernel.read_share
    if share is not None and source is not None:
        calls["read"] = source.sum
    timings = turns.compare(calls, effort)
    ours, theirs = timings["ours"], timings["torch"]
    ratio = ours.speedup_over(theirs)
    rate = rivals.amount / ours.median_s / 1e9
    row: Row = {
        "ours_us": significant(1e6 * ours.median_s),
        "torch_us": significant(1e6 * theirs.median_s),
        "ratio": significant(ratio),
        "rate": significant(rate),
        "unit": "GB/s" if rivals.unit == "B" else "GFLOP/s",
    }
    if share is None:
        target = case.kernel.target_for(case.spec.dtype)
        return {**row, "target": f"≥ {target:g}×", "met": ratio >= target}
    read = _READ_ELEMENTS * 4 / timings["read"].median_s / 1e9
    return {**row, "target": f"≥ {share:.0%} of {read:.3g} GB/s", "met": rate >= share * read}
