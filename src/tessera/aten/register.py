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
    call_vendor = vendor

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


def _vendor(full_name: str) -> Callable[..., Any]:
    """The vendor's kernel for an overload; takes dispatch keys first.

    A few backward operators have none on the CPU, because there PyTorch differentiates the parts of the forward
    operator instead. Their decomposition serves.
    """
    try:
        return torch.library.get_kernel(full_name, KEY).call_boxed
    except RuntimeError:
        overload = getattr(torch.ops.aten, full_name.removeprefix("aten::").partition(".")[0]).default
        decomposed = torch._decomp.get_decompositions([overload])[overload]
        return lambda keys, *args, **kwargs: decomposed(*args, **kwargs)


def register() -> torch.library.Library:
    """Put every row of the table over the CPU's kernels; `unregister` takes them off again."""
    library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        # PyTorch warns once that kernels are overridden: that is what was asked for here.
        warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
        for full_name, variant in VARIANTS.items():
            name, implementation = full_name.removeprefix("aten::"), _implementation(variant, _vendor(full_name))
            library.impl(name, implementation, KEY, with_keyset=True)  # type: ignore[no-untyped-call]
    return library


def unregister(library: torch.library.Library) -> None:
    """PyTorch's own kernels serve again."""
    library._destroy()  # type: ignore[no-untyped-call]
