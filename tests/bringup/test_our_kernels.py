"""The job with our own kernels, which it takes if none are passed in."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from tessera.bringup.config import BringupConfig
from tessera.bringup.job import run


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_small_encoder_is_ready(bert_folder: Path, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.setattr("tessera.bringup.speed.TIMING_SECONDS", 0.2)
    config = BringupConfig(model=str(bert_folder), batch=2, tokens=32, dtype=dtype)
    result = run(config, Console(file=io.StringIO()))
    assert result.reasons == ()
    assert result.operators is not None
    assert result.operators.share >= 0.99
    # Not every error is PyTorch's own: these really are other kernels.
    assert any(layer.judgement.error != layer.judgement.torch_error for layer in result.accuracy.layers)
    timed = {row.name: row.calls for row in result.operators.times}
    assert sum(timed.values()) >= 0.9 * result.operators.calls
