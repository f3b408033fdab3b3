"""Faults in model code: each row replaces the work of one part of a model by a slightly wrong one.

A row says which kinds name it rightly and which operators the changed or missing line consists of. That is the truth
that the check's answer is held against; the check never sees it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

from faultlab.anywhere import everywhere
from faultlab.fault import FLOATS, Compute, Fault, row

# --- linear layers ---


def _chunked(part: Any, right: Compute) -> Compute:
    def wrong(x: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(*x.shape[:-1], part.weight.shape[0], dtype=torch.float8_e5m2)
        for column in range(0, x.shape[-1], 4):
            piece = F.linear(x[..., column : column + 4], part.weight[:, column : column + 4])
            total = (total.to(x.dtype) + piece).to(torch.float8_e5m2)
        return total.to(x.dtype) + part.bias

    return wrong


LINEAR = (
    row(
        "bias dropped", "linear", "missing operator, other operator", "addmm add mm view _unsafe_view",
        lambda part, right: lambda x: F.linear(x, part.weight), dtypes=FLOATS,
    ),
    row(
        "weight transposed", "square linear", "transposed, weight", "t addmm mm linear",
        lambda part, right: lambda x: F.linear(x, part.weight.t(), part.bias), dtypes=FLOATS,
    ),
    row(
        "bias added twice", "linear", "extra operator", "add",
        lambda part, right: lambda x: right(x) + part.bias,
    ),
    row(
        "sum kept in a short type", "linear", "short type, other operator, accuracy, extra operator",
        "zeros add mm addmm _to_copy slice", _chunked, dtypes=FLOATS,
    ),
    row(
        "a weight has another value", "weight", "weight", "addmm mm convolution _int_mm _to_copy mul",
        lambda part, right: right,
    ),
    row(
        "channel scales dropped", "int8 linear", "missing operator, scale", "mul",
        lambda part, right: lambda x: _no_scale(part, x), dtypes=("int8",),
    ),
    row(
        "inputs quantised without rounding", "int8 linear", "missing operator, other operator", "round clamp _to_copy",
        lambda part, right: lambda x: _no_round(part, x), dtypes=("int8",),
    ),
    row(
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
    row("eps forgotten", "norm", "eps", _NORMS, lambda part, right: lambda x: _norm(part, x, eps=0.0)),
    row("eps too large", "norm", "eps", _NORMS, lambda part, right: lambda x: _norm(part, x, eps=1e-3)),
    row(
        "gain dropped", "norm", "missing operator, argument, wrong input", _NORMS,
        lambda part, right: lambda x: _norm(part, x, weight=None),
    ),
    row(
        "eps forgotten in the root", "root norm", "missing operator, argument, eps", "add",
        lambda part, right: lambda x: _root(part, x, eps=0.0),
    ),
    row("mean over the wrong axis", "root norm", "axis", "mean", lambda part, right: lambda x: _root(part, x, dim=-2)),
    row(
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
    row(
        "scores not scaled", "attention", "scale, missing operator, argument", "mul",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, scale=1.0),
    ),
    row(
        "scale of another width", "attention", "scale", "mul",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, scale=q.shape[-1] ** -1.0),
    ),
    row(
        "mask off by one", "causal attention", "mask", "triu masked_fill",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, diagonal=2),
    ),
    row(
        "mask forgotten", "causal attention", "mask", "masked_fill triu",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, masked=False),
    ),
    row(
        "softmax over the wrong axis", "encoder attention", "axis", "_softmax",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, dim=-2),
    ),
    row(
        "heads swapped", "attention", "permuted, shifted", "index",
        lambda part, right: lambda q, k, v: _attention(part, q, k, v, heads=True),
    ),
    row(
        "keys and values exchanged", "encoder attention", "wrong input, transposed", "bmm transpose expand view",
        lambda part, right: lambda q, k, v: right(q, v, k),
    ),
    row(
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
    row(
        "angles of another base", "rotary", "argument", "pow reciprocal mul",
        lambda part, right: lambda x, start: _rotated(part, x, start, base=1000.0),
    ),
    row(
        "rotated the other way", "rotary", "sign, extra operator, scale", "mul sin neg",
        lambda part, right: lambda x, start: _rotated(part, x, start, sign=-1.0),
    ),
    row(
        "halves exchanged", "rotary", "permuted, shifted", "roll",
        lambda part, right: lambda x, start: right(x.roll(x.shape[-1] // 2, -1), start),
    ),
    row(
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
    row(
        "written to the next slot", "cache", "index, shifted", "copy_ slice",
        lambda part, right: lambda x, start: _slot(part, x, start, move=1 if start else 0),
    ),
    row(
        "not written", "cache", "missing operator, stale, zeroed, edge", "copy_ slice",
        lambda part, right: lambda x, start: _slot(part, x, start, late=bool(start)),
    ),
    row(
        "one slot short", "cache", "edge, other operator, extra operator, wrong input, index", "slice cat",
        lambda part, right: lambda x, start: _one_short(part, right, x, start),
    ),
)  # fmt: skip


def _one_short(part: Any, right: Compute, x: torch.Tensor, start: int) -> torch.Tensor:
    out = right(x, start)
    return torch.cat([out[:, :, :-1], out[:, :, :1]], 2) if start else out


# --- the rest ---

OTHER = (
    row("residual dropped", "residual", "missing operator", "add", lambda part, right: lambda x, y: y),
    row(
        "branch dropped", "residual", "missing operator", "add", lambda part, right: lambda x, y: x,
    ),
    row("branch added twice", "residual", "extra operator", "add", lambda part, right: lambda x, y: x + y + y),
    row("residual from the branch", "residual", "wrong input", "add", lambda part, right: lambda x, y: y + y),
    row("subtracted", "residual", "other operator", "sub add", lambda part, right: lambda x, y: x - y),
    row(
        "the other GELU", "activation", "variant", "gelu",
        lambda part, right: lambda x: F.gelu(x, approximate="tanh"),
    ),
    row("ReLU for GELU", "activation", "other operator", "relu gelu", lambda part, right: F.relu),
    row("activation forgotten", "activation", "missing operator", "gelu", lambda part, right: lambda x: x),
    row("activation twice", "activation", "extra operator", "gelu", lambda part, right: lambda x: right(right(x))),
    row(
        "ids off by one", "embedding", "extra operator, argument, other operator", "add embedding remainder",
        lambda part, right: lambda ids: right((ids + 1) % 50),
    ),
    row(
        "expert weights not renormalised", "router", "missing operator, scale", "div sum",
        lambda part, right: lambda x: _route(part, x, renormalised=False),
    ),
    row(
        "top 2 of the wrong end", "router", "argument, index", "topk",
        lambda part, right: lambda x: _route(part, x, largest=False),
    ),
    row(
        "experts moved by one", "mixture", "shifted, permuted, index, extra operator", "gather add remainder expand",
        lambda part, right: lambda outputs, top, chosen: right(outputs, top, (chosen + 1) % outputs.shape[1]),
    ),
    row(
        "expert weights exchanged", "mixture", "permuted, shifted", "flip",
        lambda part, right: lambda outputs, top, chosen: right(outputs, top.flip(-1), chosen),
    ),
    row(
        "padding moved", "conv", "geometry, argument, missing operator, extra operator, other operator, shifted",
        "convolution constant_pad_nd slice pad", lambda part, right: lambda x: right(F.pad(x, (1, -1, 0, 0))),
    ),
    row(
        "kernel flipped", "conv", "permuted, weight", "flip convolution",
        lambda part, right: lambda x: _flipped(part, x), dtypes=FLOATS,
    ),
    row(
        "kernel transposed", "conv", "transposed, weight", "transpose convolution",
        lambda part, right: lambda x: _turned(part, x), dtypes=FLOATS,
    ),
    row(
        "dilated", "unit conv", "geometry", "convolution",
        lambda part, right: lambda x: F.conv2d(x, part.weight, part.bias, padding=2, dilation=2), dtypes=FLOATS,
    ),
    row(
        "height and width exchanged", "upsample", "transposed", "transpose",
        lambda part, right: lambda x: right(x.transpose(-1, -2)),
    ),
    row(
        "bilinear for nearest", "upsample", "other operator", "upsample_bilinear2d upsample_nearest2d",
        lambda part, right: lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
    ),
    row(
        "skip in the wrong order", "skip", "shifted, wrong input, permuted", "cat",
        lambda part, right: lambda x, skip: right(skip, x),
    ),
    row("skip forgotten", "skip", "wrong input", "cat", lambda part, right: lambda x, skip: right(x, x)),
    row(
        "sine and cosine exchanged", "clock", "shifted, permuted, wrong input", "cat roll",
        lambda part, right: lambda time: right(time).roll(part.width // 2, -1),
    ),
    row("time dropped", "clock", "zeroed, missing operator", "mul", lambda part, right: lambda time: right(time) * 0),
    row("maximum for mean", "pool", "other operator", "amax mean", lambda part, right: lambda x: x.amax((2, 3))),
    row(
        "pooled over one axis", "pool", "axis, other operator", "mean select",
        lambda part, right: lambda x: x.mean(2)[:, :, 0],
    ),
    row(
        "edges the other way", "aggregate", "wrong input", "index_add index",
        lambda part, right: lambda x, source, target: right(x, target, source),
    ),
    row(
        "sum for mean", "aggregate", "missing operator", "div",
        lambda part, right: lambda x, source, target: torch.zeros_like(x).index_add(0, target, x[source]),
    ),
    row(
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


FAULTS: tuple[Fault, ...] = (*LINEAR, *NORM, *ATTENTION, *ROTARY, *CACHE, *OTHER, *everywhere())
