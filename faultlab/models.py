"""Small models of six families; every one of them is quick and has the parts of a real one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from faultlab import parts
from faultlab.parts import Linear, Norm

WIDTH, HEADS, BATCH, TOKENS = 32, 4, 3, 12


class Attention(nn.Module):
    """Self attention of x [B, T, width], with rotary position and a cache if it has slots for one."""

    def __init__(self, *, causal: bool, slots: int = 0) -> None:
        super().__init__()
        self.query, self.key, self.value = (Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = Linear(WIDTH, WIDTH)
        self.core = parts.Core(causal=causal)
        self.rotary = parts.Rotary() if causal else None
        width = WIDTH // HEADS
        self.keys = parts.Cache(BATCH, HEADS, slots, width) if slots else None
        self.values = parts.Cache(BATCH, HEADS, slots, width) if slots else None

    def forward(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        """Attend to all tokens so far."""
        q, k, v = (self._heads(part(x)) for part in (self.query, self.key, self.value))
        if self.rotary is not None:
            q, k = self.rotary(q, start), self.rotary(k, start)
        if self.keys is not None and self.values is not None:
            k, v = self.keys(k, start), self.values(v, start)
        mixed = self.core(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2))

    @staticmethod
    def _heads(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (HEADS, -1)).transpose(1, 2)


class Mlp(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.up, self.down = Linear(width, 2 * width), Linear(2 * width, width)
        self.act = parts.Activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply both."""
        return self.down(self.act(self.up(x)))


class Experts(nn.Module):
    """Four experts, two of which see each token."""

    def __init__(self) -> None:
        super().__init__()
        self.router = parts.Router(WIDTH, 4)
        self.experts = nn.ModuleList(Mlp() for _ in range(4))
        self.mixture = parts.Mixture()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Route, compute, mix."""
        rows = x.reshape(-1, WIDTH)
        top, chosen = self.router(rows)
        outputs = torch.stack([expert(rows) for expert in self.experts], 1)
        return self.mixture(outputs, top, chosen).reshape(x.shape)


class Block(nn.Module):
    """Attention and a feed-forward part, each after a norm and with a residual."""

    def __init__(self, *, causal: bool, slots: int = 0, experts: bool = False) -> None:
        super().__init__()
        made: Callable[[int], nn.Module] = parts.RootNorm if causal else Norm
        self.norm1, self.norm2 = made(WIDTH), made(WIDTH)
        self.attention = Attention(causal=causal, slots=slots)
        self.feed = Experts() if experts else Mlp()
        self.add1, self.add2 = parts.Residual(), parts.Residual()

    def forward(self, x: torch.Tensor, start: int = 0) -> torch.Tensor:
        """One layer of a transformer."""
        x = self.add1(x, self.attention(self.norm1(x), start))
        return self.add2(x, self.feed(self.norm2(x)))


class Transformer(nn.Module):
    """Tokens [B, T] to logits. With a cache it reads all tokens but one, then the last."""

    def __init__(self, *, causal: bool, slots: int = 0, experts: bool = False) -> None:
        super().__init__()
        self.embed = parts.Embedding(50, WIDTH)
        self.blocks = nn.ModuleList(Block(causal=causal, slots=slots, experts=experts) for _ in range(2))
        self.norm = parts.RootNorm(WIDTH) if causal else Norm(WIDTH)
        self.head = Linear(WIDTH, 50)
        self.split = bool(slots)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [B, T, 50]; of the last token alone if there is a cache."""
        if not self.split:
            return self._layers(ids, 0)
        last = ids.shape[1] - 1
        self._layers(ids[:, :last], 0)
        return self._layers(ids[:, last:], last)

    def _layers(self, ids: torch.Tensor, start: int) -> torch.Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, start)
        return self.head(self.norm(x))


class Images(nn.Module):
    """A small residual network for images [B, 3, 16, 16]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parts.Conv(3, 16)
        self.norms = nn.ModuleList(Norm(16, groups=4) for _ in range(2))
        self.convs = nn.ModuleList(parts.Conv(16, 16) for _ in range(2))
        self.act = parts.Activation()
        self.add = parts.Residual()
        self.down = parts.Conv(16, 32, 2)
        self.pool = parts.Pool()
        self.head = Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [B, 10]."""
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = self.add(x, conv(self.act(norm(x))))
        return self.head(self.pool(self.act(self.down(x))))


class Diffusion(nn.Module):
    """A UNet of one level for images [B, 4, 16, 16] and times [B]."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = parts.Clock(16)
        self.time = Linear(16, 16)
        self.enter = parts.Conv(4, 16)
        self.down = parts.Conv(16, 16, 2)
        self.norm = Norm(16, groups=4)
        self.middle = parts.Conv(16, 16)
        self.act = parts.Activation()
        self.add = parts.Residual()
        self.up = parts.Upsample()
        self.skip = parts.Skip()
        self.leave = parts.Conv(32, 4)

    def forward(self, x: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        """The predicted noise, shaped as the images."""
        entered = self.enter(x)
        low = self.down(entered)
        low = self.add(low, self.time(self.clock(time))[:, :, None, None])
        low = self.middle(self.act(self.norm(low)))
        return self.leave(self.skip(self.up(low), entered))


class Graph(nn.Module):
    """Two rounds of messages over nodes [N, 32] and edges given as two lists of nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.rounds = nn.ModuleList(Linear(WIDTH, WIDTH) for _ in range(2))
        self.selves = nn.ModuleList(Linear(WIDTH, WIDTH) for _ in range(2))
        self.gather = parts.Gather()
        self.act = parts.Activation()
        self.add = parts.Residual()
        self.norm = Norm(WIDTH)
        self.head = Linear(WIDTH, 8)

    def forward(self, x: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Scores [N, 8]."""
        for message, own in zip(self.rounds, self.selves, strict=True):
            x = self.add(own(x), message(self.gather(x, source, target)))
            x = self.norm(self.act(x))
        return self.head(x)


@dataclass(frozen=True)
class Family:
    """A family of models: how one is made, and inputs for it."""

    name: str
    make: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], tuple[torch.Tensor, ...]]


def _tokens(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return (torch.randint(50, (BATCH, TOKENS), generator=generator),)


def _images(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return (torch.randn(BATCH, 3, 16, 16, generator=generator),)


def _noise(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    return torch.randn(BATCH, 4, 16, 16, generator=generator), torch.rand(BATCH, generator=generator)


def _graph(generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    edges = torch.randint(24, (2, 80), generator=generator)
    return torch.randn(24, WIDTH, generator=generator), edges[0], edges[1]


FAMILIES = (
    Family("encoder", lambda: Transformer(causal=False), _tokens),
    Family("decoder", lambda: Transformer(causal=True, slots=TOKENS + 2), _tokens),
    Family("experts", lambda: Transformer(causal=True, experts=True), _tokens),
    Family("convolution", Images, _images),
    Family("diffusion", Diffusion, _noise),
    Family("graph", Graph, _graph),
)
DTYPES = ("float32", "bfloat16", "int8")


def build(family: Family, dtype: str, seed: int) -> nn.Module:
    """A model of a family: in a floating type, or with int8 weights and float32 in between."""
    torch.manual_seed(seed)
    model = family.make()
    if dtype == "int8":
        _quantize(model)
    elif dtype == "bfloat16":
        model.bfloat16()
    return model.eval()


def _quantize(model: nn.Module) -> None:
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Linear):
                setattr(module, name, parts.QuantizedLinear(child))
            elif isinstance(child, parts.Conv):
                setattr(module, name, parts.QuantizedConv(child))
