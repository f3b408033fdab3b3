"""All cases of the unseen lab, as the lab's judge takes them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from faultlab.cases import Case, Prepared
from faultlab.clean import our_kernels
from faultlab.kernels import KernelFault, Target, wrong_kernel
from faultlab.unseen.edits import Edit
from faultlab.unseen.edits_of_images import OF_IMAGES
from faultlab.unseen.edits_of_others import OF_OTHERS
from faultlab.unseen.edits_of_sequences import OF_SEQUENCES
from faultlab.unseen.harmless import HARMLESS, Harmless
from faultlab.unseen.kernel_rows import KERNEL_ROWS, KernelRow
from faultlab.unseen.ports import (
    PORTS,
    TRAININGS,
    MakeOptimizer,
    Port,
    Training,
    bert,
    gpt2,
    ids,
    llama,
    right_optimizer,
)
from faultlab.unseen.program import lines_of, load
from faultlab.unseen.third import harmless as third_harmless
from faultlab.unseen.third import kernel_rows as third_kernels
from faultlab.unseen.third import ports as third_ports
from faultlab.unseen.third import trainings as third_trainings
from faultlab.unseen.third.edits_of_attention import OF_ATTENTION
from faultlab.unseen.third.edits_of_fields import OF_FIELDS
from faultlab.unseen.third.edits_of_scans import OF_SCANS

# Subjects that are run as they train.
_TRAINED = ("lossy", third_trainings.SUBJECT)


def faulty() -> Iterator[Case]:
    """Every fault of both sets."""
    edits, third = (*OF_SEQUENCES, *OF_IMAGES, *OF_OTHERS), (*OF_SCANS, *OF_ATTENTION, *OF_FIELDS)
    yield from _of("second", _faulty(edits, KERNEL_ROWS, PORTS, (_trained(row) for row in TRAININGS)))
    trained = (_trained(row, third_trainings.SUBJECT, third_trainings.right) for row in third_trainings.TRAININGS)
    yield from _of("third", _faulty(third, third_kernels.KERNEL_ROWS, third_ports.PORTS, trained))


def clean() -> Iterator[Case]:
    """Every clean run of both sets."""
    yield from _of("second", (_harmless(row) for row in HARMLESS))
    for name, make in (("llama", llama), ("bert", bert), ("gpt2", gpt2)):
        yield from _of("second", _clean_ports(name, make))
    yield from _of("third", (_harmless(row) for row in third_harmless.HARMLESS))
    yield from _of("third", (_clean_port(*row) for row in third_harmless.LIBRARY))


def _of(made_for: str, cases: Iterable[Case]) -> Iterator[Case]:
    return (replace(case, set=made_for) for case in cases)


def _faulty(
    edits: Iterable[Edit], kernels: Iterable[KernelRow], ports: Iterable[Port], trained: Iterable[Case]
) -> Iterator[Case]:
    yield from (_edited(row) for row in edits)
    yield from (_in_kernel(row) for row in kernels)
    yield from (_ported(row) for row in ports)
    yield from trained


def _made(subject: str, dtype: str, old: str = "", new: str = "") -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    module = load(subject, old, new)
    model = module.build()
    if "train()" not in new:
        model.train(subject in _TRAINED)
    wanted = getattr(torch, dtype)
    given = tuple(tensor.to(wanted) if tensor.is_floating_point() else tensor for tensor in module.inputs())
    return model.to(wanted), given


def _edited(row: Edit) -> Case:
    def prepare() -> Prepared:
        candidate, given = _made(row.subject, row.dtype, row.old, row.new)
        return Prepared(candidate, _made(row.subject, row.dtype)[0], given)

    return Case(
        name=row.name,
        family=row.subject,
        dtype=row.dtype,
        backward=row.backward,
        prepare=prepare,
        operators=row.operators,
        kinds=row.kinds,
        steps=row.steps,
        lines=lines_of(row.subject, row.old, *row.also),
    )


def _in_kernel(row: KernelRow) -> Case:
    def prepare() -> Prepared:
        model, given = _made(row.subject, row.dtype)
        fault = KernelFault(row.name, row.kinds, row.make())
        target = Target(row.operator, row.module, 0)
        return Prepared(model, None, given, lambda: wrong_kernel(model, fault, target))

    return Case(
        name=f"kernel: {row.name} ({row.operator})",
        family=row.subject,
        dtype=row.dtype,
        backward=row.backward,
        prepare=prepare,
        module=row.named or row.module,
        operators=frozenset({f"aten.{row.operator}"}),
        kinds=row.kinds,
    )


def _ported(row: Port) -> Case:
    def prepare() -> Prepared:
        candidate = row.make(**dict(row.changed))
        if row.change is not None:
            row.change(candidate)
        return Prepared(candidate, row.make(), ids())

    return Case(
        name=f"port: {row.name}",
        family=row.make.__name__,
        dtype="float32",
        backward=False,
        prepare=prepare,
        module=row.module,
        operators=row.operators,
        kinds=row.kinds,
    )


def _trained(row: Training, subject: str = "lossy", right: MakeOptimizer = right_optimizer) -> Case:
    def prepare() -> Prepared:
        candidate, given = _made(subject, "float32")
        reference, _ = _made(subject, "float32")
        return Prepared(candidate, reference, given, optimizer=row.optimizer, reference_optimizer=right)

    return Case(
        name=f"optimizer: {row.name}",
        family=subject,
        dtype="float32",
        backward=False,
        prepare=prepare,
        module="(optimizer)",
        operators=row.operators,
        kinds=row.kinds,
        steps=2,
    )


def _harmless(row: Harmless) -> Case:
    def prepare() -> Prepared:
        candidate, given = _made(row.subject, row.dtype, row.old, row.new)
        reference = _made(row.subject, "float32")[0]
        candidate = candidate if row.whole is None else row.whole(candidate)
        return Prepared(candidate, reference, given, row.context)

    return Case(row.name, row.subject, row.dtype, row.backward, prepare, steps=row.steps)


def _clean_ports(name: str, make: Callable[..., nn.Module]) -> Iterator[Case]:
    def prepared(candidate: nn.Module, **more: Any) -> Prepared:
        return Prepared(candidate, make(), ids(), **more)

    yield Case("bfloat16", name, "bfloat16", True, lambda: prepared(make().bfloat16()))
    yield Case("Tessera's kernels", name, "float32", True, lambda: prepared(make(), context=our_kernels))
    yield Case("a copy", name, "float32", False, lambda: prepared(copy.deepcopy(make())))
    yield Case("written-out attention", name, "float32", True, lambda: prepared(make(attn_implementation="eager")))
    yield Case(
        "written-out attention, bfloat16", name, "bfloat16", False,
        lambda: prepared(make(attn_implementation="eager").bfloat16()),
    )  # fmt: skip


def _clean_port(name: str, make: Callable[..., nn.Module], dtype: str, changed: dict[str, Any], backward: bool) -> Case:
    def prepare() -> Prepared:
        return Prepared(make(**changed).to(getattr(torch, dtype)), make(), ids())

    return Case(name, make.__name__, dtype, backward, prepare)
