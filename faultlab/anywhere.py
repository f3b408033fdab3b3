"""Faults that can befall the result of any part, or its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from faultlab.fault import FLOATS, Compute, Fault, row

# --- what can befall any result ---


def _after(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any, Compute], Compute]:
    return lambda part, right: lambda *args: change(right(*args))


def _tail(count: int, value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[..., -count:] = value
        return x

    return change


def _every(step: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[..., ::step] = x[..., ::step] * 1.5 + 0.1
        return x

    return change


def _one(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x.view(-1)[x.numel() // 3] += 0.5
    return x


def _tile(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[1:2, ..., 2:5] = x[1:2, ..., 2:5] * 0.5 + 0.3
    return x


def _clamped(x: torch.Tensor) -> torch.Tensor:
    limit = float(x.abs().max()) * 0.6
    return x.clamp(-limit, limit)


def _short(x: torch.Tensor) -> torch.Tensor:
    return x.to(torch.float8_e4m3fn).to(x.dtype)


def _stale(part: Any, right: Compute) -> Compute:
    kept: dict[str, torch.Tensor] = {}

    def wrong(*args: Any) -> torch.Tensor:
        now = right(*args)
        before = kept.get("last")
        kept["last"] = now
        return now if before is None or before.shape != now.shape else before

    return wrong


def _race(part: Any, right: Compute) -> Compute:
    generator = torch.Generator()
    generator.seed()

    def wrong(*args: Any) -> torch.Tensor:
        out = right(*args)
        noise = torch.rand(out.shape, generator=generator).to(out.dtype)
        return out + 1e-2 * noise

    return wrong


WRITES = "copy_ fill_ mul add slice select index_put_ clone view as_strided"
ANY = (
    ("scaled by 1.001", "scale", "mul", _after(lambda x: x * 1.001)),
    ("scaled twice", "scale", "mul", _after(lambda x: x * 2)),
    ("other sign", "sign", "neg", _after(lambda x: -x)),
    ("constant added", "offset", "add", _after(lambda x: x + 0.01)),
    ("last columns zero", "edge", WRITES, _after(_tail(3, 0.0))),
    ("uninitialised tail", "edge", WRITES, _after(_tail(2, 7.25))),
    ("every 4th column", "stride", WRITES, _after(_every(4))),
    ("one element", "single element", WRITES + " add_", _after(_one)),
    ("a tile of the last dim", "block, edge", WRITES, _after(_tile)),
    ("saturated", "saturated", "clamp", _after(_clamped)),
    ("cast to float8", "short type", "_to_copy", _after(_short)),
    ("moved by one", "shifted", "roll", _after(lambda x: x.roll(1, -1))),
    ("reversed", "permuted", "flip", _after(lambda x: x.flip(-1))),
    ("all zero", "zeroed", "zeros_like mul", _after(lambda x: x * 0)),
    ("stale", "stale", "*", _stale),
    ("race", "non-deterministic", "add mul rand _to_copy", _race),
)

# --- in gradients only ---


def _gradient(change: Callable[[torch.Tensor], torch.Tensor | None]) -> Callable[[Any, Compute], Compute]:
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.view_as(x)

        @staticmethod
        def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor | None:
            return change(gradient)

    return lambda part, right: lambda *args: Wrong.apply(right(*args))


GRADIENTS = (
    ("gradient scaled by 1.001", "scale", "mul", _gradient(lambda g: g * 1.001)),
    ("gradient of the other sign", "sign", "neg", _gradient(lambda g: -g)),
    ("gradient clipped", "saturated", "clamp", _gradient(_clamped)),
    ("gradient's last columns lost", "edge", WRITES, _gradient(_tail(2, 0.0))),
    ("gradient moved by one", "shifted", "roll", _gradient(lambda g: g.roll(1, -1))),
    ("gradient in a short type", "short type", "_to_copy", _gradient(lambda g: g.to(torch.float8_e5m2).to(g.dtype))),
    ("gradient zero", "zeroed", "mul", _gradient(lambda g: g * 0)),
)


def everywhere() -> tuple[Fault, ...]:
    """These faults in every part that they fit."""
    rows = []
    for role in ("linear", "norm", "root norm", "activation", "conv", "rotary", "aggregate", "mixture", "pool"):
        for name, kinds, operators, make in ANY:
            rows.append(row(f"{role}: {name}", role, kinds, operators, make))
    for role in ("linear", "activation", "conv", "residual", "norm", "root norm"):
        for name, kinds, operators, make in GRADIENTS:
            rows.append(row(f"{role}: {name}", role, kinds, operators, make, dtypes=FLOATS, backward=True))
    return tuple(rows)
