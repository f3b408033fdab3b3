"""Calls of batch and group normalisation, of order, and of what fills a tensor with random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tessera.bench.maker import Call, Maker, NoSample, call

Family = tuple[str, Callable[[Maker], Call | list[Call]]]
_GROUPS = 4


def _image(m: Maker) -> torch.Tensor:
    """[2, channels, side, side]"""
    channels = 32 if m.elements >= 2**14 else 4
    side = m.side(2, of=max(1, m.elements // (2 * channels)), least=2)
    return m.x(2, channels, side, side)


# --- normalisation ---


def _batch_norm(m: Maker) -> Call:
    x = _image(m)
    weight, bias, mean, variance = (torch.ones(x.shape[1], dtype=m.dtype) for _ in range(4))
    if m.operator.endswith("no_stats"):
        return call(x, weight, bias, True, 0.1, 1e-5)
    if m.operator.endswith("no_training"):
        return call(x, weight, bias, mean, variance, 0.1, 1e-5)
    return call(x, weight, bias, mean, variance, True, 0.1, 1e-5)


def _batch_norm_backward(m: Maker) -> Call:
    x = _image(m)
    weight, mean, variance = (torch.ones(x.shape[1], dtype=m.dtype) for _ in range(3))
    _, saved, inverse = torch.native_batch_norm(x, weight, weight, mean, variance, True, 0.1, 1e-5)
    return call(torch.ones_like(x), x, weight, mean, variance, saved, inverse, True, 1e-5, [True, True, True])


def _group_sizes(x: torch.Tensor) -> tuple[int, int, int, int]:
    return x.shape[0], x.shape[1], x.shape[2] * x.shape[3], _GROUPS


def _group_norm(m: Maker) -> Call:
    x = _image(m)
    weight = torch.ones(x.shape[1], dtype=m.dtype)
    return call(x, weight, weight, *_group_sizes(x), 1e-5)


def _group_norm_backward(m: Maker) -> Call:
    x = _image(m)
    weight = torch.ones(x.shape[1], dtype=m.dtype)
    _, mean, inverse = torch.native_group_norm(x, weight, weight, *_group_sizes(x), 1e-5)
    return call(torch.ones_like(x), x, mean, inverse, weight, *_group_sizes(x), [True, True, True])


# --- order ---


def _ranked(m: Maker) -> Call:
    return call(m.x(), max(1, min(8, m.columns // 2)), -1)


def _bucketize(m: Maker) -> Call:
    return call(m.x(), torch.linspace(0.0, 1.0, 64, dtype=m.dtype))


def _running_extreme(m: Maker) -> Call:
    x = m.x()
    return call(x, torch.empty_like(x), torch.empty(x.shape, dtype=torch.int64), x.dim() - 1)


# --- places in memory ---


def _take(m: Maker) -> Call:
    return call(m.x(), m.below(m.rows * m.columns, m.rows, m.columns))


def _put(m: Maker) -> Call:
    return call(m.x(), m.below(m.rows * m.columns, m.rows, m.columns), m.x())


def _unfold_backward(m: Maker) -> Call:
    """Of windows of 4 at each second place of a vector."""
    length = max(8, m.elements)
    windows = (length - 4) // 2 + 1
    return call(m.x(windows, 4), [length], 0, 4, 2)


# --- random numbers ---


def _random(*values: Any) -> Callable[[Maker], Call]:
    return lambda m: call(m.x(), *values)


def _permutation(m: Maker) -> Call:
    return call(m.elements, generator=None, out=torch.empty(m.elements, dtype=torch.int64))


# --- complex numbers ---


def _complex(m: Maker) -> Call:
    """One part from each of two tensors, and the conjugate of what they make."""
    if m.dtype is not torch.float32:
        raise NoSample("complex numbers are made of float32")
    first, second = m.x(), m.x()
    if m.operator.startswith("conj"):
        z = torch.complex(first, second)
        return call(z, out=torch.empty_like(z))
    return call(first, second, out=torch.empty(first.shape, dtype=torch.complex64))


FAMILIES: tuple[Family, ...] = (
    ("native_batch_norm_backward", _batch_norm_backward),
    ("native_batch_norm _native_batch_norm_legit*", _batch_norm),
    ("native_group_norm", _group_norm),
    ("native_group_norm_backward", _group_norm_backward),
    ("topk kthvalue", _ranked),
    ("bucketize.Tensor", _bucketize),
    ("_cummax_helper _cummin_helper", _running_extreme),
    ("take", _take),
    ("put_", _put),
    ("unfold_backward", _unfold_backward),
    ("geometric_", _random(0.5)),
    ("multinomial", _random(8, True)),
    ("conj_physical.* complex.* polar.*", _complex),
    ("polygamma", lambda m: call(2, m.x())),
    ("histc", lambda m: call(m.x(), 100, -2, 2)),
    ("mvlgamma", lambda m: call(m.x(), 3)),
    ("native_dropout", _random(0.5, True)),
    ("random_.from", _random(0, 100)),
    ("random_.to", _random(100)),
    ("randperm.generator_out", _permutation),
)
