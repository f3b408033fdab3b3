"""Registration of our entries over PyTorch's CPU operators, and the way back to the vendor's kernel.

Registering on the key CPU keeps PyTorch's autograd: backward formulas call ATen operators, which are rows of the
table as well.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch

from tessera.aten.serve import implementation
from tessera.aten.vendor import KEY, vendor_of
from tessera.ops.table import VARIANTS

_registered: list[torch.library.Library] = []


def register() -> torch.library.Library:
    """Put every row of the table over the CPU's kernels; `unregister` takes them off again."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # PyTorch warns once that kernels are overridden: that is what was asked for here.
        warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
        for full_name in VARIANTS:
            name, served = full_name.removeprefix("aten::"), _served(full_name)
            library.impl(name, served, KEY, with_keyset=True)  # type: ignore[no-untyped-call]
    _registered.append(library)
    return library


@functools.cache
def _served(full_name: str) -> Callable[..., Any]:
    """What serves an overload; made once, because making them all is most of what switching costs."""
    return implementation(VARIANTS[full_name], vendor_of(full_name))


def is_registered() -> bool:
    """Whether our kernels serve now."""
    return bool(_registered)


def unregister(library: torch.library.Library) -> None:
    """PyTorch's own kernels serve again."""
    _registered.remove(library)
    library._destroy()  # type: ignore[no-untyped-call]
