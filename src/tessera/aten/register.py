"""Registration of our entries over PyTorch's CPU operators, and the way back to the vendor's kernel.

Registering on the key CPU keeps PyTorch's autograd: backward formulas call ATen operators, which are rows of the
table as well.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch

from tessera.aten import record
from tessera.ops.declined import Declined
from tessera.ops.table import VARIANTS, Variant

KEY = "CPU"


def _implementation(variant: Variant, vendor: Any) -> Callable[..., Any]:
    """What PyTorch calls for one overload: our entry, or the vendor's kernel where the entry declines."""
    name, call, active, depth = variant.name, variant.call, record.ACTIVE, record.DEPTH
    call_vendor = vendor.call_boxed

    def implementation(keys: Any, *args: Any, **kwargs: Any) -> Any:
        if active:
            return recorded(keys, *args, **kwargs)
        try:
            return call(*args, **kwargs)
        except Declined:
            return call_vendor(keys, *args, **kwargs)

    def recorded(keys: Any, *args: Any, **kwargs: Any) -> Any:
        depth.value += 1
        reason = None
        try:
            try:
                return call(*args, **kwargs)
            except Declined as declined:
                reason = declined.reason
                return call_vendor(keys, *args, **kwargs)
        finally:
            depth.value -= 1
            record.count(name, reason)

    return implementation


def register() -> torch.library.Library:
    """Put every row of the table over the CPU's kernels; `unregister` takes them off again."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # PyTorch warns once that kernels are overridden: that is what was asked for here.
        warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
        for full_name, variant in VARIANTS.items():
            vendor = torch.library.get_kernel(full_name, KEY)
            name, implementation = full_name.removeprefix("aten::"), _implementation(variant, vendor)
            library.impl(name, implementation, KEY, with_keyset=True)  # type: ignore[no-untyped-call]
    return library


def unregister(library: torch.library.Library) -> None:
    """PyTorch's own kernels serve again."""
    library._destroy()  # type: ignore[no-untyped-call]
