"""Registration of our entries over PyTorch's CPU operators, and the way back to the vendor's kernel.

Registering on the key CPU keeps PyTorch's autograd: backward formulas call ATen operators, which are rows of the
table as well. A policy says which overloads are registered; the others stay as they are and cost nothing.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from tessera.aten.policy import Policy
from tessera.aten.serve import implementation
from tessera.aten.vendor import KEY, vendor_of
from tessera.ops.table import VARIANTS


class Registration:
    """What a policy registers, from now until `end`. `served` are the full names of the overloads."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.threads = torch.get_num_threads()
        self.served = policy.registered(self.threads)
        self._library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        with warnings.catch_warnings():
            # PyTorch warns once that kernels are overridden: that is what was asked for here.
            warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
            for full_name in VARIANTS:
                if full_name in self.served:
                    self._register(full_name)
        _registered.append(self)

    def _register(self, full_name: str) -> None:
        served = _implementation(full_name, self.policy)
        self._library.impl(full_name.removeprefix("aten::"), served, KEY, with_keyset=True)  # type: ignore[no-untyped-call]

    def end(self) -> None:
        """PyTorch's own kernels serve again."""
        _registered.remove(self)
        self._library._destroy()  # type: ignore[no-untyped-call]


_registered: list[Registration] = []


@functools.lru_cache(maxsize=4 * len(VARIANTS))
def _implementation(full_name: str, policy: Policy) -> Any:
    """Kept, so that what a policy has chosen outlives a `disable`."""
    variant = VARIANTS[full_name]
    return implementation(variant, vendor_of(full_name), policy.chooser(variant))


def reason_unserved(full_name: str) -> str | None:
    """Why the policy in force leaves an overload of ours unregistered; None where it is registered."""
    if not _registered or full_name in _registered[-1].served:
        return None
    return _registered[-1].policy.standing(full_name, _registered[-1].threads).reason


def is_ours(full_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the policy in force gives this call to us."""
    if not _registered or full_name not in _registered[-1].served:
        return False
    return not _registered[-1].policy.choice(VARIANTS[full_name], args, kwargs).reason
