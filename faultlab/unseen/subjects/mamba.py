"""A selective state space model: a causal convolution, a scan over the state, a gate, as in Mamba."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class RMSNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(dim))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-3)
        return self.weight * wide.to(x.dtype)


class Mixer(nn.Module):
    def __init__(self, dim: int, inner: int, state: int = 6, width: int = 4, rank: int = 4) -> None:
        super().__init__()
        self.rank, self.state = rank, state
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        self.conv = nn.Conv1d(inner, inner, width, groups=inner, padding=width - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * state, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, state + 1).float()).repeat(inner, 1))
        self.D = nn.Parameter(0.5 + torch.rand(inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)

    def scan(
        self, x: torch.Tensor, dt: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor
    ) -> torch.Tensor:
        decay = torch.exp(dt[..., None] * A)
        drive = (dt * x)[..., None] * B[:, :, None, :]
        h, ys = torch.zeros_like(decay[:, 0]), []
        for t in range(x.shape[1]):
            h = decay[:, t] * h + drive[:, t]
            ys.append((h * C[:, t, None, :]).sum(-1))
        return torch.stack(ys, 1)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        x, z = self.in_proj(u).chunk(2, dim=-1)
        x = self.conv(x.transpose(1, 2))[..., : u.shape[1]].transpose(1, 2)
        x = F.silu(x)
        dt, B, C = self.x_proj(x).split([self.rank, self.state, self.state], dim=-1)
        dt = F.softplus(self.dt_proj(dt))
        A = -torch.exp(self.A_log.float())
        y = self.scan(x.float(), dt.float(), A, B.float(), C.float()).to(x.dtype)
        y = y + x * self.D
        y = y * F.silu(z)
        return self.out_proj(y)


class Mamba(nn.Module):
    def __init__(self, vocab: int = 41, dim: int = 24) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.norms = nn.ModuleList(RMSNorm(dim) for _ in range(2))
        self.mixers = nn.ModuleList(Mixer(dim, 2 * dim) for _ in range(2))
        self.norm = RMSNorm(dim)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        for norm, mixer in zip(self.norms, self.mixers, strict=True):
            x = x + mixer(norm(x))
        return self.norm(x) @ self.embed.weight.t()


def build() -> nn.Module:
    torch.manual_seed(0)
    return Mamba()


def inputs() -> tuple[torch.Tensor, ...]:
    return (torch.randint(41, (2, 7), generator=torch.Generator().manual_seed(1)),)
