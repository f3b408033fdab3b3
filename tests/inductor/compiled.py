"""Functions compiled by Inductor for our back end, and judged against PyTorch eager and float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from tessera.accuracy.judge import hold, judge

# Below 64 elements torch's own error is too small a sample of its noise: two units in the last place are allowed.
NOISE_EPS = 2.0


def compiled(function: Callable[..., Any], *, dynamic: bool | None = None, **options: Any) -> Callable[..., Any]:
    """`function` by Inductor's Triton kernels, which our plug-in compiles."""
    return torch.compile(function, fullgraph=True, dynamic=dynamic, options={"cpu_backend": "triton", **options})


def assert_equal_to_eager(
    function: Callable[..., Any], *inputs: Any, run: Callable[..., Any] | None = None, **options: Any
) -> None:
    """Floating results by the accuracy rule, others to the bit. `run`: what was compiled, if not `function` itself."""
    ours = (run or compiled(function, **options))(*inputs)
    theirs, exact = function(*inputs), function(*tree_map(_wide, inputs))
    leaves = [tree_leaves(value) for value in (ours, theirs, exact)]
    for mine, native, reference in zip(*leaves, strict=True):
        _assert_tensor(mine, native, reference)


def _assert_tensor(mine: torch.Tensor, native: torch.Tensor, reference: torch.Tensor) -> None:
    if not native.is_floating_point():
        assert mine.dtype == native.dtype
        assert torch.equal(mine, native)
        return
    noise = NOISE_EPS * torch.finfo(native.dtype).eps
    judgement = judge(mine.detach(), hold(native.detach(), reference.detach()), noise=noise)
    assert judgement.ok, judgement.reason


def gradients(function: Callable[..., torch.Tensor], inputs: Sequence[torch.Tensor]) -> tuple[torch.Tensor, ...]:
    """Gradients of a weighted sum of the result to every input."""
    leaves = [value.detach().clone().requires_grad_() for value in inputs]
    result = function(*leaves)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).reshape(result.shape)
    return torch.autograd.grad(result, leaves, weights)


def _wide(value: Any) -> Any:
    wide = isinstance(value, torch.Tensor) and value.is_floating_point()
    return value.double() if wide else value
