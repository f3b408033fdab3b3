"""Layers with short weights as deployments have them: int8 by channel, int8 with a zero point, float8 by block."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Int8Linear(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        weight = torch.randn(cout, cin) / cin**0.5 * (0.2 + 2 * torch.rand(cout, 1))
        scale = weight.abs().amax(dim=1) / 127
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        step = x.abs().amax(dim=-1, keepdim=True) / 127
        short = (x / step).round().clamp(-128, 127).to(torch.int8)
        sums = torch._int_mm(short, self.weight.t())
        return sums.to(x.dtype) * step * self.scale


class AffineLinear(nn.Module):
    def __init__(self, cin: int, cout: int) -> None:
        super().__init__()
        weight = torch.randn(cout, cin) / cin**0.5 + 0.05
        low, high = weight.amin(dim=1, keepdim=True), weight.amax(dim=1, keepdim=True)
        scale = (high - low) / 255
        zero = (-low / scale).round()
        self.register_buffer("scale", scale)
        self.register_buffer("zero", zero)
        self.register_buffer("weight", (weight / scale + zero).round().clamp(0, 255).to(torch.uint8))
        self.bias = nn.Parameter(0.1 * torch.randn(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = (self.weight.to(x.dtype) - self.zero) * self.scale
        return F.linear(x, weight, self.bias)


class Float8Linear(nn.Module):
    def __init__(self, cin: int, cout: int, block: int = 16) -> None:
        super().__init__()
        self.block = block
        weight = torch.randn(cout, cin) / cin**0.5
        blocks = weight.view(cout, cin // block, block)
        scale = blocks.abs().amax(dim=2, keepdim=True) / 448
        self.register_buffer("scale", scale)
        self.register_buffer("weight", (blocks / scale).to(torch.float8_e4m3fn).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = (self.weight * self.scale).flatten(1)
        return F.linear(x, weight.to(x.dtype))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = Int8Linear(32, 48), AffineLinear(48, 48), Float8Linear(48, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.a(x))
        x = F.gelu(self.b(x))
        return self.c(x)


def build() -> nn.Module:
    torch.manual_seed(0)
    return Net()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(24, 32, generator=torch.Generator().manual_seed(1)),)
