"""All cases of the lab: faulty ones with the truth about them, clean ones with what was changed harmlessly."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from faultlab.clean import REWRITES, Rewrite, rewrite
from faultlab.faults import FAULTS, Fault
from faultlab.kernels import KERNEL_FAULTS, KernelFault, Target, targets, wrong_kernel
from faultlab.models import DTYPES, FAMILIES, Family, build
from faultlab.plant import plant, sites
from tessera.accuracy.capture.run import MakeOptimizer, plain_descent

_SEED = 7


@dataclass(frozen=True)
class Case:
    """One check to make. Truth: `module`, `operators` (`*` is any), `kinds`; all empty for a clean run.

    lines: where there are any, the culprit must be on one of these lines instead of in the module. steps: of training.
    set: which of the unseen sets it is of.
    """

    name: str
    family: str
    dtype: str
    backward: bool
    prepare: Callable[[], Prepared]
    module: str = ""
    operators: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    steps: int = 0
    lines: frozenset[str] = frozenset()
    set: str = ""

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong in it."""
        return not self.kinds


@dataclass
class Prepared:
    """What a check is called with."""

    candidate: nn.Module
    reference: nn.Module | None
    inputs: tuple[torch.Tensor, ...]
    context: Callable[[], AbstractContextManager[Any]] = field(default=nullcontext)
    optimizer: MakeOptimizer = plain_descent
    reference_optimizer: MakeOptimizer | None = None


def inputs_of(family: Family, dtype: str, seed: int) -> tuple[torch.Tensor, ...]:
    """Inputs for a family, floating ones in the model's type."""
    made = family.inputs(torch.Generator().manual_seed(seed))
    wanted = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    return tuple(tensor.to(wanted) if tensor.is_floating_point() else tensor for tensor in made)


def faulty() -> Iterator[Case]:
    """Every fault of the tables in every family and type that it fits."""
    for family in FAMILIES:
        for dtype in DTYPES:
            model = build(family, dtype, _SEED)
            for number, fault in enumerate(FAULTS):
                places = sites(model, fault) if dtype in fault.dtypes else []
                if places:
                    yield _planted(family, dtype, fault, places[len(places) // 2], number)
            for target in targets(model, inputs_of(family, dtype, _SEED)):
                for kernel in KERNEL_FAULTS:
                    yield _in_kernel(family, dtype, kernel, target)


def _planted(family: Family, dtype: str, fault: Fault, site: str, number: int) -> Case:
    def prepare() -> Prepared:
        reference = build(family, dtype, _SEED)
        candidate = copy.deepcopy(reference)
        plant(candidate, fault, site)
        return Prepared(candidate, reference, inputs_of(family, dtype, _SEED))

    return Case(
        name=fault.name,
        family=family.name,
        dtype=dtype,
        backward=fault.backward or (dtype != "int8" and number % 3 == 0),
        prepare=prepare,
        module=site,
        operators=fault.operators,
        kinds=fault.kinds,
    )


def _in_kernel(family: Family, dtype: str, fault: KernelFault, target: Target) -> Case:
    def prepare() -> Prepared:
        model = build(family, dtype, _SEED)
        return Prepared(model, None, inputs_of(family, dtype, _SEED), lambda: wrong_kernel(model, fault, target))

    return Case(
        name=f"{fault.name} ({target.operator})",
        family=family.name,
        dtype=dtype,
        backward=False,
        prepare=prepare,
        module=target.module,
        operators=frozenset({f"aten.{target.operator}"}),
        kinds=fault.kinds,
    )


def clean(count: int) -> Iterator[Case]:
    """Clean runs: harmless changes of types, orders of summation, kernels and structure, several at once."""
    chosen = random.Random(_SEED)
    for number in range(count):
        family = FAMILIES[number % len(FAMILIES)]
        dtype = DTYPES[number // len(FAMILIES) % len(DTYPES)]
        fitting = [row for row in REWRITES if dtype in row.dtypes]
        rows = chosen.sample(fitting, k=chosen.randint(1, 3))
        yield _harmless(family, dtype, rows, number)


def _harmless(family: Family, dtype: str, rows: list[Rewrite], number: int) -> Case:
    def prepare() -> Prepared:
        reference = build(family, dtype, number)
        candidate = copy.deepcopy(reference)
        inputs = inputs_of(family, dtype, number)
        contexts = [rewrite(candidate, row) for row in rows]
        context = next((made for made in contexts if made is not None), nullcontext)
        return Prepared(candidate, reference, inputs, context)

    return Case(
        name=", ".join(row.name for row in rows),
        family=family.name,
        dtype=dtype,
        backward=dtype != "int8" and number % 4 == 3,
        prepare=prepare,
    )
