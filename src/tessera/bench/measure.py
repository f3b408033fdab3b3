"""One call on our kernels and on PyTorch's, as a program makes it: through PyTorch's dispatcher, both in turns.

Our side has nothing registered but the operator itself; PyTorch's has nothing registered.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter

import torch

from tessera.aten.measured import Measurement
from tessera.aten.plan import refusal
from tessera.aten.policy import ALWAYS, Policy
from tessera.aten.register import Registration
from tessera.bench.samples import Sample
from tessera.bench.turns import Effort, Side, take_turns
from tessera.core.timing import Timing
from tessera.ops.table import Variant

# Enough for a choice: what is told apart is more than a few percent, and thousands of calls are measured.
EFFORT = Effort(seconds=0.02, rounds=5, settle_s=0.003, most_rounds=20)
# A call this long is no matter of rounds.
_LONG_S = 0.01
_LONG = Effort(seconds=0.02, rounds=3, settle_s=0.0)


class NotTaken(Exception):
    """Raised where PyTorch itself does not take a call; says why."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Timings of one call on both sides; `failure` says why ours could not be timed."""

    ours: Timing | None
    vendor: Timing
    failure: str = ""


def all_ours(variant: Variant) -> Policy:
    """The policy by which all calls of this overload are ours, and no other's."""
    return Policy(ALWAYS, None, frozenset([str(variant.overload._name)]))


@contextmanager
def registered(policy: Policy) -> Iterator[None]:
    """What a policy registers, and nothing else of ours."""
    registration = Registration(policy)
    try:
        yield
    finally:
        registration.end()


def compare(sample: Sample, effort: Effort = EFFORT, policy: Policy | None = None) -> Pair:
    """Both sides on PyTorch's number of threads. Nothing of ours may be switched on meanwhile.

    policy: what is registered on our side; None: the overload, all of whose calls are ours.

    Raises: NotTaken where PyTorch's own kernel raises.
    """
    try:
        sample.run()
    except (RuntimeError, NotImplementedError, IndexError) as error:
        raise NotTaken(_first_line(error)) from error
    policy = policy or all_ours(sample.variant)
    failure = _fault(sample, policy)
    sides = {"vendor": Side(calls={"": sample.run})}
    if not failure:
        sides["ours"] = Side(calls={"": sample.run}, context=lambda: registered(policy))
    timings = take_turns(sides, _LONG if _once_s(sample) > _LONG_S else effort)
    ours = timings["ours"][""] if "ours" in timings else None
    return Pair(ours=ours, vendor=timings["vendor"][""], failure=failure)


def measurement(sample: Sample, pair: Pair) -> Measurement:
    """What the choice is made of."""
    return Measurement(
        operator=sample.operator,
        place=sample.place,
        threads=torch.get_num_threads(),
        ours_us=1e6 * pair.ours.median_s if pair.ours else 0.0,
        vendor_us=1e6 * pair.vendor.median_s,
        speed=pair.ours.speedup_over(pair.vendor) if pair.ours else 0.0,
        failure=pair.failure,
    )


def _fault(sample: Sample, policy: Policy) -> str:
    """Why our kernel cannot be used: it declines, does not compile, or raises. A failure is data, and stops nothing."""
    try:
        reason = "" if policy.chooses else refusal(sample.variant, sample.call.args, sample.call.kwargs)
        if reason:
            return f"declined: {reason}"
        with registered(policy):
            for _ in range(3):  # met, planned, run by the plan
                sample.run()
    except Exception as error:  # A kernel may fail in any way.
        return f"{type(error).__name__}: {_first_line(error)}"
    return ""


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]


def _once_s(sample: Sample) -> float:
    start = perf_counter()
    sample.run()
    return perf_counter() - start
