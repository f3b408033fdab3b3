"""The model under test, as every source of models hands it over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from tessera.accuracy.call import Call

# From texts, and a model that runs on their tokens, to embeddings [texts, width], each of length one.
Embed = Callable[[nn.Module, Sequence[str]], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model in evaluation mode, in the type of the run, with inputs to call it on.

    name: what the user called it. inputs: the inputs in words. notes: what the user should know about the loading.
    embed: for a sentence encoder, how texts become embeddings; None for any other model.
    """

    name: str
    model: nn.Module
    call: Call
    inputs: str
    notes: tuple[str, ...] = ()
    embed: Embed | None = None

    @property
    def kind(self) -> str:
        """The class of the model."""
        return type(self.model).__name__

    @property
    def num_parameters(self) -> int:
        """How many numbers the model was trained to, each counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())
