"""The overloads that PyTorch tags as core, and those of them that no family serves."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import torch

from tessera.ops.table import VARIANTS


@dataclass(frozen=True)
class Core:
    """Names of overloads: `served` by ours; `views`, which move nothing; `composed` of others; and the `rest`."""

    served: tuple[str, ...]
    views: tuple[str, ...]
    composed: tuple[str, ...]
    rest: tuple[str, ...]


@functools.cache
def core() -> Core:
    operators = {variant.overload._schema.name for variant in VARIANTS.values()}
    groups: dict[str, list[str]] = {"served": [], "views": [], "composed": [], "rest": []}
    for overload in _tagged():
        name = overload._name.removeprefix("aten::")
        groups[_group(overload, overload._schema.name in operators)].append(name)
    return Core(**{group: tuple(sorted(names)) for group, names in groups.items()})


def _tagged() -> list[Any]:
    found = []
    for full_name in torch._C._dispatch_get_all_op_names():
        name, _, overload = full_name.removeprefix("aten::").partition(".")
        packet = getattr(torch.ops.aten, name, None) if full_name.startswith("aten::") else None
        operator = getattr(packet, overload or "default", None)
        if operator is not None and torch.Tag.core in operator.tags:
            found.append(operator)
    return found


def _group(overload: Any, served: bool) -> str:
    if served:
        return "served"
    if overload.is_view:
        return "views"
    composed = torch._C._dispatch_has_kernel_for_dispatch_key(overload._name, "CompositeImplicitAutograd")
    return "composed" if composed else "rest"
