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

import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from tessera.accuracy.capture.chunks import (
    BUCKETS,
    CHUNK,
    OFFSETS,
    WORD_BYTES,
    Chunks,
    bytes_of,
    check_of,
    chunks_of,
    signed_sums,
    signs,
)
from tessera.accuracy.capture.measure import in_order, measured

# Larger numbers, such as masks at the end of float64, count as this: their sums must not overflow.
_LARGEST = 1e150
# Sums of squares between these are right in float32.
_SAFE_POWER = (1e-24, 1e30)
_HOST = torch.device("cpu")
# Marks are at least so large, within this factor of the largest, and so many times larger than all other numbers.
_MARK, _ALIKE, _GAP = 1e3, 8, 125
_ROUNDOFF = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


@dataclass(frozen=True, slots=True, eq=False)
class Below:
    """The numbers of a tensor that are not marks far beyond all others, such as a mask adds to what it hides.

    Beside -1e9 or the end of a type nothing else would be seen in the whole's norm. marks: how many there are; mark:
    the size of the largest. sketch, norm: as of a whole tensor, with zeros for the marks.
    """

    marks: int
    mark: float
    sketch: np.ndarray
    norm: float


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
    hold them; not a number for other types. nans, infs: how many. spread: in a run on several ranks. below: of a tensor
    with marks.
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
    below: Below | None = None

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


def value_of(tensor: torch.Tensor) -> Value:
    """Measure a tensor of any type on any device. Call it where no dispatch mode is active."""
    plain = tensor.detach()
    flat = _flat(plain)
    chunks = measured(flat)
    cleaned = [_clean(flat, chunks, number) for number in _unsafe(chunks)]
    largest = max(chunks.largest, default=0.0)
    return Value(
        dtype=str(plain.dtype).removeprefix("torch."),
        shape=tuple(plain.shape),
        stride=tuple(plain.stride()) if plain.layout == torch.strided else (),
        digest=_digest(flat, chunks),
        sketch=_sketch(chunks),
        norm=_norm(chunks),
        largest=largest if flat.dtype == torch.float64 else math.nan,
        nans=sum(nans for nans, _ in cleaned),
        infs=sum(infs for _, infs in cleaned),
        below=_below(flat, largest) if plain.is_floating_point() else None,
    )


def _below(flat: torch.Tensor, largest: float) -> Below | None:
    """What is not a mark, if there are marks and something else."""
    if largest < _MARK:
        return None
    wide = flat.cpu().double().nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-_LARGEST, _LARGEST)
    size = wide.abs()
    mark = float(size.max())
    marked = size >= mark / _ALIKE
    rest = chunks_of(wide.masked_fill(marked, 0.0))
    if not 0 < max(rest.largest) <= mark / _GAP:
        return None
    return Below(marks=int(marked.sum()), mark=mark, sketch=_sketch(rest), norm=_norm(rest))


def _flat(tensor: torch.Tensor) -> torch.Tensor:
    """All its numbers in logical order, real ones."""
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    flat = in_order(tensor.resolve_conj().resolve_neg()).flatten()
    flat = torch.view_as_real(flat).flatten() if flat.is_complex() else flat
    # A single element counts as contiguous whatever its stride is.
    return flat.as_strided(flat.shape, (1,)) if flat.numel() == 1 else flat


def _unsafe(chunks: Chunks) -> list[int]:
    """Which chunks hold numbers whose squares are not safe in float32, or what is no number."""
    low, high = _SAFE_POWER
    # Chunks of zeros are right as they are.
    rows = enumerate(zip(chunks.power, chunks.largest, strict=True))
    return [number for number, (power, largest) in rows if not (low < power < high or power == largest == 0)]


def _clean(flat: torch.Tensor, chunks: Chunks, number: int) -> tuple[int, int]:
    """Measure a chunk again, of very small or large numbers or what is no number, in float64 and without the latter.

    Returns how many are not a number and how many infinite.
    """
    wide = flat[number * CHUNK : (number + 1) * CHUNK].cpu().double()
    nans = infs = 0
    power = float(wide.square().sum())
    if not power < _LARGEST**2:
        nans, infs = int(wide.isnan().sum()), int(wide.isinf().sum())
        wide = wide.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(-_LARGEST, _LARGEST)
        power = float(torch.linalg.vector_norm(wide)) ** 2
    chunks.power[number] = power
    chunks.largest[number] = float(wide.abs().max())
    chunks.sums[number] = signed_sums(wide, number, torch.float64)
    return nans, infs


def _norm(chunks: Chunks) -> float:
    return math.hypot(*map(math.sqrt, chunks.power))


def _sketch(chunks: Chunks) -> np.ndarray:
    """The buckets of all chunks together, each chunk with a sign of its own."""
    count = len(chunks.sums)
    if count < 2:
        return chunks.sums[0].copy() if count else np.zeros(BUCKETS)
    each = signs(torch.float64, _HOST).numpy()[:OFFSETS]
    sketch: np.ndarray = (each[:count] if count <= OFFSETS else np.resize(each, count)) @ chunks.sums
    return sketch


def _digest(flat: torch.Tensor, chunks: Chunks) -> int:
    """The checksum of the chunks' checksums, the last one with that of the bytes behind the last word."""
    checks = chunks.check
    if behind := flat.nbytes % WORD_BYTES:
        checks = [*checks[:-1], checks[-1] ^ zlib.crc32(bytes_of(flat.view(torch.uint8)[-behind:].cpu()).data)]
    return checks[0] if len(checks) == 1 else check_of(np.array(checks, dtype=np.int64).view(np.uint8))


def distance(a: Value, b: Value) -> float:
    """The estimate of |a - b| in the Euclidean norm; infinite where sizes or counts of what is no number differ."""
    if a.numel != b.numel or a.nans != b.nans or a.infs != b.infs:
        return math.inf
    return _length(a.sketch - b.sketch)


def scalar_of(value: Value) -> float:
    """The number that a tensor of one element holds: its sketch is that number with the sign of the first place."""
    if value.nans or value.infs:
        return math.nan if value.nans else math.inf
    return float(value.sketch[0]) * float(signs(torch.float64, _HOST)[0])


def _length(vector: np.ndarray) -> float:
    """The Euclidean norm, also where squares would overflow, as they do for masks at the end of float64."""
    largest = float(np.abs(vector).max())
    return largest * float(np.linalg.norm(vector / largest)) if 0 < largest < math.inf else largest


def close(a: Value, b: Value, tolerance: float) -> bool:
    """Whether two values are equal up to `tolerance` times their norm (0: to the last bit of the sketch).

    Where both have the same marks, that holds of the numbers beside them as well.
    """
    if distance(a, b) > tolerance * max(a.norm, b.norm):
        return False
    if a.below is None or b.below is None or a.below.marks != b.below.marks:
        return True
    norm = max(a.below.norm, b.below.norm)
    return _length(a.below.sketch - b.below.sketch) <= tolerance * norm + max(_taken_back(a), _taken_back(b))


def _taken_back(value: Value) -> float:
    """How far numbers beside marks may be off because a mark was added to them and taken from them again.

    Nothing but zero comes back from a mark whose rounding is larger than they are.
    """
    below = value.below
    assert below is not None
    each, root = 4 * _ROUNDOFF.get(value.dtype, 0.0) * below.mark, math.sqrt(max(value.numel - below.marks, 1))
    return each * root if each * root < below.norm else 0.0
