"""Faults in kernels: the program is right, and one operator's result is wrong, as a bad kernel would make it.

They are planted by a dispatch mode of the lab's own that lies around the candidate's run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

PRODUCTS = ("addmm", "mm", "bmm", "convolution", "_int_mm")
OPERATORS = (*PRODUCTS, "native_layer_norm", "native_group_norm", "_softmax", "gelu", "rsqrt", "index_add", "cat")


@dataclass(frozen=True)
class KernelFault:
    """A wrong kernel. change: from the right result and the arguments to the wrong result."""

    name: str
    kinds: frozenset[str]
    change: Callable[[torch.Tensor, Sequence[Any]], torch.Tensor]


def _edit(select: Callable[[torch.Tensor], tuple[Any, ...]], value: Callable[[torch.Tensor], Any]) -> Any:
    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        out = out.clone()
        place = select(out)
        out[place] = value(out[place])
        return out

    return change


def _last(out: torch.Tensor) -> tuple[Any, ...]:
    return (..., slice(-3, None))


def _first(out: torch.Tensor) -> tuple[Any, ...]:
    return (..., 0)


def _fourths(out: torch.Tensor) -> tuple[Any, ...]:
    return (..., slice(1, None, 4))


def _third(out: torch.Tensor) -> tuple[Any, ...]:
    return (*(0,) * (out.dim() - 1), 2)


def _race(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    seed = torch.Generator()
    seed.seed()
    noise = torch.rand(out.shape, generator=seed)
    return (out.double() * (1 + 0.02 * noise)).to(out.dtype)


def _few_bits(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    mantissa, exponent = torch.frexp(out.float())
    return torch.ldexp((mantissa * 2**5).round() / 2**5, exponent).to(out.dtype)


def _clamped(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    limit = float(out.abs().max()) * 0.6
    return out.clamp(-limit, limit)


KERNEL_FAULTS = (
    KernelFault("kernel: last columns missed", frozenset({"edge"}), _edit(_last, lambda x: 0)),
    KernelFault("kernel: every 4th column", frozenset({"stride"}), _edit(_fourths, lambda x: x * 2 + 1)),
    KernelFault("kernel: scaled", frozenset({"scale"}), lambda out, args: out * 1.05),
    KernelFault("kernel: other sign", frozenset({"sign"}), lambda out, args: -out),
    KernelFault("kernel: saturated", frozenset({"saturated"}), _clamped),
    KernelFault("kernel: short sums", frozenset({"short type", "accuracy"}), _few_bits),
    KernelFault("kernel: zero", frozenset({"zeroed"}), lambda out, args: out * 0),
    KernelFault("kernel: moved by one", frozenset({"shifted"}), lambda out, args: out.roll(1, -1)),
    KernelFault("kernel: one element", frozenset({"single element"}), _edit(_third, lambda x: x + 4)),
    KernelFault("kernel: not a number", frozenset({"non-finite"}), _edit(_first, lambda x: math.nan)),
    KernelFault("kernel: race", frozenset({"non-deterministic"}), _race),
)  # fmt: skip


@dataclass
class Target:
    """One call of an operator: the number-th of that name within a module; `module` is empty until it was seen."""

    operator: str
    module: str
    number: int


class _Modules:
    """The lab's own sense of which module runs."""

    def __init__(self, model: nn.Module) -> None:
        self.stack = [""]
        self._handles = []
        for name, module in model.named_modules():
            self._handles.append(module.register_forward_pre_hook(lambda _m, _i, name=name: self.stack.append(name)))
            self._handles.append(module.register_forward_hook(self._leave))

    def _leave(self, _module: nn.Module, _inputs: Any, _output: Any) -> None:
        self.stack.pop()

    def close(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


class _Wrong(TorchDispatchMode):
    """Within it the target's result is wrong."""

    def __init__(self, fault: KernelFault, target: Target, modules: _Modules) -> None:
        super().__init__()
        self._fault, self._target, self._modules = fault, target, modules
        self._seen = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Run an operator, and spoil it if it is the one."""
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")
        if name != self._target.operator or self._modules.stack[-1] != self._target.module:
            return out
        first = out[0] if isinstance(out, (tuple, list)) else out
        wrong = self._fault.change(first, args).to(first.dtype)
        return (wrong, *out[1:]) if isinstance(out, (tuple, list)) else wrong


@contextmanager
def wrong_kernel(model: nn.Module, fault: KernelFault, target: Target) -> Iterator[None]:
    """Within it the target operator of the model is wrong."""
    modules = _Modules(model)
    try:
        with _Wrong(fault, target, modules):
            yield
    finally:
        modules.close()


class _Census(TorchDispatchMode):
    def __init__(self, modules: _Modules) -> None:
        super().__init__()
        self._modules = modules
        self.found: list[tuple[str, str]] = []

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in OPERATORS:
            self.found.append((name, self._modules.stack[-1]))
        return func(*args, **(kwargs or {}))


def targets(model: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[Target]:
    """Operators of a model that can be made wrong: for each name the one in the middle of the run."""
    modules = _Modules(model)
    try:
        with torch.no_grad(), _Census(modules) as census:
            model(*inputs)
    finally:
        modules.close()
    names = sorted({name for name, _ in census.found})
    places = {name: [module for found, module in census.found if found == name] for name in names}
    return [Target(name, places[name][len(places[name]) // 2], 0) for name in names]
