"""Measuring: every probe gives a plausible figure, and the figure is work divided by time."""

from __future__ import annotations

import time

import pytest

from tessera.core import measure
from tessera.core.chips import detect_cpu


def test_rate_is_work_over_time() -> None:
    probe = measure.Probe(name="sleep", unit="naps/s", prepare=lambda device: (lambda: time.sleep(0.01), 3.0))
    assert 150 < probe.run(detect_cpu()) <= 300


def test_cpu_figures_are_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_SECONDS", 0.1)
    monkeypatch.setattr(measure, "_ROUNDS", 2)
    figures = dict(measure.measure(detect_cpu()))
    assert list(figures) == [probe.name for probe in measure.PROBES]
    # From the slowest board that PyTorch runs on to the largest server.
    assert 1e8 < figures["matmul float32"] < 1e15
    assert 1e7 < figures["matmul bfloat16"] < 1e15
    assert 1e8 < figures["copy"] < 1e13
    assert 1e8 < figures["read"] < 1e13
