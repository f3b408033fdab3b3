"""Inputs for a model folder: real text if it has a tokenizer, else made from its config with a fixed seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from tessera.accuracy.call import Call
from tessera.bringup.config import BringupConfig
from tessera.bringup.models.text import batch_of_text, load_tokenizer
from tessera.core.errors import UsageError

_SEED = 0


def inputs_for(model: nn.Module, settings: Any, folder: Path, config: BringupConfig) -> tuple[Call, str]:
    """A call that the model should accept, and the inputs in words.

    Errors: `UsageError` if the model takes neither tokens nor images, or fewer tokens than asked for.
    """
    main = getattr(model, "main_input_name", "input_ids")
    if main == "pixel_values":
        return _images(settings, config)
    if main != "input_ids":
        raise UsageError(
            f"{type(model).__name__} takes {main}, for which no inputs can be made; "
            "write a function that returns (model, inputs) and give python:module:function"
        )
    text = settings.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if isinstance(most, int) and config.tokens > most:
        raise UsageError(f"tokens is {config.tokens}; this model takes {most} at most: give --tokens {most} or less")
    inputs, words = _tokens(text.vocab_size, folder, config)
    if getattr(settings, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = inputs["input_ids"].clone()
    return Call.of(inputs), words


def _tokens(vocab_size: int, folder: Path, config: BringupConfig) -> tuple[dict[str, torch.Tensor], str]:
    size = f"{config.batch} × {config.tokens}"
    if not (folder / "tokenizer.json").is_file():
        generator = torch.Generator().manual_seed(_SEED)
        ids = torch.randint(vocab_size, (config.batch, config.tokens), generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, f"{size} random tokens (no tokenizer.json)"
    tokens = batch_of_text(load_tokenizer(folder), config.batch, config.tokens)
    largest = int(tokens.ids.max())
    if largest >= vocab_size:
        raise UsageError(
            f"tokenizer.json in {folder} gives token {largest} and the model knows {vocab_size}; "
            "use the tokenizer that was saved with the model"
        )
    return tokens.as_inputs(), f"{size} tokens of English text"


def _images(settings: Any, config: BringupConfig) -> tuple[Call, str]:
    """Normal noise [batch, channels, height, width], as images look after normalisation."""
    size = getattr(settings, "image_size", 224)
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    shape = (config.batch, getattr(settings, "num_channels", 3), height, width)
    generator = torch.Generator().manual_seed(_SEED)
    pixels = torch.randn(shape, generator=generator).to(config.torch_dtype)
    return Call.of({"pixel_values": pixels}), f"{config.batch} random images of {height} × {width}"
