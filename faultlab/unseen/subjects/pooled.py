"""A set transformer with padding: inducing points, pooling by attention, mean and maximum, then a recurrent decoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Meet(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.inner = nn.Linear(dim, dim)

    def forward(self, x: torch.Tensor, y: torch.Tensor, valid: torch.Tensor | None) -> torch.Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), self.k(y), self.v(y)))
        mask = None if valid is None else valid[:, None, None, :]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        h = self.norm1(x + self.o(mixed.transpose(1, 2).flatten(2)))
        return self.norm2(h + F.relu(self.inner(h)))


class Decoder(nn.Module):
    def __init__(self, dim: int, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.start = nn.Parameter(0.3 * torch.randn(dim))
        self.x, self.h = nn.Linear(dim, 3 * dim), nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        token, states = self.start.expand_as(h), []
        for _ in range(self.steps):
            xr, xz, xn = self.x(token).chunk(3, dim=-1)
            hr, hz, hn = self.h(h).chunk(3, dim=-1)
            r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
            n = torch.tanh(xn + r * hn)
            h = (1 - z) * n + z * h
            states.append(h)
            token = F.silu(self.out(h))
        return torch.stack(states, 1)


class SetNet(nn.Module):
    def __init__(self, dim: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.enter = nn.Linear(5, dim)
        self.points = nn.Parameter(torch.randn(4, dim))
        self.gather, self.spread, self.seedwise = Meet(dim, heads), Meet(dim, heads), Meet(dim, heads)
        self.seed = nn.Parameter(torch.randn(1, dim))
        self.join = nn.Linear(3 * dim, dim)
        self.decoder = Decoder(dim, 3)
        self.head = nn.Linear(dim, 4)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        valid = torch.arange(x.shape[1])[None, :] < lengths[:, None]
        x = self.enter(x)
        points = self.gather(self.points.expand(len(x), -1, -1), x, valid)
        x = self.spread(x, points, None)
        seeded = self.seedwise(self.seed.expand(len(x), -1, -1), x, valid)[:, 0]
        real = valid[..., None].to(x.dtype)
        mean = (x * real).sum(1) / real.sum(1)
        top = x.masked_fill(~valid[..., None], float("-inf")).amax(1)
        states = self.decoder(self.join(torch.cat([seeded, mean, top], dim=-1)))
        unit = F.normalize(states, dim=-1)
        return self.head(unit)


def build() -> nn.Module:
    torch.manual_seed(0)
    return SetNet()


def inputs() -> tuple[torch.Tensor, ...]:
    return torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([7, 4, 5])
