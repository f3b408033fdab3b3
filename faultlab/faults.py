"""Faults in model code: each row replaces the work of one part of a model by a slightly wrong one.

A row says which kinds name it rightly and which operators the changed or missing line consists of. That is the truth
that the check's answer is held against; the check never sees it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional as F

Compute = Callable[..., Any]
ALL = ("float32", "bfloat16", "int8")
FLOATS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Fault:
    """A planted fault. make: from a part and its right work to the wrong work. backward: it shows in gradients only."""

    name: str
    role: str
    kinds: frozenset[str]
    operators: frozenset[str]
    make: Callable[[Any, Compute], Compute]
    dtypes: tuple[str, ...] = ALL
    backward: bool = False


def _row(
    name: str, role: str, kinds: str, operators: str, make: Callable[[Any, Compute], Compute], **more: Any
) -> Fault:
    """kinds are separated by commas, operators by blanks."""
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Fault(name, role, frozenset(kind.strip() for kind in kinds.split(",")), named, make, **more)


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

# --- linear layers ---


def _weight_of(part: Any) -> torch.Tensor:
    return part.weight


def _chunked(part: Any, right: Compute) -> Compute:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(*x.shape[:-1], part.weight.shape[0], dtype=torch.float8_e5m2)
        for column in range(0, x.shape[-1], 4):
            piece = F.linear(x[..., column : column + 4], part.weight[:, column : column + 4])
            total = (total.to(x.dtype) + piece).to(torch.float8_e5m2)
        return total.to(x.dtype) + part.bias

    return wrong


LINEAR = (
    _row(
        "bias dropped", "linear", "missing operator, other operator", "addmm add mm view _unsafe_view",
        lambda part, right: lambda x: F.linear(x, part.weight), dtypes=FLOATS,
    ),
    _row(
        "weight transposed", "square linear", "transposed, weight", "t addmm mm linear",
        lambda part, right: lambda x: F.linear(x, part.weight.t(), part.bias), dtypes=FLOATS,
    ),
    _row(
        "bias added twice", "linear", "extra operator", "add",
        lambda part, right: lambda x: right(x) + part.bias,
    ),
    _row(
        "sum kept in a short type", "linear", "short type, other operator, accuracy, extra operator",
        "zeros add mm addmm _to_copy slice", _chunked, dtypes=FLOATS,
    ),
    _row(
        "a weight has another value", "weight", "weight", "addmm mm convolution _int_mm _to_copy mul",
        lambda part, right: right,
    ),
    _row(
        "channel scales dropped", "int8 linear", "missing operator, scale", "mul",
        lambda part, right: lambda x: _no_scale(part, x), dtypes=("int8",),
    ),
    _row(
        "inputs quantised without rounding", "int8 linear", "missing operator, other operator", "round clamp _to_copy",
        lambda part, right: lambda x: _no_round(part, x), dtypes=("int8",),
    ),
    _row(
        "quantised to 7 bits", "int8 linear", "saturated, scale, argument, index", "div clamp",
        lambda part, right: lambda x: _seven_bits(part, x), dtypes=("int8",),
    ),
)  # fmt: skip


def _quantized(
    part: Any, x: torch.Tensor, *, most: float = 127, scaled: bool = True, rounded: bool = True
) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1])
    step = rows.abs().amax(1, keepdim=True).clamp_min(1e-8) / 127
    short = rows / step
    short = short.round() if rounded else short
    sums = torch._int_mm(short.clamp(-most, most).to(torch.int8), part.weight.t())
    out = sums.to(x.dtype) * step
    out = out * part.scale if scaled else out
    return (out + part.bias).reshape(*x.shape[:-1], -1)


def _no_scale(part: Any, x: torch.Tensor) -> torch.Tensor:
    return _quantized(part, x, scaled=False)


def _no_round(part: Any, x: torch.Tensor) -> torch.Tensor:
    return _quantized(part, x, rounded=False)


def _seven_bits(part: Any, x: torch.Tensor) -> torch.Tensor:
    return _quantized(part, x, most=63)


# --- norms ---


def _norm(part: Any, x: torch.Tensor, **changed: Any) -> torch.Tensor:
    settings = {"weight": part.weight, "bias": part.bias, "eps": part.eps, **changed}
    if part.groups:
        groups = settings.pop("groups", part.groups)
        return F.group_norm(x, groups, **settings)
    return F.layer_norm(x, x.shape[-1:], **settings)


def _root(part: Any, x: torch.Tensor, *, eps: float | None = None, dim: int = -1, upcast: bool = True) -> torch.Tensor:
    wide = x.float() if upcast else x
    wide = wide * torch.rsqrt(wide.square().mean(dim, keepdim=True) + (part.eps if eps is None else eps))
    return part.weight * wide.to(x.dtype)


_NORMS = "native_layer_norm native_group_norm"
NORM = (
    _row("eps forgotten", "norm", "eps", _NORMS, lambda part, right: lambda x: _norm(part, x, eps=0.0)),
    _row("eps too large", "norm", "eps", _NORMS, lambda part, right: lambda x: _norm(part, x, eps=1e-3)),
    _row(
        "gain dropped", "norm", "missing operator, argument, wrong input", _NORMS,
        lambda part, right: lambda x: _norm(part, x, weight=None),
    ),
    _row(
        "eps forgotten in the root", "root norm", "missing operator, argument, eps", "add",
        lambda part, right: lambda x: _root(part, x, eps=0.0),
    ),
    _row("mean over the wrong axis", "root norm", "axis", "mean", lambda part, right: lambda x: _root(part, x, dim=-2)),
    _row(
        "root taken twice", "root norm", "extra operator, other operator", "rsqrt mul add mean pow",
        lambda part, right: lambda x: right(right(x)),
    ),
)  # fmt: skip

# --- attention ---


def _attention(
    part: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *,
    scale: float | None = None, diagonal: int = 1, masked: bool = True, dim: int = -1, heads: bool = False,
) -> torch.Tensor:  # fmt: skip
    scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if part.causal and masked and q.shape[-2] > 1:
        ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        scores = scores.masked_fill(ones.triu(diagonal), -math.inf)
    out = F.softmax(scores.float(), dim).to(q.dtype) @ v
    return out[:, [1, 0, *range(2, out.shape[1])]] if heads else out


def _softmax_short(part: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    if part.causal and q.shape[-2] > 1:
        ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
        scores = scores.masked_fill(ones.triu(1), -math.inf)
    powers = (scores - scores.amax(-1, keepdim=True)).exp().to(torch.float8_e4m3fn).to(q.dtype)
    return (powers / powers.sum(-1, keepdim=True)) @ v


ATTENTION = (
    _row(
        "scores not scaled", "attention", "scale, missing operator, argument", "mul",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, scale=1.0),
    ),
    _row(
        "scale of another width", "attention", "scale", "mul",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, scale=q.shape[-1] ** -1.0),
    ),
    _row(
        "mask off by one", "causal attention", "mask", "triu masked_fill",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, diagonal=2),
    ),
    _row(
        "mask forgotten", "causal attention", "mask", "masked_fill triu",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, masked=False),
    ),
    _row(
        "softmax over the wrong axis", "encoder attention", "axis", "_softmax",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, dim=-2),
    ),
    _row(
        "heads swapped", "attention", "permuted, shifted", "index",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, heads=True),
    ),
    _row(
        "keys and values exchanged", "encoder attention", "wrong input, transposed", "bmm transpose expand view",
        lambda part, right: lambda q, k, v: right(q, v, k),
    ),
    _row(
        "softmax in a short type", "attention", "missing upcast, short type, other operator",
        "_softmax _to_copy exp amax sub sum div", lambda part, right: lambda q, k, v: _softmax_short(part, q, k, v),
    ),
)  # fmt: skip


def _rotated(part: Any, x: torch.Tensor, start: int, *, sign: float = 1.0, base: float = 100.0) -> torch.Tensor:
    half = x.shape[-1] // 2
    rates = base ** (-torch.arange(half) / half)
    angle = (torch.arange(x.shape[-2]) + start)[:, None] * rates
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype) * sign
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


_ANGLES = "add cos sin mul arange unsqueeze slice pow"
ROTARY = (
    _row(
        "angles of another base", "rotary", "argument", "pow reciprocal mul",
        lambda part, right: lambda x, start: _rotated(part, x, start, base=1000.0),
    ),
    _row(
        "rotated the other way", "rotary", "sign, extra operator, scale", "mul sin neg",
        lambda part, right: lambda x, start: _rotated(part, x, start, sign=-1.0),
    ),
    _row(
        "halves exchanged", "rotary", "permuted, shifted", "roll",
        lambda part, right: lambda x, start: right(x.roll(x.shape[-1] // 2, -1), start),
    ),
    _row(
        "not rotated", "rotary", "missing operator, wrong input, other operator, scale",
        _ANGLES + " cat sub", lambda part, right: lambda x, start: x,
    ),
)  # fmt: skip


def _slot(part: Any, x: torch.Tensor, start: int, *, move: int = 0, late: bool = False) -> torch.Tensor:
    end = start + x.shape[-2]
    store = part.store.clone()
    if not late:
        store[:, :, start + move : end + move] = x
    part.store = store
    return store[:, :, :end]


CACHE = (
    _row(
        "written to the next slot", "cache", "index, shifted", "copy_ slice",
        lambda part, right: lambda x, start: _slot(part, x, start, move=1 if start else 0),
    ),
    _row(
        "not written", "cache", "missing operator, stale, zeroed, edge", "copy_ slice",
        lambda part, right: lambda x, start: _slot(part, x, start, late=bool(start)),
    ),
    _row(
        "one slot short", "cache", "edge, other operator, extra operator, wrong input, index", "slice cat",
        lambda part, right: lambda x, start: _one_short(part, right, x, start),
    ),
)  # fmt: skip


def _one_short(part: Any, right: Compute, x: torch.Tensor, start: int) -> torch.Tensor:
    out = right(x, start)
    return torch.cat([out[:, :, :-1], out[:, :, :1]], 2) if start else out


# --- the rest ---

OTHER = (
    _row("residual dropped", "residual", "missing operator", "add", lambda part, right: lambda x, y: y),
    _row(
        "branch dropped", "residual", "missing operator", "add", lambda part, right: lambda x, y: x,
    ),
    _row("branch added twice", "residual", "extra operator", "add", lambda part, right: lambda x, y: x + y + y),
    _row("residual from the branch", "residual", "wrong input", "add", lambda part, right: lambda x, y: y + y),
    _row("subtracted", "residual", "other operator", "sub add", lambda part, right: lambda x, y: x - y),
    _row(
        "the other GELU", "activation", "variant", "gelu",
        lambda part, right: lambda x: F.gelu(x, approximate="tanh"),
    ),
    _row("ReLU for GELU", "activation", "other operator", "relu gelu", lambda part, right: F.relu),
    _row("activation forgotten", "activation", "missing operator", "gelu", lambda part, right: lambda x: x),
    _row("activation twice", "activation", "extra operator", "gelu", lambda part, right: lambda x: right(right(x))),
    _row(
        "ids off by one", "embedding", "extra operator, argument, other operator", "add embedding remainder",
        lambda part, right: lambda ids: right((ids + 1) % 50),
    ),
    _row(
        "expert weights not renormalised", "router", "missing operator, scale", "div sum",
        lambda part, right: lambda x: _route(part, x, renormalised=False),
    ),
    _row(
        "top 2 of the wrong end", "router", "argument, index", "topk",
        lambda part, right: lambda x: _route(part, x, largest=False),
    ),
    _row(
        "experts moved by one", "mixture", "shifted, permuted, index, extra operator", "gather add remainder expand",
        lambda part, right: lambda outputs, top, chosen: right(outputs, top, (chosen + 1) % outputs.shape[1]),
    ),
    _row(
        "expert weights exchanged", "mixture", "permuted, shifted", "flip",
        lambda part, right: lambda outputs, top, chosen: right(outputs, top.flip(-1), chosen),
    ),
    _row(
        "padding moved", "conv", "geometry, argument, missing operator, extra operator, other operator, shifted",
        "convolution constant_pad_nd slice pad", lambda part, right: lambda x: right(F.pad(x, (1, -1, 0, 0))),
    ),
    _row(
        "kernel flipped", "conv", "permuted, weight", "flip convolution",
        lambda part, right: lambda x: _flipped(part, x), dtypes=FLOATS,
    ),
    _row(
        "kernel transposed", "conv", "transposed, weight", "transpose convolution",
        lambda part, right: lambda x: _turned(part, x), dtypes=FLOATS,
    ),
    _row(
        "dilated", "unit conv", "geometry", "convolution",
        lambda part, right: lambda x: F.conv2d(x, part.weight, part.bias, padding=2, dilation=2), dtypes=FLOATS,
    ),
    _row(
        "height and width exchanged", "upsample", "transposed", "transpose",
        lambda part, right: lambda x: right(x.transpose(-1, -2)),
    ),
    _row(
        "bilinear for nearest", "upsample", "other operator", "upsample_bilinear2d upsample_nearest2d",
        lambda part, right: lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    _row(
        "skip in the wrong order", "skip", "shifted, wrong input, permuted", "cat",
        lambda part, right: lambda x, skip: right(skip, x),
    ),
    _row("skip forgotten", "skip", "wrong input", "cat", lambda part, right: lambda x, skip: right(x, x)),
    _row(
        "sine and cosine exchanged", "clock", "shifted, permuted, wrong input", "cat roll",
        lambda part, right: lambda time: right(time).roll(part.width // 2, -1),
    ),
    _row("time dropped", "clock", "zeroed, missing operator", "mul", lambda part, right: lambda time: right(time) * 0),
    _row("maximum for mean", "pool", "other operator", "amax mean", lambda part, right: lambda x: x.amax((2, 3))),
    _row(
        "pooled over one axis", "pool", "axis, other operator", "mean select",
        lambda part, right: lambda x: x.mean(2)[:, :, 0],
    ),
    _row(
        "edges the other way", "aggregate", "wrong input", "index_add index",
        lambda part, right: lambda x, source, target: right(x, target, source),
    ),
    _row(
        "sum for mean", "aggregate", "missing operator", "div",
        lambda part, right: lambda x, source, target: torch.zeros_like(x).index_add(0, target, x[source]),
    ),
    _row(
        "last edge lost", "aggregate", "index, edge, missing operator, extra operator, shape", "slice index index_add",
        lambda part, right: lambda x, source, target: right(x, source[:-1], target[:-1]),
    ),
)  # fmt: skip


def _route(
    part: Any, x: torch.Tensor, *, renormalised: bool = True, largest: bool = True
) -> tuple[torch.Tensor, torch.Tensor]:
    shares = F.softmax(F.linear(x, part.weight).float(), -1)
    top, chosen = shares.topk(2, -1, largest=largest)
    return (top / top.sum(-1, keepdim=True) if renormalised else top).to(x.dtype), chosen


def _flipped(part: Any, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, part.weight.flip(-1), part.bias, part.stride, padding=1)


def _turned(part: Any, x: torch.Tensor) -> torch.Tensor:
    return F.conv2d(x, part.weight.transpose(-1, -2), part.bias, part.stride, padding=1)


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


def _expand() -> tuple[Fault, ...]:
    rows = []
    for role in ("linear", "norm", "root norm", "activation", "conv", "rotary", "aggregate", "mixture", "pool"):
        for name, kinds, operators, make in ANY:
            rows.append(_row(f"{role}: {name}", role, kinds, operators, make))
    for role in ("linear", "activation", "conv", "residual", "norm", "root norm"):
        for name, kinds, operators, make in GRADIENTS:
            rows.append(_row(f"{role}: {name}", role, kinds, operators, make, dtypes=FLOATS, backward=True))
    return tuple(rows)


FAULTS: tuple[Fault, ...] = (*LINEAR, *NORM, *ATTENTION, *ROTARY, *CACHE, *OTHER, *_expand())
