"""Reductions and running sums. Shapes are [rows, columns]; counted are one read and one write."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmarks.case import NO_LOSS, Kernel, Rivals, Shape, entry, num_bytes, randn

_ROWS, _COLUMNS = [-1], [0]


def _kernel(name: str, peer: Callable[..., torch.Tensor], dim: int | list[int]) -> Kernel:
    def make(shape: Shape, dtype: torch.dtype) -> Rivals:
        x = randn(shape, dtype)
        ours = entry(name)
        amount = num_bytes(x, peer(x, dim))
        return Rivals(ours=lambda: ours(x, dim), torch=lambda: peer(x, dim), amount=amount, unit="B")

    return Kernel(peer=peer.__name__, target=NO_LOSS, make=make)


KERNELS = {
    "sum_rows": _kernel("sum.dim_IntList", torch.sum, _ROWS),
    "sum_columns": _kernel("sum.dim_IntList", torch.sum, _COLUMNS),
    "mean": _kernel("mean.dim", torch.mean, _ROWS),
    "amax": _kernel("amax", torch.amax, _ROWS),
    "argmax": _kernel("argmax", torch.argmax, -1),
    "cumsum": _kernel("cumsum", torch.cumsum, -1),
}
