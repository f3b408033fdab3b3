"""Registration of our entries over PyTorch's CPU operators, and the way back to the vendor's kernel.

Registering on the key CPU keeps PyTorch's autograd: backward formulas call ATen operators, which are rows of the
table as well. A policy says which overloads are registered; the others stay as they are and cost nothing. What turns
out to lose in a program is taken off while it runs.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any

import torch

from tessera.aten.policy import Policy
from tessera.aten.serve import Account, Choice, Implementation, implementation
from tessera.aten.vendor import KEY, vendor_of
from tessera.ops.table import VARIANTS
from tessera.runtime import pool


class Registration:
    """What a policy registers, from now until `end`."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.threads = torch.get_num_threads()
        names = policy.registered(self.threads)
        with warnings.catch_warnings():
            # PyTorch warns once that kernels are overridden: that is what was asked for here.
            warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
            # In the table's order, so that every process does the same.
            self._entries = {name: _Entry(name, policy) for name in VARIANTS if name in names}
        _registered.append(self)
        pool.borrow(pool.Lent.ALWAYS)

    def serves(self, full_name: str) -> bool:
        """Whether an overload is registered now."""
        return full_name in self._entries

    def take_off(self, full_name: str) -> None:
        """PyTorch's own kernel serves this overload again, from the next call on."""
        # The call that asks for it still runs in what is taken off: it must stay in memory.
        _kept.append(torch.library.get_kernel(full_name, KEY))
        self._entries.pop(full_name).end()

    def end(self) -> None:
        """PyTorch's own kernels serve again."""
        _registered.remove(self)
        pool.borrow(pool.Lent.ALWAYS if _registered else pool.Lent.WHILE_AWAKE)
        for entry in self._entries.values():
            entry.end()
        self._entries.clear()


class _Entry:
    """One overload as it is registered: a kernel of Python and, where there can be one, a front before it."""

    def __init__(self, full_name: str, policy: Policy) -> None:
        self._library = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
        served = _implementation(full_name, policy)
        self._library.impl(full_name.removeprefix("aten::"), served.function, KEY)  # type: ignore[no-untyped-call]
        self._front = served.front
        if self._front is not None:
            self._front.attach()

    def end(self) -> None:
        if self._front is not None:
            self._front.detach()
        self._library._destroy()  # type: ignore[no-untyped-call]


_registered: list[Registration] = []
_kept: list[Any] = []


@functools.lru_cache(maxsize=4 * len(VARIANTS))
def _implementation(full_name: str, policy: Policy) -> Implementation:
    """Kept, so that what a policy has chosen outlives a `disable`."""
    variant = VARIANTS[full_name]
    if not policy.chooses:
        return _ours(full_name)
    account = Account(functools.partial(_close, full_name, policy))
    return implementation(variant, vendor_of(full_name), Choice(functools.partial(policy.gain, variant), account))


@functools.cache
def _ours(full_name: str) -> Implementation:
    return implementation(VARIANTS[full_name], vendor_of(full_name))


def _close(full_name: str, policy: Policy) -> None:
    """Take an overload off that loses by a policy, for as long as there is this process."""
    policy.taken_off.add(full_name)
    if _registered and _registered[-1].policy is policy and _registered[-1].serves(full_name):
        _registered[-1].take_off(full_name)


def reason_unserved(full_name: str) -> str | None:
    """Why the policy in force leaves an overload of ours unregistered; None where it is registered."""
    if not _registered or _registered[-1].serves(full_name):
        return None
    return _registered[-1].policy.standing(full_name, _registered[-1].threads).reason


def is_ours(full_name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the policy in force gives this call to us."""
    if not _registered or not _registered[-1].serves(full_name):
        return False
    return not _registered[-1].policy.choice(VARIANTS[full_name], args, kwargs).reason
