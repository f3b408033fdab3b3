"""A decoder with grouped queries, rotary position and a key-value cache, that reads a prompt and two tokens more."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float = 1e-3) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        inv = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return (wide * inv).type_as(x) * self.weight


def rope_tables(dim: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    freqs = 1.0 / 10000.0 ** (torch.arange(0, dim, 2).float() / dim)
    angles = torch.outer(torch.arange(length).float(), freqs)
    return angles.cos(), angles.sin()


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)


class KVCache:
    def __init__(self, batch: int, heads: int, length: int, dim: int, like: torch.Tensor) -> None:
        self.k = like.new_zeros(batch, heads, length, dim)
        self.v = like.new_zeros(batch, heads, length, dim)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, dim // heads
        self.wq = nn.Linear(dim, dim, bias=False)
        self.wk = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(dim, kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(dim, dim, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KVCache, pos: int) -> torch.Tensor:
        b, t, _ = x.shape
        q = self.wq(x).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.wk(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.wv(x).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        c, s = cos[pos : pos + t], sin[pos : pos + t]
        q, k = apply_rope(q, c, s), apply_rope(k, c, s)
        cache.k[:, :, pos : pos + t] = k
        cache.v[:, :, pos : pos + t] = v
        keys, values = cache.k[:, :, : pos + t], cache.v[:, :, : pos + t]
        keys = keys.repeat_interleave(self.heads // self.kv_heads, dim=1)
        values = values.repeat_interleave(self.heads // self.kv_heads, dim=1)
        scores = q @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)
        mask = torch.ones(t, pos + t, dtype=torch.bool).tril(diagonal=pos)
        scores = scores.masked_fill(~mask, float("-inf"))
        probs = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        out = probs @ values
        out = out.transpose(1, 2).reshape(b, t, -1)
        return self.wo(out)


class FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden, bias=False)
        self.w2 = nn.Linear(hidden, dim, bias=False)
        self.w3 = nn.Linear(dim, hidden, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.silu(self.w1(x))
        return self.w2(gate * self.w3(x))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, kv_heads: int) -> None:
        super().__init__()
        self.attn_norm, self.ffn_norm = RMSNorm(dim), RMSNorm(dim)
        self.attn = Attention(dim, heads, kv_heads)
        self.ffn = FeedForward(dim, 2 * dim)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, cache: KVCache, pos: int) -> torch.Tensor:
        x = x + self.attn(self.attn_norm(x), cos, sin, cache, pos)
        return x + self.ffn(self.ffn_norm(x))


class GPT(nn.Module):
    def __init__(self, vocab: int = 61, dim: int = 48, heads: int = 6, kv_heads: int = 2, layers: int = 2) -> None:
        super().__init__()
        self.kv_heads, self.head_dim = kv_heads, dim // heads
        self.embed = nn.Embedding(vocab, dim)
        self.blocks = nn.ModuleList(Block(dim, heads, kv_heads) for _ in range(layers))
        self.norm = RMSNorm(dim)
        self.head = nn.Linear(dim, vocab, bias=False)
        self.head.weight = self.embed.weight

    def step(self, ids: torch.Tensor, caches: list[KVCache], pos: int) -> torch.Tensor:
        x = self.embed(ids)
        cos, sin = rope_tables(self.head_dim, 32)
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        for block, cache in zip(self.blocks, caches, strict=True):
            x = block(x, cos, sin, cache, pos)
        x = self.norm(x)
        return self.head(x[:, -1])

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        like = self.embed.weight
        caches = [KVCache(ids.shape[0], self.kv_heads, 32, self.head_dim, like) for _ in self.blocks]
        pos, logits = 0, []
        for chunk in ids.split([ids.shape[1] - 2, 1, 1], dim=1):
            logits.append(self.step(chunk, caches, pos))
            pos = pos + chunk.shape[1]
        return torch.stack(logits, 1)


def build() -> nn.Module:
    torch.manual_seed(0)
    return GPT()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randint(61, (2, 11), generator=torch.Generator().manual_seed(1)),)
