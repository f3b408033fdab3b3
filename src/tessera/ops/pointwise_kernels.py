"""The two kernels behind every pointwise operator, and how each of up to 4 operands reaches them.

`flat`: every operand is dense in the output's order, or a single element. `strided`: a loop nest of up to 4 dims.
An operand is a pointer read once per element (`EACH`) or, in a loop nest, once per row (`ROW`: it is broadcast along
the innermost dim), a pointer to one element (`ONE`), a number (`NUMBER`), or the bits of a float64 as an int64 (`BITS`,
because a Python float reaches a kernel as float32).
"""

from __future__ import annotations

import triton
import triton.language as tl

EACH = tl.constexpr(0)
ONE = tl.constexpr(1)
NUMBER = tl.constexpr(2)
BITS = tl.constexpr(3)
ROW = tl.constexpr(4)


@triton.jit
def scalar_operand(x, like, KIND: tl.constexpr, COMPUTE: tl.constexpr):
    """The value of an operand that is the same for every element, in the shape of the block `like`."""
    if KIND == ONE:
        value = tl.load(x)
    elif KIND == BITS:
        value = tl.cast(x, tl.int64).to(tl.float64, bitcast=True)
    else:
        value = x
    return tl.broadcast_to(tl.cast(value, COMPUTE), like.shape)


@triton.jit
def flat_operand(x, base, offsets, mask, KIND: tl.constexpr, COMPUTE: tl.constexpr):
    if KIND == EACH:
        value = tl.load(x + base + offsets, mask=mask).to(COMPUTE)
    else:
        value = scalar_operand(x, mask, KIND, COMPUTE)
    return value


@triton.jit
def flat(
    a, b, c, d, out, size,
    FN: tl.constexpr, ARITY: tl.constexpr,
    KIND_A: tl.constexpr, KIND_B: tl.constexpr, KIND_C: tl.constexpr, KIND_D: tl.constexpr,
    COMPUTE: tl.constexpr, STORE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """out[i] = FN(a[i], b[i], …) for i < size; grid: (cdiv(size, BLOCK),)."""
    base = tl.program_id(0).to(tl.int64) * BLOCK
    offsets = tl.arange(0, BLOCK)
    mask = offsets < size - base
    x = flat_operand(a, base, offsets, mask, KIND_A, COMPUTE)
    if ARITY == 1:
        y = FN(x)
    else:
        x2 = flat_operand(b, base, offsets, mask, KIND_B, COMPUTE)
        if ARITY == 2:
            y = FN(x, x2)
        else:
            x3 = flat_operand(c, base, offsets, mask, KIND_C, COMPUTE)
            if ARITY == 3:
                y = FN(x, x2, x3)
            else:
                x4 = flat_operand(d, base, offsets, mask, KIND_D, COMPUTE)
                y = FN(x, x2, x3, x4)
    value = tl.cast(y, out.dtype.element_ty)
    tl.store(out + base + offsets, value, mask=mask, cache_modifier=STORE)


@triton.jit
def place(row, size_1, size_2, stride_1, stride_2, stride_3, OUTER: tl.constexpr):
    """Offset of linear index `row` over the dims outside the innermost; dim 3 takes what is left."""
    if OUTER:
        rest = row // size_1
        offset = (row % size_1) * stride_1 + (rest % size_2) * stride_2 + (rest // size_2) * stride_3
    else:
        offset = row * stride_1
    return offset


@triton.jit
def strided_operand(
    x, rows, cols, in_rows, mask, i, j, stride_0, stride_1, stride_2, stride_3,
    KIND: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    if KIND == EACH:
        at = i.to(tl.int64) * stride_2 + j.to(tl.int64) * stride_3
        value = tl.load(x + at + (rows * stride_1)[:, None] + (cols * stride_0)[None, :], mask=mask).to(COMPUTE)
    elif KIND == ROW:
        at = i.to(tl.int64) * stride_2 + j.to(tl.int64) * stride_3
        value = tl.load(x + at + rows * stride_1, mask=in_rows).to(COMPUTE)
        value = tl.broadcast_to(value[:, None], mask.shape)
    else:
        value = scalar_operand(x, mask, KIND, COMPUTE)
    return value


@triton.jit
def strided(
    a, b, c, d, out, size_0, size_1, size_2, num_outer, steps,
    a_0, a_1, a_2, a_3, b_0, b_1, b_2, b_3, c_0, c_1, c_2, c_3, d_0, d_1, d_2, d_3, out_0, out_1, out_2, out_3,
    FN: tl.constexpr, ARITY: tl.constexpr,
    KIND_A: tl.constexpr, KIND_B: tl.constexpr, KIND_C: tl.constexpr, KIND_D: tl.constexpr,
    COMPUTE: tl.constexpr, STORE: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """The same over a loop nest: blocks of the two innermost dims, `steps` of the `num_outer` = size_2 · (the rest)
    such blocks a program.

    Strides are in elements, innermost first. Grid: (cdiv(size_0, COLS) · cdiv(size_1, ROWS) · cdiv(num_outer, steps),).
    """
    across, down = tl.cdiv(size_0, COLS), tl.cdiv(size_1, ROWS)
    rest = tl.program_id(0) // across
    cols = (tl.program_id(0) % across).to(tl.int64) * COLS + tl.arange(0, COLS)
    rows = (rest % down).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = rows < size_1
    mask = in_rows[:, None] & (cols < size_0)[None, :]
    begin = rest // down * steps
    for outer in range(begin, tl.minimum(begin + steps, num_outer)):
        i, j = outer % size_2, outer // size_2
        x = strided_operand(a, rows, cols, in_rows, mask, i, j, a_0, a_1, a_2, a_3, KIND_A, COMPUTE)
        if ARITY == 1:
            y = FN(x)
        else:
            x2 = strided_operand(b, rows, cols, in_rows, mask, i, j, b_0, b_1, b_2, b_3, KIND_B, COMPUTE)
            if ARITY == 2:
                y = FN(x, x2)
            else:
                x3 = strided_operand(c, rows, cols, in_rows, mask, i, j, c_0, c_1, c_2, c_3, KIND_C, COMPUTE)
                if ARITY == 3:
                    y = FN(x, x2, x3)
                else:
                    x4 = strided_operand(d, rows, cols, in_rows, mask, i, j, d_0, d_1, d_2, d_3, KIND_D, COMPUTE)
                    y = FN(x, x2, x3, x4)
        at = i.to(tl.int64) * out_2 + j.to(tl.int64) * out_3
        value = tl.cast(y, out.dtype.element_ty)
        tl.store(
            out + at + (rows * out_1)[:, None] + (cols * out_0)[None, :], value, mask=mask, cache_modifier=STORE
        )
