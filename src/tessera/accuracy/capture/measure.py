"""The sums that are kept of a tensor, by one Triton kernel: on the device where the tensor is, in one pass over it.

A program measures one chunk. What the kernel says is believed for a type on a device only after it was right on
numbers whose sums are known; else PyTorch's operators measure, and a warning says so once.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import triton
import triton.language as tl

from tessera.accuracy.capture.chunks import (
    BUCKETS,
    CHUNK,
    OFFSETS,
    STEP,
    WORD_BYTES,
    Chunks,
    bytes_of,
    check_of,
    chunks_of,
    signs,
    summed,
    weights,
    widened,
)

# What a row of the kernel's output holds: the sums, and behind them the power, the largest and the check.
_WIDTH = tl.constexpr(64)
_POWER, _LARGEST, _CHECK = tl.constexpr(61), tl.constexpr(62), tl.constexpr(63)
# Few arguments make a short launch.
_CHUNK, _BUCKETS = tl.constexpr(CHUNK), tl.constexpr(BUCKETS)
_STEP, _OFFSETS = tl.constexpr(STEP), tl.constexpr(OFFSETS)
# Types that Triton has for every chip.
_MEASURED = frozenset(
    {
        torch.float64, torch.float32, torch.float16, torch.bfloat16,
        torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
    }
)  # fmt: skip
_SUMMED = {torch.float32: tl.float32, torch.float64: tl.float64}
_DEVICES = frozenset({"cpu", "cuda", "xpu"})


# One compiled kernel serves every size and place of a type.
@triton.jit(do_not_specialize=["numel", "num_words"], do_not_specialize_on_alignment=["data"])
def measure_kernel(data, signs, weights, out, numel, num_words, WORDS: tl.constexpr, SUMMED: tl.constexpr):
    """Row k of `out`, float64[chunks, 64]: 61 sums, the power, the largest, and the bits of the check."""
    wide: tl.constexpr = signs.dtype.element_ty
    number = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, _WIDTH)
    row = out + number * _WIDTH

    start = data + number * _CHUNK
    sign = signs + number * _STEP % _OFFSETS
    size = tl.minimum(numel - number * _CHUNK, _CHUNK).to(tl.int32)
    total = tl.zeros([_WIDTH], SUMMED)
    power = tl.zeros([_WIDTH], wide)
    largest = tl.zeros([_WIDTH], wide)
    for first in range(0, size, _BUCKETS):
        inside = column < tl.minimum(_BUCKETS, size - first)
        x = tl.load(start + first + column, inside, 0).to(wide)
        total += (x * tl.load(sign + first + column, inside, 0)).to(SUMMED)
        power += x * x
        largest = tl.maximum(largest, tl.abs(x))
    tl.store(row + column, total.to(tl.float64), column < _BUCKETS)
    tl.store(row + _POWER, tl.sum(power).to(tl.float64))
    tl.store(row + _LARGEST, tl.max(largest).to(tl.float64))

    start_of_words = data.to(tl.pointer_type(tl.int64), bitcast=True) + number * WORDS
    count = tl.minimum(num_words - number * WORDS, WORDS).to(tl.int32)
    check = tl.zeros([_WIDTH], tl.int64)
    for first in range(0, count, _WIDTH):
        inside = column < count - first
        word = tl.load(start_of_words + first + column, inside, 0)
        check += word * tl.load(weights + first + column, inside, 0)
    tl.store(row + _CHECK, tl.sum(check).to(tl.float64, bitcast=True))


# A program's block of a matrix that is laid out anew.
_ROWS, _COLUMNS = tl.constexpr(64), tl.constexpr(128)


@triton.jit(do_not_specialize=["rows", "columns", "step"], do_not_specialize_on_alignment=["data", "out"])
def lay_out_kernel(data, out, rows, columns, step):
    """out[r, c] = data[r + c·step]: a matrix that lies in memory column by column, row by row.

    Grid: (cdiv(rows, 64), cdiv(columns, 128)).
    """
    row = (tl.program_id(0) * _ROWS + tl.arange(0, _ROWS))[:, None]
    column = (tl.program_id(1) * _COLUMNS + tl.arange(0, _COLUMNS))[None, :]
    inside = (row < rows) & (column < columns)
    x = tl.load(data + row + column.to(tl.int64) * step, inside)
    tl.store(out + row.to(tl.int64) * columns + column, x, inside)


def measured(flat: torch.Tensor) -> Chunks:
    """The sums of a contiguous tensor of one dim, on any device and of any type."""
    if flat.numel() and _has_kernels(flat):
        return _launched(flat)
    return chunks_of(flat)


def in_order(tensor: torch.Tensor) -> torch.Tensor:
    """Its numbers in logical order in memory. Matrices that lie there column by column are what `weight.t()` gives, and
    what PyTorch's own copy takes five times as long for on a CPU."""
    if tensor.dim() == 2 and tensor.is_cpu and tensor.stride(0) == 1 and tensor.stride(1) >= tensor.shape[0] > 1:
        return _laid_out(tensor) if _has_kernels(tensor) else tensor.contiguous()
    return tensor.contiguous()


def _has_kernels(tensor: torch.Tensor) -> bool:
    known = tensor.dtype in _MEASURED and tensor.device.type in _DEVICES and not triton.knobs.runtime.interpret
    return known and _believed(tensor.dtype, tensor.device)


def _laid_out(matrix: torch.Tensor) -> torch.Tensor:
    out = torch.empty(matrix.shape, dtype=matrix.dtype, device=matrix.device)
    grid = (triton.cdiv(matrix.shape[0], _ROWS.value), triton.cdiv(matrix.shape[1], _COLUMNS.value))
    shown = [x.view(torch.uint8) if x.dtype == torch.bool else x for x in (matrix, out)]
    lay_out_kernel[grid](*shown, *matrix.shape, matrix.stride(1))
    return out


def _launched(flat: torch.Tensor) -> Chunks:
    # Words of eight bytes are read where such words lie.
    flat = flat.clone() if flat.data_ptr() % WORD_BYTES else flat
    size, count, device = flat.element_size(), flat.numel(), flat.device
    tables = _tables(flat.dtype, device)
    out = torch.empty((-(-count // CHUNK), _WIDTH.value), dtype=torch.float64, device=device)
    with _current(device):
        measure_kernel[(len(out),)](
            flat.view(torch.uint8) if flat.dtype == torch.bool else flat, tables.signs, tables.weights, out, count,
            count * size // WORD_BYTES, CHUNK * size // WORD_BYTES, tables.summed,
        )  # fmt: skip
    rows = (out if out.is_cpu else out.cpu()).numpy()
    return Chunks(
        sums=rows[:, :BUCKETS],
        power=rows[:, _POWER.value].tolist(),
        largest=rows[:, _LARGEST.value].tolist(),
        check=rows.view(np.int64)[:, _CHECK.value].tolist(),
    )


class _Tables(NamedTuple):
    """What the kernel needs for a type on a device beside the numbers."""

    signs: torch.Tensor
    weights: torch.Tensor
    summed: tl.dtype


@lru_cache(maxsize=64)
def _tables(dtype: torch.dtype, device: torch.device) -> _Tables:
    known = torch.from_numpy(weights()).to(device)
    return _Tables(signs(widened(dtype), device), known, _SUMMED[summed(dtype)])


def _current(device: torch.device) -> AbstractContextManager[object]:
    """Triton launches on the current device."""
    return nullcontext() if device.type == "cpu" else torch.accelerator.device_index(device.index)


@lru_cache(maxsize=64)
def _believed(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel is there for a type on a device, and right on small whole numbers, whose sums are exact."""
    try:
        right = _is_right(dtype, device)
    except Exception as error:  # A compiler for a new chip may fail in any way; the measure does not depend on it.
        _warn(dtype, device, f"fails: {type(error).__name__}: {error}")
        return False
    if not right:
        _warn(dtype, device, "is wrong on numbers whose sums are known")
    return right


def _is_right(dtype: torch.dtype, device: torch.device) -> bool:
    low, size = (0 if dtype in (torch.bool, torch.uint8) else -1), 2 * CHUNK + 1021
    numbers = np.random.Generator(np.random.PCG64(1)).integers(low, 2, size=size, dtype=np.int8)
    host = torch.from_numpy(numbers).to(dtype)
    matrix = host[: 101 * 299].view(299, 101).t()
    if device.type == "cpu" and not torch.equal(_laid_out(matrix), matrix.contiguous()):
        return False
    got = _launched(host.to(device))
    for number, start in enumerate(range(0, size, CHUNK)):
        part = numbers[start : start + CHUNK]
        signed = part * signs(torch.float64, torch.device("cpu")).numpy()[number * STEP % OFFSETS :][: part.size]
        sums = np.bincount(np.arange(part.size) % BUCKETS, weights=signed, minlength=BUCKETS)
        exact = np.array_equal(got.sums[number], sums) and got.power[number] == np.square(part, dtype=np.int64).sum()
        if not (exact and got.largest[number] == np.abs(part).max()):
            return False
        if got.check[number] != check_of(bytes_of(host[start : start + CHUNK])):
            return False
    return True


def _warn(dtype: torch.dtype, device: torch.device, what: str) -> None:
    warnings.warn(
        f"the kernel that measures {str(dtype).removeprefix('torch.')} tensors on {device.type} {what}; "
        "PyTorch's operators measure them, which is slower",
        RuntimeWarning,
        stacklevel=2,
    )
