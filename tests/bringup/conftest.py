"""Models small enough for a test, as files and as modules."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers


@pytest.fixture
def bert_folder(tmp_path: Path) -> Path:
    """A folder with a random two-layer BERT and no tokenizer."""
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, vocab_size=100
    )
    folder = tmp_path / "tiny-bert"
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def edit_config(bert_folder: Path) -> Callable[..., None]:
    """Changes values of the folder's config.json; None removes one."""

    def edit(**values: Any) -> None:
        path = bert_folder / "config.json"
        data = {**json.loads(path.read_text()), **values}
        path.write_text(json.dumps({name: value for name, value in data.items() if value is not None}))

    return edit


@pytest.fixture
def user_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Callable[[str], str]:
    """Writes source text as a module in the current folder; gives its name, which no other test has."""
    monkeypatch.chdir(tmp_path)

    def write(source: str) -> str:
        name = f"mine_{abs(hash(request.node.nodeid))}"
        (tmp_path / f"{name}.py").write_text(source)
        return name

    return write
