"""A recurrent language model whose attention is a running sum with decays, and whose inputs mix two tokens."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def before(x: torch.Tensor) -> torch.Tensor:
    return F.pad(x, (0, 0, 1, -1))


class TimeMix(nn.Module):
    def __init__(self, dim: int, groups: int = 3) -> None:
        super().__init__()
        self.mix_k, self.mix_v, self.mix_r = (nn.Parameter(torch.rand(dim)) for _ in range(3))
        self.decay, self.bonus = nn.Parameter(torch.randn(dim)), nn.Parameter(torch.randn(dim))
        self.key, self.value, self.receptance = (nn.Linear(dim, dim, bias=False) for _ in range(3))
        self.norm = nn.GroupNorm(groups, dim, eps=64e-5)
        self.output = nn.Linear(dim, dim, bias=False)

    def wkv(self, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        w = -torch.exp(self.decay.float())
        u = self.bonus.float()
        num, den = torch.zeros_like(k[:, 0]), torch.zeros_like(k[:, 0])
        top = torch.full_like(k[:, 0], -1e4)
        out = []
        for t in range(k.shape[1]):
            kt, vt = k[:, t], v[:, t]
            now = torch.maximum(top, u + kt)
            old, new = torch.exp(top - now), torch.exp(u + kt - now)
            out.append((old * num + new * vt) / (old * den + new))
            nxt = torch.maximum(top + w, kt)
            old, new = torch.exp(top + w - nxt), torch.exp(kt - nxt)
            num, den = old * num + new * vt, old * den + new
            top = nxt
        return torch.stack(out, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        prev = before(x)
        k = self.key(x * self.mix_k + prev * (1 - self.mix_k))
        v = self.value(x * self.mix_v + prev * (1 - self.mix_v))
        r = torch.sigmoid(self.receptance(x * self.mix_r + prev * (1 - self.mix_r)))
        y = self.wkv(k.float(), v.float()).to(x.dtype)
        y = self.norm(y.flatten(0, 1)).view_as(y)
        return self.output(r * y)


class ChannelMix(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.rand(dim))
        self.key, self.value = nn.Linear(dim, 2 * dim, bias=False), nn.Linear(2 * dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = torch.lerp(before(x), x, self.mix)
        k = torch.relu(self.key(mixed)) ** 2
        return torch.sigmoid(self.receptance(mixed)) * self.value(k)


class Block(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.time, self.channel = TimeMix(dim), ChannelMix(dim)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.time(self.norm1(x))
        return x + self.channel(self.norm2(x))


class Rwkv(nn.Module):
    def __init__(self, dim: int = 24) -> None:
        super().__init__()
        self.enter = nn.Linear(10, dim)
        self.blocks = nn.ModuleList(Block(dim) for _ in range(2))
        self.head = nn.Linear(dim, 13)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


def build() -> nn.Module:
    torch.manual_seed(0)
    return Rwkv()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 6, 10, generator=torch.Generator().manual_seed(1)),)
