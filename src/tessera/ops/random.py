"""Random numbers: uniform, normal, Bernoulli, exponential, geometric, Cauchy and whole numbers, permutations, dropout.

A call draws one 64-bit seed from PyTorch's generator, which moves it on as any draw does. From the seed and the place
of an element Philox 4x32-10 makes the bits, so that a tensor is the same for any number of threads and on any chip, but
for permutations: GPUs sort random keys, CPUs exchange elements in turn. The numbers have PyTorch's distributions, not
its values.

Formula:
    uniform:     from + u · (to - from), u of as many bits as the type has digits;  Bernoulli: u < p, of 32 bits
    normal:      mean + std · sqrt(-2 log u₁) · (cos 2πu₂, sin 2πu₂);  log-normal: exp of that
    exponential: -log(u) / λ;  geometric: ⌈log u / log(1 - p)⌉;  Cauchy: median + σ · tan(π(u - ½))
    whole:       low + (64 bits mod span);  permutation: n exchanges, or the order of n random keys
    dropout:     x / (1 - p) where a Bernoulli number of 1 - p is true, else 0
    rrelu:       x where it is positive, else u · x, u of [lower, upper); not in training u is their mean
Shapes: the tensor to fill, of any shape and strides; normal takes means and spreads that broadcast.
Types: float64, float32, float16 and bfloat16; Bernoulli, geometric and whole numbers also integers and (but for
geometric) bool. Logarithms are taken in float32 (float64 for float64).
Limits: whole numbers of [from, to) with to - from of up to 2^63 - 1.
Source: Salmon, Moraes, Dror and Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011 (Philox); Box and Muller,
"A Note on the Generation of Random Normal Deviates", Annals of Mathematical Statistics 29(2), 1958; Srivastava,
Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
Journal of Machine Learning Research 15, 2014; the pages of torch.Tensor.uniform_ and its like
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import functions as f
from tessera.ops import tiles
from tessera.ops.activation import leaky_relu
from tessera.ops.declined import Declined
from tessera.ops.generate import Operand, compute_type, run
from tessera.ops.index import flagged
from tessera.ops.launch import launch
from tessera.ops.move import arange
from tessera.ops.pointwise import copy_
from tessera.ops.sort import sorted_rows

# Counters of a program: a part of what decides which bits an element gets, so it is the same on every chip.
COUNTERS = 256
_DIGITS = {torch.float64: 53, torch.float32: 24, torch.float16: 11, torch.bfloat16: 8}
_LARGEST_SPAN = 2**63 - 1


@triton.jit
def fraction(bits, DIGITS: tl.constexpr):
    """A number of [0, 1) from the upper DIGITS of unsigned bits, in the type that holds them exactly."""
    if DIGITS > 24:
        result = (bits >> (64 - DIGITS)).to(tl.float64) * (1.0 / (1 << DIGITS))
    else:
        result = (bits >> (32 - DIGITS)).to(tl.float32) * (1.0 / (1 << DIGITS))
    return result


@triton.jit
def positive_fraction(bits, DIGITS: tl.constexpr):
    """A number of (0, 1], so that its logarithm is finite."""
    return (1.0 - fraction(bits, DIGITS)).to(tl.float64 if DIGITS > 24 else tl.float32)


@triton.jit
def uniform_of(first, second, low, span, DIGITS: tl.constexpr):
    return fraction(first, DIGITS) * span + low, fraction(second, DIGITS) * span + low


@triton.jit
def normal_of(first, second, mean, std, DIGITS: tl.constexpr):
    reach = tl.sqrt(-2.0 * tl.log(positive_fraction(first, DIGITS))) * std
    angle = fraction(second, DIGITS) * 6.283185307179586
    return mean + reach * tl.cos(angle), mean + reach * tl.sin(angle)


@triton.jit
def log_normal_of(first, second, mean, std, DIGITS: tl.constexpr):
    x, y = normal_of(first, second, mean, std, DIGITS)
    return tl.exp(x), tl.exp(y)


@triton.jit
def exponential_of(first, second, rate, unused, DIGITS: tl.constexpr):
    return -tl.log(positive_fraction(first, DIGITS)) / rate, -tl.log(positive_fraction(second, DIGITS)) / rate


@triton.jit
def geometric_of(first, second, log_failure, unused, DIGITS: tl.constexpr):
    x = tl.ceil(tl.log(positive_fraction(first, DIGITS)) / log_failure)
    y = tl.ceil(tl.log(positive_fraction(second, DIGITS)) / log_failure)
    return tl.maximum(x, 1.0), tl.maximum(y, 1.0)


@triton.jit
def cauchy_of(first, second, median, sigma, DIGITS: tl.constexpr):
    # tan(π(u - 1/2)) = -cot(πu), as a quotient that is finite for u > 0.
    x = positive_fraction(first, DIGITS) * 3.141592653589793
    y = positive_fraction(second, DIGITS) * 3.141592653589793
    return median - sigma * tl.cos(x) / tl.sin(x), median - sigma * tl.cos(y) / tl.sin(y)


@triton.jit
def chance_of(first, second, p, unused, DIGITS: tl.constexpr):
    if DIGITS > 24:
        return fraction(first, DIGITS) < p, fraction(second, DIGITS) < p
    else:
        return first.to(tl.float64) * (1.0 / (1 << 32)) < p, second.to(tl.float64) * (1.0 / (1 << 32)) < p


@triton.jit
def bits_of(first, second, unused, unused_too, DIGITS: tl.constexpr):
    return first.to(tl.int64), second.to(tl.int64)


@triton.jit
def exchange(out, bits, size):
    """Each element of out changes places with one of those from it on; grid: (1,)."""
    for i in range(size):
        chosen = tl.load(bits + i).to(tl.uint64)
        j = i + tl.umulhi(chosen, (size - i).to(tl.uint64)).to(tl.int64)
        mine = tl.load(out + i)
        tl.store(out + i, tl.load(out + j))
        tl.store(out + j, mine)


@triton.jit
def words(seed, counters):
    """Four words of 32 bits for each counter."""
    key = tl.load(seed)
    low = counters.to(tl.uint32)
    high = (counters >> 32).to(tl.uint32)
    return tl.philox(key.to(tl.uint64), low, high, tl.zeros_like(low), tl.zeros_like(low))


@triton.jit
def joined(high, low):
    return (high.to(tl.uint64) << 32) | low.to(tl.uint64)


@triton.jit
def draw(
    out, seed, size, a: tl.float64, b: tl.float64,
    FN: tl.constexpr, KIND: tl.constexpr, DIGITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The elements of one program: the words of its counters, side by side; KIND is the type of a and b.

    Grid: (cdiv(size, 4 · BLOCK),), and with more digits than 24 half as many elements a program.
    """
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    w, x, y, z = words(seed, first + lane)
    a = tl.cast(a, KIND)
    b = tl.cast(b, KIND)
    if DIGITS > 24:
        value, other = FN(joined(w, x), joined(y, z), a, b, DIGITS)
        at = first * 2 + lane
        tl.store(out + at, value.to(out.dtype.element_ty), mask=at < size)
        at = first * 2 + BLOCK + lane
        tl.store(out + at, other.to(out.dtype.element_ty), mask=at < size)
    else:
        value, other = FN(w, x, a, b, DIGITS)
        at = first * 4 + lane
        tl.store(out + at, value.to(out.dtype.element_ty), mask=at < size)
        at = first * 4 + BLOCK + lane
        tl.store(out + at, other.to(out.dtype.element_ty), mask=at < size)
        value, other = FN(y, z, a, b, DIGITS)
        at = first * 4 + 2 * BLOCK + lane
        tl.store(out + at, value.to(out.dtype.element_ty), mask=at < size)
        at = first * 4 + 3 * BLOCK + lane
        tl.store(out + at, other.to(out.dtype.element_ty), mask=at < size)


@triton.jit
def draw_whole(out, seed, size, low: tl.int64, span: tl.int64, BLOCK: tl.constexpr):
    """low + (64 bits mod span). Grid: (cdiv(size, 2 · BLOCK),)."""
    first = tl.program_id(0).to(tl.int64) * BLOCK
    lane = tl.arange(0, BLOCK)
    w, x, y, z = words(seed, first + lane)
    at = first * 2 + lane
    tl.store(out + at, in_span(joined(w, x), low, span).to(out.dtype.element_ty), mask=at < size)
    at = first * 2 + BLOCK + lane
    tl.store(out + at, in_span(joined(y, z), low, span).to(out.dtype.element_ty), mask=at < size)


@triton.jit
def in_span(bits, low, span):
    return (bits % span.to(tl.uint64)).to(tl.int64) + low


def seed_of(generator: Any, device: torch.device) -> torch.Tensor:
    """One whole number from PyTorch's generator, which PyTorch's own kernel draws."""
    return torch.empty((), dtype=torch.int64, device=device).random_(generator=generator)


def _contiguous(self: torch.Tensor) -> torch.Tensor:
    """`self`, or room of its shape where it has gaps."""
    compute_type(self.dtype)
    return self if self.is_contiguous() else torch.empty(self.shape, dtype=self.dtype, device=self.device)


def _written(self: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    return self if drawn is self else copy_(self, drawn, out=self)


def _draw(self: torch.Tensor, fn: Any, a: float, b: float, generator: Any, digits: int | None = None) -> torch.Tensor:
    """Fill `self` with what `fn` makes of random bits."""
    if self.numel() == 0:
        return self
    out, num_digits = _contiguous(self), digits or _DIGITS.get(self.dtype, 24)
    values = (2 if num_digits > 24 else 4) * COUNTERS
    kind = tl.float64 if num_digits > 24 or fn is chance_of else tl.float32
    launch(
        draw, (tiles.parts(out.numel(), values),), out, seed_of(generator, self.device), out.numel(), float(a),
        float(b), FN=fn, KIND=kind, DIGITS=num_digits, BLOCK=COUNTERS, num_warps=tiles.of(self.device).num_warps,
    )  # fmt: skip
    return _written(self, out)


@triton.jit
def flag_outside(x, flag, size, highest, COMPUTE: tl.constexpr, BLOCK: tl.constexpr):
    """Raise the flag where an element is not of [0, highest]; grid: (cdiv(size, BLOCK),)."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < size, other=0.0).to(COMPUTE)
    inside = (value >= 0) & (value <= highest)
    tl.store(flag, 1, mask=tl.min(inside.to(tl.int32), axis=0) == 0)


def _check_range(x: torch.Tensor, highest: float, message: str) -> None:
    """Raise RuntimeError where an element is not of [0, highest]."""
    if x.numel() == 0:
        return
    tile, dense = tiles.of(x.device), x.contiguous()
    with flagged(x.device, lambda: RuntimeError(message)) as flag:
        launch(
            flag_outside, (tiles.parts(x.numel(), tile.flat),), dense, flag, x.numel(), highest,
            COMPUTE=compute_type(x.dtype), BLOCK=tile.flat, num_warps=tile.num_warps,
        )  # fmt: skip


def _floating(self: torch.Tensor) -> None:
    if not self.is_floating_point():
        raise Declined("defined for floating types only")


def _wide_digits(self: torch.Tensor) -> int:
    """What a logarithm needs: the digits of the type that is computed in."""
    return 53 if self.dtype is torch.float64 else 24


def uniform_(self: torch.Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers of [from, to)."""
    _floating(self)
    largest = torch.finfo(self.dtype).max
    if not -largest <= from_ <= to <= largest or to - from_ > largest:
        raise Declined("limits that are not in order")
    return _draw(self, uniform_of, from_, to - from_, generator)


def normal_(self: torch.Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers of the normal distribution."""
    _floating(self)
    if not std >= 0:
        raise Declined("a spread that is negative")
    return _draw(self, normal_of, mean, std, generator, _wide_digits(self))


def normal(mean: Operand, std: Operand = 1.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers of normal distributions whose means, spreads or both are given by element."""
    tensors = [x for x in (mean, std) if isinstance(x, torch.Tensor)]
    if any(x.dtype is not tensors[0].dtype or not x.is_floating_point() for x in tensors):
        raise Declined("operands of two types")
    if isinstance(std, torch.Tensor):
        _check_range(std, math.inf, "normal expects all elements of std to be at least 0")
    elif not std >= 0:
        raise Declined("a spread that is negative")
    shape = torch.broadcast_shapes(*(x.shape for x in tensors))
    drawn = torch.empty(shape, dtype=tensors[0].dtype, device=tensors[0].device)
    normal_(drawn, generator=generator)
    return run(f.add_product, (mean, std, drawn), compute_type(drawn.dtype), drawn.dtype)


def log_normal_(self: torch.Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers whose logarithms are normal."""
    _floating(self)
    if not std > 0:
        raise Declined("a spread that is not positive")
    return _draw(self, log_normal_of, mean, std, generator, _wide_digits(self))


def exponential_(self: torch.Tensor, lambd: float = 1.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers of the exponential distribution."""
    _floating(self)
    if not 0 < lambd < math.inf:
        raise Declined("a rate that is not positive")
    return _draw(self, exponential_of, lambd, 0.0, generator, _wide_digits(self))


def geometric_(self: torch.Tensor, p: float, *, generator: Any = None) -> torch.Tensor:
    """How many trials it takes until one succeeds."""
    if not 0 < p < 1 or self.dtype is torch.bool:
        raise Declined("a probability that is not between 0 and 1")
    return _draw(self, geometric_of, math.log1p(-p), 0.0, generator, _wide_digits(self))


def cauchy_(self: torch.Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None) -> torch.Tensor:
    """Numbers of the Cauchy distribution."""
    _floating(self)
    if not sigma > 0:
        raise Declined("a spread that is not positive")
    return _draw(self, cauchy_of, median, sigma, generator, _wide_digits(self))


def bernoulli_(self: torch.Tensor, p: float = 0.5, *, generator: Any = None) -> torch.Tensor:
    """1 with probability p, else 0."""
    if not 0 <= p <= 1:
        raise Declined("a probability that is not between 0 and 1")
    return _draw(self, chance_of, p, 0.0, generator, 24)


def bernoulli_each_(self: torch.Tensor, p: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    """1 with the probability that stands at the same place in p, else 0."""
    if not p.is_floating_point():
        raise Declined("probabilities of another type")
    _check_range(p, 1.0, "bernoulli expects all probabilities to be between 0 and 1")
    u = torch.empty(self.shape, dtype=torch.float64, device=self.device)
    _draw(u, uniform_of, 0.0, 1.0, generator)
    return run(f.lt, (u, p), tl.float64, self.dtype, self)


def bernoulli(self: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    """1 with the probability that stands at the same place in self, else 0."""
    return bernoulli_each_(torch.empty_like(self), self, generator=generator)


def random_from_(self: torch.Tensor, from_: int, to: int | None, *, generator: Any = None) -> torch.Tensor:
    """Whole numbers of [from, to)."""
    if to is None or not from_ < to or to - from_ > _LARGEST_SPAN:
        raise Declined("limits that are not in order, or that span 64 bits")
    if self.is_floating_point():
        low, high = -(2 ** _DIGITS[self.dtype]), 2 ** _DIGITS[self.dtype]
    else:
        low, high = (0, 1) if self.dtype is torch.bool else (torch.iinfo(self.dtype).min, torch.iinfo(self.dtype).max)
    if from_ < low or to - 1 > high:
        raise Declined("limits that the type does not hold")
    if self.numel() == 0:
        return self
    out = _contiguous(self)
    launch(
        draw_whole, (tiles.parts(out.numel(), 2 * COUNTERS),), out, seed_of(generator, self.device), out.numel(),
        from_, to - from_, BLOCK=COUNTERS, num_warps=tiles.of(self.device).num_warps,
    )  # fmt: skip
    return _written(self, out)


def random_to_(self: torch.Tensor, to: int, *, generator: Any = None) -> torch.Tensor:
    """Whole numbers of [0, to)."""
    return random_from_(self, 0, to, generator=generator)


def random_(self: torch.Tensor, *, generator: Any = None) -> torch.Tensor:
    """Whole numbers from 0 to the largest of the type, of floating types as far as all are held."""
    if self.dtype is torch.int64:
        if self.numel() == 1:
            raise Declined("one number of 63 bits, which seeds the others")
        return random_from_(self, 0, _LARGEST_SPAN, generator=generator)
    if self.is_floating_point():
        return random_from_(self, 0, 2 ** _DIGITS[self.dtype] + 1, generator=generator)
    largest = 1 if self.dtype is torch.bool else torch.iinfo(self.dtype).max
    return random_from_(self, 0, largest + 1, generator=generator)


def randperm(n: int, *, generator: Any = None, out: torch.Tensor) -> torch.Tensor:
    """The numbers below n in random order: by exchanges one after the other on the CPU, by sorting on a GPU."""
    if n < 0 or out.dtype is torch.bool or n > 2 ** _DIGITS.get(out.dtype, 63) - 1:
        raise Declined("a permutation of this kind")
    if not out.is_floating_point() and n > torch.iinfo(out.dtype).max:
        raise Declined("a permutation of this kind")
    if out.numel() != n:
        out.resize_((n,))
    if n == 0:
        return out
    keys = torch.empty((1, n), dtype=torch.int64, device=out.device)
    _draw(keys, bits_of, 0.0, 0.0, generator, _DIGITS[torch.float64])
    if not out.is_cpu:
        return copy_(out, sorted_rows(keys, False)[1].view(n), out=out)
    order = _contiguous(out)
    arange(0, n, 1, out=order)
    launch(exchange, (1,), order, keys, n, num_warps=tiles.of(out.device).num_warps)
    return _written(out, order)


def native_dropout(input: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(x / (1 - p) where the mask is true, else 0; the mask), the mask true with probability 1 - p."""
    _floating(input)
    if not 0 <= p < 1 or train is False:
        raise Declined("a probability that is not between 0 and 1")
    mask = torch.empty_like(input, dtype=torch.bool)
    bernoulli_(mask, 1.0 - p, generator=None)
    return run(kept_and_scaled, (input, mask, 1.0 / (1.0 - p)), compute_type(input.dtype), input.dtype), mask


@triton.jit
def kept_and_scaled(x, mask, scale):
    return tl.where(mask != 0, x * scale, 0.0).to(x.dtype)


def rrelu_with_noise_into(
    self: torch.Tensor, noise: torch.Tensor, lower: float = 0.125, upper: float = 1.0 / 3.0, training: bool = False,
    generator: Any = None, *, out: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """x where it is positive, else noise · x; in training noise is drawn anew, and is 1 where x is positive."""
    _floating(self)
    if noise.dtype is not self.dtype or noise.shape != self.shape or out.dtype is not self.dtype:
        raise Declined("noise of another type or shape")
    if not training:
        return leaky_relu(self, (lower + upper) / 2, out=out)
    uniform_(noise, lower, upper, generator=generator)
    kind = compute_type(self.dtype)
    run(noise_kept, (self, noise), kind, self.dtype, noise)
    return run(f.mul, (self, noise), kind, self.dtype, out)


def rrelu_with_noise(
    self: torch.Tensor, noise: torch.Tensor, lower: float = 0.125, upper: float = 1.0 / 3.0, training: bool = False,
    generator: Any = None,
) -> torch.Tensor:  # fmt: skip
    """`rrelu_with_noise_into` a new, contiguous tensor."""
    out = torch.empty(self.shape, dtype=self.dtype, device=self.device)
    return rrelu_with_noise_into(self, noise, lower, upper, training, generator, out=out)


def rrelu_with_noise_(
    self: torch.Tensor, noise: torch.Tensor, lower: float = 0.125, upper: float = 1.0 / 3.0, training: bool = False,
    generator: Any = None,
) -> torch.Tensor:  # fmt: skip
    """`rrelu_with_noise_into` self."""
    return rrelu_with_noise_into(self, noise, lower, upper, training, generator, out=self)


@triton.jit
def noise_kept(x, noise):
    return tl.where(x <= 0, noise, 1.0).to(x.dtype)
