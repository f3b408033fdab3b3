"""Graphs: launches and calls that were recorded in order, and their replay.

In:  what a thread launches while a `Recorder` listens to it, and calls that the recorder's owner adds.
Out: `Graph`, which does the same again on the same memory: each run of launches by one native call.
Errors: `CaptureError`.

A graph keeps all memory alive that its launches were given, and the code of their kernels. It reads and writes that
memory where it was: a replay looks first whether it is still there.
"""

from __future__ import annotations

import itertools
import operator
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from tessera.core.errors import TesseraError
from tessera.runtime.arguments import PackedArgs
from tessera.runtime.chain import Launch, make_chain
from tessera.runtime.loader import loaded_at

Step = Callable[[], None]
_address_of = operator.methodcaller("data_ptr")


class CaptureError(TesseraError, RuntimeError):
    """A capture cannot record what it was given, or a graph cannot be replayed."""


class Recorder:
    """What happens in one capture, in order; it is a listener of `pool`."""

    def __init__(self) -> None:
        self._steps: list[Launch | Step] = []
        self._checks: list[Step] = []
        self._memory: dict[int, Any] = {}
        self._kept: list[Any] = []

    def launched(self, address: int, packed: PackedArgs, grid: tuple[int, int, int]) -> None:
        self._steps.append(Launch(address=address, packed=packed, grid=grid))
        self._kept.append(loaded_at(address))

    def given(self, values: Sequence[Any]) -> None:
        for value in values:
            if isinstance(value, tuple):
                self.given(value)
            elif hasattr(value, "data_ptr"):
                self.hold(value)
            elif hasattr(value, "base"):  # a tensor descriptor
                self.hold(value.base)

    def to_check(self, check: Step) -> None:
        self._checks.append(check)

    def hold(self, tensor: Any) -> None:
        """Keep the memory of `tensor` alive. What is no tensor but has an address is kept as it is."""
        memory = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor
        self._memory.setdefault(memory.data_ptr(), memory)

    def add(self, call: Step) -> None:
        """Record a call that is none of our launches; a replay makes it at this place."""
        self._steps.append(call)

    def mark(self) -> int:
        """A place to `rewind` to."""
        return len(self._steps)

    def rewind(self, mark: int) -> None:
        """Forget the launches and calls since `mark`."""
        del self._steps[mark:]

    def steps(self) -> tuple[list[Step], int, int]:
        """The steps with each run of launches as one chain; the numbers of launches and of calls."""
        joined: list[Step] = []
        launches = 0
        for is_launch, run in itertools.groupby(self._steps, lambda step: isinstance(step, Launch)):
            together: list[Any] = list(run)
            launches += len(together) * is_launch
            joined += [make_chain(together, keep=self._kept)] if is_launch else together
        return joined, launches, len(self._steps) - launches

    def checks(self) -> list[Step]:
        return self._checks

    def memory(self) -> dict[int, Any]:
        return self._memory


class Graph:
    """What a capture recorded.

    `num_launches` of our kernels and `num_calls` of operators that PyTorch runs, as found when the capture ended.
    """

    def __init__(self) -> None:
        self._state = "its capture has not ended yet: replay it after the block"
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._checks: list[Step] = []
        self._around: Callable[[], AbstractContextManager[Any]] = nullcontext
        self._memory: tuple[Any, ...] = ()
        self._addresses: list[int] = []
        self.num_launches = 0
        self.num_calls = 0

    def __repr__(self) -> str:
        return f"Graph({self.num_launches} launches, {self.num_calls} calls)"

    @property
    def num_bytes(self) -> int:
        """Of the memory that it keeps: what its launches and calls were given and what they made, each block once."""
        return sum(memory.nbytes() for memory in self._memory if hasattr(memory, "nbytes"))

    def finish(self, recorder: Recorder, around_calls: Callable[[], AbstractContextManager[Any]]) -> None:
        """Take over what was recorded; a graph with calls is replayed within `around_calls()`.

        Raises `CaptureError` where nothing was recorded.
        """
        self._steps, self.num_launches, self.num_calls = recorder.steps()
        if not self._steps:
            self.fail("nothing was recorded in it")
            raise CaptureError(
                "the capture recorded nothing: no kernel was launched and no operator called on the CPU by the thread "
                "that opened it; call the model inside the block"
            )
        self._around = around_calls if self.num_calls else nullcontext
        self._checks, held = recorder.checks(), recorder.memory()
        self._memory, self._addresses = tuple(held.values()), list(held)
        self._state = ""

    def fail(self, why: str) -> None:
        """Never to be replayed."""
        self._state = f"{why}: capture again"

    def replay(self) -> None:
        """Do everything again, in order, on the memory of the capture; complete when it returns.

        Graphs that share memory must not be replayed at the same time; one graph replayed by two threads waits.
        Raises `CaptureError` where the capture did not end well or where memory of the capture has moved, and what
        kernels and operators raise. After a failed `tl.device_assert` the graph may be replayed again.
        """
        if self._state:
            raise CaptureError(f"the graph cannot be replayed: {self._state}")
        with self._lock:
            if list(map(_address_of, self._memory)) != self._addresses:
                self._complain()
            with self._around():
                for step in self._steps:
                    step()
            if self._checks:
                _check_all(self._checks)

    def _complain(self) -> None:
        moved = sum(memory.data_ptr() != at for memory, at in zip(self._memory, self._addresses, strict=True))
        raise CaptureError(
            f"{moved} of {len(self._memory)} blocks of memory that the graph works on have been freed or moved since "
            "the capture, by resize_ or set_ on a tensor or its storage; write new values with copy_, or capture again"
        )


def _check_all(checks: Iterable[Step]) -> None:
    """Raise the first failure, and let none of the others wait for the next replay."""
    failures = []
    for check in checks:
        try:
            check()
        except TesseraError as error:
            failures.append(error)
    if failures:
        raise failures[0]
