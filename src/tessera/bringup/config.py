"""What the user may ask of the main job."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tessera.core.errors import UsageError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class BringupConfig:
    """One run of `tessera bringup`.

    model: `builtin:minilm`, a Hugging Face model folder, or `python:module:function`.
    dtype: the type the model is run in; its weights are cast to it.
    batch, tokens: the size of generated inputs; a `python:` model brings its own.
    threads: for PyTorch and for our kernels alike; None leaves it as it is.
    json, report: files to write; None writes none.
    """

    model: str = "builtin:minilm"
    dtype: str = "float32"
    batch: int = 8
    tokens: int = 128
    threads: int | None = None
    json: Path | None = None
    report: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be run, with the value, the rule and what would work."""
        if not self.model.strip():
            raise UsageError(
                "no model given; give builtin:minilm, a Hugging Face model folder or python:module:function"
            )
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype is {self.dtype!r}; it must be one of: {', '.join(DTYPES)}")
        _check_range("batch", self.batch, 1, 4096)
        # Two at least: the first and the last token of a text are the tokenizer's own marks.
        _check_range("tokens", self.tokens, 2, 1 << 20)
        if self.threads is not None:
            _check_range("threads", self.threads, 1, 4096)
        if self.json is not None and self.report is not None and self.json.resolve() == self.report.resolve():
            raise UsageError(f"the JSON and the report would both be written to {self.json}; name two files")

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type as PyTorch's object."""
        return DTYPES[self.dtype]


def _check_range(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise UsageError(f"{name} is {value}; it must be from {least} to {most}")
