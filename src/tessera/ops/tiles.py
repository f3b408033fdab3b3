"""How big the blocks of each kernel are: one row of data per kind of chip.

A CPU program should do tens of microseconds of work, so its blocks are large and live in cache; a GPU's block lives in
registers and shared memory (48 KiB and up), so its blocks are small. All sizes are in elements and powers of 2.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """Block sizes of one kind of chip.

    `flat`: elements of a pointwise program · `row`: elements that a program of a row kernel (softmax, norms,
    reductions) holds · `longest_row`: rows up to this many elements are held whole, longer ones are walked in steps of
    `row` · `step`: elements that a kernel of several outputs computes at a time, so few that all values stay in
    registers · `run`: elements that a program sorts in one network · `mm`: rows, columns and depth of a matmul tile ·
    `attention` and `attention_backward`: queries and keys of an attention tile · `min_dot`: smallest side that the
    chip's dot takes · `num_warps`: for the GPU compilers · `one_walks`: one element at a time is as fast as several
    where these lie apart · `outer`: rows and columns of the largest block of float32 sums that stays in registers along
    a loop of multiply-adds, where that is faster than a dot of such numbers; 0: nowhere · `streamed_bytes`: outputs
    from this size on are written past the caches, which would not hold them until they are read; 0: none · `dot_grain`:
    in what steps of rows, columns and depth the time of a dot follows what masks leave of its tile; 0: it takes the
    whole tile · `whole_heads`: from so many heads of keys on a program computes all gradients of one.
    """

    flat: int
    step: int
    row: int
    longest_row: int
    run: int
    mm: tuple[int, int, int]
    attention: tuple[int, int]
    attention_backward: tuple[int, int]
    min_dot: int
    num_warps: int
    one_walks: bool = False
    outer: tuple[int, int] = (0, 0)
    streamed_bytes: int = 0
    dot_grain: tuple[int, int, int] = (0, 0, 0)
    whole_heads: int = 512

    def __post_init__(self) -> None:
        for size in (
            self.flat, self.step, self.row, self.longest_row, self.run, *self.mm, *self.attention,
            *self.attention_backward, self.min_dot, self.num_warps,
        ):  # fmt: skip
            assert size > 0 and size & (size - 1) == 0, f"a block size is a power of 2, not {size}"


TILES = {
    "cpu": Tiles(
        flat=8192, step=16, row=2048, longest_row=65536, run=1024, mm=(256, 128, 128), attention=(256, 256),
        attention_backward=(64, 128), min_dot=1, num_warps=1, one_walks=True, outer=(8, 32), streamed_bytes=1 << 24,
        dot_grain=(8, 16, 4), whole_heads=4,
    ),
    "cuda": Tiles(
        flat=1024, step=1024, row=2048, longest_row=8192, run=256, mm=(64, 64, 32), attention=(64, 32),
        attention_backward=(64, 32), min_dot=16, num_warps=4,
    ),
    "hip": Tiles(
        flat=1024, step=1024, row=2048, longest_row=8192, run=256, mm=(64, 64, 32), attention=(64, 32),
        attention_backward=(64, 32), min_dot=16, num_warps=4,
    ),
}


@functools.cache
def of(device: torch.device) -> Tiles:
    """The row of the chip that holds a tensor on `device`."""
    if device.type == "cuda" and torch.version.hip is not None:
        return TILES["hip"]
    if device.type not in TILES:
        known = ", ".join(sorted(TILES))
        raise ValueError(
            f"no block sizes are known for device type {device.type!r}; known are {known}: add a row to TILES"
        )
    return TILES[device.type]


def store_modifier(out: torch.Tensor, given: bool = False) -> str:
    """The cache modifier of stores to an output that the kernel does not read. One that was given, not made for the
    result, may lie in the caches already: it goes past them from twice the size on."""
    least = of(out.device).streamed_bytes << given
    return ".cs" if least and out.numel() * out.element_size() >= least else ""


def threads(device: torch.device) -> int:
    """How many threads share the programs of a launch, where these are few."""
    return torch.get_num_threads() if device.type == "cpu" else 1


# What loading one row or column of a tile costs, in products: a small tile loads more for each product.
_LOADED = 8


def matmul(device: torch.device, batch: int, m: int, n: int, k: int) -> tuple[int, int, int]:
    """Rows, columns and depth of the tiles of a product: the cheapest for the threads that there are.

    Every tile sums along the depth in the same steps, so that the choice changes no result.
    """
    return _matmul(of(device), threads(device), batch, m, n, k)


@functools.lru_cache(maxsize=4096)
def _matmul(row: Tiles, threads: int, batch: int, m: int, n: int, k: int) -> tuple[int, int, int]:
    most_m, most_n, most_k = row.mm
    grain_m, grain_n, grain_k = row.dot_grain

    def cost(tile: tuple[int, ...]) -> float:
        bm, bn = tile
        programs = parts(m, bm) * parts(n, bn) * batch
        products = covered(m, bm, grain_m) * covered(n, bn, grain_n) * batch
        # Threads that find nothing left to do wait for a whole tile.
        tall, wide = min(bm, m), min(bn, n)
        return (products + -programs % threads * tall * wide) * (1 + _LOADED / tall + _LOADED / wide)

    sizes = ([s for s in _POWERS if row.min_dot <= s <= most] for most in (most_m, most_n))
    bm, bn = min(itertools.product(*sizes), key=cost)
    return bm, bn, _depth(k, most_k, row.min_dot, grain_k)


def _depth(size: int, most: int, least: int, grain: int) -> int:
    """The depth of a tile: the whole of a short one, else that whose steps cost least, the shortest of equals: it may
    fit without masks."""
    if size <= _SHORT_DEPTH:
        return max(least, min(power_of_2(size), most))
    return cheapest(size, [s for s in _POWERS if least <= s <= most], grain)


def covered(size: int, block: int, grain: int = 0) -> int:
    """How many elements blocks compute to cover `size`: whole blocks, or up to the next multiple of `grain` if a block
    is longer."""
    step = min(block, grain or block)
    return parts(size, step) * step


def cheapest(size: int, blocks: Sequence[int], grain: int = 0) -> int:
    """Of `blocks` the one that covers `size` elements at the least cost, the first of equals: what is computed beyond
    them costs as they do, and each block costs something besides."""
    return min(blocks, key=lambda block: covered(size, block, grain) + _LOADED * parts(size, block))


_SHORT_DEPTH = 32
_POWERS = [1 << bits for bits in range(10)]


def cover(size: int, most: int, least: int) -> int:
    """A block for `size` elements of one side of a dot's tile, from `least` to `most`: the cheapest blocks over all."""
    return cheapest(size, [s for s in _POWERS if least <= s <= most and s not in _UNUSED])


# Between one and eight, sides that leave most of a vector empty.
_UNUSED = (2, 4)


def block(size: int, most: int) -> int:
    """A block for `size` elements, at most `most`: a power of 8, so that few sizes need a kernel of their own."""
    step = 1
    while step < size and step < most:
        step *= 8
    return min(step, most)


def rectangle(rows: int, cols: int, chip: Tiles, turned: bool) -> tuple[int, int]:
    """Rows and columns of a block of a loop nest, of at most `flat` elements; `turned`: an operand lies in memory
    column by column, so that the block must be as long one way as the other."""
    most = 1 << (chip.flat.bit_length() - 1) // 2 if turned else chip.flat
    # Short rows are met whole: what a block has beyond them costs as much as they do.
    wide = min(power_of_2(cols) if cols <= _SHORT_ROW else block(cols, most), most)
    return min(power_of_2(rows) if rows <= _FEW_ROWS else block(rows, chip.flat), chip.flat // wide), wide


_SHORT_ROW, _FEW_ROWS = 64, 8


def parts(size: int, block: int) -> int:
    """How many blocks cover `size` elements. Triton's `cdiv` takes some microseconds outside of kernels."""
    return -(-size // block)


def power_of_2(size: int) -> int:
    """The smallest power of 2 that is not below `size` (1 for 0)."""
    return 1 << max(size - 1, 0).bit_length()
