"""A diffusion transformer: patches, a timestep's embedding, norms modulated by it, guidance, patches back to pixels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


def timestep_embedding(t: torch.Tensor, dim: int) -> torch.Tensor:
    half = dim // 2
    freqs = torch.exp(-math.log(10000.0) * torch.arange(half).float() / half)
    angles = t.float()[:, None] * 1000.0 * freqs[None]
    return torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.qn, self.kn = nn.RMSNorm(dim // heads, eps=1e-5), nn.RMSNorm(dim // heads, eps=1e-5)
        self.up, self.down = nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, dim)
        self.ada = nn.Linear(dim, 6 * dim)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(self.qn(q), self.kn(k), v)
        return self.proj(y.transpose(1, 2).flatten(2))

    def forward(self, x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.ada(F.silu(c))[:, None].chunk(6, dim=-1)
        h = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attend(h)
        h = self.norm2(x) * (1 + scale2) + shift2
        return x + gate2 * self.down(F.gelu(self.up(h), approximate="tanh"))


class DiT(nn.Module):
    def __init__(self, dim: int = 24, heads: int = 3, patch: int = 2, channels: int = 3) -> None:
        super().__init__()
        self.patch, self.channels, self.dim = patch, channels, dim
        self.enter = nn.Linear(channels * patch * patch, dim)
        self.label = nn.Embedding(5, dim)
        self.time1, self.time2 = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.place = nn.Parameter(0.3 * torch.randn(12, dim))
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(2))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.leave = nn.Linear(dim, channels * patch * patch)

    def denoise(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        b, c, height, width = x.shape
        p = self.patch
        x = x.unflatten(3, (-1, p)).unflatten(2, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        x = self.enter(x) + self.place
        code = timestep_embedding(t, self.dim).to(x.dtype)
        cond = self.time2(F.silu(self.time1(code))) + self.label(label)
        for block in self.blocks:
            x = block(x, cond)
        x = self.leave(self.norm(x))
        x = x.view(b, height // p, width // p, c, p, p).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(b, c, height, width)

    def forward(self, x: torch.Tensor, t: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        both = torch.cat([label, torch.full_like(label, 4)])
        made = self.denoise(torch.cat([x, x]), torch.cat([t, t]), both)
        given, free = made.chunk(2)
        return free + 3.0 * (given - free)


def build() -> nn.Module:
    torch.manual_seed(0)
    return DiT()


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 6, 8, generator=generator), torch.rand(2, generator=generator), torch.tensor([1, 3])
