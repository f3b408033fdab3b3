"""The vendor's kernels, for the calls that our entries decline.

In:  the full name of an overload.
Out: a function that takes the dispatch keys, then the overload's arguments as PyTorch hands them to a Python kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tessera.ops.table import VARIANTS, has_kernel

KEY = "CPU"
_WRAPPED = {bool: torch.bool, int: torch.int64, float: torch.float64, complex: torch.complex128}

# Overloads of ours that the vendor has no kernel for on the CPU: a few operators are made of others there, and their
# gradient of theirs. Asked before anything of ours is registered.
WITHOUT_KERNEL = frozenset(name for name in VARIANTS if not has_kernel(VARIANTS[name].overload))


def vendor_of(full_name: str) -> Callable[..., Any]:
    """The vendor's kernel on the CPU.

    A few backward operators have none there, because PyTorch differentiates the parts of the forward operator instead.
    Their decomposition serves.
    """
    packet, _, name = full_name.removeprefix("aten::").partition(".")
    overload = getattr(getattr(torch.ops.aten, packet), name or "default")
    try:
        kernel = torch.library.get_kernel(full_name, KEY).call_boxed
    except RuntimeError:
        decomposed = torch._decomp.get_decompositions([overload])[overload]
        return lambda keys, *args, **kwargs: decomposed(*args, **kwargs)
    places = [i for i, a in enumerate(overload._schema.arguments) if str(a.type) == "Tensor"]
    return _WithNumbers(kernel, places) if places else kernel


def kernel_of(vendor: Callable[..., Any]) -> Any:
    """PyTorch's own kernel beneath what `vendor_of` gave; None where there is none."""
    called = vendor.kernel if isinstance(vendor, _WithNumbers) else vendor
    return getattr(called, "__self__", None)


def served_by(vendor: Callable[..., Any], args: tuple[Any, ...]) -> Callable[..., Any]:
    """What serves calls like this one as `vendor` does: the kernel itself where no number is to become a tensor."""
    if isinstance(vendor, _WithNumbers) and not vendor.numbers(args):
        return vendor.kernel
    return vendor


class _WithNumbers:
    """`kernel`, for which a number in the place of a tensor becomes one.

    PyTorch's own C++ passes numbers as tensors that are marked as numbers, and hands them to a Python kernel as numbers
    again. A 0-dim tensor of the type that the call promotes to has the same result; a boolean stays one, for some
    operators refuse it. Where there is no tensor at all, the number has the type that PyTorch's own would.
    """

    def __init__(self, kernel: Callable[..., Any], places: list[int]) -> None:
        self.kernel = kernel
        self._places = places

    def numbers(self, args: tuple[Any, ...]) -> list[int]:
        """Which arguments are numbers that stand for tensors."""
        return [i for i in self._places if i < len(args) and not isinstance(args[i], torch.Tensor)]

    def __call__(self, keys: Any, *args: Any, **kwargs: Any) -> Any:
        numbers = self.numbers(args)
        if numbers:
            tensors = [x for x in args if isinstance(x, torch.Tensor)]
            given = list(args)
            for i in numbers:
                promoted = tensors and not isinstance(given[i], bool)
                dtype = torch.result_type(tensors[0], given[i]) if promoted else _WRAPPED[type(given[i])]
                given[i] = torch.tensor(given[i], dtype=dtype)
            args = tuple(given)
        return self.kernel(keys, *args, **kwargs)
