"""A decoder with latent attention, capped scores, a sliding window and experts chosen by groups with a shared one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-3)
        return (wide * (1.0 + self.weight.float())).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    first, second = x[..., 0::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)


class LatentAttention(nn.Module):
    def __init__(self, dim: int, heads: int, rank: int, plain: int, turned: int, window: int) -> None:
        super().__init__()
        self.heads, self.plain, self.turned, self.rank, self.window = heads, plain, turned, rank, window
        self.q = nn.Linear(dim, heads * (plain + turned), bias=False)
        self.down = nn.Linear(dim, rank + turned, bias=False)
        self.norm = Norm(rank)
        self.up = nn.Linear(rank, heads * (plain + plain), bias=False)
        self.out = nn.Linear(heads * plain, dim, bias=False)
        self.mscale = 1.2
        self.scaling = (plain + turned) ** -0.5

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, self.heads, -1).transpose(1, 2)
        q_plain, q_turned = q.split([self.plain, self.turned], dim=-1)
        latent, k_turned = self.down(x).split([self.rank, self.turned], dim=-1)
        kv = self.up(self.norm(latent)).view(b, t, self.heads, -1).transpose(1, 2)
        k_plain, v = kv.split([self.plain, self.plain], dim=-1)
        q_turned = rotate(q_turned, cos, sin)
        k_turned = rotate(k_turned[:, None], cos, sin).expand(-1, self.heads, -1, -1)
        q, k = torch.cat([q_plain, q_turned], -1), torch.cat([k_plain, k_turned], -1)
        scores = q @ k.transpose(-1, -2) * (self.scaling * self.mscale * self.mscale)
        scores = 5.0 * torch.tanh(scores / 5.0)
        gap = torch.arange(t)[:, None] - torch.arange(t)[None, :]
        scores = scores.masked_fill((gap < 0) | (gap >= self.window), float("-inf"))
        probs = scores.float().softmax(-1).to(x.dtype)
        return self.out((probs @ v).transpose(1, 2).reshape(b, t, -1))


class Mlp(nn.Module):
    def __init__(self, dim: int, inner: int) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(dim, inner, bias=False), nn.Linear(dim, inner, bias=False)
        self.down = nn.Linear(inner, dim, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    def __init__(self, dim: int, count: int = 6, groups: int = 3, top: int = 2) -> None:
        super().__init__()
        self.count, self.groups, self.top = count, groups, top
        self.router = nn.Linear(dim, count, bias=False)
        self.register_buffer("offset", 0.2 * torch.randn(count))
        self.experts = nn.ModuleList(Mlp(dim, dim) for _ in range(count))
        self.shared = Mlp(dim, dim)

    def route(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        scores = self.router(x).float().sigmoid()
        choice = scores + self.offset
        best = choice.view(-1, self.groups, self.count // self.groups).sum(-1).topk(2, dim=-1).indices
        open_ = torch.zeros_like(choice[:, : self.groups]).scatter(1, best, 1.0)
        choice = choice.masked_fill(open_.repeat_interleave(self.count // self.groups, dim=1) == 0, float("-inf"))
        chosen = choice.topk(self.top, dim=-1).indices
        weights = scores.gather(1, chosen)
        weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
        return chosen, weights * 2.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(0, 1)
        chosen, weights = self.route(flat)
        every = torch.stack([expert(flat) for expert in self.experts], 1)
        picked = every.gather(1, chosen[..., None].expand(-1, -1, flat.shape[-1]))
        out = (picked * weights[..., None].to(x.dtype)).sum(1)
        out = out + self.shared(flat)
        return out.view_as(x)


class Layer(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = Norm(dim), Norm(dim), Norm(dim)
        self.attn = LatentAttention(dim, heads=3, rank=12, plain=8, turned=8, window=4)
        self.moe = Experts(dim)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        x = x + self.norm3(self.attn(self.norm1(x), cos, sin))
        return x + self.moe(self.norm2(x))


class Model(nn.Module):
    def __init__(self, vocab: int = 47, dim: int = 24) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(Layer(dim) for _ in range(2))
        self.norm = Norm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) * self.dim**0.5
        freqs = 50000.0 ** (-torch.arange(0, 8, 2).float() / 8)
        freqs = freqs / torch.tensor([1.0, 1.0, 2.0, 4.0])
        angles = torch.outer(torch.arange(ids.shape[1]).float(), freqs)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = self.head(self.norm(x))
        return 30.0 * torch.tanh(logits / 30.0)


def build() -> nn.Module:
    torch.manual_seed(0)
    return Model()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randint(47, (2, 9), generator=torch.Generator().manual_seed(1)),)
