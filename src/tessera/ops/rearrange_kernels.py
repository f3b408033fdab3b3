"""The two kernels behind flip, roll, repeat, padding and triangles: rows written stretch by stretch.

`rearrange`: along each dim the output is what was pushed in before, the input, and what was pushed in behind.
`triangle`: a row is kept on one side of a diagonal. Where a row comes from is found out once a row; its elements are
contiguous vectors.
"""

from __future__ import annotations

import triton
import triton.language as tl

# What stands where c - shift lies outside of a dim: nothing does, the other end's elements, the constant, the elements
# that lie as far inside of the end, or the end itself.
WITHIN, ROLLED, FILLED, MIRRORED, CLIPPED = (tl.constexpr(mode) for mode in range(5))


@triton.jit
def source(c, length, shift, MODE: tl.constexpr):
    """Where place c of the output comes from along a dim; under FILLED it may lie outside."""
    at = c
    if MODE != WITHIN:
        at = c - shift
    if MODE == ROLLED:
        at = tl.where(at < 0, at + length, at)
    elif MODE == MIRRORED:
        at = tl.abs(at)
        at = tl.where(at >= length, 2 * (length - 1) - at, at)
    elif MODE == CLIPPED:
        at = tl.minimum(tl.maximum(at, 0), length - 1)
    return at


@triton.jit
def stretch(out, x, size, step, SIGN: tl.constexpr, STORE: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = x[i · step · SIGN] for i < size; gives where that ends. A BLOCK of 0 goes element by element, which is
    best for a few."""
    if BLOCK == 0:
        for i in range(size.to(tl.int32)):
            tl.store(out + i, tl.load(x + i * step * SIGN))
    elif size > 0:
        lanes = tl.arange(0, BLOCK)
        inside = lanes < size.to(tl.int32)
        value = tl.load(x + lanes.to(tl.int64) * step * SIGN, mask=inside)
        tl.store(out + lanes, value, mask=inside, cache_modifier=STORE)
    return out + size


@triton.jit
def constant(out, value, size, STORE: tl.constexpr, BLOCK: tl.constexpr):
    """out[i] = value for i < size; gives where that ends. A BLOCK of 0 goes element by element."""
    if BLOCK == 0:
        for i in range(size.to(tl.int32)):
            tl.store(out + i, value)
    elif size > 0:
        lanes = tl.arange(0, BLOCK)
        block = tl.full([BLOCK], value, out.dtype.element_ty)
        tl.store(out + lanes, block, mask=lanes < size.to(tl.int32), cache_modifier=STORE)
    return out + size


@triton.jit
def number(out, fill, whole):
    """The constant in the type of the output: `fill` is that of floating types, `whole` that of others."""
    TYPE: tl.constexpr = out.dtype.element_ty
    if out.dtype.element_ty == tl.float64:
        value = fill
    elif TYPE.is_floating():
        value = tl.cast(fill, tl.float32).to(TYPE)
    else:
        value = tl.cast(whole, TYPE)
    return value


@triton.jit
def entered(here, inside, c, length, shift, step, MODE: tl.constexpr):
    """`here` moved to where place `c` of one dim comes from, and whether that is inside of the input as well."""
    at = source(c, length, shift, MODE)
    return here + at * step, inside & (at >= 0) & (at < length)


@triton.jit
def rearrange(
    x, out, fill: tl.float64, whole: tl.int64, num_rows, num_chunks, rows_each, pitch,
    size, length, shift, step, size_1, length_1, shift_1, step_1, size_2, length_2, shift_2, step_2,
    size_3, length_3, shift_3, step_3, size_4, length_4, shift_4, step_4,
    MODE: tl.constexpr, OUTER: tl.constexpr, SIGN: tl.constexpr, STORE: tl.constexpr, EDGE: tl.constexpr,
    COLS: tl.constexpr,
):  # fmt: skip
    """The output is [size_4, …, size_1, size], its rows `pitch` apart; a program writes COLS columns of rows_each rows.

    OUTER is how many of the dims outside there are; what is pushed in at the ends is written EDGE at a time.
    Grid: (cdiv(num_rows, rows_each) · num_chunks,).
    """
    program = tl.program_id(0).to(tl.int64)
    chunk = program % num_chunks
    if SIGN < 0:
        chunk = num_chunks - 1 - chunk
    begin = chunk * COLS
    end = tl.minimum(begin + COLS, size)
    low = begin
    high = end
    if MODE != WITHIN:
        low = tl.minimum(tl.maximum(begin, shift), end)
        high = tl.minimum(tl.maximum(low, shift + length), end)
    first = program // num_chunks * rows_each
    c1 = first % size_1
    rest = first // size_1
    c2 = rest % size_2
    rest = rest // size_2
    c3 = rest % size_3
    c4 = rest // size_3
    for row in range(first, tl.minimum(first + rows_each, num_rows)):
        here = x
        inside = True
        if OUTER > 0:
            here, inside = entered(here, inside, c1, length_1, shift_1, step_1, MODE)
        if OUTER > 1:
            here, inside = entered(here, inside, c2, length_2, shift_2, step_2, MODE)
        if OUTER > 2:
            here, inside = entered(here, inside, c3, length_3, shift_3, step_3, MODE)
        if OUTER > 3:
            here, inside = entered(here, inside, c4, length_4, shift_4, step_4, MODE)
        there = out + row * pitch + begin
        if MODE == FILLED:
            value = number(out, fill, whole)
            if inside:
                there = constant(there, value, low - begin, STORE, EDGE)
                there = stretch(there, here + (low - shift) * step, high - low, step, SIGN, STORE, COLS)
                constant(there, value, end - high, STORE, EDGE)
            else:
                constant(there, value, end - begin, STORE, COLS)
        else:
            if MODE == ROLLED:
                behind = here + (begin - shift + length) * step
                there = stretch(there, behind, low - begin, step, SIGN, STORE, EDGE)
            if MODE == MIRRORED:
                there = stretch(there, here + (shift - begin) * step, low - begin, step, -SIGN, STORE, EDGE)
            if MODE == CLIPPED:
                there = stretch(there, here, low - begin, step, 0, STORE, EDGE)
            there = stretch(there, here + (low - shift) * step * SIGN, high - low, step, SIGN, STORE, COLS)
            if MODE == MIRRORED:
                last = 2 * (length - 1) + shift - high
                stretch(there, here + last * step, end - high, step, -SIGN, STORE, EDGE)
            if MODE == CLIPPED:
                stretch(there, here + (length - 1) * step, end - high, step, 0, STORE, EDGE)
        if OUTER > 0:
            c1 += 1
        if OUTER > 1:
            c2 += (c1 == size_1).to(tl.int64)
            c1 = tl.where(c1 == size_1, 0, c1)
        if OUTER > 2:
            c3 += (c2 == size_2).to(tl.int64)
            c2 = tl.where(c2 == size_2, 0, c2)
        if OUTER > 3:
            c4 += (c3 == size_3).to(tl.int64)
            c3 = tl.where(c3 == size_3, 0, c3)


@triton.jit
def triangle(
    x, out, num_rows, num_chunks, rows_each, height, size, diagonal,
    UPPER: tl.constexpr, WORDS: tl.constexpr, STORE: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """x is contiguous [batch, height, size], WORDS elements a column; kept where column - row >= diagonal (UPPER) or
    <= diagonal.

    Grid: (cdiv(num_rows, rows_each) · num_chunks,).
    """
    program = tl.program_id(0).to(tl.int64)
    begin = program % num_chunks * COLS
    end = tl.minimum(begin + COLS, size)
    first = program // num_chunks * rows_each
    r = first % height
    zero = tl.cast(0, out.dtype.element_ty)
    for row in range(first, tl.minimum(first + rows_each, num_rows)):
        here = x + row * size
        there = out + row * size + begin
        edge = (r + diagonal + (0 if UPPER else 1)) * WORDS
        edge = tl.minimum(tl.maximum(edge, begin), end)
        if UPPER:
            there = constant(there, zero, edge - begin, STORE, COLS)
            stretch(there, here + edge, end - edge, 1, 1, STORE, COLS)
        else:
            there = stretch(there, here + begin, edge - begin, 1, 1, STORE, COLS)
            constant(there, zero, end - edge, STORE, COLS)
        r = tl.where(r + 1 == height, 0, r + 1)
