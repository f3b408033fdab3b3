"""The reference run: a model computes in float64 throughout, whatever types its code asks for.

`model.double()` alone is not enough: model code casts on its way (`x.to(torch.float32)` in normalisation, `.float()`
in rotary embeddings), and the reference would lose there just what it is to measure. A dispatch mode below autograd
turns every request for a shorter floating type into float64, and widens shorter tensors that come from elsewhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from tessera.accuracy.call import Call

_SHORTER = frozenset({torch.float32, torch.bfloat16, torch.float16})


class InDouble(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, no operator makes a floating tensor shorter than float64, and none computes in a shorter type."""

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operator with its arguments widened."""
        assert isinstance(func, torch._ops.OpOverload)
        if func is torch.ops.aten.view.dtype and _of_floats(args):
            raise TypeError("the model reinterprets the bits of a tensor, which has no meaning in float64")
        return func(*widened(func, args), **widened_named(func, kwargs or {}))


def widened(func: torch._ops.OpOverload, args: Sequence[object]) -> list[object]:
    """Positional arguments in float64. What is written to, or only looked at in another shape, stays what it is."""
    rows = func._schema.arguments
    return [
        tree_map(widen_type if position < len(rows) and _aliased(rows[position]) else widen, value)
        for position, value in enumerate(args)
    ]


def widened_named(func: torch._ops.OpOverload, kwargs: Mapping[str, object]) -> dict[str, object]:
    """Named arguments, likewise."""
    aliased = {row.name for row in func._schema.arguments if _aliased(row)}
    return {name: tree_map(widen_type if name in aliased else widen, value) for name, value in kwargs.items()}


def _aliased(row: torch._C.Argument) -> bool:
    return row.alias_info is not None


def double_copy(model: nn.Module) -> nn.Module:
    """A copy of the model with the same weights, exactly widened to float64, in evaluation mode."""
    return copy.deepcopy(model).double().eval()


def run_in_double(model: nn.Module, call: Call) -> object:
    """Run a `double_copy` on the inputs of `call`, widened."""
    wide = call.copy().cast(torch.float64)
    with InDouble():  # type: ignore[no-untyped-call]
        return wide.run(model)


def widen_type(value: object) -> object:
    """A shorter floating type becomes float64, anything else stays."""
    return torch.float64 if isinstance(value, torch.dtype) and value in _SHORTER else value


def widen(value: object) -> object:
    """A shorter floating tensor or type becomes float64, anything else stays."""
    if isinstance(value, torch.Tensor):
        return value.double() if value.dtype in _SHORTER and not value.is_quantized else value
    return widen_type(value)


def _of_floats(args: Sequence[object]) -> bool:
    tensor, dtype = args[0], args[1]
    assert isinstance(tensor, torch.Tensor) and isinstance(dtype, torch.dtype)
    return tensor.is_floating_point() or dtype.is_floating_point
