"""A vision transformer with shifted windows, relative position bias and merged patches, as in Swin."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def to_windows(x: torch.Tensor, w: int) -> torch.Tensor:
    b, height, width, c = x.shape
    x = x.view(b, height // w, w, width // w, w, c)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)


def from_windows(x: torch.Tensor, w: int, height: int, width: int) -> torch.Tensor:
    x = x.view(-1, height // w, width // w, w, w, x.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, x.shape[-1])


class WindowAttention(nn.Module):
    def __init__(self, dim: int, heads: int, w: int) -> None:
        super().__init__()
        self.heads, self.w = heads, w
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.randn((2 * w - 1) ** 2, heads))

    def bias(self) -> torch.Tensor:
        rows, cols = torch.meshgrid(torch.arange(self.w), torch.arange(self.w), indexing="ij")
        rows, cols = rows.flatten(), cols.flatten()
        down = rows[:, None] - rows[None, :] + self.w - 1
        right = cols[:, None] - cols[None, :] + self.w - 1
        return self.table[down * (2 * self.w - 1) + right].permute(2, 0, 1)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1)
        scores = scores + self.bias()
        if mask is not None:
            scores = scores.view(-1, len(mask), self.heads, t, t) + mask[:, None]
        y = scores.view(n, self.heads, t, t).softmax(dim=-1) @ v
        return self.proj(y.transpose(1, 2).reshape(n, t, c))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, w: int, shift: int) -> None:
        super().__init__()
        self.w, self.shift = w, shift
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = WindowAttention(dim, heads, w)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)

    def mask(self, height: int, width: int) -> torch.Tensor:
        region = torch.zeros(1, height, width, 1)
        for i, rows in enumerate((slice(0, -self.w), slice(-self.w, -self.shift), slice(-self.shift, None))):
            for j, cols in enumerate((slice(0, -self.w), slice(-self.w, -self.shift), slice(-self.shift, None))):
                region[:, rows, cols] = 3 * i + j
        number = to_windows(region, self.w).squeeze(-1)
        return torch.where(number[:, None, :] != number[:, :, None], -100.0, 0.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, height, width, _ = x.shape
        h = self.norm1(x)
        if self.shift:
            h = torch.roll(h, (-self.shift, -self.shift), dims=(1, 2))
        mask = self.mask(height, width).to(x.dtype) if self.shift else None
        h = from_windows(self.attn(to_windows(h, self.w), mask), self.w, height, width)
        if self.shift:
            h = torch.roll(h, (self.shift, self.shift), dims=(1, 2))
        x = x + h
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Merge(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * dim)
        self.reduce = nn.Linear(4 * dim, 2 * dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
        return self.reduce(self.norm(torch.cat(parts, dim=-1)))


class Swin(nn.Module):
    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, dim, 2, stride=2)
        self.first = nn.Sequential(Block(dim, 2, 4, 0), Block(dim, 2, 4, 2))
        self.merge = Merge(dim)
        self.second = Block(2 * dim, 4, 4, 0)
        self.norm, self.head = nn.LayerNorm(2 * dim), nn.Linear(2 * dim, 6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(self.enter(x).permute(0, 2, 3, 1))
        x = self.norm(self.second(self.merge(x)))
        return self.head(x.mean(dim=(1, 2)))


def build() -> nn.Module:
    torch.manual_seed(0)
    return Swin()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)),)
