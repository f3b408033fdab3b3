"""Matrix products. Counted are multiplications and additions; for decode, which memory bounds, one read of a weight."""

from __future__ import annotations

import itertools

import torch
from torch.nn import functional

from benchmarks.case import DECODE_SHARE, MATMUL, NO_LOSS, Kernel, Rivals, Shape, entry, in_turn, num_bytes, randn


def _linear(shape: Shape, dtype: torch.dtype) -> Rivals:
    """[M, N, K]: x @ weight.T + bias, the weight stored [N, K] as nn.Linear does."""
    m, n, k = shape
    x, weight, bias = randn((m, k), dtype), randn((n, k), dtype), randn((n,), dtype)
    ours = entry("addmm")
    return Rivals(
        ours=lambda: ours(bias, x, weight.t()),
        torch=lambda: functional.linear(x, weight, bias),
        amount=2.0 * m * n * k,
        unit="flop",
    )


def _mm(shape: Shape, dtype: torch.dtype) -> Rivals:
    m, n, k = shape
    a, b = randn((m, k), dtype), randn((k, n), dtype)
    ours = entry("mm")
    return Rivals(ours=lambda: ours(a, b), torch=lambda: torch.mm(a, b), amount=2.0 * m * n * k, unit="flop")


def _bmm(shape: Shape, dtype: torch.dtype) -> Rivals:
    batch, m, n, k = shape
    a, b = randn((batch, m, k), dtype), randn((batch, k, n), dtype)
    ours = entry("bmm")
    return Rivals(ours=lambda: ours(a, b), torch=lambda: torch.bmm(a, b), amount=2.0 * batch * m * n * k, unit="flop")


def _decode(shape: Shape, dtype: torch.dtype) -> Rivals:
    n, k = shape
    x = randn((1, k), dtype)
    weights = in_turn(randn((n, k), dtype))
    mine, theirs = itertools.cycle(weights), itertools.cycle(weights)
    ours = entry("mm")
    return Rivals(
        ours=lambda: ours(x, next(mine).t()),
        torch=lambda: functional.linear(x, next(theirs)),
        amount=num_bytes(weights[0]),
        unit="B",
    )


KERNELS = {
    "linear": Kernel(peer="linear", target=MATMUL, make=_linear),
    "mm": Kernel(peer="mm", target=MATMUL, make=_mm),
    "bmm": Kernel(peer="bmm", target=MATMUL, make=_bmm),
    "decode": Kernel(peer="linear", target=NO_LOSS, make=_decode, read_share=DECODE_SHARE),
}
