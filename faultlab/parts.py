"""The parts that the models are made of. Each does its work in `compute`, which a fault or a rewrite may replace."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class Part(nn.Module):
    """A part with a role; `compute` is looked up on the instance, so that a changed one takes its place."""

    role = ""
    compute: Callable[..., Any]

    def forward(self, *args: Any) -> Any:
        """Do the work of the part."""
        return self.compute(*args)


class Linear(Part):
    """x [..., in] to [..., out]."""

    role = "linear"

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_out, width_in) / math.sqrt(width_in))
        self.bias = nn.Parameter(torch.randn(width_out) * 0.1)

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


class QuantizedLinear(Part):
    """The same with weights in int8 by rows, inputs quantised as they come, sums in int32."""

    role = "linear"

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        scale = weight.abs().amax(1) / 127
        self.register_buffer("weight", (weight / scale[:, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", linear.bias.detach().clone())

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        step = rows.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
        short = (rows / step).round().clamp(-127, 127).to(torch.int8)
        sums = torch._int_mm(short, self.weight.t())
        out = sums.to(x.dtype) * step * self.scale + self.bias
        return out.reshape(*x.shape[:-1], -1)


class Norm(Part):
    """Layer normalisation over the last dim, or with `channels` over groups of dim 1."""

    role = "norm"

    def __init__(self, width: int, *, groups: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.bias = nn.Parameter(0.1 * torch.randn(width))
        self.groups = groups
        self.eps = 1e-5

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        if self.groups:
            return F.group_norm(x, self.groups, self.weight, self.bias, self.eps)
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps)


class RootNorm(Part):
    """Division by the root mean square, in float32 as language models do."""

    role = "root norm"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.eps = 1e-5

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Activation(Part):
    """GELU."""

    role = "activation"

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(x)


class Residual(Part):
    """x + y."""

    role = "residual"

    def compute(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x + y


class Embedding(Part):
    """Token numbers [..., T] to [..., T, width]."""

    role = "embedding"

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size, width))

    def compute(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.weight)


class Core(Part):
    """Attention proper: q, k, v [B, H, T, D] to [B, H, T, D]. The softmax is done in float32."""

    role = "attention"

    def __init__(self, *, causal: bool) -> None:
        super().__init__()
        self.causal = causal

    def compute(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if self.causal and q.shape[-2] > 1:
            ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
            scores = scores.masked_fill(ones.triu(1), -math.inf)
        return F.softmax(scores.float(), -1).to(q.dtype) @ v


class Rotary(Part):
    """Rotary position of x [B, H, T, D]; the first token is number `start`."""

    role = "rotary"

    def compute(self, x: torch.Tensor, start: int) -> torch.Tensor:
        half = x.shape[-1] // 2
        rates = 100.0 ** (-torch.arange(half) / half)
        angle = (torch.arange(x.shape[-2]) + start)[:, None] * rates
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        a, b = x[..., :half], x[..., half:]
        return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class Cache(Part):
    """Writes keys or values [B, H, T, D] to their slots and returns all up to them."""

    role = "cache"

    def __init__(self, batch: int, heads: int, slots: int, width: int) -> None:
        super().__init__()
        self.register_buffer("store", torch.zeros(batch, heads, slots, width))

    def compute(self, x: torch.Tensor, start: int) -> torch.Tensor:
        end = start + x.shape[-2]
        # A new store, so that gradients flow through earlier ones.
        store = self.store.clone()
        store[:, :, start:end] = x
        self.store = store
        return store[:, :, :end]


class Router(Part):
    """x [N, width] to the weights [N, 2] and numbers [N, 2] of two experts."""

    role = "router"

    def __init__(self, width: int, experts: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(experts, width) / math.sqrt(width))

    def compute(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        shares = F.softmax(F.linear(x, self.weight).float(), -1)
        top, chosen = shares.topk(2, -1)
        return (top / top.sum(-1, keepdim=True)).to(x.dtype), chosen


class Mixture(Part):
    """The weighted sum of the experts' outputs [N, E, width], by the router's choice."""

    role = "mixture"

    def compute(self, outputs: torch.Tensor, top: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
        taken = outputs.gather(1, chosen[..., None].expand(-1, -1, outputs.shape[-1]))
        return (taken * top[..., None]).sum(1)


class Conv(Part):
    """A 3 x 3 convolution of images [B, C, H, W]."""

    role = "conv"

    def __init__(self, width_in: int, width_out: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width_out, width_in, 3, 3) / math.sqrt(9 * width_in))
        self.bias = nn.Parameter(0.1 * torch.randn(width_out))
        self.stride = stride

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, padding=1)


class QuantizedConv(Part):
    """The same with weights in int8 by output channel."""

    role = "conv"

    def __init__(self, conv: Conv) -> None:
        super().__init__()
        weight = conv.weight.detach()
        scale = weight.abs().amax((1, 2, 3)) / 127
        self.register_buffer("weight", (weight / scale[:, None, None, None]).round().to(torch.int8))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", conv.bias.detach().clone())
        self.stride = conv.stride

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight.to(x.dtype) * self.scale[:, None, None, None]
        return F.conv2d(x, weight, self.bias, self.stride, padding=1)


class Upsample(Part):
    """Twice the height and width."""

    role = "upsample"

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, scale_factor=2, mode="nearest")


class Skip(Part):
    """Joins a tensor of the way down to one of the way up, along channels."""

    role = "skip"

    def compute(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        return torch.cat([x, skip], 1)


class Clock(Part):
    """Sinusoidal embedding [B, width] of times [B]."""

    role = "clock"

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def compute(self, time: torch.Tensor) -> torch.Tensor:
        rates = 100.0 ** (-torch.arange(self.width // 2) / (self.width // 2))
        angle = time[:, None] * rates
        return torch.cat([angle.sin(), angle.cos()], -1).to(time.dtype)


class Pool(Part):
    """The mean of images [B, C, H, W] over their places."""

    role = "pool"

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class Gather(Part):
    """The sum of messages [E, width] at their target nodes, divided by how many there are."""

    role = "aggregate"

    def compute(self, x: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(x).index_add(0, target, x[source])
        count = torch.zeros(x.shape[0], dtype=x.dtype).index_add(0, target, torch.ones(target.shape[0], dtype=x.dtype))
        return total / count.clamp_min(1)[:, None]
