"""Rows summed by index: the gradient of a table by the rows that were read from it.

The places of each row of the table are linked, the first to the second and so on, so that every row of the result is
summed and written once, in the type of the result, and rows that no index names are written as zeros on the way. The
order of a sum is that of the places, for any number of threads.

Formula:
    out[t, :] = Σ_r s[r] · g[b[r], :] / (n[b[r]] · m[t])    over the places r, in order, with i[r] = t; 0 at the padding
    without b: g[r, :];  without s, n or m: 1;  m[t] is how many places of t there are
Shapes: g [bags, width], the indices i, the bags b and the scales s [N], the sizes n [bags]; out [num_rows, width].
Types: float64, float32, float16 and bfloat16, summed in float32 for the half types; i, b and n int64 or int32.
Source: the gradients of torch.nn.functional.embedding and torch.nn.functional.embedding_bag
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch
from tessera.ops.pointwise import fill_


@triton.jit
def link_places(indices, heads, nexts, num):
    """heads[t] = the first place of row t, nexts[r] = the place after r of the same row, -1 for none; one program."""
    for back in range(num):
        r = num - 1 - back
        head = heads + tl.load(indices + r).to(tl.int64)
        tl.store(nexts + r, tl.load(head))
        tl.store(head, r.to(heads.dtype.element_ty))


@triton.jit
def sum_linked(
    g, heads, nexts, bag_of, sizes, scales, out, num_rows, width, per_program, padding,
    BY_FREQUENCY: tl.constexpr, COMPUTE: tl.constexpr, STORE: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """The formula; grid: (cdiv(num_rows, per_program), cdiv(width, COLS))."""
    cols = tl.program_id(1).to(tl.int64) * COLS + tl.arange(0, COLS)
    in_cols = cols < width
    first = tl.program_id(0).to(tl.int64) * per_program
    for row in range(first, tl.minimum(first + per_program, num_rows)):
        r = tl.where(row == padding, -1, tl.load(heads + row))
        to = out + row * width + cols
        if r < 0:
            tl.store(to, tl.zeros([COLS], out.dtype.element_ty), mask=in_cols, cache_modifier=STORE)
        else:
            total = tl.zeros([COLS], COMPUTE)
            count = tl.cast(0, tl.int32)
            while r >= 0:
                bag = r.to(tl.int64) if bag_of is None else tl.load(bag_of + r).to(tl.int64)
                part = tl.load(g + bag * width + cols, mask=in_cols, other=0.0).to(COMPUTE)
                if scales is not None:
                    part *= tl.load(scales + r).to(COMPUTE)
                if sizes is not None:
                    part /= tl.maximum(tl.load(sizes + bag), 1).to(COMPUTE)
                total += part
                count += 1
                r = tl.load(nexts + r)
            if BY_FREQUENCY:
                total /= count.to(COMPUTE)
            tl.store(to, total.to(out.dtype.element_ty), mask=in_cols, cache_modifier=STORE)


def sum_rows(
    g: torch.Tensor, indices: torch.Tensor, num_rows: int, padding: int, *, by_frequency: bool = False,
    bag_of: torch.Tensor | None = None, sizes: torch.Tensor | None = None, scales: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """The formula. All indices lie in [0, num_rows); a negative padding is none."""
    width, num = g.shape[-1], indices.numel()
    out = torch.empty((num_rows, width), dtype=g.dtype, device=g.device)
    if num == 0 or out.numel() == 0:
        return fill_(out, 0, out=out)
    row = tiles.of(g.device)
    place = torch.int32 if num < 1 << 31 else torch.int64
    heads = torch.empty((num_rows,), dtype=place, device=g.device)
    nexts = torch.empty((num,), dtype=place, device=g.device)
    fill_(heads, -1, out=heads)
    launch(link_places, (1,), indices.contiguous(), heads, nexts, num, num_warps=row.num_warps)
    cols = tiles.block(width, row.row // 4)
    per_program = max(1, row.flat // cols)
    launch(
        sum_linked, (tiles.parts(num_rows, per_program), tiles.parts(width, cols)), g.contiguous(), heads, nexts,
        *(None if t is None else t.contiguous() for t in (bag_of, sizes, scales)), out, num_rows, width, per_program,
        padding, BY_FREQUENCY=by_frequency, COMPUTE=compute_type(g.dtype), STORE=tiles.store_modifier(out), COLS=cols,
        num_warps=row.num_warps,
    )  # fmt: skip
    return out
