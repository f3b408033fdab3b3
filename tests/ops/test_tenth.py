"""PyTorch's own operator database, as much of it as a test run has time for: the fixed tenth."""

from __future__ import annotations

from tessera.ops.conformance import samples, session
from tessera.ops.conformance.result import totals

PROCESSES = 2
# Fourier transforms and decompositions are PyTorch's own, and entries of those call ours besides.
LEAST_SHARE = 0.95


def test_a_tenth_of_the_database_passes_on_our_kernels() -> None:
    results = session.run(samples.cases(tenth=True), jobs=PROCESSES, tell=lambda result: None)
    assert [f"{result.case}: {text}" for result in results for text in result.failures] == []
    assert totals(results).share >= LEAST_SHARE
