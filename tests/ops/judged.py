"""Operator calls, run by PyTorch, by our kernels and in float64, and judged by the project's rule.

Floating results: the rule of `tessera.accuracy.judge`. Below 64 elements torch's own error is too small a sample; there
the noise is the largest error that torch has on any of the calls given together, and at least 2 eps of the type.
float64 has no wider type to judge by: within 64 eps of the largest element. All other results: equal. Shape, type and
strides are PyTorch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

import tessera
from tessera.accuracy.judge import hold, judge
from tessera.aten.record import Record

NOISE_EPS = 2.0
DOUBLE_EPS = 64.0


def tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, torch.Tensor)]


def in_double(value: Any) -> Any:
    """Every floating tensor within `value` in float64, and what asks for a shorter type as well."""

    def widen(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf.detach().double().requires_grad_(leaf.requires_grad)
        return torch.float64 if isinstance(leaf, torch.dtype) and leaf.is_floating_point else leaf

    return tree_map(widen, value)


def assert_same_layout(ours: torch.Tensor, theirs: torch.Tensor, same_strides: bool = True) -> None:
    assert ours.dtype is theirs.dtype
    assert ours.shape == theirs.shape
    if same_strides and theirs.numel() > 1:
        assert ours.stride() == theirs.stride()


def assert_judged(ours: torch.Tensor, theirs: torch.Tensor, reference: torch.Tensor, noise: float = 0.0) -> None:
    """`ours` is inside the rule, given PyTorch's result and the one in float64."""
    if not theirs.is_floating_point():
        assert torch.equal(ours, theirs)
    elif theirs.dtype is torch.float64:
        finite = theirs[theirs.isfinite()]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        limit = DOUBLE_EPS * torch.finfo(torch.float64).eps * scale
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit, equal_nan=True)
    else:
        judgement = judge(ours, hold(theirs, reference), noise=max(noise, NOISE_EPS * torch.finfo(theirs.dtype).eps))
        assert judgement.ok, judgement.reason


@dataclass
class Expected:
    """One call and what PyTorch gives for it, in its own type and in float64."""

    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    results: Callable[[Callable[..., Any], Any, Any], list[torch.Tensor]]

    def __post_init__(self) -> None:
        self.theirs = self.results(self.call, self.args, self.kwargs)
        self.reference = self.results(self.call, *in_double((self.args, self.kwargs)))

    def torch_error(self) -> float:
        """The largest error of PyTorch's floating results."""
        pairs = zip(self.theirs, self.reference, strict=True)
        floating = [(mine, exact) for mine, exact in pairs if mine.is_floating_point() and mine.numel()]
        return max((hold(mine, exact).torch_loss.error for mine, exact in floating), default=0.0)

    def assert_ours(self, noise: float, same_strides: bool) -> Record:
        with tessera.use("always") as record:
            ours = self.results(self.call, self.args, self.kwargs)
        with tessera.use("always"):  # the second call is planned, the third runs the plan
            for _ in range(2):
                again = self.results(self.call, self.args, self.kwargs)
                assert all(torch.equal(*bits) for bits in zip(map(in_bits, ours), map(in_bits, again), strict=True))
        for mine, vendor, exact in zip(ours, self.theirs, self.reference, strict=True):
            assert_same_layout(mine, vendor, same_strides)
            assert_judged(mine, vendor, exact, noise)
        return record


def in_bits(x: torch.Tensor) -> torch.Tensor:
    """The bytes of `x`, in which a NaN equals itself."""
    return x.contiguous().reshape(-1).view(torch.uint8)


def outputs(call: Callable[..., Any], args: Any, kwargs: Any) -> list[torch.Tensor]:
    return [x.detach() for x in tensors(call(*args, **kwargs))]


@functools.cache
def _weights(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Made once, so that only the first, unrecorded run makes them."""
    return torch.linspace(0.5, 1.5, shape.numel(), dtype=torch.float64).view(shape).to(dtype)


def gradients(call: Callable[..., Any], args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The gradients of a weighted sum of all results by every argument that asks for one."""
    inputs = [leaf for leaf in tensors((args, kwargs)) if leaf.requires_grad]
    found = [leaf for leaf in tensors(call(*args, **kwargs)) if leaf.requires_grad]
    if not found:
        return []
    weights = [_weights(x.shape, x.dtype) for x in found]
    return [x for x in torch.autograd.grad(found, inputs, weights, allow_unused=True) if x is not None]


Given = tuple[tuple[Any, ...], dict[str, Any]]


def assert_calls(call: Callable[..., Any], given: list[Given]) -> list[Record]:
    """Judge every tensor that `call` returns for each of the arguments, on our kernels; the records of what ran."""
    expected = [Expected(call, args, kwargs, outputs) for args, kwargs in given]
    noise = max((one.torch_error() for one in expected), default=0.0)
    return [one.assert_ours(noise, same_strides=True) for one in expected]


def assert_gradients(call: Callable[..., Any], given: list[Given]) -> list[Record]:
    """Judge every gradient of `call`, likewise."""
    expected = [Expected(call, args, kwargs, gradients) for args, kwargs in given]
    noise = max((one.torch_error() for one in expected), default=0.0)
    return [one.assert_ours(noise, same_strides=False) for one in expected]


def assert_call(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Record:
    """`assert_calls` for one call."""
    return assert_calls(call, [(args, kwargs)])[0]


def vendor_calls(record: Record) -> dict[str, dict[str, int]]:
    return {name: dict(calls.reasons) for name, calls in record.calls.items() if calls.vendor}
