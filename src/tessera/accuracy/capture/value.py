"""What is kept of a tensor: a few numbers from which distances between tensors of different runs can be told.

The sketch is a count sketch: element i, in logical order, is multiplied by a fixed random sign s_i and added to bucket
i mod 64. It is linear, so for two tensors x and y of one size

    |sketch(x) - sketch(y)|_2  estimates  |x - y|_2     (unbiased in the square, standard deviation sqrt(2/64) of it)

which makes 64 numbers enough to compare two runs element by element in norm, on different machines, without the
tensors. Equal tensors have equal sketches; a tensor that is permuted or shifted does not. (Charikar, Chen and
Farach-Colton, "Finding frequent items in data streams", 2002; as a norm estimate: Weinberger et al., "Feature hashing",
2009.)
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

BUCKETS = 64
_SEED = 20260101
# Signs repeat after this many elements: a prime, so that no dim of a real tensor lines up with the period.
_PERIOD = 1_048_573
# Elements that are measured at a time.
_CHUNK = 1 << 20
# Larger numbers, such as masks at the end of float64, count as this: their sums must not overflow.
_LARGEST = 1e150


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor at one moment.

    digest: a checksum of its bits in logical order. sketch: float64[64] over the finite elements. norm: their Euclidean
    norm. largest, smallest: of the finite absolute values, zero not counted for `smallest`. nans, infs: how many.
    """

    dtype: str
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    digest: int
    sketch: np.ndarray
    norm: float
    largest: float
    nans: int
    infs: int

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def floating(self) -> bool:
        """Whether its type is a floating or complex one."""
        return self.dtype.startswith(("float", "bfloat", "complex"))

    @property
    def finite(self) -> bool:
        """Whether every element is a finite number."""
        return self.nans == 0 and self.infs == 0

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


@lru_cache(maxsize=1)
def _signs() -> torch.Tensor:
    """Signs of elements 0 to _PERIOD + _CHUNK - 1, so that those of any chunk lie in one piece."""
    generator = torch.Generator().manual_seed(_SEED)
    period = torch.randint(0, 2, (_PERIOD,), generator=generator, dtype=torch.int8).double().mul_(2).sub_(1)
    return torch.cat([period, period[:_CHUNK], period[: _CHUNK - _PERIOD]])


def value_of(tensor: torch.Tensor) -> Value:
    """Measure a tensor of any type on any device. Call it where no dispatch mode is active."""
    plain = tensor.detach()
    flat = _flat(plain)
    real = torch.view_as_real(flat).flatten() if flat.is_complex() else flat
    sums = _Sums()
    for start in range(0, real.numel(), _CHUNK):
        sums.add(real[start : start + _CHUNK].to(device="cpu", dtype=torch.float64), start)
    return Value(
        dtype=str(plain.dtype).removeprefix("torch."),
        shape=tuple(plain.shape),
        stride=tuple(plain.stride()) if plain.layout == torch.strided else (),
        digest=_digest(flat),
        sketch=sums.sketch.numpy(),
        norm=sums.norm,
        largest=sums.largest,
        nans=sums.nans,
        infs=sums.infs,
    )


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    return tensor.resolve_conj().resolve_neg().contiguous().flatten()


def _digest(flat: torch.Tensor) -> int:
    if flat.numel() == 0:
        return 0
    data = flat.cpu()
    data = torch.view_as_real(data) if data.is_complex() else data
    return zlib.crc32(data.contiguous().view(torch.uint8).numpy().data)


class _Sums:
    """What is measured, chunk by chunk, so that a large tensor is never there in float64 as a whole."""

    def __init__(self) -> None:
        self.sketch = torch.zeros(BUCKETS, dtype=torch.float64)
        self.norm = self.largest = 0.0
        self.nans = self.infs = 0

    def add(self, wide: torch.Tensor, start: int) -> None:
        """Add a chunk that begins at element `start`, a multiple of the number of buckets."""
        norm = float(torch.linalg.vector_norm(wide))
        if not norm < _LARGEST:
            self.nans += int(wide.isnan().sum())
            self.infs += int(wide.isinf().sum())
            wide = wide.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-_LARGEST, _LARGEST)
            norm = float(torch.linalg.vector_norm(wide))
        self.norm = math.hypot(self.norm, norm)
        self.largest = max(self.largest, float(wide.abs().max()))
        first = start % _PERIOD
        signed = wide * _signs()[first : first + wide.numel()]
        whole = wide.numel() - wide.numel() % BUCKETS
        self.sketch += signed[:whole].view(-1, BUCKETS).sum(0)
        self.sketch[: wide.numel() - whole] += signed[whole:]


def distance(a: Value, b: Value) -> float:
    """The estimate of |a - b| in the Euclidean norm; infinite where sizes or counts of what is no number differ."""
    if a.numel != b.numel or a.nans != b.nans or a.infs != b.infs:
        return math.inf
    return _length(a.sketch - b.sketch)


def _length(vector: np.ndarray) -> float:
    """The Euclidean norm, also where squares would overflow, as they do for masks at the end of float64."""
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if 0 < largest < math.inf else largest


def close(a: Value, b: Value, tolerance: float) -> bool:
    """Whether two values are equal up to `tolerance` times their norm (0: to the last bit of the sketch)."""
    return distance(a, b) <= tolerance * max(a.norm, b.norm)
