"""What is kept of a tensor: a few numbers from which distances between tensors of different runs can be told.

The sketch is a count sketch: element i, in logical order, is multiplied by a fixed random sign s_i and added to bucket
i mod 61. It is linear, so for two tensors x and y of one size

    |sketch(x) - sketch(y)|_2  estimates  |x - y|_2     (unbiased in the square, standard deviation sqrt(2/61) of it)

which makes 61 numbers enough to compare two runs element by element in norm, on different machines, without the
tensors. Equal tensors have equal sketches; a tensor that is permuted or shifted does not. (Charikar, Chen and
Farach-Colton, "Finding frequent items in data streams", 2002; as a norm estimate: Weinberger et al., "Feature hashing",
2009.)
"""

from __future__ import annotations

import ctypes
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch

# A prime: the columns of no usual tensor line up with it, so that a fault in one column meets all buckets.
BUCKETS = 61
_SEED = 20260101
# Elements that are measured at a time: they stay in a core's cache from one pass to the next, and so few that PyTorch
# does not wake its other threads, which costs more than they help. The bytes of a chunk are whole words in every type.
_CHUNK = 536 * BUCKETS
# Chunk k takes its signs from this many times k on, modulo a prime below the chunk's size, so that no two chunks near
# each other have the same signs in the same buckets.
_STEP, _OFFSETS = 521, 32693
# Larger numbers, such as masks at the end of float64, count as this: their sums must not overflow.
_LARGEST = 1e150
# Sums of squares between these are right in float32.
_SAFE_POWER = (1e-24, 1e30)


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """How a tensor of one rank belongs to one that lies on several.

    mesh: the ranks of a device mesh in order; mesh_shape: its axes; placements: for each axis `S0` (shard along dim 0),
    `R`, `Psum` or `Pavg`; all empty where nothing was declared. whole: the shape of the whole tensor, likewise.
    parts: the sketch of this rank's part put where it belongs in a whole tensor of zeros, so that the parts' sketches
    add up to that of the whole: under -1 as declared, under d as an equal part along dim d.
    """

    mesh: tuple[int, ...] = ()
    mesh_shape: tuple[int, ...] = ()
    placements: tuple[str, ...] = ()
    whole: tuple[int, ...] = ()
    parts: Mapping[int, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """One tensor at one moment.

    digest: a checksum of its bits in logical order, in 64 bits. sketch: float64[61] over the finite elements. norm:
    their Euclidean norm. largest: of the absolute values of a float64 tensor, which tells whether a shorter type would
    hold them; not a number for other types. nans, infs: how many. spread: in a run on several ranks.
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
    spread: Spread | None = None

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


@lru_cache(maxsize=2)
def _signs(dtype: torch.dtype) -> torch.Tensor:
    """Random signs, as many as the last offset and a chunk need.

    Not drawn by PyTorch: while a candidate's kernels are in the place of PyTorch's, they would be drawn by those.
    """
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(2, size=_OFFSETS + _CHUNK, dtype=np.int8)
    return torch.from_numpy(drawn * 2 - 1).to(dtype)


@lru_cache(maxsize=1)
def _weights() -> np.ndarray:
    """Odd random numbers of 64 bits: a sum of words weighed with them changes whenever one word does."""
    drawn = np.random.Generator(np.random.PCG64(_SEED)).integers(1 << 63, size=_CHUNK, dtype=np.int64)
    return drawn | 1


def value_of(tensor: torch.Tensor) -> Value:
    """Measure a tensor of any type on any device. Call it where no dispatch mode is active."""
    plain = tensor.detach()
    sums = _Sums(_flat(plain))
    return Value(
        dtype=str(plain.dtype).removeprefix("torch."),
        shape=tuple(plain.shape),
        stride=tuple(plain.stride()) if plain.layout == torch.strided else (),
        digest=sums.digest(),
        sketch=sums.sketch(),
        norm=sums.norm,
        largest=sums.largest,
        nans=sums.nans,
        infs=sums.infs,
    )


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """All its numbers in logical order, real ones."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat = tensor.resolve_conj().resolve_neg().contiguous().flatten().cpu()
    flat = torch.view_as_real(flat).flatten() if flat.is_complex() else flat
    # A single element counts as contiguous whatever its stride is.
    return flat.as_strided(flat.shape, (1,)) if flat.numel() == 1 else flat


class _Sums:
    """What is measured, chunk by chunk, so that a chunk is read from memory once and widened alone."""

    def __init__(self, flat: torch.Tensor) -> None:
        self.norm = 0.0
        self.largest = 0.0 if flat.dtype == torch.float64 else math.nan
        self.nans = self.infs = 0
        # Shorter types have no numbers that float32 does not hold; whole numbers may need float64.
        self._wide = torch.float32 if flat.is_floating_point() and flat.dtype != torch.float64 else torch.float64
        # The rounding of sums in float32 is far below that of shorter types, and would drown that of float32.
        self._summed = torch.float64 if flat.dtype == torch.float32 else self._wide
        self._parts: list[torch.Tensor] = []
        self._checks: list[int] = []
        # Room for one chunk: new memory for each would cost as much as the sums.
        self._room = torch.empty(min(_CHUNK, flat.numel()), dtype=self._wide)
        data = _bytes(flat)
        for start in range(0, flat.numel(), _CHUNK):
            chunk = flat[start : start + _CHUNK]
            size = flat.element_size()
            self._checks.append(_check(data[start * size : (start + chunk.numel()) * size]))
            self._add(chunk.to(self._wide))

    def _add(self, wide: torch.Tensor) -> None:
        part = self._bucketed(wide)
        # Not a dot product: libraries of linear algebra wake their threads for it, however small it is.
        norm = math.sqrt(power) if (power := float(self._room[: wide.numel()].square_().sum())) >= 0 else math.nan
        if not _SAFE_POWER[0] < power < _SAFE_POWER[1]:
            wide, norm = self._cleaned(wide.double())
            part = _buckets(wide * self._signs(torch.float64)[: wide.numel()], torch.float64)
        self.norm = math.hypot(self.norm, norm)
        if not math.isnan(self.largest):
            low, high = torch.aminmax(wide)
            self.largest = max(self.largest, -float(low), float(high))
        self._parts.append(part)

    def _cleaned(self, wide: torch.Tensor) -> tuple[torch.Tensor, float]:
        """A chunk of very small or large numbers, or what is no number, without the latter; and its norm."""
        norm = float(wide.square().sum().sqrt())
        if norm < _LARGEST:
            return wide, norm
        self.nans += int(wide.isnan().sum())
        self.infs += int(wide.isinf().sum())
        wide = wide.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-_LARGEST, _LARGEST)
        return wide, float(torch.linalg.vector_norm(wide))

    def _bucketed(self, wide: torch.Tensor) -> torch.Tensor:
        """The sums by bucket; leaves the signed numbers in the room for a chunk."""
        signed = torch.mul(wide, self._signs(self._wide)[: wide.numel()], out=self._room[: wide.numel()])
        return _buckets(signed, self._summed)

    def _signs(self, dtype: torch.dtype) -> torch.Tensor:
        return _signs(dtype)[len(self._parts) * _STEP % _OFFSETS :]

    def sketch(self) -> np.ndarray:
        """The buckets of all chunks together, each chunk with a sign of its own."""
        if len(self._parts) < 2:
            return self._parts[0].numpy() if self._parts else np.zeros(BUCKETS)
        signs = _signs(torch.float64)[torch.arange(len(self._parts)) % _OFFSETS]
        return (torch.stack(self._parts) * signs[:, None]).sum(0).numpy()

    def digest(self) -> int:
        """The checksum of the chunks' checksums."""
        checks = self._checks
        return checks[0] if len(checks) == 1 else _check(np.array(checks, dtype=np.int64).view(np.uint8))


def _bytes(flat: torch.Tensor) -> np.ndarray:
    """The bytes of a contiguous tensor, while it lives. `numpy()` would forbid its owner to resize or free it."""
    if not flat.numel():
        return np.empty(0, np.uint8)
    memory = memoryview((ctypes.c_uint8 * flat.nbytes).from_address(flat.data_ptr()))
    return np.frombuffer(memory, dtype=np.uint8)


def _buckets(signed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    left = signed.numel() % BUCKETS
    total = signed[: signed.numel() - left].view(-1, BUCKETS).sum(0, dtype=dtype).double()
    if left:
        total[:left] += signed[signed.numel() - left :]
    return total


def _check(data: np.ndarray) -> int:
    """The sum of the words of eight bytes, each weighed by its place, and a checksum of the bytes behind the last."""
    words = data[: data.size - data.size % 8].view(np.int64)
    rest = zlib.crc32(data[words.nbytes :].data) if words.nbytes < data.size else 0
    return rest ^ int(
        np.dot(words, np.resize(_weights(), words.size) if words.size > _CHUNK else _weights()[: words.size])
    )


def distance(a: Value, b: Value) -> float:
    """The estimate of |a - b| in the Euclidean norm; infinite where sizes or counts of what is no number differ."""
    if a.numel != b.numel or a.nans != b.nans or a.infs != b.infs:
        return math.inf
    return _length(a.sketch - b.sketch)


def scalar_of(value: Value) -> float:
    """The number that a tensor of one element holds: its sketch is that number with the sign of the first place."""
    if value.nans or value.infs:
        return math.nan if value.nans else math.inf
    return float(value.sketch[0]) * float(_signs(torch.float64)[0])


def _length(vector: np.ndarray) -> float:
    """The Euclidean norm, also where squares would overflow, as they do for masks at the end of float64."""
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if 0 < largest < math.inf else largest


def close(a: Value, b: Value, tolerance: float) -> bool:
    """Whether two values are equal up to `tolerance` times their norm (0: to the last bit of the sketch)."""
    return distance(a, b) <= tolerance * max(a.norm, b.norm)
