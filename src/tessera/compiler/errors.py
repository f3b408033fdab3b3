"""What the compiler says when it cannot go on: every fault of a pass at once, each with its place in the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tessera.ir.nodes import Location


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong or not supported, and where the user wrote it."""

    message: str
    location: Location | None = None

    def __str__(self) -> str:
        return f"{self.location}: {self.message}" if self.location else self.message


class LoweringError(Exception):
    """A kernel that the CPU compiler cannot compile. `faults` holds all that one pass found."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = list(faults)

    def __reduce__(self) -> tuple[type[LoweringError], tuple[list[Fault]]]:
        return (type(self), (self.faults,))


def internal(error: Exception, location: Location | None = None) -> LoweringError:
    """An error that is the compiler's own fault, told as such. The original stays its cause."""
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    return fail(f"the CPU compiler itself failed here ({what}); please report this with the kernel", location)


def fail(message: str, location: Location | None = None) -> LoweringError:
    """An error of a single fault."""
    return LoweringError([Fault(message, location)])
