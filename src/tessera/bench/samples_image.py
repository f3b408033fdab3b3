"""Calls of families that work on images and their like: [batch, channels, places], places in 1 to 3 dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tessera.bench.maker import Call, Maker, NoSample, call

Family = tuple[str, Callable[[Maker], Call | list[Call]]]


def _dims(m: Maker) -> int:
    return next(dims for dims in (1, 2, 3) if f"{dims}d" in m.operator)


def _shape(m: Maker, dims: int, least: int = 4) -> list[int]:
    channels = 16 if m.elements >= 2**14 else 2
    return [1, channels, *[m.side(dims, of=max(1, m.elements // channels), least=least)] * dims]


def _forward(name: str) -> Any:
    """The operator whose gradient is asked for."""
    return getattr(torch.ops.aten, name.removesuffix("_backward"))


def _padded(m: Maker) -> Call:
    dims = _dims(m)
    x, padding = m.x(*_shape(m, dims)), [1] * (2 * dims)
    if not m.operator.endswith("backward"):
        return call(x, padding)
    return call(torch.ones_like(_forward(m.operator)(x, padding)), x, padding)


def _average(m: Maker) -> Call:
    dims = _dims(m)
    x, window = m.x(*_shape(m, dims)), [2] * dims
    if not m.operator.endswith("backward"):
        return call(x, window, window)
    none = [0] * dims
    return call(torch.ones_like(_forward(m.operator)(x, window, window)), x, window, window, none, False, True, None)


def _to_fixed(m: Maker) -> Call:
    """To 2 places a dim, from any number of them."""
    dims = _dims(m)
    x, size = m.x(*_shape(m, dims)), [2] * dims
    if not m.operator.endswith("backward"):
        return call(x, size)
    made = _forward(m.operator)(x, size)
    if isinstance(made, torch.Tensor):
        return call(torch.ones_like(made), x)
    return call(torch.ones_like(made[0]), x, made[1])


def _resampled(m: Maker) -> Call:
    """To twice the size in each dim."""
    dims = _dims(m)
    shape = _shape(m, dims)
    larger = [2 * side for side in shape[2:]]
    corners = [] if "nearest" in m.operator else [False]
    if not m.operator.endswith("backward"):
        return call(m.x(*shape), larger, *corners)
    return call(m.x(*shape[:2], *larger), larger, shape, *corners)


def _largest(m: Maker) -> Call:
    dims = _dims(m)
    x, window = m.x(*_shape(m, dims)), [2] * dims
    if not m.operator.endswith("backward"):
        return call(x, window, window)
    made, places = _forward(m.operator)(x, window, window)
    return call(torch.ones_like(made), x, window, window, [0] * dims, [1] * dims, False, places)


def _fractional(m: Maker) -> Call:
    """To half as many places a dim."""
    dims = _dims(m)
    x = m.x(*_shape(m, dims))
    window, size = [2] * dims, [max(1, side // 2) for side in x.shape[2:]]
    drawn = torch.rand(*x.shape[:2], dims, dtype=m.dtype)
    if not m.operator.endswith("backward"):
        return call(x, window, size, drawn)
    made, places = _forward(m.operator)(x, window, size, drawn)
    return call(torch.ones_like(made), x, window, size, places)


def _unpooled(m: Maker) -> Call:
    dims = _dims(m)
    shape = _shape(m, dims)
    window = [2] * dims
    pool = torch.ops.aten.max_pool2d_with_indices if dims == 2 else torch.ops.aten.max_pool3d_with_indices
    made, places = pool(m.x(*shape), window, window)
    given = (made, places, shape[2:])
    return call(*given) if dims == 2 else call(*given, window, [0] * dims)


def _windows(m: Maker) -> Call:
    """Windows of 3 × 3 at each place, and what they sum up to."""
    x, around = m.x(*_shape(m, 2)), ([3, 3], [1, 1], [1, 1], [1, 1])
    if m.operator == "im2col":
        return call(x, *around)
    return call(torch.ops.aten.im2col(x, *around), list(x.shape[2:]), *around)


def _sampled(m: Maker) -> Call:
    """As many points as pixels, some of them outside, linear, with zeros around."""
    dims = _dims(m)
    if m.dtype is not torch.float32:
        raise NoSample("PyTorch has no grids of half types on CPUs")
    x = m.x(*_shape(m, dims))
    grid = m.x(1, *x.shape[2:], dims) * 2.6 - 1.3
    if not m.operator.endswith("backward"):
        return call(x, grid, 0, 0, False)
    return call(torch.ones_like(x), x, grid, 0, 0, False, [True, True])


# --- convolution ---


def _convolutions(m: Maker) -> list[Call]:
    """The windows that models have: dense, pointwise, depthwise, strided, of a stem, of patches, along time."""
    channels = 32 if m.elements >= 2**14 else 4
    side = m.side(2, of=max(1, m.elements // channels), least=16)
    x = m.x(1, channels, side, side)
    last = x.contiguous(memory_format=torch.channels_last)
    image = m.x(1, 3, *[m.side(2, of=max(1, m.elements // 3), least=16)] * 2)
    sound = m.x(1, channels, max(16, m.elements // channels))
    dense = m.x(channels, channels, 3, 3)
    return [
        _moved(x, dense, 1), _moved(x, m.x(channels, channels, 1, 1), 0),
        _moved(x, m.x(channels, 1, 3, 3), 1, groups=channels), _moved(x, m.x(channels, 1, 7, 7), 3, groups=channels),
        _moved(x, dense, 1, stride=2), _moved(x, m.x(channels, channels, 1, 1), 0, stride=2),
        _moved(x, m.x(channels, channels, 2, 2), 0, stride=2), _moved(image, m.x(64, 3, 7, 7), 3, stride=2),
        _moved(image, m.x(64, 3, 16, 16), 0, stride=16), _moved(sound, m.x(channels, channels, 3), 1),
        _moved(sound, m.x(channels, channels, 3), 1, stride=2),
        _moved(last, dense.contiguous(memory_format=torch.channels_last), 1),
    ]  # fmt: skip


def _moved(x: torch.Tensor, weight: torch.Tensor, padding: int, *, stride: int = 1, groups: int = 1) -> Call:
    dims = x.dim() - 2
    around = ([stride] * dims, [padding] * dims, [1] * dims, False, [0] * dims, groups)
    return call(x, weight, None, *around)


def _convolution_backward(m: Maker) -> list[Call]:
    if m.elements > 2**20:
        raise NoSample("its time is known from smaller ones")
    calls = []
    for one in _convolutions(m):
        grad = torch.ones_like(torch.ops.aten.convolution(*one.args))
        calls.append(call(grad, *one.args[:2], None, *one.args[3:], [True, True, False]))
    return calls


FAMILIES: tuple[Family, ...] = (
    ("reflection_pad* replication_pad*", _padded),
    ("avg_pool*", _average),
    ("_adaptive_avg_pool* adaptive_max_pool*", _to_fixed),
    ("upsample_* _upsample_*", _resampled),
    ("max_pool*", _largest),
    ("fractional_max_pool*", _fractional),
    ("max_unpool*", _unpooled),
    ("grid_sampler_*", _sampled),
    ("im2col col2im", _windows),
    ("convolution", _convolutions),
    ("convolution_backward", _convolution_backward),
)
