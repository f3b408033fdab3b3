"""The tree of modules, coloured by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from tessera.accuracy.result import Culprit, Layer

_ORDER = (
    "exact",
    "rounding",
    "layout",
    "suspicious",
    "overflow",
    "underflow",
    "non-finite",
    "non-deterministic",
    "wrong",
)


@dataclass
class _Node:
    worst: str = "exact"
    children: dict[str, _Node] = field(default_factory=dict)


def module_tree(layers: Sequence[Layer], culprit: Culprit | None) -> str:
    """Nested lists that open at the culprit; empty if there are no layers."""
    root = _Node()
    for layer in layers:
        _add(root, layer.name.split("#")[0].split("[")[0], layer.verdict)
    if culprit is not None:
        _add(root, culprit.module, "wrong")
    if not root.children:
        return ""
    guilty = culprit.module if culprit is not None else ""
    inner = "".join(_draw(name, name, node, guilty) for name, node in root.children.items() if name != "(model)")
    return f'<section><h2>Modules</h2><div class="tree">{inner}</div></section>'


def _add(root: _Node, name: str, verdict: str) -> None:
    node = root
    for word in name.split("."):
        node = node.children.setdefault(word, _Node())
        node.worst = max(node.worst, verdict, key=_ORDER.index)


def _draw(name: str, path: str, node: _Node, guilty: str) -> str:
    mark = " ◀ culprit" if path == guilty else ""
    label = f'<span class="{node.worst}">{escape(name)}</span> {node.worst}{mark}'
    if not node.children:
        return f'<div class="leaf">{label}</div>'
    inner = "".join(_draw(word, f"{path}.{word}", child, guilty) for word, child in node.children.items())
    opened = " open" if guilty.startswith(path) and guilty else ""
    return f"<details{opened}><summary>{label}</summary>{inner}</details>"
