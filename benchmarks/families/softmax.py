"""Softmax along the last dim. Shapes are [rows, columns]; counted are one read and one write."""

from __future__ import annotations

import torch

from benchmarks.case import COMPOSED_ROWS, FUSED_ROWS, NO_LOSS, Call, Kernel, Rivals, Shape, entry, num_bytes, randn


def _rivals(shape: Shape, dtype: torch.dtype, *, composed: bool = False, log: bool = False) -> Rivals:
    x = randn(shape, dtype)
    ours = entry("_log_softmax" if log else "_softmax")
    fused = torch.log_softmax if log else torch.softmax

    def compose() -> torch.Tensor:
        e = torch.exp(x - x.amax(-1, keepdim=True))
        return e / e.sum(-1, keepdim=True)

    peer: Call = compose if composed else lambda: fused(x, -1)
    return Rivals(ours=lambda: ours(x, -1, False), torch=peer, amount=2 * num_bytes(x), unit="B")


def _composed(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals(shape, dtype, composed=True)


def _log(shape: Shape, dtype: torch.dtype) -> Rivals:
    return _rivals(shape, dtype, log=True)


def _backward(shape: Shape, dtype: torch.dtype) -> Rivals:
    g, y = randn(shape, dtype), torch.softmax(randn(shape, dtype), -1)
    ours, peer = entry("_softmax_backward_data"), torch.ops.aten._softmax_backward_data
    return Rivals(
        ours=lambda: ours(g, y, -1, dtype), torch=lambda: peer(g, y, -1, dtype), amount=3 * num_bytes(g), unit="B"
    )


KERNELS = {
    "softmax": Kernel(peer="softmax", target=FUSED_ROWS, make=_rivals),
    "softmax_composed": Kernel(peer="amax, sub, exp, sum, div", target=COMPOSED_ROWS, make=_composed),
    "log_softmax": Kernel(peer="log_softmax", target=FUSED_ROWS, make=_log),
    "softmax_backward": Kernel(peer="_softmax_backward_data", target=NO_LOSS, make=_backward),
}
