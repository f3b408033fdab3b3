"""Tensors with more elements than 31 bits count."""

from __future__ import annotations

import torch

import tessera
from tests.ops.judged import vendor_calls

NUM = 2**31 + 17


def test_more_than_31_bits_of_elements() -> None:
    x = torch.zeros(NUM, dtype=torch.int8)
    with tessera.use("always") as record:
        x.add_(1)
        x[2**31 :].mul_(torch.arange(17, dtype=torch.int8))
        total = int(x.sum())
    assert x[2**31 :].tolist() == list(range(17))
    assert total == 2**31 + sum(range(17))
    assert not vendor_calls(record)
