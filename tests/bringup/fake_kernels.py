"""A switch over the vendor's own kernels, so that the job is tested without ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode

Change = Callable[[str, object], object]


@dataclass
class Count:
    ours: int = 0
    vendor: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass
class Record:
    calls: dict[str, Count] = field(default_factory=dict)


class _Mode(TorchDispatchMode):
    """Passes every operator on, counts it if asked, and lets the test change its result."""

    def __init__(self, switch: FakeKernels, record: Record | None) -> None:
        super().__init__()
        self.switch, self.record = switch, record

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        name = func._name.removeprefix("aten::")
        result = func(*args, **(kwargs or {}))
        if self.record is not None and not func.is_view:
            count = self.record.calls.setdefault(name, Count())
            reason = self.switch.to_vendor.get(name)
            if reason is None:
                count.ours += 1
            else:
                count.vendor += 1
                count.reasons[reason] = count.reasons.get(reason, 0) + 1
        return self.switch.change(name, result) if self.switch.change else result


class FakeKernels:
    """The vendor's kernels in the role of ours. `to_vendor`: operators said to fall back; `change`: planted faults."""

    def __init__(self, *, to_vendor: Mapping[str, str] | None = None, change: Change | None = None) -> None:
        self.to_vendor = dict(to_vendor or {})
        self.change = change
        self.switched: Counter[str] = Counter()
        self._mode: _Mode | None = None

    def enable(self) -> None:
        self.switched["enable"] += 1
        if self._mode is None:
            self._mode = _Mode(self, None)
            self._mode.__enter__()

    def disable(self) -> None:
        self.switched["disable"] += 1
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None

    def paused(self) -> AbstractContextManager[None]:
        # Whoever pauses has put all modes aside.
        return nullcontext()

    @contextmanager
    def use(self) -> Iterator[Record]:
        record = Record()
        with _Mode(self, record):
            yield record
