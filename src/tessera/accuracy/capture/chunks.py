"""The sums that are kept of a tensor, chunk by chunk, as PyTorch's operators and numpy compute them.

A chunk is read from memory once and widened alone. `measure.py` computes the same with one kernel.

    sums[b]  = Σ s_i x_i over i with i mod 61 = b,   s: random signs, from place k · 521 mod 32693 on for chunk k
    power    = Σ x_i²
    largest  = max |x_i|
    check    = Σ w_j a_j  modulo 2⁶⁴,   a: the chunk's words of eight bytes, w: odd random numbers
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

# A prime: the columns of no usual tensor line up with it, so that a fault in one column meets all buckets.
BUCKETS = 61
_SEED = 20260101
# Elements of a chunk: they stay in a core's cache from one pass to the next, and are so few that PyTorch does not wake
# its other threads, which costs more than they help. The bytes of a chunk are whole words in every type.
CHUNK = 536 * BUCKETS
# Chunk k takes its signs from this many times k on, modulo a prime below the chunk's size, so that no two chunks near
# each other have the same signs in the same buckets.
STEP, OFFSETS = 521, 32693
WORD_BYTES = 8


@dataclass(frozen=True, slots=True)
class Chunks:
    """What is measured of n chunks: sums float64[n, 61], and a power, a largest and a check of each.

    Lists, for most tensors are one chunk, and numpy takes longer to begin than their few numbers take.
    """

    sums: np.ndarray
    power: list[float]
    largest: list[float]
    check: list[int]


def widened(dtype: torch.dtype) -> torch.dtype:
    """The type that sums begin in: float32 holds all numbers of shorter types; whole ones may need more."""
    return torch.float32 if dtype.is_floating_point and dtype != torch.float64 else torch.float64


def summed(dtype: torch.dtype) -> torch.dtype:
    """The type of the sums: float32's rounding is far below that of shorter types, but would drown that of float32."""
    return torch.float64 if dtype == torch.float32 else widened(dtype)


@lru_cache(maxsize=8)
def signs(dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Random signs, as many as the last offset and a chunk need.

    Not drawn by PyTorch: while a candidate's kernels are in the place of PyTorch's, they would be drawn by those.
    """
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(2, size=OFFSETS + CHUNK, dtype=np.int8)
    return torch.from_numpy(drawn * 2 - 1).to(device, dtype)


@lru_cache(maxsize=1)
def weights() -> np.ndarray:
    """Odd random numbers of 64 bits: a sum of words weighed with them changes whenever one word does."""
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(1 << 63, size=CHUNK, dtype=np.int64)
    return drawn | 1


def chunks_of(flat: torch.Tensor) -> Chunks:
    """The sums of a contiguous tensor of one dim. It is brought to the host."""
    host = flat.cpu()
    rows = [_chunk(host[start : start + CHUNK], number) for number, start in enumerate(range(0, host.numel(), CHUNK))]
    return Chunks(
        sums=np.array([row[0] for row in rows]).reshape(-1, BUCKETS),
        power=[row[1] for row in rows],
        largest=[row[2] for row in rows],
        check=[row[3] for row in rows],
    )


def _chunk(chunk: torch.Tensor, number: int) -> tuple[np.ndarray, float, float, int]:
    wide = chunk.to(widened(chunk.dtype))
    # Sums of products, not dot products: libraries of linear algebra wake their threads for those, however small.
    power = float(wide.square().sum())
    low, high = torch.aminmax(wide)
    largest = max(-float(low), float(high))
    return signed_sums(wide, number, summed(chunk.dtype)), power, largest, check_of(bytes_of(chunk))


def signed_sums(wide: torch.Tensor, number: int, dtype: torch.dtype) -> np.ndarray:
    """The buckets of a widened chunk, summed in a type, with the signs of the chunk of that number."""
    signed = wide * signs(wide.dtype, wide.device)[number * STEP % OFFSETS :][: wide.numel()]
    left = signed.numel() % BUCKETS
    total = signed[: signed.numel() - left].view(-1, BUCKETS).sum(0, dtype=dtype).double()
    if left:
        total[:left] += signed[signed.numel() - left :]
    return total.numpy()


def bytes_of(flat: torch.Tensor) -> np.ndarray:
    """The bytes of a contiguous tensor on the host, while it lives. `numpy()` would forbid its owner to free it."""
    if not flat.numel():
        return np.empty(0, np.uint8)
    memory = memoryview((ctypes.c_uint8 * flat.nbytes).from_address(flat.data_ptr()))
    return np.frombuffer(memory, dtype=np.uint8)


def check_of(data: np.ndarray) -> int:
    """The sum of the whole words of eight bytes, each weighed by its place, modulo 2⁶⁴."""
    words = data[: data.size - data.size % WORD_BYTES].view(np.int64)
    known = weights()
    return int(np.dot(words, np.resize(known, words.size) if words.size > CHUNK else known[: words.size]))
