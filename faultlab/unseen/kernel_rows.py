"""Faults in kernels, planted by the lab's dispatch mode: one operator of one module gives a slightly wrong result.

`kinds` was written before the fault was first run. In a backward pass the mode sees no modules (`""`), and the first
call counts, which is in the module that `named` tells.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

Change = Callable[[torch.Tensor, Sequence[Any]], torch.Tensor]


@dataclass(frozen=True)
class KernelRow:
    """A wrong kernel. make: a fresh function from the right result and the arguments to the wrong result."""

    subject: str
    name: str
    module: str
    operator: str
    kinds: frozenset[str]
    make: Callable[[], Change]
    dtype: str = "float32"
    backward: bool = False
    named: str = ""


def made_row(subject: str, name: str, module: str, operator: str, kinds: str, change: Change, **more: Any) -> KernelRow:
    """A row whose kinds are separated by commas."""
    return KernelRow(
        subject, name, module, operator, frozenset(kind.strip() for kind in kinds.split(",")), lambda: change, **more
    )


def _tail(value: float, block: int = 64) -> Change:
    """What lies behind the last whole block of the flat result is not written."""

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        flat = out.flatten().clone()
        flat[flat.numel() // block * block :] = value
        return flat.view(out.shape)

    return change


def _rows_17(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    out = out.clone()
    out[16::17] = out[16::17] * 0.9 + 0.2
    return out


def _pairs(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return out.contiguous().view(-1, 2).flip(-1).view(out.shape)


def _truncated(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    wide = torch.addmm(*(tensor.float() for tensor in args[:3]))
    bits = wide.view(torch.int32) & ~0xFFFF
    return bits.view(torch.float32).to(out.dtype)


def _ten_bits(x: torch.Tensor) -> torch.Tensor:
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def _tf32(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return torch.mm(_ten_bits(args[0]), _ten_bits(args[1]))


def _flushed(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return torch.where(out.abs() < torch.finfo(out.dtype).tiny, torch.zeros_like(out), out)


def _lost_updates(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    generator = torch.Generator()
    generator.seed()
    keep = torch.rand(out.shape, generator=generator) > 0.3
    return torch.where(keep, out, out * 0.5)


def _first_for_all(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return out[:, :1].expand_as(out).contiguous()


def _first_half_twice(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    half = out.shape[0] // 2
    return torch.cat([out[:half], out[:half]])


def _bessel(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    x, _, weight, bias, eps = args[:5]
    var = x.var(-1, keepdim=True, unbiased=True)
    return (x - x.mean(-1, keepdim=True)) * torch.rsqrt(var + eps) * weight + bias


def _coarse(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return out * (1 + 1e-4 * torch.sin(1e3 * out))


def _short_depth(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    bias, x, weight = args[:3]
    return torch.addmm(bias, x[:, :-8], weight[:-8])


def _short_sum(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    return args[0][:, :32].sum(1) if args[0].dim() == 3 else out


def _carry_lost(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    x = args[0]
    return torch.cat([x[:, :4].cumsum(1), x[:, 4:].cumsum(1)], 1)


def _fast_root(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    x = args[0].contiguous()
    guess = (0x5F3759DF - (x.view(torch.int32) >> 1)).view(torch.float32)
    return guess * (1.5 - 0.5 * x * guess * guess)


def _channel(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    out = out.clone()
    out[:, 5] = out[:, 5] * 0.7 - 0.4
    return out


def _border(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    out = out.clone()
    out[..., -1] = out[..., -1] * 0.5
    return out


def _old() -> Change:
    kept: dict[tuple[int, ...], torch.Tensor] = {}

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        before = kept.get(tuple(out.shape))
        kept[tuple(out.shape)] = out
        return out if before is None else before

    return change


KERNEL_ROWS = (
    made_row("graph", "the last block of 64 not written", "", "elu", "edge", _tail(0.0)),
    made_row(
        "graph", "the last block of 64 is not a number", "norm", "native_layer_norm", "non-finite", _tail(float("nan"))
    ),
    made_row("recurrent", "the last block of 64 holds garbage", "gru", "tanh", "edge", _tail(3.5e4, 32)),
    made_row("vit", "every 17th row", "layers.0.fc1", "addmm", "stride", _rows_17),
    made_row("vit", "elements exchanged in pairs", "layers.0", "gelu", "permuted", _pairs),
    made_row("quantized", "clamped at 448", "a", "mul", "saturated", lambda out, args: out.clamp(-448, 448)),
    made_row(
        "vit",
        "truncated to bfloat16",
        "layers.1.fc2",
        "addmm",
        "short type, accuracy, truncated",
        _truncated,
        dtype="bfloat16",
    ),
    made_row("gpt", "inputs cut to ten bits", "blocks.0.attn.wq", "mm", "short type, accuracy", _tf32),
    made_row(
        "lossy",
        "small numbers flushed to zero",
        "",
        "mse_loss_backward",
        "underflow",
        _flushed,
        dtype="float16",
        backward=True,
        named="(model)",
    ),
    made_row(
        "quantized",
        "sums kept in 16 bits",
        "a",
        "_int_mm",
        "overflow",
        lambda out, args: out.to(torch.int16).to(out.dtype),
    ),
    made_row("graph", "atomic additions lost at random", "att", "scatter_add", "non-deterministic", _lost_updates),
    made_row("vit", "the first row for all", "", "add", "repeated", _first_for_all),
    made_row("gpt", "the first half of the batch twice", "blocks.0.attn", "bmm", "repeated", _first_half_twice),
    made_row(
        "moe",
        "variance with Bessel's correction",
        "layers.0.norm",
        "native_layer_norm",
        "scale, variant, accuracy",
        _bessel,
    ),
    made_row("recurrent", "a coarse approximation", "ahead", "sigmoid", "accuracy, short type", _coarse),
    made_row("lossy", "the end of the inner dim left out", "mix", "addmm", "incomplete", _short_depth),
    made_row("vit", "the last block of a sum left out", "", "sum", "incomplete", _short_sum),
    made_row("lossy", "the carry of a running sum lost", "", "cumsum", "incomplete, edge", _carry_lost),
    made_row("gpt", "a fast root", "blocks.1.ffn_norm", "rsqrt", "accuracy, short type", _fast_root),
    made_row("unet", "one channel", "down", "convolution", "block, single line", _channel),
    made_row("unet", "the border", "enter", "convolution", "edge", _border),
    KernelRow("gpt", "the result of the call before", "blocks.0.ffn", "silu", frozenset({"stale"}), _old),
    made_row(
        "moe",
        "values of the best in the other order",
        "layers.0.moe",
        "topk",
        "permuted, shifted",
        lambda out, args: out.flip(-1),
    ),
    made_row(
        "vit",
        "a gradient 1 % too small",
        "",
        "gelu_backward",
        "scale",
        lambda out, args: out * 0.99,
        backward=True,
        named="layers.1",
    ),
    made_row(
        "lossy",
        "factor of a derivative forgotten",
        "",
        "mse_loss_backward",
        "scale",
        lambda out, args: out / 2,
        backward=True,
        named="(model)",
    ),
)
