"""Batch, instance and group norm, with their gradients, in both layouts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

import tessera
from tests.ops.judged import assert_calls, vendor_calls

TYPES = [torch.float32, torch.bfloat16, torch.float64]


def image(dtype: torch.dtype, layout: torch.memory_format) -> torch.Tensor:
    torch.manual_seed(0)
    return (torch.randn(4, 6, 9, 7) * 3 + 5).to(dtype).contiguous(memory_format=layout).requires_grad_()


def parameters(dtype: torch.dtype) -> list[torch.Tensor]:
    return [torch.randn(6).to(dtype).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_batch_norm(dtype: torch.dtype, layout: torch.memory_format) -> None:
    def call(x: torch.Tensor, weight: Any, bias: Any, training: bool) -> Any:
        mean, var = torch.zeros(6, dtype=x.dtype), torch.ones(6, dtype=x.dtype)
        y = functional.batch_norm(x, mean, var, weight, bias, training, 0.2)
        return y, mean, var

    x = image(dtype, layout)
    given = [((x, *parameters(dtype), True), {}), ((x, *parameters(dtype), False), {}), ((x, None, None, True), {})]
    assert not any(vendor_calls(record) for record in assert_calls(call, given, gradients=True))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_group_norm(dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = image(dtype, layout)
    given = [((x, 3, *parameters(dtype)), {}), ((x, 1), {}), ((x, 6, *parameters(dtype)), {})]
    records = assert_calls(functional.group_norm, given, gradients=True)
    assert not any(vendor_calls(record) for record in records)


def test_instance_norm() -> None:
    x = image(torch.float32, torch.contiguous_format)
    records = assert_calls(functional.instance_norm, [((x,), {})], gradients=True)
    assert not any(vendor_calls(record) for record in records)


def test_group_norm_refuses_the_orders_of_memory_that_pytorch_refuses() -> None:
    x = torch.randn(2, 6, 5, 4).transpose(2, 3)
    with tessera.use("always"), pytest.raises(RuntimeError, match="is_contiguous"):
        torch.native_group_norm(x, None, None, 2, 6, 20, 3, 1e-5)
