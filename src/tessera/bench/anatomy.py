"""Where the time of a slow call goes: what of it is our kernels, how many there are, and what memory they go through.

The call is captured, which gives its launches and all memory that they work on, and the capture is replayed in turns
with the call itself: a replay is one native call for all launches, so what a call takes beyond it is spent outside our
kernels, in Python, in planning and in making tensors.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch

from tessera.aten.capture import capture
from tessera.aten.policy import Policy, make_policy
from tessera.aten.switch import paused
from tessera.bench.markdown import significant
from tessera.bench.measure import registered
from tessera.bench.ops import OpsConfig, calls_of, named, policy_of
from tessera.bench.samples import Sample
from tessera.bench.turns import Effort, Side, take_turns

Row = dict[str, Any]
WORST = 10
# What makes a row of a run one call.
KEY = ("operator", "layout", "size", "dtype", "threads")


def worst(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows that lose most, the worst first."""
    return sorted(rows, key=lambda row: float(row["ratio"]))[:WORST]


def dissect(rows: Sequence[Mapping[str, Any]], config: OpsConfig) -> Iterator[Row]:
    """The anatomy of each of `rows`, or the failure to find it, with what names it.

    Nothing of ours may be switched on meanwhile.
    """
    before, policy = torch.get_num_threads(), make_policy(config.policy)
    try:
        with paused():
            for row in rows:
                torch.set_num_threads(row["threads"])
                yield {**{key: row[key] for key in KEY}, **_found(_sample(row), policy, config.effort)}
    finally:
        torch.set_num_threads(before)


def _sample(row: Mapping[str, Any]) -> Sample:
    found = (sample for sample, _ in calls_of(row["operator"], [row["size"]]) if sample is not None)
    return next(sample for sample in found if all(row[key] == value for key, value in named(sample).items()))


def _found(sample: Sample, policy: Policy, effort: Effort) -> Row:
    """The anatomy, or why there is none: what was measured before must not be lost by it."""
    try:
        return anatomy(sample, policy_of(sample, policy), effort)
    except Exception as error:  # A call that was timed may still not be captured, for any reason.
        return {"failure": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}


def anatomy(sample: Sample, policy: Policy, effort: Effort) -> Row:
    """What one call does on PyTorch's number of threads.

    launches: of our kernels · calls: of operators that PyTorch runs within it, or of ours that look at values ·
    outside_us: time of the call beyond its replay; missing where calls are part of the replay · operands_bytes: of what
    it is given and returns, each block of memory once · extra_bytes: of all other memory that it works on.
    """
    with registered(policy):
        sample.run()
        with capture() as graph:
            result = sample.run()
    operands = _num_bytes((sample.call.args, sample.call.kwargs, result))
    found: Row = {
        "launches": graph.num_launches, "calls": graph.num_calls,
        "operands_bytes": operands, "extra_bytes": max(0, graph.num_bytes - operands),
    }  # fmt: skip
    if graph.num_calls:
        return found
    sides = {
        "call": Side(calls={"": sample.run}, context=lambda: registered(policy)),
        "replay": Side(calls={"": graph.replay}),
    }
    timings = take_turns(sides, effort)
    whole, kernels = (timings[name][""].rounds_s for name in sides)
    outside = statistics.median(a - b for a, b in zip(whole, kernels, strict=True))
    return {**found, "outside_us": significant(1e6 * max(0.0, outside))}


def _num_bytes(values: Any) -> int:
    leaves = (x for x in torch.utils._pytree.tree_leaves(values) if isinstance(x, torch.Tensor))
    blocks = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in leaves}
    return sum(blocks.values())
