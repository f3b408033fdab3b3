"""Putting a fault of the table into a model."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from faultlab import parts
from faultlab.faults import Fault

# Roles of the table that are met by some parts of a role only.
_NARROW = {
    "square linear": lambda part: part.role == "linear" and part.weight.shape[0] == part.weight.shape[1],
    "int8 linear": lambda part: isinstance(part, parts.QuantizedLinear),
    "weight": lambda part: part.role in ("linear", "conv"),
    "causal attention": lambda part: part.role == "attention" and part.causal,
    "encoder attention": lambda part: part.role == "attention" and not part.causal,
    "unit conv": lambda part: part.role == "conv" and part.stride == 1,
}


def sites(model: nn.Module, fault: Fault) -> list[str]:
    """The parts of a model that a fault can be put into."""
    fits = _NARROW.get(fault.role, lambda part: part.role == fault.role)
    return [name for name, part in model.named_modules() if isinstance(part, parts.Part) and fits(part)]


def plant(model: nn.Module, fault: Fault, site: str) -> None:
    """Make one part of a model wrong."""
    part: Any = model.get_submodule(site)
    if fault.role == "weight":
        weight = part.weight.data
        flat = weight.view(-1)
        middle = flat.numel() // 2
        flat[middle] = (
            (64 if int(flat[middle]) < 0 else -64) if weight.dtype == torch.int8 else flat[middle] * 1.5 + 0.25
        )
        return
    part.compute = fault.make(part, part.compute)
