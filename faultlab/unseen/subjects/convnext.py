"""A convolutional classifier in two styles: blocks as in ConvNeXt, and a residual block with standardised weights."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Response(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(0.3 * torch.randn(dim)), nn.Parameter(0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = x.norm(p=2, dim=(1, 2), keepdim=True)
        share = size / (size.mean(dim=-1, keepdim=True) + 1e-6)
        return self.gamma * (x * share) + self.beta + x


class Next(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.deep = nn.Conv2d(dim, dim, 3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.up, self.down = nn.Linear(dim, 3 * dim), nn.Linear(3 * dim, dim)
        self.response = Response(3 * dim)
        self.scale = nn.Parameter(0.3 * torch.rand(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.deep(F.pad(x, (1, 1, 1, 1)))
        h = self.norm(h.permute(0, 2, 3, 1))
        h = self.down(self.response(F.gelu(self.up(h))))
        return x + (self.scale * h).permute(0, 3, 1, 2)


class Standard(nn.Conv2d):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        var = self.weight.var(dim=(1, 2, 3), keepdim=True, correction=0)
        weight = (self.weight - mean) * torch.rsqrt(var + 1e-4)
        return F.conv2d(x, weight * 0.1, self.bias, self.stride, self.padding)


class Residual(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, cin), nn.GroupNorm(4, cout)
        self.conv1 = Standard(cin, cout, 3, stride=2, padding=1)
        self.conv2 = Standard(cout, cout, 3, padding=1)
        self.short = nn.Conv2d(cin, cout, 1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu(self.norm1(x))
        short = self.short(h)
        h = self.conv1(h)
        h = self.conv2(F.relu(self.norm2(h)))
        return h + short


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 2, stride=2)
        self.stages = nn.Sequential(Next(12), Next(12), Residual(12, 20), Next(20))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.norm = nn.LayerNorm(20)
        self.head = nn.Linear(20, 7)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.stages(self.stem(x)))
        x = self.norm(x.mean(dim=(2, 3)))
        return self.head(x)


def build() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(3, 3, 20, 16, generator=torch.Generator().manual_seed(1)),)
