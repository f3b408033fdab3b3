"""The kernels of convolutions: copies that make places neighbours, products of weights and places, sums over places.

What `table` holds, and what the sizes and steps mean, `convolution.py` and `convolution_plan.py` say.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Products that are summed one after the other before their sum is added to others, which keeps rounding errors small.
CHAIN = tl.constexpr(64)


@triton.jit
def clear(to, size, BE: tl.constexpr):
    """Zeros in the first `size` elements at `to`."""
    for start in range(0, size, BE):
        cols = start + tl.arange(0, BE)
        tl.store(to + cols, 0.0, mask=cols < size)


@triton.jit
def spread(
    x, image, step, lines, channels, n0, n1, n2, r0, r1, r2, q0, q1, q2, s0, s1, p0, p1, p2, x_n, x_c, x_0, x_1, x_2,
    s2: tl.constexpr, R: tl.constexpr, BW: tl.constexpr, BE: tl.constexpr,
):  # fmt: skip
    """image[n, c, r, q] = x[n, c, q · s + r - p], 0 outside; R of the lines of q2 of one (n, c, r) a program.

    step: from channel to channel of the image.
    grid: (cdiv(lines, R), N · C · r0 · r1 · r2).
    """
    plane = tl.program_id(1)
    begin = plane % r2 - p2
    begin_1 = (plane // r2) % r1 - p1
    begin_0 = (plane // r2 // r1) % r0 - p0
    channel = (plane // r2 // r1 // r0).to(tl.int64)
    image_at = image + channel * step + (plane % (r0 * r1 * r2)).to(tl.int64) * lines * q2
    # The columns [first, last) are inside of x.
    first = tl.minimum(tl.cdiv(tl.maximum(-begin, 0), s2), q2)
    last = tl.maximum(tl.minimum(tl.cdiv(tl.maximum(n2 - begin, 0), s2), q2), first)
    x_at = x + (channel // channels) * x_n + (channel % channels) * x_c + (first * s2 + begin).to(tl.int64) * x_2
    for line in range(tl.program_id(0) * R, tl.minimum((tl.program_id(0) + 1) * R, lines)):
        i0 = (line // q1) * s0 + begin_0
        i1 = (line % q1) * s1 + begin_1
        to = image_at + tl.cast(line, tl.int64) * q2
        if (i0 >= 0) & (i0 < n0) & (i1 >= 0) & (i1 < n1):
            clear(to, first, BE)
            for start in range(0, last - first, BW):
                cols = start + tl.arange(0, BW)
                within = cols < last - first
                value = tl.load(
                    x_at + i0.to(tl.int64) * x_0 + i1.to(tl.int64) * x_1 + cols * s2 * x_2, mask=within, other=0.0
                )
                tl.store(to + first + cols, value, mask=within)
            clear(to + last, q2 - last, BE)
        else:
            clear(to, q2, BE)


@triton.jit
def begins(line, m0, m1, step_n, step_0, step_1):
    """Where lines of places over [N, m0, m1] begin."""
    at = (line // (m0 * m1)).to(tl.int64) * step_n
    return at + ((line // m1) % m0).to(tl.int64) * step_0 + (line % m1).to(tl.int64) * step_1


@triton.jit
def upright(x, beside):
    """`x` as a column that stands before the dimensions of `beside`."""
    return x[:, None] if len(beside.shape) == 1 else x[:, None, None]


@triton.jit
def product(
    x, w, table, bias, y, outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, y_n, y_c, y_0, y_1, y_2,
    X_2: tl.constexpr, ACC: tl.constexpr, BM: tl.constexpr, R: tl.constexpr, BW: tl.constexpr, BK: tl.constexpr,
    STORE: tl.constexpr,
):  # fmt: skip
    """[BM outputs, R lines of BW places] of one group a program; w is [groups, outputs, depth], contiguous.

    grid: (cdiv(lines, R) · cdiv(m2, BW), cdiv(outputs, BM), groups).
    """
    tiles_w = tl.cdiv(m2, BW)
    group = tl.program_id(2).to(tl.int64)
    line = (tl.program_id(0) // tiles_w) * R + tl.arange(0, R)
    cols = (tl.program_id(0) % tiles_w) * BW + tl.arange(0, BW)
    out = tl.program_id(1) * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    from_x, to_y = begins(line, m0, m1, x_n, x_0, x_1), begins(line, m0, m1, y_n, y_0, y_1)
    across = cols.to(tl.int64) * y_2
    # One line is a matrix as it is, of which a dot computes the columns that are inside.
    if R == 1:
        inside = cols < m2
        places, to = from_x + cols * X_2, to_y + across
    else:
        inside = (line < lines)[:, None] & (cols < m2)[None, :]
        places, to = from_x[:, None] + (cols * X_2)[None, :], to_y[:, None] + across[None, :]
    w_at = w + (group * outputs + out)[:, None] * depth
    acc = tl.zeros([BM, R * BW], ACC)
    for start in range(0, depth, BK):
        in_depth = k < depth - start
        found = tl.load(table + start + k, mask=in_depth, other=0)
        a = tl.load(w_at + (start + k)[None, :], mask=(out < outputs)[:, None] & in_depth[None, :], other=0.0)
        at = upright(found, places) + places[None]
        b = tl.load(x + group * x_g + at, mask=upright(in_depth, inside) & inside[None], other=0.0)
        acc = tl.dot(a, tl.reshape(b, [BK, R * BW]), acc, input_precision="ieee", out_dtype=ACC)
    if bias is not None:
        acc += tl.load(bias + group * outputs + out, mask=out < outputs, other=0.0).to(ACC)[:, None]
    to = y + upright((group * outputs + out) * y_c, to) + to[None]
    mask = upright(out < outputs, inside) & inside[None]
    tl.store(to, tl.reshape(acc, mask.shape).to(y.dtype.element_ty), mask=mask, cache_modifier=STORE)


@triton.jit
def outer(
    x, w, table, bias, y, outputs, depth, lines, m0, m1, m2, pitch, rows, x_g, x_n, x_0, x_1, y_n, y_c, y_0, y_1, y_2,
    y_row, X_2: tl.constexpr, ACC: tl.constexpr, BM: tl.constexpr, BW: tl.constexpr, FULL: tl.constexpr,
    STORE: tl.constexpr,
):  # fmt: skip
    """`product` where sums [BM outputs, BW places] stay in registers, all outputs of a group a program.

    A line is `rows` rows of m2 places, that begin `pitch` places apart in x and y_row apart in y; what lies between
    rows is computed like them, and not stored. FULL: a line is not shorter than BW. Its last places then are BW as
    well, some of which others compute too.
    grid: (lines · cdiv((rows - 1) · pitch + m2, BW), groups).
    """
    length = (rows - 1) * pitch + m2
    num_tiles = tl.cdiv(length, BW)
    group = tl.program_id(1).to(tl.int64)
    line, start = tl.program_id(0) // num_tiles, (tl.program_id(0) % num_tiles) * BW
    if FULL:
        start = tl.minimum(start, length - BW)
    place = start + tl.arange(0, BW)
    from_x = x + group * x_g + begins(line, m0, m1, x_n, x_0, x_1) + place * X_2
    to = y + begins(line, m0, m1, y_n, y_0, y_1)
    last_row = tl.minimum((start + BW - 1) // pitch, rows - 1)
    for first in range(0, outputs, BM):
        out = first + tl.arange(0, BM)
        from_w = w + (group * outputs + tl.minimum(out, outputs - 1)) * depth
        acc = tl.zeros([BM, BW], ACC)
        for begin in range(0, depth, CHAIN):
            total = tl.zeros([BM, BW], ACC)
            for k in range(begin, tl.minimum(begin + CHAIN, depth)):
                at = from_x + tl.load(table + k)
                b = tl.load(at) if FULL else tl.load(at, mask=place < length, other=0.0)
                a = tl.broadcast_to(tl.load(from_w + k).to(ACC)[:, None], [BM, BW])
                total = tl.fma(a, tl.broadcast_to(b.to(ACC)[None, :], [BM, BW]), total)
            acc += total
        if bias is not None:
            acc += tl.load(bias + group * outputs + out, mask=out < outputs, other=0.0).to(ACC)[:, None]
        to_outputs = to + ((group * outputs + out) * y_c)[:, None]
        for row in range(start // pitch, last_row + 1):
            cols = place - row * pitch
            inside = (out < outputs)[:, None] & ((cols >= 0) & (cols < m2))[None, :]
            y_at = to_outputs + (tl.cast(row, tl.int64) * y_row + cols.to(tl.int64) * y_2)[None, :]
            tl.store(y_at, acc.to(y.dtype.element_ty), mask=inside, cache_modifier=STORE)


@triton.jit
def windows(
    x, w, table, bias, y, outputs, num, run, places, m0, m1, m2, x_g, x_n, x_0, x_1, x_2, y_n, y_c, y_0, y_1, y_2,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """[BM places, BN outputs] of one group a program, where a window is `num` runs of `run` elements, which follow one
    another; the table tells where the runs begin, and w is [groups, outputs, num, run], contiguous.

    grid: (cdiv(outputs, BN), cdiv(places, BM), groups), so that places are read from memory once.
    """
    group = tl.program_id(2).to(tl.int64)
    place = tl.program_id(1) * BM + tl.arange(0, BM)
    out = tl.program_id(0) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    # What lies behind the last place is computed like it, and not stored.
    line = tl.minimum(place, places - 1) // m2
    column = (tl.minimum(place, places - 1) % m2).to(tl.int64)
    from_x = x + group * x_g + begins(line, m0, m1, x_n, x_0, x_1) + column * x_2
    from_w = w + (group * outputs + out) * (num * run)
    acc = tl.zeros([BM, BN], ACC)
    for number in range(num):
        begin = tl.load(table + number)
        for start in range(0, run, BK):
            in_run = k < run - start
            a = tl.load(from_x[:, None] + (begin + start + k)[None, :], mask=in_run[None, :], other=0.0)
            w_at = from_w[None, :] + (number * run + start + k)[:, None]
            b = tl.load(w_at, mask=in_run[:, None] & (out < outputs)[None, :], other=0.0)
            acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=ACC)
    if bias is not None:
        acc += tl.load(bias + group * outputs + out, mask=out < outputs, other=0.0).to(ACC)[None, :]
    to = y + begins(line, m0, m1, y_n, y_0, y_1) + column * y_2
    y_at = to[:, None] + ((group * outputs + out) * y_c)[None, :]
    tl.store(y_at, acc.to(y.dtype.element_ty), mask=(place < places)[:, None] & (out < outputs)[None, :])


@triton.jit
def outer_windows(
    x, w, table, bias, y, outputs, num, run, places, m0, m1, m2, x_g, x_n, x_0, x_1, x_2, y_n, y_c, y_0, y_1, y_2,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """`windows` where sums [BM places, BN outputs] stay in registers, STEPS times a program.

    w is [groups, num, run, outputs]; BN is not more than the outputs, the last of which may be computed twice.
    grid: (cdiv(outputs, BN), cdiv(places, BM · STEPS), groups), as of `windows`.
    """
    group = tl.program_id(2).to(tl.int64)
    out = tl.minimum(tl.program_id(0) * BN, outputs - BN) + tl.arange(0, BN)
    from_w = w + group * num * run * outputs + out
    first = tl.program_id(1) * (BM * STEPS)
    for start in range(first, tl.minimum(first + BM * STEPS, places), BM):
        place = start + tl.arange(0, BM)
        line = tl.minimum(place, places - 1) // m2
        column = (tl.minimum(place, places - 1) % m2).to(tl.int64)
        from_x = x + group * x_g + begins(line, m0, m1, x_n, x_0, x_1) + column * x_2
        acc = tl.zeros([BM, BN], ACC)
        for number in range(num):
            x_at = from_x + tl.load(table + number)
            for begin in range(0, run, CHAIN):
                total = tl.zeros([BM, BN], ACC)
                for k in range(begin, tl.minimum(begin + CHAIN, run)):
                    a = tl.broadcast_to(tl.load(x_at + k).to(ACC)[:, None], [BM, BN])
                    b = tl.load(from_w + tl.cast(number * run + k, tl.int64) * outputs).to(ACC)
                    total = tl.fma(a, tl.broadcast_to(b[None, :], [BM, BN]), total)
                acc += total
        if bias is not None:
            acc += tl.load(bias + group * outputs + out).to(ACC)[None, :]
        to = y + begins(line, m0, m1, y_n, y_0, y_1) + column * y_2
        y_at = to[:, None] + ((group * outputs + out) * y_c)[None, :]
        tl.store(y_at, acc.to(y.dtype.element_ty), mask=(place < places)[:, None])


@triton.jit
def scaled(
    x, w, table, bias, y, outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, y_n, y_c, y_0, y_1, y_2,
    X_2: tl.constexpr, ACC: tl.constexpr, R: tl.constexpr, BW: tl.constexpr, TAPS: tl.constexpr, STORE: tl.constexpr,
):  # fmt: skip
    """`product` of one channel: R lines of BW places of one output a program, TAPS a step, which divide the depth.

    grid: (cdiv(lines, R) · cdiv(m2, BW), outputs · groups).
    """
    tiles_w = tl.cdiv(m2, BW)
    out = tl.program_id(1).to(tl.int64)
    line = (tl.program_id(0) // tiles_w) * R + tl.arange(0, R)
    cols = (tl.program_id(0) % tiles_w) * BW + tl.arange(0, BW)
    inside = (line < lines)[:, None] & (cols < m2)[None, :]
    from_x = x + (out // outputs) * x_g + begins(line, m0, m1, x_n, x_0, x_1)[:, None] + (cols * X_2)[None, :]
    acc = tl.zeros([R, BW], ACC)
    for start in range(0, depth, TAPS):
        for k in tl.static_range(TAPS):
            value = tl.load(from_x + tl.load(table + start + k), mask=inside, other=0.0).to(ACC)
            acc += value * tl.load(w + out * depth + start + k).to(ACC)
    if bias is not None:
        acc += tl.load(bias + out).to(ACC)
    to = y + out * y_c + begins(line, m0, m1, y_n, y_0, y_1)[:, None] + cols.to(tl.int64)[None, :] * y_2
    tl.store(to, acc.to(y.dtype.element_ty), mask=inside, cache_modifier=STORE)


@triton.jit
def weight_gradient(
    x, g, table, parts, outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, g_n, g_c, g_0, g_1, num_tiles,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """parts[part, group, BM of depth, BN outputs] = Σ over `num_tiles` tiles of places of x ⊗ g.

    grid: (cdiv(depth, BM) · cdiv(outputs, BN), parts, groups).
    """
    tiles_n, tiles_w = tl.cdiv(outputs, BN), tl.cdiv(m2, BK)
    part, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    k = (tl.program_id(0) // tiles_n) * BM + tl.arange(0, BM)
    out = (tl.program_id(0) % tiles_n) * BN + tl.arange(0, BN)
    found = tl.load(table + k, mask=k < depth, other=0)[:, None]
    g_at = g + ((group * outputs + out) * g_c)[None, :]
    acc = tl.zeros([BM, BN], ACC)
    for tile in range(part * num_tiles, min((part + 1) * num_tiles, lines * tiles_w)):
        line, cols = tile // tiles_w, (tile % tiles_w) * BK + tl.arange(0, BK)
        x_at = x + group * x_g + begins(line, m0, m1, x_n, x_0, x_1)
        a = tl.load(x_at + (found + cols[None, :]), mask=(k < depth)[:, None] & (cols < m2)[None, :], other=0.0)
        from_g = begins(line, m0, m1, g_n, g_0, g_1) + cols
        b = tl.load(g_at + from_g[:, None], mask=(cols < m2)[:, None] & (out < outputs)[None, :], other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=ACC)
    to = parts + ((part * tl.num_programs(2) + group) * depth + k)[:, None] * outputs + out[None, :]
    tl.store(to, acc, mask=(k < depth)[:, None] & (out < outputs)[None, :])


@triton.jit
def outer_gradient(
    x, g, table, parts, outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, x_2, g_2, num_lines,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """`weight_gradient` where sums [BM of depth, BN outputs] stay in registers, of `num_lines` lines of places.

    g is in channels-last; BN is not more than the outputs, the last of which may be computed twice.
    grid: (cdiv(depth, BM) · cdiv(outputs, BN), parts, groups).
    """
    tiles_k = tl.cdiv(depth, BM)
    part, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    k = (tl.program_id(0) % tiles_k) * BM + tl.arange(0, BM)
    out = tl.minimum((tl.program_id(0) // tiles_k) * BN, outputs - BN) + tl.arange(0, BN)
    from_x = x + group * x_g + tl.load(table + tl.minimum(k, depth - 1))
    from_g = g + group * outputs + out
    acc = tl.zeros([BM, BN], ACC)
    for line in range(part * num_lines, tl.minimum((part + 1) * num_lines, lines)):
        x_at = from_x + begins(line, m0, m1, x_n, x_0, x_1)
        g_at = from_g + tl.cast(line, tl.int64) * m2 * g_2
        for begin in range(0, m2, CHAIN):
            total = tl.zeros([BM, BN], ACC)
            for column in range(begin, tl.minimum(begin + CHAIN, m2)):
                a = tl.broadcast_to(tl.load(x_at + tl.cast(column, tl.int64) * x_2).to(ACC)[:, None], [BM, BN])
                b = tl.load(g_at + tl.cast(column, tl.int64) * g_2).to(ACC)
                total = tl.fma(a, tl.broadcast_to(b[None, :], [BM, BN]), total)
            acc += total
    to = parts + ((part * tl.num_programs(2) + group) * depth + k)[:, None] * outputs + out[None, :]
    tl.store(to, acc, mask=(k < depth)[:, None])


@triton.jit
def run_gradient(
    x, g, table, parts, outputs, channels, taps, beside, lines, m0, m1, m2, x_g, x_n, x_0, x_1, x_2, g_2, num_tiles,
    ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """`weight_gradient` of x and g in channels-last: [BM outputs, BN of a run] a program, by dots. A run are the
    channels of `beside` taps, which follow one another.

    grid: (taps / beside · cdiv(channels · beside, BN) · cdiv(outputs, BM), parts, groups).
    """
    num_runs, tiles_n, tiles_w = taps // beside, tl.cdiv(channels * beside, BN), tl.cdiv(m2, BK)
    part, group = tl.program_id(1), tl.program_id(2).to(tl.int64)
    tap = tl.program_id(0) % num_runs * beside
    place = (tl.program_id(0) // num_runs % tiles_n) * BN + tl.arange(0, BN)
    out = (tl.program_id(0) // num_runs // tiles_n) * BM + tl.arange(0, BM)
    from_x = x + group * x_g + tl.load(table + tap) + place
    from_g = g + group * outputs + out
    in_run = place < channels * beside
    acc = tl.zeros([BM, BN], ACC)
    for tile in range(part * num_tiles, tl.minimum((part + 1) * num_tiles, lines * tiles_w)):
        line, cols = tile // tiles_w, (tile % tiles_w) * BK + tl.arange(0, BK)
        inside = cols < m2
        at = (tl.cast(line, tl.int64) * m2 + cols) * g_2
        a = tl.load(from_g[:, None] + at[None, :], mask=(out < outputs)[:, None] & inside[None, :], other=0.0)
        at = begins(line, m0, m1, x_n, x_0, x_1) + cols.to(tl.int64) * x_2
        b = tl.load(from_x[None, :] + at[:, None], mask=inside[:, None] & in_run[None, :], other=0.0)
        acc = tl.dot(a, b, acc, input_precision="ieee", out_dtype=ACC)
    k = (place % channels) * taps + tap + place // channels
    to = parts + ((part * tl.num_programs(2) + group) * (channels * taps) + k)[None, :] * outputs + out[:, None]
    tl.store(to, acc, mask=(out < outputs)[:, None] & in_run[None, :])


@triton.jit
def scaled_gradient(
    x, g, table, parts, outputs, depth, lines, m0, m1, m2, x_g, x_n, x_0, x_1, g_n, g_c, g_0, g_1, num_lines,
    ACC: tl.constexpr, TAPS: tl.constexpr, BW: tl.constexpr,
):  # fmt: skip
    """`weight_gradient` of one channel, for one output, by `num_lines` lines of places; TAPS, which divide the depth, a
    program. grid: (depth / TAPS, parts, outputs · groups)."""
    tap, part, out = tl.program_id(0) * TAPS, tl.program_id(1), tl.program_id(2).to(tl.int64)
    from_x, from_g = x + (out // outputs) * x_g, g + out * g_c
    # Triton's tuples have no stars.
    sums = ()
    for _ in tl.static_range(TAPS):
        sums = sums + (tl.zeros([BW], ACC),)  # type: ignore[assignment]  # noqa: RUF005
    for line in range(part * num_lines, tl.minimum((part + 1) * num_lines, lines)):
        x_at, g_at = from_x + begins(line, m0, m1, x_n, x_0, x_1), from_g + begins(line, m0, m1, g_n, g_0, g_1)
        for start in range(0, m2, BW):
            cols = start + tl.arange(0, BW)
            b = tl.load(g_at + cols, mask=cols < m2, other=0.0).to(ACC)
            following = ()
            for i in tl.static_range(TAPS):
                a = tl.load(x_at + tl.load(table + tap + i) + cols, mask=cols < m2, other=0.0).to(ACC)
                following = following + (tl.fma(a, b, sums[i]),)  # type: ignore[assignment]  # noqa: RUF005
            sums = following
    to = parts + ((part * (tl.num_programs(2) // outputs) + out // outputs) * depth + tap) * outputs + out % outputs
    for i in tl.static_range(TAPS):
        tl.store(to + i * outputs, tl.sum(sums[i], axis=0))


@triton.jit
def add_parts(parts, dw, num, outputs, depth, ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr):
    """dw[group, BM outputs, BN of depth] = Σ parts[part, group, depth, output]; grid: (outputs, depth, groups)."""
    group = tl.program_id(2).to(tl.int64)
    out = (tl.program_id(0) * BM + tl.arange(0, BM))[:, None]
    k = (tl.program_id(1) * BN + tl.arange(0, BN))[None, :]
    inside = (out < outputs) & (k < depth)
    total = tl.zeros([BM, BN], ACC)
    for part in range(num):
        at = ((part * tl.num_programs(2) + group) * depth + k) * outputs + out
        total += tl.load(parts + at, mask=inside, other=0.0)
    tl.store(dw + (group * outputs + out) * depth + k, total.to(dw.dtype.element_ty), mask=inside)
