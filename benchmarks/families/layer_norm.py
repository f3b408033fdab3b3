"""Layer normalisation of rows. Shapes are [rows, columns]; counted are one read and one write."""

from __future__ import annotations

import torch

from benchmarks.case import COMPOSED_ROWS, FUSED_ROWS, NO_LOSS, Call, Kernel, Rivals, Shape, entry, num_bytes, randn

_EPS = 1e-12


def _rivals(shape: Shape, dtype: torch.dtype, *, composed: bool = False) -> Rivals:
    x, weight, bias = randn(shape, dtype), randn(shape[1:], dtype), randn(shape[1:], dtype)
    width = list(shape[1:])
    ours = entry("native_layer_norm")

    def compose() -> torch.Tensor:
        off = x - x.mean(-1, keepdim=True)
        return off * torch.rsqrt((off * off).mean(-1, keepdim=True) + _EPS) * weight + bias

    # The statistics are an output that inference drops: both sides compute them.
    fused: Call = lambda: torch.native_layer_norm(x, width, weight, bias, _EPS)[0]  # noqa: E731
    return Rivals(
        ours=lambda: ours(x, width, weight, bias, _EPS)[0],
        torch=compose if composed else fused,
        amount=2 * num_bytes(x),
        unit="B",
    )


def _composed(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals(shape, dtype, composed=True)


def _backward(shape: Shape, dtype: torch.dtype) -> Rivals:
    g, x, weight, bias = (randn(s, dtype) for s in (shape, shape, shape[1:], shape[1:]))
    width = list(shape[1:])
    _, mean, rstd = torch.native_layer_norm(x, width, weight, bias, _EPS)
    ours, peer = entry("native_layer_norm_backward"), torch.ops.aten.native_layer_norm_backward
    arguments = (g, x, width, mean, rstd, weight, bias, [True, True, True])
    return Rivals(ours=lambda: ours(*arguments), torch=lambda: peer(*arguments), amount=3 * num_bytes(x), unit="B")


KERNELS = {
    "layer_norm": Kernel(peer="native_layer_norm", target=FUSED_ROWS, make=_rivals),
    "layer_norm_composed": Kernel(peer="mean, sub, mul, rsqrt, add", target=COMPOSED_ROWS, make=_composed),
    "layer_norm_backward": Kernel(peer="native_layer_norm_backward", target=NO_LOSS, make=_backward),
}
