"""A graph network: convolutions with symmetric normalisation, attention over edges, and means over the graphs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class GraphConv(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.lin = nn.Linear(cin, cout)

    def forward(self, x: torch.Tensor, src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        loops = torch.arange(n)
        src, dst = torch.cat([src, loops]), torch.cat([dst, loops])
        degree = torch.zeros(n, dtype=x.dtype).index_add_(0, dst, torch.ones(dst.shape[0], dtype=x.dtype))
        norm = degree.pow(-0.5)
        message = self.lin(x)[src] * (norm[src] * norm[dst])[:, None]
        return torch.zeros_like(message[:n]).index_add_(0, dst, message)


class EdgeAttention(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.value = nn.Linear(dim, dim)
        self.score = nn.Linear(2 * dim, 1)

    def forward(self, x: torch.Tensor, src: torch.Tensor, dst: torch.Tensor) -> torch.Tensor:
        n = x.shape[0]
        score = F.leaky_relu(self.score(torch.cat([x[src], x[dst]], dim=-1)), 0.2).squeeze(-1)
        top = score.new_full((n,), -1e4).scatter_reduce(0, dst, score, "amax")
        power = (score - top[dst]).exp()
        total = power.new_zeros(n).scatter_add(0, dst, power)
        share = power / (total[dst] + 1e-4)
        return x.new_zeros(x.shape).index_put((dst,), self.value(x)[src] * share[:, None], accumulate=True)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = GraphConv(24, 24)
        self.att = EdgeAttention(24)
        self.norm = nn.LayerNorm(24)
        self.head = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor, src: torch.Tensor, dst: torch.Tensor, graph: torch.Tensor) -> torch.Tensor:
        x = F.elu(self.conv(x, src, dst))
        x = self.norm(x + self.att(x, src, dst))
        pooled = x.new_zeros(4, x.shape[1]).scatter_add(0, graph[:, None].expand_as(x), x)
        count = torch.bincount(graph, minlength=4).clamp(min=1)
        return self.head(pooled / count[:, None].to(x.dtype))


def build() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    edges = torch.randint(30, (2, 110), generator=generator)
    graph = torch.arange(30) * 4 // 33
    return torch.randn(30, 24, generator=generator), edges[0], edges[1], graph
