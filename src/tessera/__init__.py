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


def __getattr__(name: str) -> Any:
    if name == "capture":
        from tessera.aten.capture import capture

        return capture
    if name == "check":
        from tessera.accuracy.check import check

        return check
    if name == "explain_choice":
        from tessera.aten.explain import explain_choice

        return explain_choice
    if name in ("enable", "disable", "use"):
        from tessera.aten import switch

        return getattr(switch, name)
    raise AttributeError(f"module 'tessera' has no attribute {name!r}")
