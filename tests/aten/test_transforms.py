"""torch.func and torch.compile with the operators on."""

from __future__ import annotations

import torch

import tessera


def loss(weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.softmax(torch.tanh(x @ weight), -1).square().sum()


def test_vmap_and_gradients_by_sample() -> None:
    weight, x = torch.randn(8, 5), torch.randn(6, 3, 8)
    wanted = torch.stack([torch.func.grad(loss)(weight, one) for one in x])
    with tessera.use("always") as record:
        found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(weight, x)
    torch.testing.assert_close(found, wanted)
    assert record.ours > 0


def test_compiled_functions_see_the_same_operators() -> None:
    weight, x = torch.randn(8, 5), torch.randn(3, 8)
    compiled = torch.compile(loss, backend="aot_eager")
    with tessera.use("always") as record:
        found = compiled(weight, x)
    torch.testing.assert_close(found, loss(weight, x))
    assert record.ours > 0
