"""The reference run: a copy of the model computes in float64 throughout, whatever types its code asks for.

`model.double()` alone is not enough: model code casts on its way (`x.to(torch.float32)` in normalisation, `.float()`
in rotary embeddings), and the reference would lose there just what it is to measure. A dispatch mode below autograd
turns every request for a shorter floating type into float64.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.call import Call

_SHORTER = frozenset({torch.float32, torch.bfloat16, torch.float16})


class InDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, no operator makes a floating tensor shorter than float64 on request."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operator with its type arguments widened."""
        if func is torch.ops.aten.view.dtype:
            raise TypeError("the model reinterprets the bits of a tensor, which has no meaning in float64")
        wider = {name: _widen(value) for name, value in (kwargs or {}).items()}
        return func(*[_widen(value) for value in args], **wider)


def double_copy(model: nn.Module) -> nn.Module:
    """A copy of the model with the same weights, exactly widened to float64, in evaluation mode."""
    return copy.deepcopy(model).double().eval()


def run_in_double(model: nn.Module, call: Call) -> object:
    """Run a `double_copy` on the inputs of `call`, widened."""
    with InDouble():  # type: ignore[no-untyped-call]
        return call.copy().cast(torch.float64).run(model)


def _widen(value: object) -> object:
    return torch.float64 if isinstance(value, torch.dtype) and value in _SHORTER else value
