"""What the job needs of the switch that puts our kernels under PyTorch's operators; tests pass their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class OperatorCount(Protocol):
    """Calls of one operator: on our kernels, on the vendor's, and for the latter how many for which reason."""

    @property
    def ours(self) -> int: ...

    @property
    def vendor(self) -> int: ...

    @property
    def reasons(self) -> Mapping[str, int]: ...


class Record(Protocol):
    """What ran within one `use()`, by operator name."""

    @property
    def calls(self) -> Mapping[str, OperatorCount]: ...


class Kernels(Protocol):
    """The switch. `use()` records and costs time for it; `enable()` and `disable()` do not."""

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    # A property, because a module may have a class of this name as well as a function.
    @property
    def use(self) -> Callable[[], AbstractContextManager[Record]]: ...


@contextmanager
def switched_on(kernels: Kernels) -> Iterator[None]:
    """Within it, operators run on our kernels where we have one; nothing is recorded."""
    kernels.enable()
    try:
        yield
    finally:
        kernels.disable()
