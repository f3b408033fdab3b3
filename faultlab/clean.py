"""Harmless changes: the same mathematics by other operators, in another order, type or by other kernels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from faultlab import parts

ALL = ("float32", "bfloat16", "int8")
FLOATS = ("float32", "bfloat16")
Context = Callable[[], AbstractContextManager[Any]]


@dataclass(frozen=True)
class Rewrite:
    """A harmless change. apply: to a part of the role, returns its other work; or to the whole run as a context."""

    name: str
    role: str = ""
    apply: Callable[[Any], Callable[..., Any]] | None = None
    context: Context | None = None
    whole: Callable[[nn.Module], None] | None = None
    dtypes: tuple[str, ...] = ALL


def rewrite(model: nn.Module, row: Rewrite) -> Context | None:
    """Change every part of the role; returns the context that the run needs, if any."""
    if row.whole is not None:
        row.whole(model)
    for module in model.modules():
        part: Any = module
        if row.apply is not None and isinstance(part, parts.Part) and part.role == row.role:
            part.compute = row.apply(part)
    return row.context


def _in_halves(part: Any) -> Callable[..., Any]:
    def compute(x: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        right = F.linear(x[..., half:], part.weight[:, half:], part.bias)
        return F.linear(x[..., :half], part.weight[:, :half]) + right

    return compute


def _backwards(part: Any) -> Callable[..., Any]:
    return lambda x: F.linear(x.flip(-1), part.weight.flip(-1), part.bias)


def _by_rows(part: Any) -> Callable[..., Any]:
    return lambda x: torch.cat([F.linear(row[None], part.weight, part.bias) for row in x.unbind(0)])


def _fused_attention(part: Any) -> Callable[..., Any]:
    def compute(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(q, k, v, is_causal=part.causal and q.shape[-2] > 1)

    return compute


def _tiled_attention(part: Any) -> Callable[..., Any]:
    """Softmax over two tiles of keys, joined by their maxima and sums."""

    def compute(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).float()
        if part.causal and q.shape[-2] > 1:
            ones = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
            scores = scores.masked_fill(ones.triu(1), -math.inf)
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        half = k.shape[-2] // 2
        total = powers[..., :half].sum(-1, keepdim=True) + powers[..., half:].sum(-1, keepdim=True)
        mixed = powers[..., :half] @ v[..., :half, :].float() + powers[..., half:] @ v[..., half:, :].float()
        return (mixed / total).to(q.dtype)

    return compute


def _plain_norm(part: Any) -> Callable[..., Any]:
    def compute(x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        if part.groups:
            rows = wide.unflatten(1, (part.groups, -1)).flatten(2)
            dims = (1, -1, 1, 1)
        else:
            rows, dims = wide, (-1,)
        mean = rows.mean(-1, keepdim=True)
        power = (rows - mean).square().mean(-1, keepdim=True)
        scaled = ((rows - mean) / (power + part.eps).sqrt()).reshape(x.shape)
        return (scaled * part.weight.float().view(dims) + part.bias.float().view(dims)).to(x.dtype)

    return compute


def _fused_root(part: Any) -> Callable[..., Any]:
    return lambda x: F.rms_norm(x.float(), x.shape[-1:], part.weight.float(), part.eps).to(x.dtype)


def _plain_gelu(part: Any) -> Callable[..., Any]:
    return lambda x: (x.float() * 0.5 * (1 + torch.erf(x.float() / math.sqrt(2)))).to(x.dtype)


def _conv_as_product(part: Any) -> Callable[..., Any]:
    def compute(x: torch.Tensor) -> torch.Tensor:
        columns = F.unfold(x, 3, padding=1, stride=part.stride)
        rows = columns.transpose(1, 2) @ part.weight.flatten(1).t() + part.bias
        height = (x.shape[-2] - 1) // part.stride + 1
        return rows.transpose(1, 2).unflatten(-1, (height, -1))

    return compute


def _channels_last(part: Any) -> Callable[..., Any]:
    right = part.compute
    return lambda x: right(x.contiguous(memory_format=torch.channels_last)).contiguous()


def _other_order(part: Any) -> Callable[..., Any]:
    return lambda x, y: y + x


def _one_hot(part: Any) -> Callable[..., Any]:
    return lambda ids: part.weight.index_select(0, ids.flatten()).unflatten(0, ids.shape)


def _sorted_edges(part: Any) -> Callable[..., Any]:
    right = part.compute

    def compute(x: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        order = target.argsort(stable=True)
        return right(x, source[order], target[order])

    return compute


def _mean_twice(part: Any) -> Callable[..., Any]:
    return lambda x: x.mean(3).mean(2)


@contextmanager
def one_thread() -> Iterator[None]:
    """PyTorch on a single thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_library() -> Iterator[None]:
    """PyTorch without oneDNN's kernels."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.backends.mkldnn.enabled = before  # type: ignore[assignment]


@contextmanager
def our_kernels() -> Iterator[None]:
    """Tessera's own kernels."""
    import tessera

    with tessera.use("always"):
        yield


def _shorter(model: nn.Module) -> None:
    model.bfloat16()


REWRITES = (
    Rewrite("the same"),
    Rewrite("bfloat16", whole=_shorter, dtypes=("float32",)),
    Rewrite("products in halves", "linear", _in_halves, dtypes=FLOATS),
    Rewrite("sums backwards", "linear", _backwards, dtypes=FLOATS),
    Rewrite("row by row", "linear", _by_rows, dtypes=FLOATS),
    Rewrite("fused attention", "attention", _fused_attention),
    Rewrite("tiled attention", "attention", _tiled_attention),
    Rewrite("norm by hand", "norm", _plain_norm),
    Rewrite("fused root norm", "root norm", _fused_root),
    Rewrite("GELU by hand", "activation", _plain_gelu),
    Rewrite("convolution as a product", "conv", _conv_as_product, dtypes=FLOATS),
    Rewrite("channels last", "conv", _channels_last),
    Rewrite("branch first", "residual", _other_order),
    Rewrite("rows selected", "embedding", _one_hot),
    Rewrite("edges sorted", "aggregate", _sorted_edges),
    Rewrite("mean in two steps", "pool", _mean_twice),
    Rewrite("one thread", context=one_thread),
    Rewrite("without oneDNN", context=without_library),
    Rewrite("Tessera's kernels", context=our_kernels),
)
