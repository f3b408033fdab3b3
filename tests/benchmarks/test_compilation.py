"""Compile times come from processes with a cache of their own."""

from __future__ import annotations

from benchmarks import compilation


def test_cold_and_cached_kernels_are_measured() -> None:
    result = compilation.measure(1)
    names = {row["kernel"] for row in result["kernels"]}
    assert {"kernels.vector_add", "kernels.flash_attention", "matmul.tiled", "pointwise_kernels.flat(gelu)"} <= names
    assert {row["source"] for row in result["kernels"]} == {"tutorial", "library"}
    for row in result["kernels"]:
        assert set(row["stages_ms"]) == set(compilation.STAGES)
        assert 0 < sum(row["stages_ms"].values()) <= 1.1 * row["total_ms"]
    cold, cached, _ = result["summary"]
    assert cold["kernels"] == cached["kernels"] == len(result["kernels"])
    assert cached["median_ms"] < cold["median_ms"]
