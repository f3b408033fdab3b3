"""Switching our operators on and off: `enable`, `disable`, `use`.

The switch is of the process, not of the thread: PyTorch's registry is. Switching is guarded by a lock; operators that
run in other
threads meanwhile run on either kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import torch

from tessera.aten import record, register
from tessera.ops.table import VARIANTS

_lock = threading.RLock()


class _State:
    """Whether `enable` was called, how many `use` blocks are open, and the registration that follows from both."""

    enabled = False
    blocks = 0
    pauses = 0
    library: torch.library.Library | None = None

    def settle(self) -> None:
        wanted = (self.enabled or self.blocks > 0) and self.pauses == 0
        if wanted and self.library is None:
            self.library = register.register()
        elif not wanted and self.library is not None:
            library, self.library = self.library, None
            register.unregister(library)


_state = _State()


def enable() -> None:
    """Run PyTorch's CPU operators on our kernels, where there is one, until `disable`. Calling it again changes
    nothing."""
    with _lock:
        _state.enabled = True
        _state.settle()


def disable() -> None:
    """Undo `enable`. Open `use` blocks stay on until they end."""
    with _lock:
        _state.enabled = False
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


class use:
    """`with tessera.use() as record:` switches our operators on for the block and counts what ran where.

    Blocks may be nested: each record counts what ran inside its own block. A block must be left in the thread that
    entered it.
    """

    def __enter__(self) -> record.Record:
        self._record = record.Record()
        self._watch = record.Watch(frozenset(VARIANTS)) if not record.ACTIVE else None
        with _lock:
            _state.blocks += 1
            _state.settle()
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
            record.ACTIVE.remove(self._record)
            _state.blocks -= 1
            _state.settle()
