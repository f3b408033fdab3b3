"""Elementwise operators. Shapes are [rows, columns]; counted are each input read and the output written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.case import ELEMENTWISE, Kernel, Rivals, Shape, entry, num_bytes, randn

Make = Callable[[Shape, torch.dtype], Rivals]


def _rivals(name: str, torch_call: Callable[..., Any], *inputs: torch.Tensor) -> Rivals:
    """Results are written to memory that is there: a new page costs more than the arithmetic on it."""
    ours = entry(name)
    mine = torch_call(*inputs)
    other = torch.empty_like(mine)
    return Rivals(
        ours=lambda: ours(*inputs, out=mine),
        torch=lambda: torch_call(*inputs, out=other),
        amount=num_bytes(*inputs, mine),
        unit="B",
    )


def _contiguous(name: str, torch_call: Callable[..., Any], num_inputs: int) -> Make:
    return lambda shape, dtype: _rivals(name, torch_call, *(randn(shape, dtype) for _ in range(num_inputs)))


def _add_bias(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals("add.out", torch.add, randn(shape, dtype), randn(shape[-1:], dtype))


def _add_transposed(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals("add.out", torch.add, randn(shape, dtype), randn(shape[::-1], dtype).t())


def _gelu_backward(shape: Shape, dtype: torch.dtype) -> Rivals:
    g, x = randn(shape, dtype), randn(shape, dtype)
    ours, peer = entry("gelu_backward"), torch.ops.aten.gelu_backward
    return Rivals(ours=lambda: ours(g, x), torch=lambda: peer(g, x), amount=3 * num_bytes(x), unit="B")


def _cast(shape: Shape, dtype: torch.dtype) -> Rivals:
    source = randn(shape, dtype)
    target, target_of_torch = (torch.empty(shape, dtype=torch.bfloat16) for _ in range(2))
    ours = entry("copy_")
    return Rivals(
        ours=lambda: ours(target, source),
        torch=lambda: target_of_torch.copy_(source),
        amount=num_bytes(source, target),
        unit="B",
    )


# functional.silu takes no memory to write to; this is what it calls.
_silu = torch._C._nn.silu

KERNELS = {
    "add": Kernel(peer="add", target=ELEMENTWISE, make=_contiguous("add.out", torch.add, 2)),
    "mul": Kernel(peer="mul", target=ELEMENTWISE, make=_contiguous("mul.out", torch.mul, 2)),
    "gelu": Kernel(peer="gelu", target=ELEMENTWISE, make=_contiguous("gelu.out", functional.gelu, 1)),
    "silu": Kernel(peer="silu", target=ELEMENTWISE, make=_contiguous("silu.out", _silu, 1)),
    "add_bias": Kernel(peer="add", target=ELEMENTWISE, make=_add_bias),
    "add_transposed": Kernel(peer="add", target=ELEMENTWISE, make=_add_transposed),
    "cast": Kernel(peer="copy_ to bfloat16", target=ELEMENTWISE, make=_cast),
    "gelu_backward": Kernel(peer="gelu_backward", target=ELEMENTWISE, make=_gelu_backward),
}
