"""Which operators one forward call makes, on whose kernels they ran, and how long each takes on either."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.call import Call
from tessera.aten.record import NOT_COMPUTE
from tessera.bringup.kernels import Kernels, switched_on
from tessera.bringup.result import Operators, OperatorTime, VendorCalls


def count_operators(model: nn.Module, call: Call, kernels: Kernels) -> Operators:
    """Run once within `use()` and count; operators with the most vendor calls come first."""
    call = call.copy()
    with kernels.use() as record:
        call.run(model)
    counts = record.calls
    vendor = [
        VendorCalls(name=name, calls=calls, reason=reason)
        for name, count in counts.items()
        for reason, calls in count.reasons.items()
    ]
    return Operators(
        calls=sum(count.ours + count.vendor for count in counts.values()),
        ours=sum(count.ours for count in counts.values()),
        vendor=tuple(sorted(vendor, key=lambda row: (-row.calls, row.name))),
    )


def time_operators(model: nn.Module, call: Call, kernels: Kernels, *, rounds: int) -> tuple[OperatorTime, ...]:
    """Milliseconds an operator takes in one forward call, on the vendor's kernels and on ours; slowest first.

    A dispatch mode reads the clock around every operator, so what runs between operators (the model's own Python) is
    not in it, and both sides pay the same few microseconds a call. The two take turns, and medians are taken, because
    the machine may change speed at any time.
    """
    sides: dict[str, Callable[[], AbstractContextManager[None]]] = {
        "vendor": nullcontext,
        "ours": lambda: switched_on(kernels),
    }
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    calls: Mapping[str, int] = {}
    for turn in range(rounds):
        for side in sides if turn % 2 == 0 else reversed(sides):
            clock = _Clock()
            copied = call.copy()
            with sides[side](), clock:
                copied.run(model)
            samples[side].append(clock.seconds)
            calls = clock.calls
    rows = [
        OperatorTime(
            name=name,
            calls=calls[name],
            vendor_ms=_median_ms(samples["vendor"], name),
            ours_ms=_median_ms(samples["ours"], name),
        )
        for name in calls
    ]
    return tuple(sorted(rows, key=lambda row: -max(row.vendor_ms, row.ours_ms)))


def _median_ms(samples: Sequence[Mapping[str, float]], name: str) -> float:
    return 1e3 * statistics.median(sample.get(name, 0.0) for sample in samples)


class _Clock(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the seconds and the calls of every compute operator, by its name as `add.Tensor`."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds: dict[str, float] = defaultdict(float)
        self.calls: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operator and note how long it took."""
        name = func._name
        start = time.perf_counter()
        result: object = func(*args, **(kwargs or {}))
        elapsed = time.perf_counter() - start
        if not func.is_view and name not in NOT_COMPUTE:
            self.seconds[name.removeprefix("aten::")] += elapsed
            self.calls[name.removeprefix("aten::")] += 1
        return result
