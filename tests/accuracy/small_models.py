"""Small models for the tests of the check, and faults as a porting engineer makes them."""

from __future__ import annotations

import torch
from torch import nn


def encoder(*, layers: int = 2, dropout: float = 0.0) -> nn.Module:
    """A transformer encoder, always with the same weights."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=dropout)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def tokens() -> torch.Tensor:
    """Inputs for it."""
    return torch.randn(2, 7, 32, generator=torch.Generator().manual_seed(1))


class Separate(nn.Module):
    """Queries, keys and values by three layers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.q, self.k, self.v = (nn.Linear(16, 16) for _ in range(3))
        self.out = nn.Linear(16, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention with one head."""
        return self.out(attend(self.q(x), self.k(x), self.v(x)))


class Fused(nn.Module):
    """The same by one layer, under other names. swapped: keys and values are taken for one another."""

    def __init__(self, like: Separate, *, swapped: bool = False) -> None:
        super().__init__()
        self.qkv, self.projection = nn.Linear(16, 48), nn.Linear(16, 16)
        parts = (like.q, like.k, like.v)
        self.qkv.weight.data = torch.cat([part.weight.data for part in parts])
        self.qkv.bias.data = torch.cat([part.bias.data for part in parts])
        self.projection.load_state_dict(like.out.state_dict())
        self.swapped = swapped

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Attention with one head."""
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.projection(attend(q, v, k) if self.swapped else attend(q, k, v))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """softmax(q k / sqrt(d)) v"""
    return ((q @ k.transpose(-1, -2)) / q.shape[-1] ** 0.5).softmax(-1) @ v
