"""The first calls: does the model accept its inputs at all, and how long does our first call take?"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter

import torch
from torch import nn

from tessera.accuracy.call import Call, floating_tensors
from tessera.accuracy.layers import first_line
from tessera.accuracy.taps import ROOT
from tessera.bringup.models.subject import Subject
from tessera.core.errors import UsageError


def try_call(subject: Subject) -> float:
    """Call the model as PyTorch runs it; returns the seconds that it took.

    Errors: `UsageError` naming what was raised, in which module, and the inputs, or that no output is floating.
    """
    entered: list[str] = []
    handles = []
    for name, module in subject.model.named_modules():
        label = f"{name} ({type(module).__name__})" if name else f"{ROOT} {type(module).__name__}"
        handles.append(module.register_forward_pre_hook(_pusher(entered, label)))
        handles.append(module.register_forward_hook(_popper(entered)))
    start = perf_counter()
    try:
        output = subject.call.copy().run(subject.model)
    except Exception as error:  # A model may raise anything; with inputs that do not fit it mostly does.
        raise UsageError(
            f"the model does not accept its inputs: {type(error).__name__}: {first_line(error)} "
            f"(in module {entered[-1] if entered else ROOT}; inputs: {describe(subject.call)}); "
            "give inputs that it can be called on"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    elapsed = perf_counter() - start
    if next(floating_tensors(output), None) is None:
        raise UsageError(
            f"the model returns {type(output).__name__} without a floating tensor, so there is nothing to judge; "
            "return its logits or hidden states"
        )
    return elapsed


def describe(call: Call) -> str:
    """Arguments with their types and shapes, as in `input_ids int64[8, 128]`."""
    named = [*((str(index), value) for index, value in enumerate(call.args)), *call.kwargs.items()]
    return ", ".join(f"{name} {_describe(value)}" for name, value in named) or "none"


def _describe(value: object) -> str:
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return type(value).__name__


def _pusher(entered: list[str], label: str) -> Callable[[nn.Module, object], None]:
    return lambda _module, _inputs: entered.append(label)


def _popper(entered: list[str]) -> Callable[[nn.Module, object, object], None]:
    def pop(_module: nn.Module, _inputs: object, _output: object) -> None:
        entered.pop()

    return pop
