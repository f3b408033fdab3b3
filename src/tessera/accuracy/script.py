"""A script that shows a fault by itself: the guilty operator on its very inputs, which lie beside it in one file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.utils._pytree import tree_map

from tessera.accuracy.capture.source import text_of
from tessera.accuracy.capture.store import save_tensors
from tessera.accuracy.result import Culprit, Exhibit, OpCall

_HEAD = '''"""{summary}

The tensors are in {tensors}. It needs torch and safetensors, nothing else.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

t = load_file(Path(__file__).with_name({tensors!r}))


def show(name, value, wanted):
    value = value[0] if isinstance(value, (tuple, list)) else value
    if value.shape != wanted.shape:
        print(f"{{name}}: {{list(value.shape)}} instead of {{list(wanted.shape)}}")
        return
    off = (value.double() - wanted.double()).abs()
    size = wanted.double().abs().clamp_min(1e-300)
    print(f"{{name}}: {{int((off > 0).sum())}} of {{off.numel()}} elements differ,", end=" ")
    print(f"largest difference {{float(off.max()):.3g}}, largest relative one {{float((off / size).max()):.3g}}")


'''


def write_script(path: Path, culprit: Culprit, exhibit: Exhibit) -> None:
    """Write the script, and beside it, as `NAME.safetensors`, its tensors."""
    tensors: dict[str, torch.Tensor] = {}
    lines = [_HEAD.format(summary=_summary(culprit), tensors=path.with_suffix(".safetensors").name)]
    if exhibit.got is not None and exhibit.wanted is not None:
        tensors["got"], tensors["wanted"] = exhibit.got, exhibit.wanted
        lines.append('show("the candidate\'s tensor", t["got"], t["wanted"])\n')
    for name, call in (("ours", exhibit.ours), ("theirs", exhibit.theirs)):
        if call is not None:
            lines.append(_call(name, call, tensors))
    if exhibit.ours is not None:
        lines.append(_show("candidate", "ours", exhibit))
    if exhibit.theirs is not None:
        lines.append(_show("reference", "theirs", exhibit))
    save_tensors(path.with_suffix(".safetensors"), tensors)
    path.write_text("".join(lines), encoding="utf-8")


def _show(side: str, name: str, exhibit: Exhibit) -> str:
    words = f"the {side}'s call, run here"
    return f'print("{words}:", {name})\n' if exhibit.wanted is None else f'show("{words}", {name}, t["wanted"])\n'


def _summary(culprit: Culprit) -> str:
    text = text_of(culprit.source)
    line = f"\n    {culprit.source}\n    {text}\n" if text else ""
    words = f"{culprit.operator} in {culprit.module}: {culprit.kind}.\n{line}\n{culprit.where}"
    return words.replace("\\", "/").replace('"""', "'''")


def _call(name: str, call: OpCall, tensors: dict[str, torch.Tensor]) -> str:
    """One call as source, its tensors added to the file's."""
    func, args, kwargs = call

    def spell(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor):
            return _Word(_literal(leaf))
        key = f"{name}_{sum(key.startswith(name) for key in tensors)}"
        tensors[key] = leaf
        return _Word(f't["{key}"]')

    words = [repr(tree_map(spell, value)) for value in args]
    words += [f"{key}={tree_map(spell, value)!r}" for key, value in kwargs.items()]
    return f"{name} = torch.ops.{func}({', '.join(words)})\n"


def _literal(value: object) -> str:
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    if isinstance(value, float) and value in (float("inf"), -float("inf")):
        return f'float("{value}")'
    return repr(value)


class _Word(str):
    def __repr__(self) -> str:
        return str(self)
