"""What the job needs of the switch that puts our kernels under PyTorch's operators; tests pass their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """The switch. `use()` records and costs time for it; `enable()` and `disable()` do not.

    Within `paused()` PyTorch's own kernels serve, whatever is on.
    """

    def enable(self) -> None: ...

    def disable(self) -> None: ...

    def use(self) -> AbstractContextManager[Record]: ...

    def paused(self) -> AbstractContextManager[None]: ...


class OurKernels:
    """The switch of `tessera.aten`, imported where it is used: it brings PyTorch and Triton with it.

    The job asks whether the model runs on our kernels and is right there, so every call that we have a kernel for is
    ours, also where PyTorch's is faster.
    """

    def enable(self) -> None:
        """Our kernels under PyTorch's operators."""
        from tessera.aten import switch

        switch.enable("always")

    def disable(self) -> None:
        """PyTorch's own again."""
        from tessera.aten import switch

        switch.disable()

    def use(self) -> AbstractContextManager[Record]:
        """Ours for a block, and a record of what ran where."""
        from tessera.aten import switch

        return switch.use("always")

    def paused(self) -> AbstractContextManager[None]:
        """PyTorch's own for a block."""
        from tessera.aten import switch

        return switch.paused()


@contextmanager
def switched_on(kernels: Kernels) -> Iterator[None]:
    """Within it, operators run on our kernels where we have one; nothing is recorded."""
    kernels.enable()
    try:
        yield
    finally:
        kernels.disable()
