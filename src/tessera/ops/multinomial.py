"""Places drawn with chances that are in proportion to weights, with and without replacement.

Formula:
    with replacement:    the first place where Σ x, from the left, passes u · Σ x over all, u uniform of [0, 1)
    without replacement: the places of the largest x / e, e exponential, one for each element
Shapes: weights x [n] or [rows, n]; places [num_samples] or [rows, num_samples], int64.
Types: float64, float32, float16 and bfloat16. With replacement sums are in float64; without, half types are divided in
float32.
Limits: weights that are negative or not finite, or that are all 0, raise RuntimeError.
Source: Efraimidis and Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters 97(5), 2006
(the largest x / e); the page of torch.multinomial
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.index import flagged
from tessera.ops.launch import launch
from tessera.ops.random import exponential_, fraction, joined, seed_of, words
from tessera.ops.reduce import argmax
from tessera.ops.sort import topk

# Elements whose sum is kept: a draw looks for the run among the sums, and then at the elements of that run.
RUN = 64
# Draws of a program, at most.
DRAWS = 16


@triton.jit
def sum_runs(x, upto, flag, n, num_runs, x_row, x_col, RUN: tl.constexpr, RUNS: tl.constexpr):
    """upto[row, r] is the sum of the first (r + 1) · RUN elements of a row; upto is [rows, num_runs]. Grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    total = tl.cast(0.0, tl.float64)
    good = tl.full([], 1, tl.int32)
    for first in range(0, num_runs, RUNS):
        runs = first + tl.arange(0, RUNS)
        cols = runs[:, None].to(tl.int64) * RUN + tl.arange(0, RUN)[None, :]
        value = tl.load(x + row * x_row + cols * x_col, mask=cols < n, other=0.0).to(tl.float64)
        good = tl.minimum(good, tl.min(tl.ravel((value >= 0).to(tl.int32)), axis=0))
        sums = tl.cumsum(tl.sum(value, axis=1), 0) + total
        tl.store(upto + row * num_runs + runs, sums, mask=runs < num_runs)
        total = tl.max(sums, axis=0)
    tl.store(flag, 1, mask=(good == 0) | (total <= 0) | (total == float("inf")))


@triton.jit
def draw_places(
    x, upto, places, seed, n, num_runs, num_samples, steps, x_row, x_col, RUN: tl.constexpr, DRAWS: tl.constexpr
):
    """places is [rows, num_samples]; `steps` halvings tell a run. Grid: (rows, cdiv(num_samples, DRAWS))."""
    row = tl.program_id(0).to(tl.int64)
    at = tl.program_id(1) * DRAWS + tl.arange(0, DRAWS)
    first, second, _, _ = words(seed, row * num_samples + at)
    total = tl.load(upto + row * num_runs + num_runs - 1)
    target = fraction(joined(first, second), 53) * total
    run = tl.zeros([DRAWS], tl.int32)
    for step in range(steps):
        probe = run + (1 << (steps - 1 - step))
        sums = tl.load(upto + row * num_runs + probe - 1, mask=probe <= num_runs, other=float("inf"))
        run = tl.where(sums <= target, probe, run)
    before = tl.load(upto + row * num_runs + run - 1, mask=run > 0, other=0.0)
    lane = tl.arange(0, RUN)[None, :]
    cols = run[:, None].to(tl.int64) * RUN + lane
    value = tl.load(x + row * x_row + cols * x_col, mask=cols < n, other=0.0).to(tl.float64)
    passed = (tl.cumsum(value, 1) + before[:, None] > target[:, None]) & (value > 0)
    # Where roundings let none of the run pass, its last one that has a chance is what is drawn.
    place = tl.min(tl.where(passed, lane, RUN), axis=1)
    last = tl.max(tl.where(value > 0, lane, 0), axis=1)
    place = run.to(tl.int64) * RUN + tl.minimum(place, last)
    tl.store(places + row * num_samples + at, place, mask=at < num_samples)


@triton.jit
def divide_rows(x, keys, flag, n, x_row, x_col, BLOCK: tl.constexpr):
    """keys = x / keys, [rows, n]; flags rows whose elements are no chances. Grid: (rows,)."""
    row = tl.program_id(0).to(tl.int64)
    kind = keys.dtype.element_ty
    total = tl.zeros([BLOCK], kind)
    good = tl.full([BLOCK], 1, tl.int1)
    for first in range(0, n, BLOCK):
        cols = first + tl.arange(0, BLOCK)
        value = tl.load(x + row * x_row + cols * x_col, mask=cols < n, other=0.0).to(kind)
        key = tl.load(keys + row * n + cols, mask=cols < n, other=1.0)
        good = good & (value >= 0)
        total += value
        tl.store(keys + row * n + cols, value / key, mask=cols < n)
    whole = tl.sum(total, axis=0)
    all_good = tl.min(good.to(tl.int32), axis=0)
    tl.store(flag, 1, mask=(all_good == 0) | (whole <= 0) | (whole == float("inf")))


def _no_chances() -> RuntimeError:
    return RuntimeError(
        "invalid multinomial distribution: the weights of a row are negative, infinite, NaN or all 0; "
        "give weights of at least 0 whose sum is positive and finite"
    )


def multinomial(
    self: torch.Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> torch.Tensor:
    """Places of self[n] or of each row of self[rows, n], with chances that are in proportion to the elements: int64
    [num_samples] or [rows, num_samples].

    Without replacement no place comes twice. Errors: RuntimeError for weights that are no chances.
    """
    if not self.is_floating_point() or self.dim() not in (1, 2) or self.numel() == 0 or not num_samples > 0:
        raise Declined("weights of another type or rank, or no samples")
    weights = self if self.dim() == 2 else self.view(1, -1)
    n = weights.shape[1]
    if not replacement and num_samples > n:
        raise Declined("more samples than places")
    draw = _with_replacement if replacement else _without_replacement
    places = draw(weights, num_samples, generator)
    return places if self.dim() == 2 else places.view(-1)


def _with_replacement(weights: torch.Tensor, num_samples: int, generator: Any) -> torch.Tensor:
    rows, n = weights.shape
    num_runs, tile = tiles.parts(n, RUN), tiles.of(weights.device)
    upto = torch.empty((rows, num_runs), dtype=torch.float64, device=weights.device)
    places = torch.empty((rows, num_samples), dtype=torch.int64, device=weights.device)
    with flagged(weights.device, _no_chances) as flag:
        launch(
            sum_runs, (rows,), weights, upto, flag, n, num_runs, *weights.stride(),
            RUN=RUN, RUNS=1 if tile.one_walks else 32, num_warps=tile.num_warps,
        )  # fmt: skip
        draws = tiles.block(num_samples, DRAWS)
        launch(
            draw_places, (rows, tiles.parts(num_samples, draws)), weights, upto, places,
            seed_of(generator, weights.device), n, num_runs, num_samples, num_runs.bit_length(), *weights.stride(),
            RUN=RUN, DRAWS=draws, num_warps=tile.num_warps,
        )  # fmt: skip
    return places


def _without_replacement(weights: torch.Tensor, num_samples: int, generator: Any) -> torch.Tensor:
    rows, n = weights.shape
    wide = torch.float64 if weights.dtype is torch.float64 else torch.float32
    tile = tiles.of(weights.device)
    keys = torch.empty((rows, n), dtype=wide, device=weights.device)
    exponential_(keys, generator=generator)
    with flagged(weights.device, _no_chances) as flag:
        launch(
            divide_rows, (rows,), weights, keys, flag, n, *weights.stride(),
            BLOCK=tiles.block(n, tile.row), num_warps=tile.num_warps,
        )  # fmt: skip
    return argmax(keys, 1, True) if num_samples == 1 else topk(keys, num_samples)[1]
