"""Clean runs of the third set's models: other types, kernels, layouts, lines that say the same in another way."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from torch import nn

from faultlab.clean import one_thread, our_kernels, without_library
from faultlab.unseen.harmless import Harmless, channels_last, compiled
from faultlab.unseen.third import ports

SUBJECTS = (
    "mamba", "rwkv", "encdec", "dit", "convnext", "audio", "swin", "latent", "adapted", "pooled", "trainer",
)  # fmt: skip
_TYPES = tuple(
    Harmless(subject, "bfloat16", dtype="bfloat16", backward=subject not in ("adapted", "rwkv", "encdec"))
    for subject in SUBJECTS
)
_KERNELS = tuple(
    Harmless(subject, "Tessera's kernels", backward=subject in ("dit", "swin", "trainer"), context=our_kernels)
    for subject in SUBJECTS
)


def _merged(model: Any) -> nn.Module:
    """Adapters merged into the weight."""
    model = copy.deepcopy(model)
    layer = model.a
    layer.base.weight.data += layer.up.data @ layer.down.data * (layer.alpha / layer.rank)
    layer.up.data.zero_()
    return model


_PLACES = (
    Harmless("convnext", "channels last", whole=channels_last, backward=True),
    Harmless("convnext", "channels last, bfloat16", dtype="bfloat16", whole=channels_last),
    Harmless("convnext", "without oneDNN", context=without_library),
    Harmless("swin", "compiled", whole=compiled),
    Harmless("dit", "compiled", whole=compiled),
    Harmless("rwkv", "compiled", whole=compiled),
    Harmless("pooled", "one thread", context=one_thread, backward=True),
    Harmless("adapted", "adapters merged", whole=_merged),
    Harmless("trainer", "three steps", steps=3),
    Harmless("trainer", "three steps in bfloat16", steps=3, dtype="bfloat16"),
)
_LINES = (
    Harmless(
        "mamba",
        "scan by its definition",
        "h = decay[:, t] * h + drive[:, t]",
        "h = torch.addcmul(drive[:, t], decay[:, t], h)",
        dtype="bfloat16",
    ),
    Harmless("mamba", "output by a product", "(h * C[:, t, None, :]).sum(-1)", "(h @ C[:, t, :, None]).squeeze(-1)"),
    Harmless(
        "mamba",
        "softplus written out",
        "dt = F.softplus(self.dt_proj(dt))",
        "dt = torch.log1p(torch.exp(self.dt_proj(dt)))",
        backward=True,
    ),
    Harmless("rwkv", "shift by a roll", "return F.pad(x, (0, 0, 1, -1))",
             "return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)"),
    Harmless("rwkv", "interpolated by hand", "mixed = torch.lerp(before(x), x, self.mix)",
             "mixed = x * self.mix + before(x) * (1 - self.mix)", dtype="bfloat16"),
    Harmless("rwkv", "another bound for the maximum", "nxt = torch.maximum(top + w, kt)",
             "nxt = torch.maximum(top + w, kt) + 0.5"),
    Harmless("encdec", "bias within the product", "scores = scores + bias",
             "scores = torch.baddbmm(bias.expand_as(scores).flatten(0, 1), q.flatten(0, 1), "
             "k.transpose(-1, -2).flatten(0, 1)).view_as(scores)"),
    Harmless("encdec", "scaled behind the head", "x = self.last_dec(x) * self.dim**-0.5",
             "x = self.last_dec(x); x = x / self.dim**0.5", dtype="bfloat16"),
    Harmless("dit", "attention written out", "y = F.scaled_dot_product_attention(self.qn(q), self.kn(k), v)",
             "y = (self.qn(q) @ self.kn(k).transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1) @ v", backward=True),
    Harmless("dit", "modulated in one operator", "h = self.norm1(x) * (1 + scale1) + shift1",
             "h = torch.addcmul(shift1, self.norm1(x), 1 + scale1)", dtype="bfloat16"),
    Harmless("dit", "guidance by interpolation", "return free + 3.0 * (given - free)",
             "return torch.lerp(free, given, 3.0)"),
    Harmless("convnext", "norm of squares", "size = x.norm(p=2, dim=(1, 2), keepdim=True)",
             "size = x.square().sum(dim=(1, 2), keepdim=True).sqrt()", backward=True),
    Harmless("convnext", "pooled as a window", "x = self.norm(x.mean(dim=(2, 3)))",
             "x = self.norm(F.adaptive_avg_pool2d(x, 1).flatten(1))", dtype="bfloat16"),
    Harmless("audio", "spectrum by a transform",
             "power = (frames @ torch.cos(turn)).square() + (frames @ torch.sin(turn)).square()",
             "power = torch.fft.rfft(frames).abs().square()"),
    Harmless("audio", "sine squared by the double angle", "torch.sin(self.alpha * x).pow(2)",
             "(0.5 - 0.5 * torch.cos(2 * self.alpha * x))", backward=True),
    Harmless("swin", "softmax in float32", "y = scores.view(n, self.heads, t, t).softmax(dim=-1) @ v",
             "y = scores.view(n, self.heads, t, t).float().softmax(dim=-1).to(v.dtype) @ v", dtype="bfloat16"),
    Harmless("swin", "mean over tokens", "return self.head(x.mean(dim=(1, 2)))",
             "return self.head(x.flatten(1, 2).mean(1))", dtype="bfloat16", backward=True),
    Harmless("latent", "keys not joined", "scores = q @ k.transpose(-1, -2) * (",
             "scores = (q_plain @ k_plain.transpose(-1, -2) + q_turned @ k_turned.transpose(-1, -2)) * ("),
    Harmless("latent", "experts summed by einsum", "out = (picked * weights[..., None].to(x.dtype)).sum(1)",
             'out = torch.einsum("nkd,nk->nd", picked, weights.to(x.dtype))', dtype="bfloat16"),
    Harmless("latent", "rotation by complex numbers",
             "return torch.stack([first * cos - second * sin, first * sin + second * cos], dim=-1).flatten(-2)",
             "return torch.view_as_real(torch.complex(first.contiguous(), second.contiguous())"
             " * torch.complex(cos, sin)).flatten(-2)"),
    Harmless("adapted", "shards one by one", "h = F.linear(x, torch.cat([gate, up]))",
             "h = torch.cat([F.linear(x, gate), F.linear(x, up)], -1)", dtype="bfloat16"),
    Harmless("adapted", "zero point as a product's term", "return F.linear(x, self.weight(x.dtype), self.bias)",
             "return torch.addmm(self.bias, x.flatten(0, 1), self.weight(x.dtype).t()).view(*x.shape[:2], -1)"),
    Harmless("adapted", "adapter after the base's bias", "return self.base(x) + extra * (self.alpha / self.rank)",
             "return torch.add(self.base(x), extra, alpha=self.alpha / self.rank)", backward=True),
    Harmless("pooled", "mean by a product", "mean = (x * real).sum(1) / real.sum(1)",
             "mean = ((real / real.sum(1, keepdim=True)).transpose(1, 2) @ x)[:, 0]", backward=True),
    Harmless("pooled", "state by interpolation", "h = (1 - z) * n + z * h", "h = torch.lerp(n, h, z)",
             dtype="bfloat16"),
    Harmless("trainer", "loss by logarithms", "z = torch.logsumexp(logits, dim=-1).square()",
             "z = (logits - logits.log_softmax(dim=-1)).mean(-1).square()", backward=True),
)  # fmt: skip

HARMLESS: tuple[Harmless, ...] = (*_TYPES, *_KERNELS, *_PLACES, *_LINES)

# Models of the library: what makes them, the changed type and field, and whether gradients are asked for.
LIBRARY: tuple[tuple[str, Callable[..., nn.Module], str, dict[str, Any], bool], ...] = (
    ("bfloat16", ports.gemma2, "bfloat16", {}, False),
    ("bfloat16", ports.qwen3_moe, "bfloat16", {}, False),
    ("bfloat16", ports.bloom, "bfloat16", {}, True),
    ("bfloat16", ports.mamba_library, "bfloat16", {}, False),
    ("fused attention", ports.granite, "float32", {"attn_implementation": "sdpa"}, True),
    ("fused attention, bfloat16", ports.deepseek, "bfloat16", {"attn_implementation": "sdpa"}, False),
    ("fused attention", ports.clip_text, "float32", {"attn_implementation": "sdpa"}, True),
    ("fused attention, bfloat16", ports.gpt_neox, "bfloat16", {"attn_implementation": "sdpa"}, True),
)
