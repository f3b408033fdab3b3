"""Outputs that no cache would hold are written past the caches, with the same results."""

import pytest
import torch

import tessera
from tessera.ops import tiles

LEAST = tiles.TILES["cpu"].streamed_bytes // 4


def test_the_modifier_follows_the_size() -> None:
    assert tiles.store_modifier(torch.empty(LEAST)) == ".cs"
    assert tiles.store_modifier(torch.empty(LEAST - 1)) == ""


@pytest.mark.parametrize("width", [1024, 1021])
def test_large_outputs_are_pytorchs(width: int) -> None:
    x = torch.randn(LEAST // width + 1, width)
    calls = (
        lambda: x + 1,
        lambda: (x.t() * 2).t(),
        lambda: x.softmax(1),
        lambda: torch.nn.functional.layer_norm(x, (width,)),
        lambda: x.clone().add_(x),
    )
    for call in calls:
        theirs = call()
        with tessera.use("always") as record:
            ours = call()
        assert record.ours
        torch.testing.assert_close(ours, theirs)
