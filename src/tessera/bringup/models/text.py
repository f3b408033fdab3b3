"""Real text as model input, through the `tokenizers` library."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tessera.core.errors import MissingDependency, UsageError

INSTALL = "install it: pip install 'tessera[models]'"


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Token numbers and the mask of those that are text (1) and padding (0), both int64 [texts, tokens]."""

    ids: torch.Tensor
    mask: torch.Tensor

    def as_inputs(self) -> dict[str, torch.Tensor]:
        """Under the names that transformers' models call them by."""
        return {"input_ids": self.ids, "attention_mask": self.mask}


class Tokenizer:
    """A `tokenizer.json`, with cutting and padding as asked per call instead of as the file says."""

    def __init__(self, path: Path) -> None:
        try:
            from tokenizers import Tokenizer as Implementation
        except ImportError as error:
            raise MissingDependency(f"{path.name} needs the library tokenizers; {INSTALL}") from error
        try:
            self._tokenizer: Any = Implementation.from_file(str(path))
        except Exception as error:  # The library raises bare Exception for a file that it cannot read.
            raise UsageError(f"{path} is no tokenizer that can be read: {error}") from error
        padding = self._tokenizer.padding or {}
        self._pad = {"pad_id": padding.get("pad_id", 0), "pad_token": padding.get("pad_token", "[PAD]")}

    def encode(self, texts: Sequence[str], *, most_tokens: int, pad_to: int | None = None) -> Tokens:
        """Tokens of each text, cut at `most_tokens` and padded on the right, to `pad_to` or to the longest text."""
        self._tokenizer.enable_truncation(most_tokens)
        self._tokenizer.enable_padding(direction="right", length=pad_to, **self._pad)
        encoded = self._tokenizer.encode_batch(list(texts))
        return Tokens(
            ids=torch.tensor([text.ids for text in encoded]),
            mask=torch.tensor([text.attention_mask for text in encoded]),
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder; there must be a `tokenizer.json` in it."""
    return Tokenizer(folder / "tokenizer.json")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts that come with the package: passages to run on, sentences to search, and questions to them."""

    passages: tuple[str, ...]
    sentences: tuple[str, ...]
    queries: tuple[str, ...]


def load_texts() -> Texts:
    """Read the packaged texts."""
    source = importlib.resources.files("tessera.bringup.models") / "texts.json"
    data = json.loads(source.read_text(encoding="utf-8"))
    return Texts(**{name: tuple(texts) for name, texts in data.items()})


def batch_of_text(tokenizer: Tokenizer, batch: int, tokens: int) -> Tokens:
    """`batch` passages of `tokens` tokens each. The last is one short passage, padded: real batches are ragged."""
    passages = load_texts().passages
    longest = max(len(passage.split()) for passage in passages)
    # A word is a token at least, so this many repetitions fill any length.
    repeats = 1 + tokens // min(longest, 64)
    chosen = [" ".join([passages[row % len(passages)]] * repeats) for row in range(batch)]
    if batch > 1:
        chosen[-1] = passages[-1]
    return tokenizer.encode(chosen, most_tokens=tokens, pad_to=tokens)
