"""A transformer-like stack whose feed-forward layers are sparse: experts see the tokens that are routed to them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Expert(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(dim, hidden), nn.Linear(hidden, dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.up(x)))


class SparseMoe(nn.Module):
    def __init__(self, dim: int, experts: int = 4, top_k: int = 2) -> None:
        super().__init__()
        self.top_k = top_k
        self.gate = nn.Linear(dim, experts, bias=False)
        self.experts = nn.ModuleList(Expert(dim, 2 * dim) for _ in range(experts))
        self.shared = Expert(dim, dim)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        x = hidden.reshape(-1, hidden.shape[-1])
        probs = F.softmax(self.gate(x), dim=-1, dtype=torch.float32)
        weights, chosen = torch.topk(probs, self.top_k, dim=-1)
        weights = (weights / weights.sum(dim=-1, keepdim=True)).to(x.dtype)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, slots = torch.where(chosen == number)
            made = expert(x[rows]) * weights[rows, slots, None]
            out.index_add_(0, rows, made)
        out = out + self.shared(x)
        return out.reshape(hidden.shape)


class Mixer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.moe = SparseMoe(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.moe(self.norm(x))


class Model(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Mixer(dim) for _ in range(2))
        self.head = nn.Linear(dim, 9)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def build() -> nn.Module:
    torch.manual_seed(3)
    return Model()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(3, 10, 32, generator=torch.Generator().manual_seed(1)),)
