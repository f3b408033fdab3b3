"""What the library adds to an operator on tiny tensors: the same call with the library switched on and off.

The target: at most 3 µs over PyTorch's own, as the median of these operators.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

import tessera
from benchmarks.case import Call
from tessera.bench.markdown import significant
from tessera.bench.turns import Effort, Side, take_turns

MOST_US = 3.0
_ROWS, _WIDTH = 4, 16


@contextmanager
def switched_on(policy: str = "always") -> Iterator[None]:
    """Our kernels under PyTorch's operators, without the counting of `tessera.use`; by default wherever we have one."""
    tessera.enable(policy)
    try:
        yield
    finally:
        tessera.disable()


def calls() -> Mapping[str, Call]:
    """The operators on [4, 16], and a product of two [16, 16]."""
    x, y = torch.randn(_ROWS, _WIDTH), torch.randn(_ROWS, _WIDTH)
    square = torch.randn(_WIDTH, _WIDTH)
    weight, bias = torch.randn(_WIDTH), torch.randn(_WIDTH)
    return {
        "add": lambda: torch.add(x, y),
        "mul": lambda: torch.mul(x, y),
        "relu": lambda: torch.relu(x),
        "sum": lambda: torch.sum(x, -1),
        "softmax": lambda: torch.softmax(x, -1),
        "layer_norm": lambda: functional.layer_norm(x, (_WIDTH,), weight, bias),
        "mm": lambda: torch.mm(square, square),
    }


def measure(effort: Effort, policy: str = "always") -> list[dict[str, Any]]:
    """A row an operator, and last the median of what is added. One thread: the tensors are too small for more."""
    torch.set_num_threads(1)
    work = calls()
    timings = take_turns({"off": Side(calls=work), "on": Side(calls=work, context=lambda: switched_on(policy))}, effort)
    rows = []
    for name in work:
        on, off = timings["on"][name], timings["off"][name]
        added = statistics.median(a - b for a, b in zip(on.rounds_s, off.rounds_s, strict=True))
        rows.append(_row(name, on.median_s, off.median_s, added))
    median = {key: statistics.median(row[key] for row in rows) for key in ("on_us", "off_us", "added_us")}
    met = median["added_us"] <= MOST_US
    return [*rows, {"operator": "median", **median, "target": f"≤ {MOST_US:g} µs", "met": met}]


def _row(name: str, on_s: float, off_s: float, added_s: float) -> dict[str, Any]:
    figures = {"on_us": on_s, "off_us": off_s, "added_us": added_s}
    return {"operator": name, **{key: significant(1e6 * value) for key, value in figures.items()}}
