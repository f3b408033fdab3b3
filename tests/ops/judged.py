"""One operator call, run by PyTorch, by our kernels and in float64, and judged by the project's rule.

Floating results: the rule of `tessera.accuracy.judge`; below 64 elements the noise is taken as 2 eps of the type,
because torch's own error is too small a sample there. float64 has no wider type to judge by: within 64 eps of the
largest element. All other results: equal. Shape, type and strides are PyTorch's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
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


def assert_same_layout(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    assert ours.dtype is theirs.dtype
    assert ours.shape == theirs.shape
    if theirs.numel() > 1:
        assert ours.stride() == theirs.stride()


def assert_judged(ours: torch.Tensor, theirs: torch.Tensor, reference: torch.Tensor) -> None:
    """`ours` is inside the rule, given PyTorch's result and the one in float64."""
    if not theirs.is_floating_point():
        assert torch.equal(ours, theirs)
    elif theirs.dtype is torch.float64:
        scale = float(theirs[theirs.isfinite()].abs().max()) if theirs.isfinite().any() else 0.0
        limit = DOUBLE_EPS * torch.finfo(torch.float64).eps * scale
        torch.testing.assert_close(ours, theirs, rtol=0, atol=limit, equal_nan=True)
    else:
        noise = NOISE_EPS * torch.finfo(theirs.dtype).eps
        judgement = judge(ours, hold(theirs, reference), noise=noise)
        assert judgement.ok, judgement.reason


def assert_call(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Record:
    """Judge every tensor that `call` returns on our kernels; the record of what ran."""
    theirs = tensors(call(*args, **kwargs))
    wide_args, wide_kwargs = in_double((args, kwargs))
    reference = tensors(call(*wide_args, **wide_kwargs))
    with tessera.use() as record:
        ours = tensors(call(*args, **kwargs))
    for mine, vendor, exact in zip(ours, theirs, reference, strict=True):
        assert_same_layout(mine, vendor)
        assert_judged(mine, vendor, exact)
    return record


@functools.cache
def _weights(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Made once, so that only the first, unrecorded run makes them."""
    return torch.linspace(0.5, 1.5, shape.numel(), dtype=torch.float64).view(shape).to(dtype)


def gradients(call: Callable[..., Any], args: Any, kwargs: Any) -> list[torch.Tensor]:
    """The gradients of a weighted sum of all results by every argument that asks for one."""
    inputs = [leaf for leaf in tensors((args, kwargs)) if leaf.requires_grad]
    outputs = [leaf for leaf in tensors(call(*args, **kwargs)) if leaf.requires_grad]
    if not outputs:
        return []
    weights = [_weights(x.shape, x.dtype) for x in outputs]
    found = torch.autograd.grad(outputs, inputs, weights, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]


def assert_gradients(call: Callable[..., Any], *args: Any, **kwargs: Any) -> Record:
    """Judge every gradient of `call` on our kernels."""
    theirs = gradients(call, args, kwargs)
    reference = gradients(call, *in_double((args, kwargs)))
    with tessera.use() as record:
        ours = gradients(call, args, kwargs)
    for mine, vendor, exact in zip(ours, theirs, reference, strict=True):
        assert mine.shape == vendor.shape and mine.dtype is vendor.dtype
        assert_judged(mine, vendor, exact)
    return record


def vendor_calls(record: Record) -> dict[str, dict[str, int]]:
    return {name: dict(calls.reasons) for name, calls in record.calls.items() if calls.vendor}
