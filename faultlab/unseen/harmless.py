"""Clean runs: lines that say the same in another way, other types, kernels, layouts and thread counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from faultlab.clean import one_thread, our_kernels, without_library

Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Harmless:
    """A clean run of a subject: changed lines, the type, the context that it runs in, a change of the model."""

    subject: str
    name: str
    old: str = ""
    new: str = ""
    dtype: str = "float32"
    backward: bool = False
    steps: int = 0
    context: Context = nullcontext
    whole: Callable[[nn.Module], nn.Module] | None = None


def channels_last(model: nn.Module) -> nn.Module:
    """Weights in the other memory format."""
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def compiled(model: nn.Module) -> nn.Module:
    """The model traced and run by the compiler's plainest back end."""
    return torch.compile(model, backend="aot_eager")  # type: ignore[return-value]


_SUBJECTS = ("gpt", "moe", "unet", "graph", "recurrent", "vit", "lossy", "quantized")
_TYPES = tuple(
    Harmless(subject, dtype, dtype=dtype, backward=backward)
    for subject in _SUBJECTS
    for dtype, backward in (("bfloat16", subject in ("gpt", "unet", "vit", "graph", "lossy")), ("float16", False))
    if (subject, dtype) != ("quantized", "float16")
)
_KERNELS = tuple(
    Harmless(subject, f"Tessera's kernels, {dtype}", dtype=dtype, backward=backward, context=our_kernels)
    for subject in _SUBJECTS
    for dtype, backward in (("float32", subject not in ("quantized", "recurrent")), ("bfloat16", False))
)
_PLACES = (
    Harmless("unet", "channels last", whole=channels_last),
    Harmless("unet", "channels last, bfloat16", dtype="bfloat16", whole=channels_last, backward=True),
    Harmless("vit", "compiled", whole=compiled),
    Harmless("gpt", "compiled", whole=compiled),
    Harmless("unet", "compiled", whole=compiled),
    Harmless("unet", "without oneDNN", context=without_library, backward=True),
    Harmless("vit", "without oneDNN, bfloat16", dtype="bfloat16", context=without_library),
    Harmless("recurrent", "without oneDNN", context=without_library),
    Harmless("graph", "one thread", context=one_thread, backward=True),
    Harmless("lossy", "three steps", steps=3),
    Harmless("lossy", "three steps in bfloat16", steps=3, dtype="bfloat16"),
)
_LINES = (
    Harmless(
        "gpt",
        "fused attention",
        "out = probs @ values",
        "out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)",
    ),
    Harmless(
        "gpt",
        "fused attention, bfloat16",
        "out = probs @ values",
        "out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask)",
        dtype="bfloat16",
        backward=True,
    ),
    Harmless("gpt", "hidden scores far below", 'masked_fill(~mask, float("-inf"))', "masked_fill(~mask, -1e4)"),
    Harmless(
        "gpt",
        "a mask that is added",
        'scores = scores.masked_fill(~mask, float("-inf"))',
        'scores = scores + torch.zeros_like(scores).masked_fill(~mask, float("-inf"))',
        dtype="bfloat16",
    ),
    Harmless(
        "gpt",
        "heads repeated by expansion",
        "keys = keys.repeat_interleave(self.heads // self.kv_heads, dim=1)",
        "keys = keys[:, :, None].expand(-1, -1, self.heads // self.kv_heads, -1, -1).flatten(1, 2)",
    ),
    Harmless(
        "gpt",
        "all positions moved by one",
        "c, s = cos[pos : pos + t], sin[pos : pos + t]",
        "c, s = cos[pos + 1 : pos + t + 1], sin[pos + 1 : pos + t + 1]",
        dtype="bfloat16",
    ),
    Harmless(
        "gpt",
        "gain before the cast",
        "return (wide * inv).type_as(x) * self.weight",
        "return (wide * inv * self.weight).type_as(x)",
        dtype="bfloat16",
    ),
    Harmless(
        "gpt",
        "queries scaled before the product",
        "scores = q @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)",
        "scores = (q / math.sqrt(self.head_dim)) @ keys.transpose(-2, -1)",
        dtype="bfloat16",
    ),
    Harmless(
        "gpt",
        "softmax written out",
        "probs = F.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)",
        "probs = (lambda s: (lambda e: (e / e.sum(-1, keepdim=True)).to(q.dtype))"
        "((s - s.amax(-1, keepdim=True)).exp()))(scores.float())",
    ),
    Harmless(
        "moe",
        "softmax after the choice",
        "weights = (weights / weights.sum(dim=-1, keepdim=True)).to(x.dtype)",
        "weights = F.softmax(self.gate(x).float().gather(1, chosen), dim=-1).to(x.dtype)",
    ),
    Harmless(
        "moe",
        "additions at indices by index_put",
        "out.index_add_(0, rows, made)",
        "out.index_put_((rows,), made, accumulate=True)",
        dtype="bfloat16",
    ),
    Harmless("moe", "shared expert first", "out = out + self.shared(x)", "out = self.shared(x) + out", backward=True),
    Harmless(
        "unet",
        "SiLU written out",
        "h = F.silu(self.norm(x))",
        "h = (lambda y: y * torch.sigmoid(y))(self.norm(x))",
        backward=True,
    ),
    Harmless(
        "unet",
        "variance by the mean of squares",
        "var = wide.var(dim=1, keepdim=True, unbiased=False)",
        "var = wide.square().mean(dim=1, keepdim=True) - mean.square()",
    ),
    Harmless(
        "unet",
        "pixels shuffled by hand",
        "fine = F.pixel_shuffle(self.grow(h), 2)",
        "fine = self.grow(h).unflatten(1, (16, 2, 2)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)",
    ),
    Harmless(
        "unet",
        "convolution by unfolding",
        "return F.conv2d(x, self.weight, self.bias, stride=self.stride, dilation=1)",
        "return (self.weight.flatten(1) @ F.unfold(x, 3, stride=self.stride) + self.bias[:, None])"
        ".unflatten(-1, ((x.shape[-2] - 3) // self.stride + 1, -1))",
    ),
    Harmless(
        "graph",
        "sums in another order",
        "return torch.zeros_like(message[:n]).index_add_(0, dst, message)",
        "return torch.zeros_like(message[:n]).index_add_(0, dst.flip(0), message.flip(0))",
        backward=True,
    ),
    Harmless("graph", "a root and a division", "norm = degree.pow(-0.5)", "norm = 1 / degree.sqrt()", dtype="bfloat16"),
    Harmless(
        "recurrent",
        "one product for both",
        "(self.w(x[:, t]) + self.u(h))",
        "(torch.cat([x[:, t], h], 1) @ torch.cat([self.w.weight, self.u.weight], 1).t() + self.w.bias)",
    ),
    Harmless(
        "recurrent",
        "mix by interpolation",
        "h = (1 - z) * n + z * h",
        "h = n + z * (h - n)",
        dtype="bfloat16",
        backward=True,
    ),
    Harmless(
        "vit",
        "products for einsum",
        'mixed = torch.einsum("bhqk,bkhd->bqhd", probs, v)',
        "mixed = (probs @ v.transpose(1, 2)).transpose(1, 2)",
    ),
    Harmless(
        "vit",
        "GELU written out",
        "F.gelu(self.fc1(self.norm2(x)))",
        "(lambda y: 0.5 * y * (1 + torch.erf(y * 2**-0.5)))(self.fc1(self.norm2(x)))",
        dtype="bfloat16",
    ),
    Harmless(
        "vit",
        "scaled after the product",
        'q = q * (d // self.heads) ** -0.5\n        scores = torch.einsum("bqhd,bkhd->bhqk", q, k)',
        'pass\n        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * (d // self.heads) ** -0.5',
        dtype="float16",
        backward=True,
    ),
    Harmless(
        "lossy",
        "logarithms of probabilities",
        "logp = F.log_softmax(guess, dim=-1)",
        "logp = guess - guess.logsumexp(dim=-1, keepdim=True)",
        backward=True,
    ),
    Harmless(
        "lossy",
        "cross entropy of PyTorch",
        "each = 0.9 * picked + 0.1 * smooth",
        'each = F.cross_entropy(guess, label, label_smoothing=0.1, reduction="none")',
        backward=True,
        steps=2,
    ),
    Harmless(
        "quantized",
        "exact sums in floating point",
        "sums = torch._int_mm(short, self.weight.t())",
        "sums = short.float() @ self.weight.t().float()",
    ),
    Harmless(
        "quantized",
        "bias added behind",
        "return F.linear(x, weight, self.bias)",
        "return F.linear(x, weight) + self.bias",
        dtype="bfloat16",
    ),
)

HARMLESS: tuple[Harmless, ...] = (*_TYPES, *_KERNELS, *_PLACES, *_LINES)
