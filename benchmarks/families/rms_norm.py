"""RMS normalisation of rows, against PyTorch's function and against its composition as Llama writes it.

Shapes are [rows, columns]; what is counted is the input read and the output written once.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from benchmarks.case import COMPOSED_ROWS, FUSED_ROWS, Call, Kernel, Rivals, Shape, entry, num_bytes, randn

_EPS = 1e-6


def _rivals(shape: Shape, dtype: torch.dtype, *, composed: bool = False) -> Rivals:
    x, weight = randn(shape, dtype), randn(shape[1:], dtype)
    ours = entry("_fused_rms_norm")

    def compose() -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + _EPS) * weight

    fused: Call = lambda: functional.rms_norm(x, shape[1:], weight, _EPS)  # noqa: E731
    return Rivals(
        ours=lambda: ours(x, list(shape[1:]), weight, _EPS)[0],
        torch=compose if composed else fused,
        amount=2 * num_bytes(x),
        unit="B",
    )


def _composed(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals(shape, dtype, composed=True)


KERNELS = {
    "rms_norm": Kernel(peer="rms_norm", target=FUSED_ROWS, make=_rivals),
    "rms_norm_composed": Kernel(peer="pow, mean, add, rsqrt, mul", target=COMPOSED_ROWS, make=_composed),
}
