"""Switching our operators on and off: `enable`, `disable`, `use`.

The switch is of the process, not of the thread: PyTorch's registry is. Switching is guarded by a lock; operators that
run in other threads meanwhile run on either kernel. The policy in force is that of the innermost open `use` block, else
the one that `enable` was given.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from tessera.aten import record, register
from tessera.aten.policy import MEASURED, Names, Policy, make_policy
from tessera.core.collector import collector_paused

_lock = threading.RLock()


class _State:
    """The policy that `enable` was given, those of the open `use` blocks, and the registration that follows."""

    enabled: Policy | None = None
    pauses = 0
    registration: register.Registration | None = None

    def __init__(self) -> None:
        self.blocks: list[use] = []

    @property
    def policy(self) -> Policy | None:
        """The policy in force; None where nothing is switched on."""
        return self.blocks[-1].policy if self.blocks else self.enabled

    @collector_paused()
    def settle(self) -> None:
        """Register what the policy in force wants, where something else is registered."""
        wanted = self.policy if self.pauses == 0 else None
        held = self.registration.policy if self.registration is not None else None
        if wanted is held:
            return
        if self.registration is not None:
            registration, self.registration = self.registration, None
            registration.end()
        if wanted is not None:
            self.registration = register.Registration(wanted)


_state = _State()


def enable(policy: str | Path = MEASURED, *, only: Names = None, exclude: Names = None) -> None:
    """Run PyTorch's CPU operators on our kernels, as the policy says, until `disable`. Calling it again changes the
    policy.

    Args:
        policy: `"measured"`: each call on the kernel that was measured to be faster, PyTorch's where nothing was.
            `"always"`: ours wherever there is one. Or the path of a table that `tessera tune` wrote.
        only, exclude: names of operators ("add", "aten::mm", "convolution*"), one or several.

    The number of threads should be set before: which operators are worth it depends on it.

    Raises: UsageError for a name that fits no operator of ours, with those near to it, and for a table that is none.
    """
    made = make_policy(policy, only, exclude)
    with _lock:
        _state.enabled = made
        _state.settle()


def disable() -> None:
    """Undo `enable`. Open `use` blocks stay on until they end."""
    with _lock:
        _state.enabled = None
        _state.settle()


@contextmanager
def paused() -> Iterator[None]:
    """Within it, PyTorch's own kernels serve, also where `enable` was called or a `use` block is open."""
    with _lock:
        _state.pauses += 1
        _state.settle()
    try:
        yield
    finally:
        with _lock:
            _state.pauses -= 1
            _state.settle()


def policy_in_force() -> Policy | None:
    """What the switch says now; None where nothing is switched on."""
    return _state.policy


class use:
    """`with tessera.use() as record:` switches our operators on for the block and counts what ran where.

    Arguments are those of `enable`, and `counted`: False to count nothing, for a block that is to be as fast as after
    `enable`, since to count a call takes several microseconds. Its record has no numbers, and says so when asked.

    Blocks may be nested: each record counts what ran inside its own block, and the innermost block's policy is in
    force. A block must be left in the thread that entered it.
    """

    def __init__(
        self, policy: str | Path = MEASURED, *, only: Names = None, exclude: Names = None, counted: bool = True
    ) -> None:
        self.policy = make_policy(policy, only, exclude)
        self._counted = counted

    def __enter__(self) -> record.Record:
        self._record = record.Record(self._counted)
        self._watch = record.Watch(register.reason_unserved) if self._counted and not record.ACTIVE else None
        with _lock:
            _state.blocks.append(self)
            _state.settle()
            if self._counted:
                record.ACTIVE.append(self._record)
        if self._watch is not None:
            self._watch.__enter__()  # type: ignore[no-untyped-call]
        return self._record

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        with _lock:
            if self._counted:
                record.ACTIVE.remove(self._record)
            _state.blocks.remove(self)
            _state.settle()
