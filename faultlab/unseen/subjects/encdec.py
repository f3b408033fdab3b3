"""An encoder and a decoder with relative position bias and caches, as T5 has them, decoding one token at a time."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class Norm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        variance = x.float().pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-3)).to(self.weight.dtype)


def bucket(relative: torch.Tensor, two_sided: bool, count: int = 8, far: int = 20) -> torch.Tensor:
    base = torch.zeros_like(relative)
    if two_sided:
        count = count // 2
        base = (relative > 0).long() * count
        distance = relative.abs()
    else:
        distance = (-relative).clamp(min=0)
    exact = count // 2
    large = exact + (torch.log(distance.clamp(min=1).double() / exact) / math.log(far / exact) * (count - exact)).long()
    return base + torch.where(distance < exact, distance, large.clamp(max=count - 1))


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int, number: int) -> None:
        super().__init__()
        self.heads, self.number = heads, number
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim, bias=False) for _ in range(4))

    def split(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def mix(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(-1, -2)
        scores = scores + bias
        probs = torch.softmax(scores.float(), dim=-1).to(q.dtype)
        return self.o((probs @ v).transpose(1, 2).flatten(2))

    def alone(self, x: torch.Tensor, bias: torch.Tensor, cache: dict) -> torch.Tensor:
        k, v = self.split(self.k(x)), self.split(self.v(x))
        if self.number in cache:
            k, v = torch.cat([cache[self.number][0], k], 2), torch.cat([cache[self.number][1], v], 2)
        cache[self.number] = k, v
        return self.mix(self.split(self.q(x)), k, v, bias)

    def across(self, x: torch.Tensor, memory: torch.Tensor, bias: torch.Tensor, cache: dict) -> torch.Tensor:
        slot = -1 - self.number
        if slot not in cache:
            cache[slot] = self.split(self.k(memory)), self.split(self.v(memory))
        return self.mix(self.split(self.q(x)), *cache[slot], bias)


class Ffn(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.wi_0, self.wi_1, self.wo = (nn.Linear(dim, dim, bias=False) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = F.gelu(self.wi_0(x), approximate="tanh")
        return self.wo(gate * self.wi_1(x))


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, number: int) -> None:
        super().__init__()
        self.attn, self.cross = Attention(dim, heads, number), Attention(dim, heads, number)
        self.ffn = Ffn(dim)
        self.norms = nn.ModuleList(Norm(dim) for _ in range(3))

    def encode(self, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        x = x + self.attn.alone(self.norms[0](x), bias, {})
        return x + self.ffn(self.norms[2](x))

    def decode(
        self, x: torch.Tensor, bias: torch.Tensor, memory: torch.Tensor, hidden: torch.Tensor, cache: dict
    ) -> torch.Tensor:
        x = x + self.attn.alone(self.norms[0](x), bias, cache)
        x = x + self.cross.across(self.norms[1](x), memory, hidden, cache)
        return x + self.ffn(self.norms[2](x))


class EncDec(nn.Module):
    def __init__(self, vocab: int = 37, dim: int = 24, heads: int = 3) -> None:
        super().__init__()
        self.dim = dim
        self.embed = nn.Embedding(vocab, dim)
        self.near_enc, self.near_dec = nn.Embedding(8, heads), nn.Embedding(8, heads)
        self.encoder = nn.ModuleList(Block(dim, heads, i) for i in range(2))
        self.decoder = nn.ModuleList(Block(dim, heads, i) for i in range(2))
        self.last_enc, self.last_dec = Norm(dim), Norm(dim)

    def encode(self, ids: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1])
        relative = places[None, :] - places[:, None]
        bias = self.near_enc(bucket(relative, True)).permute(2, 0, 1) + hidden
        x = self.embed(ids)
        for block in self.encoder:
            x = block.encode(x, bias)
        return self.last_enc(x)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        mask = ids != 0
        hidden = torch.zeros_like(mask, dtype=self.embed.weight.dtype).masked_fill(~mask, -1e4)[:, None, None, :]
        memory = self.encode(ids, hidden)
        cache, logits = {}, []
        for step in range(targets.shape[1]):
            x = self.embed(targets[:, step : step + 1])
            relative = torch.arange(step + 1)[None, :] - step
            bias = self.near_dec(bucket(relative, False)).permute(2, 0, 1)
            for block in self.decoder:
                x = block.decode(x, bias, memory, hidden, cache)
            x = self.last_dec(x) * self.dim**-0.5
            logits.append(x @ self.embed.weight.t())
        return torch.cat(logits, 1)


def build() -> nn.Module:
    torch.manual_seed(0)
    return EncDec()


def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(1, 37, (2, 9), generator=generator)
    ids[0, 6:] = 0
    ids[1, 8:] = 0
    return ids, torch.randint(1, 37, (2, 4), generator=generator)
