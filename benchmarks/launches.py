"""What a launch costs: a kernel that does nothing, with five arguments, by every way that leads to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton

import tessera
from tessera.bench import turns
from tessera.bench.markdown import significant
from tessera.bench.turns import Effort, Side
from tessera.ops import launch as library
from tessera.runtime import pool
from tessera.runtime.arguments import make_packer

MOST_US = 3.0
MOST_REPLAY_US = 0.3
_PROGRAMS = 64
_REPLAYED = 100


@triton.jit
def empty(x, y, z, n, m):  # type: ignore[no-untyped-def]
    """Nothing, for five arguments."""


def measure(threads: Sequence[int], effort: Effort) -> list[dict[str, Any]]:
    """A row for each way and grid: microseconds a launch."""
    tensors, numbers = [torch.empty(16) for _ in range(3)], (5, 7)
    arguments = (*tensors, *numbers)
    compiled = empty[(1,)](*arguments)
    address, pack = compiled.function, make_packer(tuple(compiled.src.signature.values()))
    packed = pack(arguments)
    rows = []
    for programs, count in ((1, 1), *((_PROGRAMS, count) for count in threads)):
        torch.set_num_threads(count)
        grid = (programs,)
        ways = {
            "Triton's own launch": lambda grid=grid: empty[grid](*arguments),
            "the operator library's": lambda grid=grid: library.launch(empty, grid, *arguments),
            "the runtime's, packing the arguments": lambda n=programs: pool.launch(address, pack(arguments), n, 1, 1),
            "the runtime's, packed arguments": lambda n=programs: pool.launch(address, packed, n, 1, 1),
        }
        with tessera.capture() as graph:
            for _ in range(_REPLAYED):
                empty[grid](*arguments)
        replay = {"a graph's replay, a kernel": graph.replay}
        timings = turns.take_turns({"": Side(calls={**ways, **replay})}, effort)[""]
        rows += [_row(way, programs, count, 1e6 * timings[way].median_s, MOST_US) for way in ways]
        rows += [_row(way, programs, count, 1e6 * timings[way].median_s / _REPLAYED, MOST_REPLAY_US) for way in replay]
    return rows


def _row(way: str, programs: int, threads: int, us: float, most_us: float) -> dict[str, Any]:
    return {
        "way": way, "programs": programs, "threads": threads, "us": significant(us),
        "target": f"≤ {most_us:g} µs", "met": us <= most_us,
    }  # fmt: skip
