"""Wrong kernels: for some sizes, layouts or rows, in short sums, in fused backward passes, in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from faultlab.unseen.kernel_rows import Change, KernelRow, made_row


def _tail_of_depth(block: int) -> Change:
    """A product whose depth is cut down to whole blocks."""

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        x, weight = args[-2:] if len(args) == 2 else args[1:3]
        depth = x.shape[-1] // block * block
        made = x[..., :depth] @ weight[..., :depth, :]
        return made if len(args) == 2 else made + args[0]

    return change


def _tail_of_rows(block: int) -> Change:
    """Rows behind the last whole block are those of the block before."""

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        whole = out.shape[0] // block * block
        rest = out.shape[0] - whole
        return torch.cat([out[:whole], out[:rest]])

    return change


def _as_if_contiguous(make: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Strides of the input are not looked at."""

    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        x = args[0]
        return make(torch.as_strided(x, (x.numel(),), (1,), x.storage_offset())).view(x.shape)

    return change


def _row(number: int) -> Change:
    def change(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
        out = out.clone()
        flat = out.flatten(0, -2) if out.dim() > 1 else out
        flat[number] = flat[number] * 1.25
        return out

    return change


def _short_sums(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    """Partial sums of eight terms are added in the type of the inputs."""
    bias, x, weight = args[:3]
    total = torch.zeros_like(out)
    for first in range(0, x.shape[1], 2):
        total = total + x[:, first : first + 2] @ weight[first : first + 2]
    return total + bias


def _racing(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    generator = torch.Generator()
    generator.seed()
    row = int(torch.randint(out.shape[0], (1,), generator=generator))
    out = out.clone()
    out[row] = out[row] * 0.98
    return out


def _uninitialised(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    generator = torch.Generator()
    generator.seed()
    out = out.clone()
    flat = out.view(-1)
    flat[-5:] = torch.randn(5, generator=generator).to(out.dtype)
    return out


def _softmax_grad(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    grad, probs = args[:2]
    return grad * probs


def _norm_grad(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    """The term through the mean is left out."""
    grad, x, _, mean, rstd, weight = args[:6]
    hat = (x - mean) * rstd
    inner = grad * weight
    return (inner - hat * (inner * hat).mean(-1, keepdim=True)) * rstd


def _silu_grad(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    grad, x = args[:2]
    return grad * torch.sigmoid(x)


def _one_tile(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    out = out.clone()
    out[..., 8:16] = out[..., 8:16].roll(1, -1)
    return out


def _no_channel_bias(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    x, weight, _, stride, padding, dilation = args[:6]
    return torch.nn.functional.conv2d(x, weight, None, stride, padding, dilation, args[8])


def _depthwise_one_kernel(out: torch.Tensor, args: Sequence[Any]) -> torch.Tensor:
    x, weight, bias, stride, padding, dilation = args[:6]
    return torch.nn.functional.conv2d(x, weight[:1].expand_as(weight), bias, stride, padding, dilation, args[8])


KERNEL_ROWS: tuple[KernelRow, ...] = (
    made_row("latent", "depth not divisible by 16", "layers.0.attn", "bmm", "incomplete", _tail_of_depth(3)),
    made_row("trainer", "depth behind the last block of 16", "up", "addmm", "incomplete", _tail_of_depth(16)),
    made_row("pooled", "rows behind the last block of 16", "enter", "addmm", "edge, repeated", _tail_of_rows(16)),
    made_row(
        "mamba",
        "strides of the input not looked at",
        "mixers.0",
        "silu",
        "permuted, transposed",
        _as_if_contiguous(torch.nn.functional.silu),
    ),
    made_row("dit", "row 17 a quarter too large", "blocks.1.up", "addmm", "block, edge, single line", _row(17)),
    made_row(
        "encdec", "row 5 a quarter too large", "encoder.0.ffn.wi_1", "mm", "block, edge, single line", _row(5)
    ),
    made_row(
        "dit",
        "sums kept in bfloat16",
        "blocks.0.down",
        "addmm",
        "short type, accuracy",
        _short_sums,
        dtype="bfloat16",
    ),
    made_row("convnext", "a row at random 2 % too small", "head", "addmm", "non-deterministic", _racing),
    made_row("swin", "last five elements not written", "second.norm1", "native_layer_norm",
             "non-deterministic", _uninitialised),
    made_row(
        "encdec",
        "softmax backward without its sum",
        "",
        "_softmax_backward_data",
        "incomplete, values",
        _softmax_grad,
        backward=True,
        # Not `decoder.1.cross`, as was written before the first run: these blocks are no modules' forward methods.
        named="(model)",
    ),
    made_row(
        "rwkv",
        "norm backward without the mean's term",
        "",
        "native_layer_norm_backward",
        "incomplete, values, offset",
        _norm_grad,
        backward=True,
        named="blocks.1.norm2",
    ),
    made_row(
        "mamba",
        "half of the derivative of silu",
        "",
        "silu_backward",
        "incomplete, values",
        _silu_grad,
        backward=True,
        named="mixers.1",
    ),
    made_row("mamba", "exponentials a thousandth too large", "mixers.1", "exp", "scale",
             lambda out, args: out * 1.001),
    made_row("swin", "a tile of columns moved by one", "first.1.up", "addmm", "permuted, shifted, block", _one_tile),
    made_row("convnext", "bias of channels missing", "stem", "convolution", "offset, missing operator, incomplete",
             _no_channel_bias),
    made_row("convnext", "one kernel for all channels", "stages.0.deep", "convolution",
             "repeated, values, wrong input, block, edge", _depthwise_one_kernel),
    made_row("adapted", "sums of 15 bits saturate", "c", "_int_mm", "saturated",
             lambda out, args: out.clamp(-16384, 16383)),
    made_row("latent", "a thousandth too small", "layers.1.moe.shared.down", "mm", "scale",
             lambda out, args: out * 0.999),
    made_row("pooled", "a thousandth too large", "spread.norm2", "native_layer_norm", "scale",
             lambda out, args: out * 1.001),
    made_row("audio", "largest of the block for that of the row", "", "amax", "values, offset, scale, extra",
             lambda out, args: args[0][..., 8:].amax(args[1], keepdim=True)),
    made_row("audio", "every other time step twice", "grow", "convolution", "stride, repeated",
             lambda out, args: out[..., ::2].repeat_interleave(2, -1)[..., : out.shape[-1]]),
    made_row("rwkv", "negative zero and small numbers flushed", "blocks.0.time", "maximum", "edge, zeroed, saturated",
             lambda out, args: torch.where(out < 0, torch.zeros_like(out), out)),
)  # fmt: skip
