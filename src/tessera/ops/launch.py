"""The one way from an entry to a compiled kernel."""

from __future__ import annotations

from typing import Any


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run `kernel` over `grid` (1 to 3 sizes); `args` in the kernel's order, `constants` its constexpr parameters."""
    kernel[grid](*args, **constants)
