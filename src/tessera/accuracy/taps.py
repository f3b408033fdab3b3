"""Seeing every layer's output: forward hooks on all modules, named and numbered in order of completion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from tessera.accuracy.call import floating_tensors

ROOT = "(model)"


@dataclass(frozen=True, kw_only=True)
class Tap:
    """One floating output. `name` is the module's, `#2` marks its second call, `[0]` a part; `kind` is its class."""

    name: str
    kind: str
    tensor: torch.Tensor


@contextmanager
def taps(model: nn.Module, sink: Callable[[Tap], None]) -> Iterator[None]:
    """Within it, `sink` gets every floating output of every module call; afterwards the hooks are gone."""
    calls: Counter[str] = Counter()

    def hook_for(name: str, kind: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_module: nn.Module, _inputs: object, output: object) -> None:
            calls[name] += 1
            numbered = name if calls[name] == 1 else f"{name}#{calls[name]}"
            for path, tensor in floating_tensors(output):
                sink(Tap(name=numbered + path, kind=kind, tensor=tensor.detach()))

        return hook

    handles = []
    try:
        for name, module in model.named_modules():
            handles.append(module.register_forward_hook(hook_for(name or ROOT, type(module).__name__)))
        yield
    finally:
        for handle in handles:
            handle.remove()
