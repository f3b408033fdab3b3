"""Layers as deployments change them: adapters, weights of four bits in groups, and shards of a tensor-parallel run."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Adapted(nn.Module):
    def __init__(self, cin: int, cout: int, rank: int = 4, alpha: float = 8.0) -> None:
        super().__init__()
        self.base = nn.Linear(cin, cout)
        self.down = nn.Parameter(torch.randn(rank, cin) / cin**0.5)
        self.up = nn.Parameter(0.3 * torch.randn(cout, rank))
        self.rank, self.alpha = rank, alpha

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        extra = F.linear(F.linear(x, self.down), self.up)
        return self.base(x) + extra * (self.alpha / self.rank)


class Int4(nn.Module):
    def __init__(self, cin: int, cout: int, group: int = 16) -> None:
        super().__init__()
        self.group = group
        weight = torch.randn(cout, cin) / cin**0.5
        groups = weight.view(cout, -1, group)
        scale = groups.abs().amax(-1, keepdim=True) / 7
        codes = ((groups / scale).round() + 8).clamp(0, 15).to(torch.uint8).view(cout, -1)
        self.register_buffer("codes", codes[:, 0::2] | (codes[:, 1::2] << 4))
        self.register_buffer("scale", scale)
        self.bias = nn.Parameter(0.1 * torch.randn(cout))

    def weight(self, dtype: torch.dtype) -> torch.Tensor:
        low, high = self.codes & 15, self.codes >> 4
        codes = torch.stack([low, high], dim=-1).flatten(1).view(len(self.codes), -1, self.group)
        centred = codes.to(dtype) - 8
        return (centred * self.scale).flatten(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight(x.dtype), self.bias)


class Int8(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        weight = torch.randn(cout, cin) / cin**0.5
        scale = weight.abs().amax(1) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.smooth = nn.Parameter(0.5 + torch.rand(cin), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x / self.smooth
        step = x.abs().amax(dim=-1, keepdim=True).clamp(min=1e-6) / 127
        short = (x / step).round().clamp(-127, 127).to(torch.int8)
        sums = torch._int_mm(short.flatten(0, 1), self.weight.t())
        return (sums.to(x.dtype) * step.flatten(0, 1) * self.scale).unflatten(0, x.shape[:2])


class Sharded(nn.Module):
    def __init__(self, dim: int, inner: int, shards: int = 2) -> None:
        super().__init__()
        self.gate = nn.ParameterList(torch.randn(inner // shards, dim) / dim**0.5 for _ in range(shards))
        self.up = nn.ParameterList(torch.randn(inner // shards, dim) / dim**0.5 for _ in range(shards))
        self.down = nn.ParameterList(torch.randn(dim, inner // shards) / inner**0.5 for _ in range(shards))
        self.bias = nn.Parameter(0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = torch.cat(list(self.gate)), torch.cat(list(self.up))
        h = F.linear(x, torch.cat([gate, up]))
        gated, kept = h.chunk(2, dim=-1)
        h = F.gelu(gated, approximate="tanh") * kept
        left, right = h.chunk(2, dim=-1)
        out = F.linear(left, self.down[0]) + F.linear(right, self.down[1])
        return out + self.bias


class Net(nn.Module):
    def __init__(self, dim: int = 32) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = Adapted(dim, dim), Int4(dim, dim), Int8(dim, dim), Sharded(dim, 2 * dim)
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for norm, layer in zip(self.norms, (self.a, self.b, self.c, self.d), strict=True):
            x = x + layer(norm(x))
        return x


def build() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(3, 10, 32, generator=torch.Generator().manual_seed(1)),)
