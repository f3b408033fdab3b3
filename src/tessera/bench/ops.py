"""`tessera bench ops`: every operator of the catalogue against PyTorch eager, and some against Inductor's C++.

In:  what to measure; nothing of ours may be switched on.
Out: a row a call and number of threads: times, the ratio, and the rate beside what the machine can do.

Rates count each tensor read or written once, or multiplications and additions. The roof is measured in the same run: of
arithmetic PyTorch's matrix product of the type, of memory a copy. Tensors that fit a cache may be above the latter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tessera.aten.classify import work_of
from tessera.aten.measured import Measurement
from tessera.aten.policy import ALWAYS, Policy, make_policy
from tessera.aten.switch import paused
from tessera.bench.maker import NoSample
from tessera.bench.markdown import significant, threads_text
from tessera.bench.measure import NotTaken, Pair, all_ours, compare, measurement
from tessera.bench.samples import DTYPES, SIZES, Sample, operators, samples
from tessera.bench.select import fits
from tessera.bench.turns import Effort, Side, take_turns
from tessera.core.chips import detect_cpu
from tessera.core.errors import UsageError, unknown_name
from tessera.core.measure import PROBES
from tessera.ops.catalogue import ROWS

Row = dict[str, Any]
Keep = Callable[[Sequence[Measurement]], None]
EFFORT = Effort(seconds=0.04, rounds=7, settle_s=0.003, most_rounds=28)
SIZES_TIMED = ("small", "medium", "large")

# Compiling takes seconds each, so what Inductor's C++ does is measured of these alone, at the middle size.
COMPILED = (
    "add.Tensor", "mul.Tensor", "div.Tensor", "where.self", "relu", "exp", "tanh", "sigmoid", "gelu", "silu",
    "gelu_backward", "clamp", "sum.dim_IntList", "mean.dim", "amax", "argmax", "cumsum", "var.correction", "_softmax",
    "_log_softmax", "native_layer_norm", "embedding", "index_select", "gather", "cat", "max_pool2d_with_indices",
    "avg_pool2d", "upsample_bilinear2d",
)  # fmt: skip
_COMPILED_SIZE = "medium"


@dataclass(frozen=True, kw_only=True)
class OpsConfig:
    """What to measure. `only` is part of an operator's name or a pattern; `compiled` whether Inductor's C++ is run.

    Errors: UsageError for unknown sizes, a pattern that picks nothing, and numbers of threads below 1.
    """

    only: str = ""
    sizes: tuple[str, ...] = SIZES_TIMED
    threads: tuple[int, ...] = (1, 2)
    policy: str = ALWAYS
    compiled: bool = True
    effort: Effort = EFFORT

    def __post_init__(self) -> None:
        for size in self.sizes:
            if size not in SIZES:
                raise unknown_name("size", size, SIZES)
        if not self.operators:
            raise UsageError(f"--only {self.only!r} picks no operator; names are such as 'gelu' and 'convolution*'")

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(name for name in operators() if fits(name, self.only))


def measure(config: OpsConfig, say: Callable[[str], None], keep: Keep | None = None) -> Iterator[Row]:
    """The rows, each as soon as it is measured. A call that could not be measured has the reason under `skipped`.

    keep: given what was measured of an operator when it is done, as `tessera tune` measures it.
    """
    before = torch.get_num_threads()
    policy = make_policy(config.policy)
    try:
        with paused():
            for operator in config.operators:
                say(operator)
                found: list[Measurement] = []
                for sample, reason in calls_of(operator, config.sizes):
                    yield from [reason] if sample is None else _rows(sample, config, policy, found)
                if keep is not None:
                    keep(found)
    finally:
        torch.set_num_threads(before)


def calls_of(operator: str, sizes: Sequence[str]) -> Iterator[tuple[Sample | None, Row]]:
    """Each call in the layout that models have it in, or why there is none; broadcast and strided ones are not here."""
    for size in sizes:
        for dtype in DTYPES:
            row = {"family": family(operator), "operator": operator, "size": size, "dtype": str(dtype)[6:]}
            try:
                for sample in samples(operator, size, dtype):
                    if sample.place.layout not in ("broadcast", "strided"):
                        yield sample, row
            except (NoSample, RuntimeError, NotImplementedError) as error:
                yield None, {**row, "layout": "", "skipped": str(error).splitlines()[0][:200]}


def _rows(sample: Sample, config: OpsConfig, policy: Policy, found: list[Measurement]) -> Iterator[Row]:
    row = {"family": family(sample.operator), **named(sample)}
    full_name = str(sample.variant.overload._name)
    for count in config.threads:
        torch.set_num_threads(count)
        only_this = policy_of(sample, policy)
        if only_this.standing(full_name, count).reason:
            yield {**row, "skipped": f"PyTorch's own, by the policy: not registered on {threads_text(count)}"}
            continue
        try:
            pair = compare(sample, config.effort, only_this)
        except NotTaken as error:
            yield {**row, "skipped": f"PyTorch does not take it: {error}"}
            return
        found.append(measurement(sample, pair))
        if pair.ours is None:
            yield {**row, "skipped": pair.failure}
            return
        yield {**row, "threads": count, **_times(sample, pair), **_compiled(sample, config)}


def named(sample: Sample) -> Row:
    """What tells a call from the others of a run, but for the number of threads."""
    return {
        "operator": sample.operator, "layout": sample.place.layout, "size": sample.size, "dtype": str(sample.dtype)[6:],
    }  # fmt: skip


def policy_of(sample: Sample, policy: Policy) -> Policy:
    """What is registered while a call is made on our side: its operator and no other."""
    full_name = str(sample.variant.overload._name)
    return policy.fresh(frozenset([full_name])) if policy.chooses else all_ours(sample.variant)


def _times(sample: Sample, pair: Pair) -> Row:
    assert pair.ours is not None, "only calls that both sides ran have times"
    amount, unit = _amount(sample)
    return {
        "ours_us": significant(1e6 * pair.ours.median_s), "torch_us": significant(1e6 * pair.vendor.median_s),
        "ratio": significant(pair.ours.speedup_over(pair.vendor)),
        "rate": significant(amount / pair.ours.median_s / 1e9), "unit": unit,
    }  # fmt: skip


def _amount(sample: Sample) -> tuple[float, str]:
    work, is_flop = work_of(sample.variant, sample.call.args, sample.call.kwargs)
    if is_flop:
        return work * _GRADIENTS.get(sample.operator, 1.0), "GFLOP/s"
    if sample.operator in ("embedding", "index_select", "index.Tensor"):
        return 2 * work * sample.dtype.itemsize, "GB/s"
    found = [*torch.utils._pytree.tree_leaves((sample.call.args, sample.call.kwargs)), *_leaves(sample.run())]
    return float(sum(x.nbytes for x in found if isinstance(x, torch.Tensor))), "GB/s"


# Of two and of five products instead of one and two.
_GRADIENTS = {"convolution_backward": 2.0, "_scaled_dot_product_flash_attention_for_cpu_backward": 2.5}


def _leaves(result: Any) -> list[Any]:
    return list(torch.utils._pytree.tree_leaves(result))


@functools.cache
def _families() -> dict[str, str]:
    return {name: row.entry.__module__.rpartition(".")[2] for row in ROWS for name in row.names}


def family(operator: str) -> str:
    """The file of `ops` whose entry serves an operator."""
    known = _families()
    return (
        known.get(operator)
        or known.get(f"{operator.partition('.')[0]}_.{operator.partition('.')[2]}")
        or next(
            found for name, found in known.items() if name.partition(".")[0].rstrip("_") == operator.partition(".")[0]
        )
    )


# --- Inductor's C++ ---


def has_compiler() -> bool:
    """Whether Inductor finds a C++ compiler, without which its back end for CPUs has nothing to run."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return False
    return True


def _compiled(sample: Sample, config: OpsConfig) -> Row:
    """Inductor's time and PyTorch's time divided by it, in turns of their own; nothing where it is not measured."""
    if not config.compiled or sample.operator not in COMPILED or sample.size != _COMPILED_SIZE:
        return {}
    if sample.place.layout not in ("contiguous", "rows"):
        return {}
    overload, kwargs = sample.variant.overload, sample.call.kwargs
    # What was compiled before is of the same line: after eight of them PyTorch would run it uncompiled.
    torch._dynamo.reset()
    call = torch.compile(
        lambda *args: overload(*args, **kwargs), fullgraph=True, dynamic=False, options={"cpu_backend": "cpp"}
    )
    args = sample.call.args
    timings = take_turns(
        {"vendor": Side(calls={"": sample.run}), "cpp": Side(calls={"": lambda: call(*args)})}, config.effort
    )
    cpp = timings["cpp"][""]
    return {
        "cpp_us": significant(1e6 * cpp.median_s),
        "cpp_ratio": significant(cpp.speedup_over(timings["vendor"][""])),
    }


def roofs(threads: Sequence[int]) -> list[Row]:
    """What the machine can do, for each number of threads: GFLOP/s by type, and GB/s of a copy."""
    device, before = detect_cpu(), torch.get_num_threads()
    rows = []
    try:
        for count in threads:
            torch.set_num_threads(count)
            found = {probe.name: significant(probe.run(device) / 1e9) for probe in PROBES if probe.name != "read"}
            rows.append({"threads": count, **found})
    finally:
        torch.set_num_threads(before)
    return rows
