"""Maximum pooling with the places of the maxima, its gradient, and unpooling.

Windows of adaptive and of fractional pooling are not evenly spaced, so their bounds are tables; in fractional pooling
each plane has tables of its own. Gradients and unpooling are writes by index in the
plane (`scatter.py`).

Formula:
    forward:  y[c, o] = max_k x[c, o · stride - pad + k · dilation], place[c, o] = the first such element in the plane
    adaptive: window o of m covers ⌊o · n / m⌋ up to ⌈(o + 1) · n / m⌉
    fractional: window o of m begins at ⌊(o + u) a⌋ - ⌊u a⌋, a = (n - k) / (m - 1), the last at n - k; u is random
    backward: dx[c, place[c, o]] += g[c, o];  unpooling: y[c, place[c, o]] = x[c, o], 0 elsewhere
Shapes: x [N, C, …] or [C, …] with 2 or 3 dims behind the channels; results keep its layout.
Types: float64, float32, float16, bfloat16, int64, int32, int16, int8 and uint8; places are int64. A NaN is the
largest. Gradients take floating types and sum half types in float32.
Limits: no empty dims.
Source: the pages of torch.nn.functional.max_pool2d, torch.nn.functional.adaptive_max_pool2d,
torch.nn.functional.fractional_max_pool2d and torch.nn.functional.max_unpool2d; Graham, "Fractional Max-Pooling", 2014,
arXiv:1412.6071
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.ops import scatter, tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import zero_
from tessera.ops.resample import pooled_size


@triton.jit
def window(first, last, plane, num, position, mask, OWN: tl.constexpr):
    """Bounds of the windows at `position` of `num`; OWN: each plane has its own."""
    if OWN:
        position += plane * num
    return tl.load(first + position, mask=mask, other=0), tl.load(last + position, mask=mask, other=0)


@triton.jit
def maximum_pool(
    x, y, places, first_0, last_0, first_1, last_1, first_2, last_2, numel, n0, n1, n2, m0, m1, m2,
    step_0, step_1, step_2, most_0, most_1, most_2, OWN: tl.constexpr, COMPUTE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """x is [planes, n0, n1, n2], y is [planes, m0, m1, m2]; windows run in steps. Grid: (cdiv(numel of y, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < numel
    which = at // m2 // m1 // m0
    plane = x + which * n0 * n1 * n2
    a0, b0 = window(first_0, last_0, which, m0, (at // m2 // m1) % m0, mask, OWN)
    a1, b1 = window(first_1, last_1, which, m1, (at // m2) % m1, mask, OWN)
    a2, b2 = window(first_2, last_2, which, m2, at % m2, mask, OWN)
    place = (a0 * n1 + a1) * n2 + a2
    best = tl.load(plane + place, mask=mask, other=0).to(COMPUTE)
    for i in range(most_0):
        for j in range(most_1):
            for k in range(most_2):
                c0, c1, c2 = a0 + i * step_0, a1 + j * step_1, a2 + k * step_2
                here = (c0 * n1 + c1) * n2 + c2
                inside = mask & (c0 < b0) & (c1 < b1) & (c2 < b2)
                v = tl.load(plane + here, mask=inside, other=0).to(COMPUTE)
                better = inside & ((v > best) | ((v != v) & (best == best)))
                best = tl.where(better, v, best)
                place = tl.where(better, here, place)
    tl.store(y + at, best.to(y.dtype.element_ty), mask=mask)
    tl.store(places + at, place, mask=mask)


# First element and end of each window of a dim, and the step between its elements. Windows that each plane has of its
# own are rows of [planes, windows].
Windows = tuple[np.ndarray, np.ndarray, int]


def _windows(n: int, kernel: int, stride: int, pad: int, dilation: int, ceil_mode: bool) -> Windows:
    m = pooled_size(n, kernel, stride, pad, dilation, ceil_mode)
    if m <= 0 or 2 * pad > kernel:
        raise Declined("a window that does not fit the input")
    start = np.arange(m) * stride - pad
    end = np.minimum(start + dilation * (kernel - 1) + 1, n)
    missed = np.where(start < 0, -(start // dilation), 0)
    return start + missed * dilation, end, dilation


def _parts(n: int, m: int) -> Windows:
    return np.arange(m) * n // m, -(-(np.arange(1, m + 1) * n) // m), 1


def _pool(x: torch.Tensor, windows: list[Windows]) -> tuple[torch.Tensor, torch.Tensor]:
    num = len(windows)
    if x.dim() not in (num + 1, num + 2) or any(n == 0 for n in x.shape[1:]):
        raise Declined("an input of another rank, or of no elements")
    if x.dtype is torch.bool:
        raise Declined("not defined for booleans")
    given, x, sizes = x, x.contiguous(), [first.shape[-1] for first, _, _ in windows]
    own = windows[0][0].ndim > 1
    y = torch.empty((*x.shape[: x.dim() - num], *sizes), dtype=x.dtype, device=x.device)
    places = torch.empty(y.shape, dtype=torch.int64, device=x.device)
    if y.numel() == 0:
        return y, places
    planes = (y.numel() // math.prod(sizes), 1) if own else (1,)
    whole: Windows = (np.zeros(planes, dtype=np.int64), np.ones(planes, dtype=np.int64), 1)
    padded = [whole] * (3 - num) + windows
    tables = [torch.from_numpy(t.astype(np.int64)).to(x.device) for first, last, _ in padded for t in (first, last)]
    most = [int(np.max(-(-(last - first) // step), initial=0)) for first, last, step in padded]
    row = tiles.of(x.device)
    block = tiles.block(y.numel(), row.flat // 8)
    launch(
        maximum_pool, (triton.cdiv(y.numel(), block),), x, y, places, *tables, y.numel(),
        *(1,) * (3 - num), *x.shape[x.dim() - num :], *(1,) * (3 - num), *sizes, *(step for _, _, step in padded),
        *most, OWN=own, COMPUTE=compute_type(x.dtype), BLOCK=block, num_warps=row.num_warps,
    )  # fmt: skip
    return _as_laid_out(y, given), _as_laid_out(places, given)


def _as_laid_out(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """`x` in channels-last memory where `like` is."""
    return x.contiguous(memory_format=torch._prims_common.suggest_memory_format(like))


def _list(value: int | Sequence[int], num: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    if len(values) not in (1, num):
        raise Declined("sizes that do not fit the dims")
    return values * num if len(values) == 1 else values


def max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of windows over the last `num` dims."""

    def entry(
        self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: int | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1, ceil_mode: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        kernel = _list(kernel_size, num)
        strides = _list(stride, num) if len(stride) else kernel
        pads, steps = _list(padding, num), _list(dilation, num)
        if min(kernel) <= 0 or min(strides) <= 0 or min(pads) < 0 or min(steps) <= 0 or self.dim() < num:
            raise Declined("a window that does not fit the input")
        each = zip(self.shape[-num:], kernel, strides, pads, steps, strict=True)
        return _pool(self, [_windows(*sizes, ceil_mode) for sizes in each])

    return entry


def adaptive_max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of nearly equal parts of the last `num` dims."""

    def entry(self: torch.Tensor, output_size: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
        if len(output_size) != num or self.dim() < num or min(output_size) <= 0:
            raise Declined("sizes that do not fit the dims")
        return _pool(self, [_parts(n, m) for n, m in zip(self.shape[-num:], output_size, strict=True)])

    return entry


def fractional_max_pool(num: int) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """(maxima, their places) of windows that random numbers [N, C, num] place, in each plane on their own."""

    def entry(
        self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[int], random_samples: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kernel, sizes = _list(kernel_size, num), _list(output_size, num)
        if self.dim() not in (num + 1, num + 2) or random_samples.dtype is not self.dtype:
            raise Declined("an input of another rank, or random numbers of another type")
        places = self.shape[-num:]
        if any(m <= 0 or k <= 0 or m + k - 1 > n for n, m, k in zip(places, sizes, kernel, strict=True)):
            raise Declined("a window that does not fit the input")
        planes = self.numel() // math.prod(places)
        if random_samples.numel() != planes * num or not self.is_floating_point():
            raise Declined("random numbers that do not fit the planes")
        samples = random_samples.reshape(planes, num)
        if not bool(((samples >= 0) & (samples < 1)).all()):
            raise Declined("random numbers outside [0, 1)")
        # In 2 dims the first number is that of the columns.
        order = range(num)[::-1] if num == 2 else range(num)
        each = zip(places, sizes, kernel, order, strict=True)
        return _pool(self.contiguous(), [_fractional(n, m, k, samples[:, i : i + 1]) for n, m, k, i in each])

    return entry


def _fractional(n: int, m: int, kernel: int, u: torch.Tensor) -> Windows:
    """Windows for each of u[planes, 1], in the arithmetic of its type."""
    last = torch.full_like(u, n - kernel, dtype=torch.int64)
    if m > 1:
        step = torch.tensor((n - kernel) / (m - 1), dtype=u.dtype, device=u.device)
        o = torch.arange(m - 1, dtype=u.dtype, device=u.device)
        last = torch.cat([((o + u) * step).to(torch.int64) - (u * step).to(torch.int64), last], 1)
    first: np.ndarray = last.cpu().numpy()
    return first, first + kernel, 1


def fractional_max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of fractional_max_pool, as that of max_pool."""

    def entry(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], output_size: Sequence[int],
        indices: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        return _pool_gradient(grad_output, self.contiguous(), indices, num)

    return entry


def _planes(x: torch.Tensor, num: int) -> torch.Tensor:
    return x.contiguous().view(-1, math.prod(x.shape[x.dim() - num :]))


def _by_place(values: torch.Tensor, places: torch.Tensor, out: torch.Tensor, num: int, add: bool) -> torch.Tensor:
    """Each value to its place in its plane of `out`."""
    if values.shape != places.shape or places.dtype is not torch.int64 or out.dim() not in (num + 1, num + 2):
        raise Declined("values and places that do not fit")
    zero_(out, out=out)
    if values.numel():
        write = scatter.scatter_add_ if add else scatter.scatter_
        write(_planes(out, num), 1, _planes(places, num), _planes(values, num))
    return out


def max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of max_pool: each window's goes to the place of its maximum; half types are summed in float32."""

    def entry(
        grad_output: torch.Tensor, self: torch.Tensor, kernel_size: Sequence[int], stride: Sequence[int],
        padding: Sequence[int], dilation: Sequence[int], ceil_mode: bool, indices: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        return _pool_gradient(grad_output, self, indices, num)

    return entry


def adaptive_max_pool_backward(num: int) -> Callable[..., torch.Tensor]:
    """The gradient of adaptive_max_pool, as that of max_pool."""

    def entry(grad_output: torch.Tensor, self: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
        return _pool_gradient(grad_output, self, indices, num)

    return entry


def _pool_gradient(grad: torch.Tensor, x: torch.Tensor, indices: torch.Tensor, num: int) -> torch.Tensor:
    if not x.is_floating_point() or grad.dtype is not x.dtype:
        raise Declined("operands of two types")
    kind = torch.float64 if x.dtype is torch.float64 else torch.float32
    dx = torch.empty(x.shape, dtype=kind, device=x.device)
    return _as_laid_out(_by_place(grad.to(kind), indices, dx, num, add=True).to(x.dtype), x)


def max_unpool(num: int) -> Callable[..., torch.Tensor]:
    """Zeros, and each element at the place that its maximum had."""

    def entry(
        self: torch.Tensor, indices: torch.Tensor, output_size: Sequence[int], *unused: Sequence[int]
    ) -> torch.Tensor:
        if len(output_size) != num or self.dim() not in (num + 1, num + 2):
            raise Declined("an input of another rank, or of no elements")
        out = torch.empty((*self.shape[: self.dim() - num], *output_size), dtype=self.dtype, device=self.device)
        limit = math.prod(output_size)
        if indices.numel() and not bool(((indices >= 0) & (indices < limit)).all()):
            raise Declined("places outside the output")
        return _as_laid_out(_by_place(self, indices, out, num, add=False), self)

    return entry
