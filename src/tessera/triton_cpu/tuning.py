"""How long a call takes, for Triton's autotuner: `triton.testing.do_bench`, without measuring one thing many times.

Configurations that authors list for GPUs differ mostly in warps and stages, which mean nothing here: they have the same
machine code, and are measured once. A call that fills the time of all repetitions by itself is measured by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from tessera.runtime import pool
from tessera.runtime.arguments import PackedArgs
from tessera.runtime.loader import loaded_at

Launches: TypeAlias = tuple[tuple[int, PackedArgs, tuple[int, int, int]], ...]
"""(hash of the machine code, arguments, grid) of each launch of a call, in order."""

# A machine is not the same for long; one tuning seldom takes longer.
_REMEMBERED_S = 60.0


class Benchmarker:
    """Takes what `triton.testing.do_bench` takes, and returns milliseconds as it does.

    A call is known by its launches, as those of the autotuner are; what else it does is not looked at.
    """

    def __init__(self) -> None:
        self._known: dict[Any, tuple[float, Any]] = {}

    def __call__(
        self, fn: Callable[[], Any], warmup: float = 25, rep: float = 100, grad_to_none: Any = None,
        quantiles: Sequence[float] | None = None, return_mode: str = "mean",
    ) -> Any:  # fmt: skip
        from triton.testing import do_bench

        def measured() -> Any:
            return do_bench(fn, warmup, rep, grad_to_none, quantiles, return_mode)

        if pool.listener() is not None or grad_to_none is not None:
            return measured()
        launches = _launches(fn)
        if not launches:
            return measured()
        key = (launches, torch.get_num_threads(), rep, quantiles and tuple(quantiles), return_mode)
        now = time.monotonic()
        self._known = {key: entry for key, entry in self._known.items() if now - entry[0] < _REMEMBERED_S}
        if key not in self._known:
            found = _of_one_call(_milliseconds(fn), rep, quantiles, return_mode)
            self._known[key] = (now, measured() if found is None else found)
        return self._known[key][1]


def _of_one_call(took: float, rep: float, quantiles: Sequence[float] | None, return_mode: str) -> Any:
    """The result where one call takes as long as all repetitions should, else None."""
    if took < rep:
        return None
    if quantiles is not None:
        return took if len(quantiles) == 1 else [took] * len(quantiles)
    return [took] if return_mode == "all" else took


def _milliseconds(fn: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    fn()
    return (time.perf_counter() - begun) * 1e3


class _Recorder:
    """A listener of `pool`."""

    def __init__(self) -> None:
        self.launches: list[tuple[int, PackedArgs, tuple[int, int, int]]] = []

    def launched(self, address: int, packed: PackedArgs, grid: tuple[int, int, int]) -> None:
        kernel = loaded_at(address)
        self.launches.append((kernel.digest if kernel else address, packed, grid))

    def given(self, values: Sequence[Any]) -> None:
        """Whose memory it is does not matter."""

    def to_check(self, check: Callable[[], None]) -> None:
        """The launch checks by itself."""


def _launches(fn: Callable[[], Any]) -> Launches:
    """What one call launches on this thread; the call compiles and warms up as well."""
    recorder = _Recorder()
    pool.listen(recorder)
    try:
        fn()
    finally:
        pool.listen(None)
    return tuple(recorder.launches)
