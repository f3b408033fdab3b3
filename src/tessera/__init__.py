"""Tessera: one AI software stack for every chip.

`tessera.check(candidate, inputs)` finds the layer and the operator that is wrong.

`tessera.enable()` and `tessera.disable()` switch our operators on and off over PyTorch's, and `with tessera.use() as
record:` does so for a block and counts what ran where; `tessera.explain_choice(op, …)` says whose kernel serves a call
and why. `with tessera.capture() as graph:` records what a block computes
on the CPU, and `graph.replay()` does it again without Python. `import tessera` alone imports neither torch nor triton.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tessera.accuracy.check import check
    from tessera.aten.capture import capture
    from tessera.aten.explain import explain_choice
    from tessera.aten.switch import disable, enable, use

__version__ = "0.1.0"
__all__ = ["__version__", "capture", "check", "disable", "enable", "explain_choice", "use"]


_PLACES = {
    "capture": "tessera.aten.capture", "check": "tessera.accuracy.check",
    "explain_choice": "tessera.aten.explain",
    "disable": "tessera.aten.switch", "enable": "tessera.aten.switch", "use": "tessera.aten.switch",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tessera' has no attribute {name!r}")
    import importlib

    from tessera.core.collector import collector_paused

    with collector_paused():
        return getattr(importlib.import_module(_PLACES[name]), name)
