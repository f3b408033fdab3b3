"""Attention, forward and backward, with masks, shared heads and any layout."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

import tessera
from tests.ops.judged import assert_calls, assert_gradients, vendor_calls

attention = torch.nn.functional.scaled_dot_product_attention
TYPES = [torch.float32, torch.bfloat16]
# Heads of q and of k, queries, keys, width of a head.
SHAPES = [
    (4, 4, 40, 40, 32), (4, 2, 70, 130, 16), (2, 2, 5, 3, 8), (8, 2, 1, 90, 64), (2, 1, 129, 129, 40),
    (2, 2, 300, 300, 64), (4, 2, 150, 290, 16), (1, 1, 300, 170, 32), (1, 1, 200, 200, 256),
]  # fmt: skip


def heads(num: int, length: int, width: int, dtype: torch.dtype) -> torch.Tensor:
    """[2, num, length, width], laid out as a Linear's output is after its heads are taken apart."""
    return torch.randn(2, length, num, width).to(dtype).transpose(1, 2).requires_grad_()


def qkv(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    num_q, num_k, queries, keys, width = shape
    return (
        heads(num_q, queries, width, dtype),
        heads(num_k, keys, width, dtype).detach().contiguous().requires_grad_(),
        heads(num_k, keys, width, dtype),
    )


def kinds(shape: tuple[int, ...], dtype: torch.dtype) -> list[dict[str, Any]]:
    _, _, queries, keys, _ = shape
    seen = torch.rand(2, 1, 1, keys) > 0.3
    seen[..., 0] = True
    found: list[dict[str, Any]] = [
        {},
        {"attn_mask": seen},
        {"attn_mask": torch.randn(queries, keys).to(dtype), "scale": 0.3},
    ]
    return [*found, {"is_causal": True}] if queries == keys else found


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_forward_and_backward(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = [(qkv(shape, dtype), options) for options in kinds(shape, dtype)]
    call = functools.partial(attention, enable_gqa=shape[0] != shape[1])
    for record in [*assert_calls(call, given), *assert_gradients(call, given)]:
        assert not vendor_calls(record)


def test_a_query_that_sees_nothing_gives_zeros() -> None:
    q = torch.randn(1, 1, 4, 8)
    mask = torch.zeros(4, 4)
    mask[2] = -torch.inf
    with tessera.use("always"):
        out, level = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, q, q, attn_mask=mask)
    assert out[0, 0, 2].tolist() == [0.0] * 8
    assert level[0, 0, 2].item() == 0.0


def test_double_is_computed_in_double() -> None:
    q, k, v = torch.randn(3, 1, 2, 70, 8, dtype=torch.float64).unbind()
    given = [((q.requires_grad_(), k.requires_grad_(), v.requires_grad_()), {"is_causal": True})]
    for record in assert_gradients(torch.nn.functional.scaled_dot_product_attention, given):
        assert not vendor_calls(record)


def test_threads_change_no_bit() -> None:
    """Whether the heads are many or few, and queries have blocks of their own for more threads."""
    threads = torch.get_num_threads()
    for num in (1, 3):
        torch.manual_seed(0)
        q, k, v = (torch.randn(1, num, 600, 64, requires_grad=True) for _ in range(3))
        found = []
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            try:
                with tessera.use("always"):
                    out = attention(q, k, v, is_causal=num == 3)
                    found.append([out, *torch.autograd.grad(out.square().sum(), (q, k, v))])
            finally:
                torch.set_num_threads(threads)
        for other in found[1:]:
            assert all(torch.equal(x, y) for x, y in zip(found[0], other, strict=True))
