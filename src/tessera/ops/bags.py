"""Bags of rows of a table: their sum, mean or largest elements, with the gradients.

Formula:
    forward:   y[b, c] = Σ_r s[r] · w[i[r], c] over the places r of bag b, which are those from o[b] to o[b + 1]
               mean: divided by how many they are;  largest: max_r w[i[r], c]
    by table:  dw[i[r], c] = Σ_r s[r] · g[b(r), c] / n[b(r)], in the order of r
               largest: at the rows they came from
    by scales: ds[r] = Σ_c g[b(r), c] · w[i[r], c]
    rows at the padding's index do not count
Shapes: w [num, width], indices and scales [N], offsets [bags] (or [bags + 1], where the last is included); y [bags,
width].
Types: float64, float32, float16 and bfloat16 for w and the scales, int64 or int32 for indices and offsets. Sums of half
types are in float32.
Limits: no sparse gradient. An index outside the table and offsets that do not rise from 0 raise RuntimeError.
Source: the page of torch.nn.functional.embedding_bag
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.index import flagged
from tessera.ops.launch import launch
from tessera.ops.pointwise import copy_, zero_
from tessera.ops.row_sums import sum_rows

SUM, MEAN, MOST = (tl.constexpr(mode) for mode in range(3))


@triton.jit
def places_of_bag(offsets, bag, num, num_offsets):
    """The first place of a bag, the place behind its last, both inside the indices, and whether both were."""
    first = tl.load(offsets + bag).to(tl.int64)
    last = tl.load(offsets + bag + 1, mask=bag + 1 < num_offsets, other=num).to(tl.int64)
    good = (first >= 0) & (first <= last) & (last <= num) & ((bag > 0) | (first == 0))
    return tl.where(good, first, 0), tl.where(good, last, 0), good


@triton.jit
def reduce_bags(
    w, indices, offsets, scales, y, sizes, places, flag, num, num_offsets, size, width, w_row, w_col, padding,
    MODE: tl.constexpr, EVEN: tl.constexpr, COMPUTE: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """y is [bags, width]; sizes [bags] and places [bags, width] may be missing. EVEN: COLS divides the width.

    Grid: (bags · cdiv(width, COLS),), the columns of a bag one after the other, because its rows are near then.
    """
    blocks = tl.maximum(tl.cdiv(width, COLS), 1)
    bag = (tl.program_id(0) // blocks).to(tl.int64)
    cols = (tl.program_id(0) % blocks).to(tl.int64) * COLS + tl.arange(0, COLS)
    in_cols = cols < width
    first, last, good = places_of_bag(offsets, bag, num, num_offsets)
    total = tl.zeros([COLS], COMPUTE)
    place = tl.zeros([COLS], tl.int64)
    count = tl.cast(0, tl.int64)
    bad = (good == 0).to(tl.int32)
    for r in range(first, last):
        i = tl.load(indices + r).to(tl.int64)
        inside = (i >= 0) & (i < size)
        bad |= (inside == 0).to(tl.int32)
        counts = inside & (i != padding)
        if EVEN:
            row = tl.load(w + i * w_row + cols * w_col, mask=counts, other=0).to(COMPUTE)
        else:
            # One bound for both reasons to leave an element out, so that a row is read in whole vectors.
            end = tl.where(counts, width, 0)
            row = tl.load(w + i * w_row + cols * w_col, mask=cols < end, other=0).to(COMPUTE)
        if MODE == MOST:
            better = counts & ((count == 0) | (row > total))
            total = tl.where(better, row, total)
            place = tl.where(better, i, place)
        elif scales is not None:
            total += row * tl.load(scales + r).to(COMPUTE)
        else:
            total += row
        count += counts.to(tl.int64)
    if MODE == MEAN:
        total = total / tl.maximum(count, 1).to(COMPUTE)
    tl.store(y + bag * width + cols, total.to(y.dtype.element_ty), mask=in_cols)
    if sizes is not None:
        tl.store(sizes + bag, count.to(sizes.dtype.element_ty))
    if places is not None:
        tl.store(places + bag * width + cols, place.to(places.dtype.element_ty), mask=in_cols)
    tl.store(flag, bad, mask=bad != 0)


@triton.jit
def name_bags(offsets, bag_of, num, num_offsets, BLOCK: tl.constexpr):
    """bag_of[r] is the bag of place r; grid: (number of offsets,)."""
    bag = tl.program_id(0).to(tl.int64)
    first, last, _ = places_of_bag(offsets, bag, num, num_offsets)
    name = tl.zeros([BLOCK], tl.int64) + bag
    for start in range(first, last, BLOCK):
        at = start + tl.arange(0, BLOCK)
        tl.store(bag_of + at, name.to(bag_of.dtype.element_ty), mask=at < last)


@triton.jit
def add_largest(g, sizes, places, out, num_bags, width, COLS: tl.constexpr):
    """out[places[b, c], c] += g[b, c] of all bags that are not empty, in their order; grid: (cdiv(width, COLS),)."""
    cols = tl.program_id(0).to(tl.int64) * COLS + tl.arange(0, COLS)
    for bag in range(num_bags):
        mask = (cols < width) & (tl.load(sizes + bag) != 0)
        i = tl.load(places + bag * width + cols, mask=mask, other=0).to(tl.int64)
        part = tl.load(g + bag * width + cols, mask=mask, other=0.0).to(out.dtype.element_ty)
        total = tl.load(out + i * width + cols, mask=mask, other=0.0)
        tl.store(out + i * width + cols, total + part, mask=mask)


@triton.jit
def scale_gradient(
    g, w, indices, bag_of, ds, num, width, g_row, g_col, w_row, w_col, padding,
    COMPUTE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """ds[r] = Σ_c g[bag of r, c] · w[i[r], c]; grid: (cdiv(num, ROWS),)."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = rows < num
    i = tl.load(indices + rows, mask=in_rows, other=0).to(tl.int64)
    bag = tl.load(bag_of + rows, mask=in_rows, other=0).to(tl.int64)
    counts = in_rows & (i != padding)
    total = tl.zeros([ROWS], COMPUTE)
    for start in range(0, width, COLS):
        cols = start + tl.arange(0, COLS).to(tl.int64)
        mask = counts[:, None] & (cols < width)[None, :]
        left = tl.load(g + (bag * g_row)[:, None] + (cols * g_col)[None, :], mask=mask, other=0.0).to(COMPUTE)
        right = tl.load(w + (i * w_row)[:, None] + (cols * w_col)[None, :], mask=mask, other=0.0).to(COMPUTE)
        total += tl.sum(left * right, axis=1)
    tl.store(ds + rows, total.to(ds.dtype.element_ty), mask=in_rows)


def _checked(size: int, num: int, device: torch.device) -> AbstractContextManager[torch.Tensor]:
    return flagged(device, lambda: RuntimeError(
        f"bags that cannot be read: each of the {num} indices must lie in [0, {size}), the rows of the table, "
        f"and the offsets must rise from 0 to at most {num}; compare the smallest and largest of both with that"
    ))  # fmt: skip


def _whole(*tensors: torch.Tensor) -> torch.dtype:
    """The type of the indices and offsets."""
    if any(x.dtype not in (torch.int64, torch.int32) or x.dim() != 1 for x in tensors):
        raise Declined("indices or offsets that are no row of int32 or int64")
    return torch.promote_types(tensors[0].dtype, tensors[-1].dtype)


def _check_scales(scales: torch.Tensor | None, weight: torch.Tensor, indices: torch.Tensor, mode: int) -> None:
    if scales is not None and (mode != SUM.value or scales.dtype is not weight.dtype or scales.shape != indices.shape):
        raise Declined("weights of the rows that do not fit them")


def _bag_of(offsets: torch.Tensor, num: int, dtype: torch.dtype) -> torch.Tensor:
    """For each place its bag."""
    found = torch.empty((num,), dtype=dtype, device=offsets.device)
    if num and offsets.numel():
        row = tiles.of(offsets.device)
        block = tiles.block(num, row.row // 4)
        launch(
            name_bags, (offsets.numel(),), offsets.contiguous(), found, num, offsets.numel(),
            BLOCK=block, num_warps=row.num_warps,
        )  # fmt: skip
    return found


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, like: torch.Tensor) -> torch.Tensor:
    made = torch.empty(shape, dtype=dtype, device=like.device)
    return zero_(made, out=made)


def _reduced(
    weight: torch.Tensor, indices: torch.Tensor, offsets: torch.Tensor, mode: int, scales: torch.Tensor | None,
    num_bags: int, padding_idx: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """[bags, width], and of each bag how many rows counted and which row each largest element is of."""
    kind, width, num = _whole(indices, offsets), weight.shape[1], indices.numel()
    y = torch.empty((num_bags, width), dtype=weight.dtype, device=weight.device)
    sizes = torch.empty((num_bags,), dtype=kind, device=weight.device)
    places = torch.empty((num_bags, width) if mode == MOST.value else (0, 0), dtype=kind, device=weight.device)
    if num_bags == 0:
        return y, sizes, places
    row = tiles.of(weight.device)
    # Few enough columns that their sums stay in registers while the rows are read.
    cols = tiles.block(width, row.row // 16)
    with _checked(weight.shape[0], num, weight.device) as flag:
        launch(
            reduce_bags, (num_bags * max(1, tiles.parts(width, cols)),), weight, indices.contiguous(),
            offsets.contiguous(), None if scales is None else scales.contiguous(), y, sizes,
            places if mode == MOST.value else None, flag, num, offsets.numel(), weight.shape[0], width,
            *weight.stride(), padding_idx,
            MODE=mode, EVEN=width % cols == 0, COMPUTE=compute_type(weight.dtype), COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return y, sizes, places


def _bags(
    weight: torch.Tensor, indices: torch.Tensor, offsets: torch.Tensor, mode: int, scales: torch.Tensor | None,
    include_last_offset: bool, padding_idx: int, keeps_last: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    kind = _whole(indices, offsets)
    if weight.dim() != 2 or not weight.is_floating_point() or mode not in (SUM.value, MEAN.value, MOST.value):
        raise Declined("a table or a mode of another kind")
    _check_scales(scales, weight, indices, mode)
    num_bags = offsets.numel() - int(include_last_offset)
    if num_bags < 0:
        raise Declined("no offset where the last is included")
    y, sizes, places = _reduced(weight, indices, offsets, mode, scales, num_bags, padding_idx)
    # PyTorch leaves out what its gradient of plain sums finds again.
    plain = mode == SUM.value and padding_idx < 0 and weight.dtype is not torch.float64 and weight.stride(1) == 1
    bag_of = _bag_of(offsets[:num_bags], 0 if plain else indices.numel(), kind)
    if mode == SUM.value:
        shape = (offsets.numel() if keeps_last else num_bags,)
        return y, bag_of, _zeros(shape, kind, weight), _zeros(shape, kind, weight)
    if mode == MEAN.value:
        places = torch.empty_like(sizes)
        copy_(places, sizes, out=places)
    return y, bag_of, sizes, places


def embedding_bag(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of weight[num, width], indices[N] and offsets[bags]: (result [bags, width], the bag of each place [N], the sizes
    of the bags [bags], the rows of the largest elements [bags, width]).

    mode: 0 sum, 1 mean, 2 largest. Of plain sums the second is empty and the others are 0; of other sums and means the
    last is of the sizes' shape. `include_last_offset`: offsets has bags + 1 elements. Errors: RuntimeError for an index
    or an offset outside. `scale_grad_by_freq` and `sparse` matter to the gradient alone.
    """
    return _bags(weight, indices, offsets, mode, per_sample_weights, include_last_offset, padding_idx, False)


def embedding_bag_forward_only(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`embedding_bag` where no gradient follows: the zeros of sums are as many as the offsets."""
    return _bags(weight, indices, offsets, mode, per_sample_weights, include_last_offset, padding_idx, True)


def embedding_bag_dense_backward(
    grad: torch.Tensor,
    indices: torch.Tensor,
    offset2bag: torch.Tensor,
    bag_size: torch.Tensor,
    maximum_indices: torch.Tensor,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    per_sample_weights: torch.Tensor | None,
    padding_idx: int = -1,
) -> torch.Tensor:
    """The gradient [num_weights, width] by the table, given that of the result, grad[bags, width].

    The other tensors are the arguments and results of `embedding_bag`. `scale_grad_by_freq`: divided by how often an
    index stands in the indices, but for the largest.
    """
    _whole(indices, offset2bag)
    if grad.dim() != 2 or not grad.is_floating_point():
        raise Declined("a gradient of another kind")
    _check_scales(per_sample_weights, grad, indices, mode)
    if grad.shape[0] == 0:
        return _zeros((num_weights, grad.shape[1]), grad.dtype, grad)
    if mode == MOST.value:
        return _largest_gradient(grad, indices, bag_size, maximum_indices, num_weights)
    if offset2bag.numel() != indices.numel():
        raise Declined("places without a bag")
    return sum_rows(
        grad, indices, num_weights, padding_idx, by_frequency=scale_grad_by_freq, bag_of=offset2bag,
        sizes=bag_size if mode == MEAN.value else None, scales=per_sample_weights,
    )  # fmt: skip


def _largest_gradient(
    grad: torch.Tensor, indices: torch.Tensor, bag_size: torch.Tensor, maximum_indices: torch.Tensor, num_weights: int
) -> torch.Tensor:
    wide = torch.float64 if grad.dtype is torch.float64 else torch.float32
    out = _zeros((num_weights, grad.shape[1]), wide, grad)
    if out.numel() and indices.numel():
        if maximum_indices.shape != grad.shape or bag_size.shape != grad.shape[:1]:
            raise Declined("a gradient of another kind")
        row = tiles.of(out.device)
        cols = tiles.block(out.shape[1], row.row // 4)
        launch(
            add_largest, (tiles.parts(out.shape[1], cols),), grad.contiguous(), bag_size.contiguous(),
            maximum_indices.contiguous(), out, grad.shape[0], out.shape[1], COLS=cols, num_warps=row.num_warps,
        )  # fmt: skip
    return out if wide is grad.dtype else out.to(grad.dtype)


def embedding_bag_backward(
    grad: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    offset2bag: torch.Tensor,
    bag_size: torch.Tensor,
    maximum_indices: torch.Tensor,
    num_weights: int,
    scale_grad_by_freq: bool,
    mode: int,
    sparse: bool,
    per_sample_weights: torch.Tensor | None,
    padding_idx: int = -1,
) -> torch.Tensor:
    """`embedding_bag_dense_backward`, where the bags of the places may be missing (empty): offsets tell them."""
    if sparse:
        raise Declined("a sparse gradient")
    bag_of = _known_bags(indices, offsets, offset2bag)
    return embedding_bag_dense_backward(
        grad, indices, bag_of, bag_size, maximum_indices, num_weights, scale_grad_by_freq, mode, per_sample_weights,
        padding_idx,
    )  # fmt: skip


def _known_bags(indices: torch.Tensor, offsets: torch.Tensor, offset2bag: torch.Tensor) -> torch.Tensor:
    if offset2bag.numel() == indices.numel():
        return offset2bag
    return _bag_of(offsets, indices.numel(), _whole(indices, offsets))


def embedding_bag_per_sample_weights_backward(
    grad: torch.Tensor,
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    offset2bag: torch.Tensor,
    mode: int,
    padding_idx: int = -1,
) -> torch.Tensor:
    """The gradient [N] by the weights of the rows, given that of the sums, grad[bags, width]; 0 at the padding."""
    _whole(indices, offsets)
    if mode != SUM.value or grad.dtype is not weight.dtype or not grad.is_floating_point() or weight.dim() != 2:
        raise Declined("weights of the rows that do not fit them")
    ds = torch.empty(indices.shape, dtype=grad.dtype, device=grad.device)
    if ds.numel() == 0:
        return ds
    bag_of = _known_bags(indices, offsets, offset2bag)
    row = tiles.of(ds.device)
    cols = tiles.block(weight.shape[1], row.row // 4)
    rows = tiles.block(ds.numel(), max(1, row.row // cols))
    launch(
        scale_gradient, (tiles.parts(ds.numel(), rows),), grad, weight, indices.contiguous(), bag_of.contiguous(), ds,
        ds.numel(), weight.shape[1], *grad.stride(), *weight.stride(), padding_idx,
        COMPUTE=compute_type(grad.dtype), ROWS=rows, COLS=cols, num_warps=row.num_warps,
    )  # fmt: skip
    return ds
