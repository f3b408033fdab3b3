"""A sequence model: a written-out LSTM both ways over padded sequences, a written-out GRU and PyTorch's own."""

from __future__ import annotations

import torch
from torch import nn


class Lstm(nn.Module):
    def __init__(self, cin: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.w, self.u = nn.Linear(cin, 4 * hidden), nn.Linear(hidden, 4 * hidden, bias=False)
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        h = x.new_zeros(x.shape[0], self.hidden)
        c = x.new_zeros(x.shape[0], self.hidden)
        states = []
        for t in range(x.shape[1]):
            i, f, g, o = (self.w(x[:, t]) + self.u(h)).chunk(4, dim=-1)
            fresh = f.sigmoid() * c + i.sigmoid() * g.tanh()
            keep = valid[:, t, None]
            c = torch.where(keep, fresh, c)
            h = torch.where(keep, o.sigmoid() * fresh.tanh(), h)
            states.append(h)
        self.last = h.detach()
        return torch.stack(states, dim=1)


class Gru(nn.Module):
    def __init__(self, cin: int, hidden: int) -> None:
        super().__init__()
        self.w, self.u = nn.Linear(cin, 3 * hidden), nn.Linear(hidden, 3 * hidden)

    def forward(self, x: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        states = []
        for step in x.unbind(1):
            wr, wz, wn = self.w(step).chunk(3, dim=-1)
            ur, uz, un = self.u(h).chunk(3, dim=-1)
            r, z = torch.sigmoid(wr + ur), torch.sigmoid(wz + uz)
            n = torch.tanh(wn + r * un)
            h = (1 - z) * n + z * h
            states.append(h)
        return torch.stack(states, dim=1)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16)
        self.ahead, self.back = Lstm(16, 12), Lstm(16, 12)
        self.gru = Gru(24, 12)
        self.own = nn.LSTM(12, 10, num_layers=2, batch_first=True)
        self.head = nn.Linear(10 + 12, 6)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids)
        valid = torch.arange(ids.shape[1])[None] < lengths[:, None]
        ahead = self.ahead(x, valid)
        back = self.back(x.flip(1), valid.flip(1)).flip(1)
        both = torch.cat([ahead, back], dim=-1)
        states = self.gru(both, both.new_zeros(both.shape[0], 12))
        deep, _ = self.own(states)
        last = (lengths - 1)[:, None, None].expand(-1, 1, 12)
        final = states.gather(1, last).squeeze(1)
        return self.head(torch.cat([deep.mean(1), final], dim=-1))


def build() -> nn.Module:
    torch.manual_seed(0)
    return Tagger()


def inputs() -> tuple[torch.Tensor, ...]:
    ids = torch.randint(40, (4, 7), generator=torch.Generator().manual_seed(1))
    return ids, torch.tensor([6, 4, 5, 3])
