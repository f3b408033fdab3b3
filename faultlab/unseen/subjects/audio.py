"""Sound in, sound out: a spectrum, dilated convolutions with normed weights, periodic activations, a transposed one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Normed(nn.Module):
    def __init__(self, cin: int, cout: int, width: int, dilation: int = 1) -> None:
        super().__init__()
        self.dilation = dilation
        self.v = nn.Parameter(0.3 * torch.randn(cout, cin, width))
        self.g = nn.Parameter(0.5 + torch.rand(cout, 1, 1))
        self.bias = nn.Parameter(0.1 * torch.randn(cout))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.g * self.v / self.v.norm(dim=(1, 2), keepdim=True)
        return F.conv1d(x, weight, self.bias, padding=self.dilation, dilation=self.dilation)


class Snake(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(0.5 + torch.rand(channels, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.sin(self.alpha * x).pow(2) / (self.alpha + 1e-3)


class Unit(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.act = Snake(channels)
        self.conv = Normed(channels, channels, 3, dilation)
        self.close = nn.Conv1d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(self.act(x))
        return x + self.close(F.leaky_relu(y, 0.1))


class Codec(nn.Module):
    def __init__(self, size: int = 16, hop: int = 4, channels: int = 12) -> None:
        super().__init__()
        self.size, self.hop = size, hop
        mels = torch.rand(10, size // 2 + 1, generator=torch.Generator().manual_seed(5))
        self.register_buffer("mels", mels / mels.sum(1, keepdim=True))
        self.enter = Normed(10, channels, 3)
        self.units = nn.Sequential(Unit(channels, 1), Unit(channels, 2), Unit(channels, 3))
        self.grow = nn.ConvTranspose1d(channels, 6, 8, stride=4)
        self.leave = nn.Conv1d(6, 1, 5, padding=2)

    def spectrum(self, wave: torch.Tensor) -> torch.Tensor:
        wave = F.pad(wave[:, None], (self.size // 2, self.size // 2), mode="reflect")[:, 0]
        window = 0.5 - 0.5 * torch.cos(2 * torch.pi * torch.arange(self.size).to(wave.dtype) / self.size)
        frames = wave.unfold(1, self.size, self.hop) * window
        turn = torch.outer(torch.arange(self.size), torch.arange(self.size // 2 + 1)).to(wave.dtype)
        turn = turn * (2 * torch.pi / self.size)
        power = (frames @ torch.cos(turn)).square() + (frames @ torch.sin(turn)).square()
        mel = power @ self.mels.t()
        return torch.log10(mel.clamp(min=1e-5)).transpose(1, 2)

    def forward(self, wave: torch.Tensor) -> torch.Tensor:
        mel = self.spectrum(wave)
        mel = torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 0.5)
        x = self.units(self.enter((mel + 4.0) / 4.0))
        x = self.grow(x)[..., : wave.shape[1]]
        return torch.tanh(self.leave(F.elu(x)))


def build() -> nn.Module:
    torch.manual_seed(0)
    return Codec()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 48, generator=torch.Generator().manual_seed(1)),)
