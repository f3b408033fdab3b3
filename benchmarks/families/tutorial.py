"""Kernels as their authors write them for GPUs, launched through Triton, with block sizes that are usual there.

They are the ones that our tests run; PyTorch's rival writes to memory that is there already, as they do.
"""

from __future__ import annotations

import itertools

import torch
import triton
from torch.nn import functional

from benchmarks.case import (
    ATTENTION,
    DECODE_SHARE,
    ELEMENTWISE,
    FUSED_ROWS,
    INT8_MATMUL,
    MATMUL,
    NO_LOSS,
    Kernel,
    Rivals,
    Shape,
    in_turn,
    num_bytes,
    randn,
)
from tests.triton_cpu import kernels

_EPS = 1e-5
# Weights of 4 bits that share a scale.
_GROUP = 128


def _vector_add(shape: Shape, dtype: torch.dtype) -> Rivals:
    x, y = randn(shape, dtype), randn(shape, dtype)
    out, other = torch.empty_like(x), torch.empty_like(x)
    grid = (triton.cdiv(x.numel(), 1024),)

    def ours() -> torch.Tensor:
        kernels.vector_add[grid](x, y, out, x.numel(), BLOCK=1024)
        return out

    return Rivals(ours=ours, torch=lambda: torch.add(x, y, out=other), amount=3 * num_bytes(x), unit="B")


def _softmax(shape: Shape, dtype: torch.dtype) -> Rivals:
    x = randn(shape, dtype)
    out, other = torch.empty_like(x), torch.empty_like(x)
    block = triton.next_power_of_2(shape[1])

    def ours() -> torch.Tensor:
        kernels.fused_softmax[(64,)](out, x, x.stride(0), out.stride(0), *shape, BLOCK=block, STAGES=2)
        return out

    return Rivals(ours=ours, torch=lambda: torch.softmax(x, -1, out=other), amount=2 * num_bytes(x), unit="B")


def _layer_norm(shape: Shape, dtype: torch.dtype) -> Rivals:
    rows, width = shape
    x, weight, bias = randn(shape, dtype), randn((width,), dtype), randn((width,), dtype)
    out, mean, rstd = torch.empty_like(x), torch.empty(rows), torch.empty(rows)

    def ours() -> torch.Tensor:
        kernels.layer_norm_forward[(rows,)](x, out, weight, bias, mean, rstd, x.stride(0), width, _EPS, BLOCK=1024)
        return out

    return Rivals(
        ours=ours,
        torch=lambda: torch.native_layer_norm(x, [width], weight, bias, _EPS)[0],
        amount=2 * num_bytes(x),
        unit="B",
    )


def _matmul(shape: Shape, dtype: torch.dtype) -> Rivals:
    m, n, k = shape
    a, b = randn((m, k), dtype), randn((k, n), dtype)
    out, other = (torch.empty(m, n, dtype=dtype) for _ in range(2))
    grid = (triton.cdiv(m, 128) * triton.cdiv(n, 128),)

    def ours() -> torch.Tensor:
        kernels.matmul[grid](a, b, out, m, n, k, *a.stride(), *b.stride(), *out.stride(),
                             BLOCK_M=128, BLOCK_N=128, BLOCK_K=64, GROUP_M=8, ACTIVATION="")  # fmt: skip
        return out

    return Rivals(ours=ours, torch=lambda: torch.mm(a, b, out=other), amount=2.0 * m * n * k, unit="flop")


def _int8_matmul(shape: Shape, dtype: torch.dtype) -> Rivals:
    """int8 into int32, against PyTorch's product of the same numbers in bfloat16."""
    m, n, k = shape
    a, b = (torch.randint(-128, 128, size, dtype=dtype) for size in ((m, k), (k, n)))
    half_a, half_b, other = a.bfloat16(), b.bfloat16(), torch.empty(m, n, dtype=torch.bfloat16)
    out = torch.empty(m, n, dtype=torch.int32)
    grid = (triton.cdiv(m, 128), triton.cdiv(n, 128))

    def ours() -> torch.Tensor:
        kernels.int8_matmul[grid](a, b, out, m, n, k, *a.stride(), *b.stride(), *out.stride(),
                                  BLOCK_M=128, BLOCK_N=128, BLOCK_K=128)  # fmt: skip
        return out

    return Rivals(ours=ours, torch=lambda: torch.mm(half_a, half_b, out=other), amount=2.0 * m * n * k, unit="flop")


def _decode_int8(shape: Shape, dtype: torch.dtype) -> Rivals:
    """[N, K]: one token in bfloat16, a scale a row, against PyTorch's own kernel for such weights."""
    n, k = shape
    x, scale = randn((1, k), torch.bfloat16), torch.rand(n).bfloat16()
    weights = in_turn(torch.randint(-127, 128, (n, k), dtype=dtype))
    mine, theirs = itertools.cycle(weights), itertools.cycle(weights)
    out = torch.empty(1, n, dtype=torch.bfloat16)

    def ours() -> torch.Tensor:
        kernels.decode_int8[(triton.cdiv(n, 16),)](x, next(mine), scale, out, n, k, BLOCK_N=16, BLOCK_K=128)
        return out

    pack_mm = torch.ops.aten._weight_int8pack_mm
    return Rivals(ours=ours, torch=lambda: pack_mm(x, next(theirs), scale), amount=float(n * k), unit="B")


def _decode_int4(shape: Shape, dtype: torch.dtype) -> Rivals:
    """[N, K]: two weights a byte, a scale for each 128 of them, against PyTorch's own kernel for such weights, which
    wants them packed in its own way and a zero with each scale."""
    n, k = shape
    x, scale = randn((1, k), torch.bfloat16), torch.rand(n, k // _GROUP).bfloat16()
    codes = torch.randint(0, 16, (n, k), dtype=torch.int32)
    weights = in_turn((codes[:, 0::2] | (codes[:, 1::2] << 4)).to(dtype))
    packed = in_turn(torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 2))
    scales_and_zeros = torch.stack([scale, torch.zeros_like(scale)], 2).transpose(0, 1).contiguous()
    mine, theirs = itertools.cycle(weights), itertools.cycle(packed)
    out = torch.empty(1, n, dtype=torch.bfloat16)

    def ours() -> torch.Tensor:
        kernels.decode_int4[(triton.cdiv(n, 16),)](x, next(mine), scale, out, n, k, GROUP=_GROUP, BLOCK_N=16)
        return out

    pack_mm = torch.ops.aten._weight_int4pack_mm_for_cpu
    return Rivals(
        ours=ours,
        torch=lambda: pack_mm(x, next(theirs), _GROUP, scales_and_zeros),
        amount=n * k / 2,
        unit="B",
    )


def _attention(shape: Shape, dtype: torch.dtype) -> Rivals:
    """[heads, length, width of a head], causal."""
    heads, length, width = shape
    q, k, v = (randn(shape, dtype) for _ in range(3))
    out, lse = torch.empty_like(q), torch.empty(heads, length)
    grid = (triton.cdiv(length, 64), heads)

    def ours() -> torch.Tensor:
        kernels.flash_attention[grid](q, k, v, width**-0.5, lse, out, q.stride(0), q.stride(1), heads,
                                      N_CTX=length, D=width, BLOCK_M=64, BLOCK_N=64, STAGE=3)  # fmt: skip
        return out

    return Rivals(
        ours=ours,
        torch=lambda: functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0],
        amount=2.0 * heads * length * length * width,
        unit="flop",
    )


KERNELS = {
    "vector_add": Kernel(peer="torch.add", target=ELEMENTWISE, make=_vector_add),
    "fused_softmax": Kernel(peer="softmax", target=FUSED_ROWS, make=_softmax),
    "layer_norm": Kernel(peer="native_layer_norm", target=FUSED_ROWS, make=_layer_norm),
    "matmul": Kernel(peer="mm", target=MATMUL, make=_matmul),
    "int8_matmul": Kernel(peer="mm in bfloat16", target=INT8_MATMUL, make=_int8_matmul),
    "decode_int8": Kernel(peer="_weight_int8pack_mm", target=NO_LOSS, make=_decode_int8, read_share=DECODE_SHARE),
    "decode_int4": Kernel(
        peer="_weight_int4pack_mm_for_cpu", target=NO_LOSS, make=_decode_int4, read_share=DECODE_SHARE
    ),
    "attention": Kernel(peer="scaled_dot_product_attention", target=ATTENTION, make=_attention),
}
