"""Calls of operators over lists of tensors: `_foreach_*` and fused optimizers. A list has eight tensors."""

from __future__ import annotations

from collections.abc import Callable

import torch

from tessera.bench.maker import Call, Maker, NoSample, call

Family = tuple[str, Callable[[Maker], Call | list[Call]]]
_LENGTH = 8


def _tensors(m: Maker) -> list[torch.Tensor]:
    each = max(1, m.elements // _LENGTH)
    return [m.x(each) for _ in range(_LENGTH)]


def _numbers() -> list[float]:
    return [1.5] * _LENGTH


def _list(m: Maker) -> Call:
    """By the overload's name: with nothing, a number, numbers, a list, or a tensor of one number."""
    name, _, overload = m.operator.partition(".")
    lists = [_tensors(m) for _ in range(_operands(name))]
    if overload == "ScalarAndTensor":
        return call(1.5, _tensors(m))
    last: dict[str, list[object]] = {
        "": [], "Scalar": [1.5], "ScalarList": [_numbers()], "List": [_tensors(m)], "Tensor": [torch.tensor(1.5)],
    }  # fmt: skip
    if name in ("_foreach_addcmul", "_foreach_addcdiv") and overload == "Tensor":
        return call(*lists, torch.tensor(_numbers()))
    if name == "_foreach_copy_":
        return call(_tensors(m), _tensors(m))
    return call(*lists, *last[overload])


def _operands(name: str) -> int:
    """Lists that an operator takes in any overload."""
    return {"_foreach_addcmul": 3, "_foreach_addcdiv": 3, "_foreach_lerp": 2}.get(name, 1)


def _optimizer(m: Maker) -> Call:
    """A step; the state is in the type of the weights."""
    if m.dtype is not torch.float32:
        raise NoSample("optimizers keep float32 weights")
    steps = [torch.ones(()) for _ in range(_LENGTH)]
    lists = [_tensors(m) for _ in range(4)]
    shared = {"weight_decay": 0.01, "maximize": False}
    if m.operator == "_fused_sgd_":
        return call(
            *lists[:3], lr=1e-9, momentum=0.9, dampening=0.0, nesterov=False, is_first_step=False, **shared
        )  # fmt: skip
    if m.operator == "_fused_adagrad_":
        return call(*lists[:3], steps, lr=1e-9, lr_decay=0.0, eps=1e-8, **shared)
    return call(*lists, [], steps, lr=1e-9, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False, **shared)


FAMILIES: tuple[Family, ...] = (
    ("_foreach_*", _list),
    ("_fused_adam* _fused_sgd* _fused_adagrad*", _optimizer),
)
