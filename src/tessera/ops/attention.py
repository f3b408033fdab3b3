"""Scaled dot-product attention with a running softmax: the matrix of scores is never stored.

Formula:
    forward:  S = scale · Q Kᵀ + mask,  P = softmax(S),  out = P V,  logsumexp = log Σ exp(S)
    backward: P = exp(S - logsumexp),  dV = Pᵀ G,  dS = P ∘ (G Vᵀ - Σ G ∘ out),
              dQ = scale · dS K,  dK = scale · dSᵀ Q
Shapes: q [B, H, T, D], k [B, G, S, D], v [B, G, S, D] with H a multiple of G (each group of H / G query heads shares
one head of k and v); mask [B, H, T, S] with any strides, added to the scores; out like q, also in memory; logsumexp
[B, H, T]. A row whose every score is -inf gives 0 for both, as PyTorch's kernel does.
Types: float64, float32, float16 and bfloat16, the same for q, k and v. Scores, sums and logsumexp are kept in float32
(float64 for float64); P is rounded to the type of v before it is multiplied by v.
Limits: heads of up to 256 elements, no dropout, and a mask that is added (PyTorch turns a boolean one into such).
Source: Dao, "FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning", 2023,
arXiv:2307.08691; Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018, arXiv:1805.02867; Vaswani
and others, "Attention Is All You Need", 2017, arXiv:1706.03762
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.generate import compute_type
from tessera.ops.launch import launch

LONGEST_HEAD = 256
# A block of queries or keys is not cut shorter than this for more threads, or along the diagonal of causal scores.
LEAST_CUT = 64
# Elements of a block of queries, keys or values that stay in the caches.
HELD = 1 << 14


@triton.jit
def forward(
    q, k, v, mask, out, logsumexp, T, S, D, H, shared, scale: tl.float64,
    q_b, q_h, q_t, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, o_b, o_h, o_t, o_d, m_b, m_h, m_t, m_s,
    CAUSAL: tl.constexpr, COMPUTE: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """BT queries of one head a program; `shared` query heads use one head of k. Grid: (cdiv(T, BT), B · H)."""
    batch = (tl.program_id(1) // H).to(tl.int64)
    head = (tl.program_id(1) % H).to(tl.int64)
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD)
    in_t = t < T
    in_d = d < D
    q_tile = tl.load(
        q + batch * q_b + head * q_h + (t * q_t)[:, None] + (d * q_d)[None, :],
        mask=in_t[:, None] & in_d[None, :], other=0.0,
    )  # fmt: skip
    k_head = k + batch * k_b + (head // shared) * k_h
    v_head = v + batch * v_b + (head // shared) * v_h
    top = tl.full([BT], -float("inf"), COMPUTE)
    total = tl.zeros([BT], COMPUTE)
    acc = tl.zeros([BT, BD], COMPUTE)
    end = S
    if CAUSAL:
        end = tl.minimum(S, (tl.program_id(0) + 1) * BT)
    for start in range(0, end, BS):
        s = start + tl.arange(0, BS).to(tl.int64)
        in_s = s < S
        k_tile = tl.load(
            k_head + (s * k_s)[None, :] + (d * k_d)[:, None], mask=in_s[None, :] & in_d[:, None], other=0.0
        )
        scores = tl.dot(q_tile, k_tile, input_precision="ieee", out_dtype=COMPUTE) * tl.cast(scale, COMPUTE)
        if mask is not None:
            scores += tl.load(
                mask + batch * m_b + head * m_h + (t * m_t)[:, None] + (s * m_s)[None, :],
                mask=in_t[:, None] & in_s[None, :], other=0.0,
            ).to(COMPUTE)  # fmt: skip
        seen = in_s[None, :]
        if CAUSAL:
            seen = seen & (s[None, :] <= t[:, None])
        scores = tl.where(seen, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, axis=1))
        # A row that has seen only -inf has no maximum to subtract.
        base = tl.where(higher == -float("inf"), 0.0, higher)
        p = tl.exp(scores - base[:, None])
        shrink = tl.exp(top - base)
        total = total * shrink + tl.sum(p, axis=1)
        v_tile = tl.load(
            v_head + (s * v_s)[:, None] + (d * v_d)[None, :], mask=in_s[:, None] & in_d[None, :], other=0.0
        )
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * shrink[:, None], input_precision="ieee", out_dtype=COMPUTE)
        top = higher
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out + batch * o_b + head * o_h + (t * o_t)[:, None] + (d * o_d)[None, :], result.to(out.dtype.element_ty),
        mask=in_t[:, None] & in_d[None, :],
    )  # fmt: skip
    level = tl.where(total == 0.0, 0.0, top + tl.log(total))
    tl.store(logsumexp + (batch * T + t) * H + head, level, mask=in_t)


@triton.jit
def block(x, rows, cols, row_stride, col_stride, num_rows, num_cols):
    """x[rows, cols], 0 outside."""
    mask = (rows < num_rows)[:, None] & (cols < num_cols)[None, :]
    return tl.load(x + (rows * row_stride)[:, None] + (cols * col_stride)[None, :], mask=mask, other=0.0)


@triton.jit
def put(x, rows, cols, row_stride, col_stride, num_rows, num_cols, value):
    mask = (rows < num_rows)[:, None] & (cols < num_cols)[None, :]
    at = x + (rows * row_stride)[:, None] + (cols * col_stride)[None, :]
    tl.store(at, value.to(x.dtype.element_ty), mask=mask)
    return mask


@triton.jit
def seen_scores(scores, mask, t, s, m_t, m_s, T, S, CAUSAL: tl.constexpr, COMPUTE: tl.constexpr):
    """Scores plus the mask, -inf where a query does not see a key; t and s are blocks that broadcast to the scores."""
    inside = (t < T) & (s < S)
    if mask is not None:
        scores += tl.load(mask + t * m_t + s * m_s, mask=inside, other=0.0).to(COMPUTE)
    if CAUSAL:
        inside = inside & (s <= t)
    return tl.where(inside, scores, -float("inf"))


@triton.jit
def backward_query(
    g, q, k, v, mask, out, logsumexp, dq, T, S, D, H, shared, scale: tl.float64,
    g_b, g_h, g_t, g_d, q_b, q_h, q_t, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, o_b, o_h, o_t, o_d,
    dq_b, dq_h, dq_t, dq_d, l_b, l_h, l_t, m_b, m_h, m_t, m_s,
    CAUSAL: tl.constexpr, COMPUTE: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """dQ of BT queries of one head a program; grid: (cdiv(T, BT), B · H)."""
    batch = (tl.program_id(1) // H).to(tl.int64)
    head = (tl.program_id(1) % H).to(tl.int64)
    t = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)
    d = tl.arange(0, BD).to(tl.int64)
    factor = tl.cast(scale, COMPUTE)
    q_tile = block(q + batch * q_b + head * q_h, t, d, q_t, q_d, T, D)
    g_tile = block(g + batch * g_b + head * g_h, t, d, g_t, g_d, T, D)
    o_tile = block(out + batch * o_b + head * o_h, t, d, o_t, o_d, T, D)
    delta = tl.sum(g_tile.to(COMPUTE) * o_tile.to(COMPUTE), axis=1)
    level = tl.load(logsumexp + batch * l_b + head * l_h + t * l_t, mask=t < T, other=0.0)
    k_head = k + batch * k_b + (head // shared) * k_h
    v_head = v + batch * v_b + (head // shared) * v_h
    m_head = mask
    if mask is not None:
        m_head = mask + batch * m_b + head * m_h
    acc = tl.zeros([BT, BD], COMPUTE)
    end = S
    if CAUSAL:
        end = tl.minimum(S, (tl.program_id(0) + 1) * BT)
    for start in range(0, end, BS):
        s = start + tl.arange(0, BS).to(tl.int64)
        scores = tl.dot(q_tile, block(k_head, d, s, k_d, k_s, D, S), input_precision="ieee", out_dtype=COMPUTE) * factor
        scores = seen_scores(scores, m_head, t[:, None], s[None, :], m_t, m_s, T, S, CAUSAL, COMPUTE)
        p = tl.exp(scores - level[:, None])
        dp = tl.dot(g_tile, block(v_head, d, s, v_d, v_s, D, S), input_precision="ieee", out_dtype=COMPUTE)
        ds = (p * (dp - delta[:, None])).to(q_tile.dtype)
        acc = tl.dot(ds, block(k_head, s, d, k_s, k_d, S, D), acc, input_precision="ieee", out_dtype=COMPUTE)
    put(dq + batch * dq_b + head * dq_h, t, d, dq_t, dq_d, T, D, acc * factor)


@triton.jit
def first_query(key, CAUSAL: tl.constexpr, BT: tl.constexpr):
    """Where the first block of queries begins that sees the key."""
    return key // BT * BT if CAUSAL else 0


@triton.jit
def of_pair(
    k_tile, v_tile, g, q, out, logsumexp, mask, t, s, d, T, S, D, factor,
    g_t, g_d, q_t, q_d, o_t, o_d, l_t, m_t, m_s, CAUSAL: tl.constexpr, COMPUTE: tl.constexpr,
):  # fmt: skip
    """Of the queries t and the keys s of one head: Q, G, and Pᵀ and dSᵀ in their type."""
    q_tile = block(q, t, d, q_t, q_d, T, D)
    g_tile = block(g, t, d, g_t, g_d, T, D)
    o_tile = block(out, t, d, o_t, o_d, T, D)
    delta = tl.sum(g_tile.to(COMPUTE) * o_tile.to(COMPUTE), axis=1)
    level = tl.load(logsumexp + t * l_t, mask=t < T, other=0.0)
    scores = tl.dot(k_tile, block(q, d, t, q_d, q_t, D, T), input_precision="ieee", out_dtype=COMPUTE) * factor
    scores = seen_scores(scores, mask, t[None, :], s[:, None], m_t, m_s, T, S, CAUSAL, COMPUTE)
    p = tl.exp(scores - level[None, :])
    dp = tl.dot(v_tile, block(g, d, t, g_d, g_t, D, T), input_precision="ieee", out_dtype=COMPUTE)
    ds = p * (dp - delta[None, :])
    return q_tile, g_tile, p.to(g_tile.dtype), ds.to(q_tile.dtype)


@triton.jit
def backward_key_value(
    g, q, k, v, mask, out, logsumexp, dk, dv, T, S, D, G, shared, scale: tl.float64,
    g_b, g_h, g_t, g_d, q_b, q_h, q_t, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, o_b, o_h, o_t, o_d,
    dk_b, dk_h, dk_s, dk_d, dv_b, dv_h, dv_s, dv_d, l_b, l_h, l_t, m_b, m_h, m_t, m_s,
    CAUSAL: tl.constexpr, COMPUTE: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """dK and dV of BS keys of one head of k a program, over all queries that share it; grid: (cdiv(S, BS), B · G)."""
    batch = (tl.program_id(1) // G).to(tl.int64)
    group = (tl.program_id(1) % G).to(tl.int64)
    s = tl.program_id(0).to(tl.int64) * BS + tl.arange(0, BS)
    d = tl.arange(0, BD).to(tl.int64)
    factor = tl.cast(scale, COMPUTE)
    k_tile = block(k + batch * k_b + group * k_h, s, d, k_s, k_d, S, D)
    v_tile = block(v + batch * v_b + group * v_h, s, d, v_s, v_d, S, D)
    dk_acc = tl.zeros([BS, BD], COMPUTE)
    dv_acc = tl.zeros([BS, BD], COMPUTE)
    for member in range(shared):
        head = group * shared + member
        q_head = q + batch * q_b + head * q_h
        g_head = g + batch * g_b + head * g_h
        o_head = out + batch * o_b + head * o_h
        l_head = logsumexp + batch * l_b + head * l_h
        m_head = mask
        if mask is not None:
            m_head = mask + batch * m_b + head * m_h
        for start in range(first_query(tl.program_id(0) * BS, CAUSAL, BT), T, BT):
            t = start + tl.arange(0, BT).to(tl.int64)
            q_tile, g_tile, p, ds = of_pair(
                k_tile, v_tile, g_head, q_head, o_head, l_head, m_head, t, s, d, T, S, D, factor,
                g_t, g_d, q_t, q_d, o_t, o_d, l_t, m_t, m_s, CAUSAL, COMPUTE,
            )  # fmt: skip
            dv_acc = tl.dot(p, g_tile, dv_acc, input_precision="ieee", out_dtype=COMPUTE)
            dk_acc = tl.dot(ds, q_tile, dk_acc, input_precision="ieee", out_dtype=COMPUTE)
    put(dk + batch * dk_b + group * dk_h, s, d, dk_s, dk_d, S, D, dk_acc * factor)
    put(dv + batch * dv_b + group * dv_h, s, d, dv_s, dv_d, S, D, dv_acc)


@triton.jit
def backward_at_once(
    g, q, k, v, mask, out, logsumexp, sums, dq, dk, dv, T, S, D, G, shared, scale: tl.float64,
    g_b, g_h, g_t, g_d, q_b, q_h, q_t, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, o_b, o_h, o_t, o_d,
    dq_b, dq_h, dq_t, dq_d, dk_b, dk_h, dk_s, dk_d, dv_b, dv_h, dv_s, dv_d, l_b, l_h, l_t, m_b, m_h, m_t, m_s,
    CAUSAL: tl.constexpr, COMPUTE: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """All gradients of one head of k and the queries that share it a program: each P is computed once.

    dQ / scale is summed in `sums` [B · G · shared, T, D]; grid: (B · G,).
    """
    batch = (tl.program_id(0) // G).to(tl.int64)
    group = (tl.program_id(0) % G).to(tl.int64)
    d = tl.arange(0, BD).to(tl.int64)
    factor = tl.cast(scale, COMPUTE)
    for first in range(0, S, BS):
        s = first + tl.arange(0, BS).to(tl.int64)
        k_tile = block(k + batch * k_b + group * k_h, s, d, k_s, k_d, S, D)
        v_tile = block(v + batch * v_b + group * v_h, s, d, v_s, v_d, S, D)
        dk_acc = tl.zeros([BS, BD], COMPUTE)
        dv_acc = tl.zeros([BS, BD], COMPUTE)
        for member in range(shared):
            head = group * shared + member
            sums_head = sums + (tl.program_id(0).to(tl.int64) * shared + member) * T * D
            m_head = mask
            if mask is not None:
                m_head = mask + batch * m_b + head * m_h
            for start in range(first_query(first, CAUSAL, BT), T, BT):
                t = start + tl.arange(0, BT).to(tl.int64)
                q_tile, g_tile, p, ds = of_pair(
                    k_tile, v_tile, g + batch * g_b + head * g_h, q + batch * q_b + head * q_h,
                    out + batch * o_b + head * o_h, logsumexp + batch * l_b + head * l_h, m_head, t, s, d, T, S, D,
                    factor, g_t, g_d, q_t, q_d, o_t, o_d, l_t, m_t, m_s, CAUSAL, COMPUTE,
                )  # fmt: skip
                dv_acc = tl.dot(p, g_tile, dv_acc, input_precision="ieee", out_dtype=COMPUTE)
                dk_acc = tl.dot(ds, q_tile, dk_acc, input_precision="ieee", out_dtype=COMPUTE)
                added = tl.dot(tl.trans(ds), k_tile, input_precision="ieee", out_dtype=COMPUTE)
                # The first keys are seen by all queries.
                if first > 0:
                    added += block(sums_head, t, d, D, 1, T, D)
                put(sums_head, t, d, D, 1, T, D, added)
        put(dk + batch * dk_b + group * dk_h, s, d, dk_s, dk_d, S, D, dk_acc * factor)
        put(dv + batch * dv_b + group * dv_h, s, d, dv_s, dv_d, S, D, dv_acc)
        # On a GPU other threads of the program may read the sums.
        tl.debug_barrier()
    for member in range(shared):
        sums_head = sums + (tl.program_id(0).to(tl.int64) * shared + member) * T * D
        dq_head = dq + batch * dq_b + (group * shared + member) * dq_h
        for start in range(0, T, BT):
            t = start + tl.arange(0, BT).to(tl.int64)
            put(dq_head, t, d, dq_t, dq_d, T, D, block(sums_head, t, d, D, 1, T, D) * factor)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, dropout_p: float) -> None:
    if dropout_p:
        raise Declined("attention with dropout")
    if not q.is_floating_point() or not (q.dtype is k.dtype is v.dtype):
        raise Declined("attention of this type")
    if q.dim() != 4 or k.dim() != 4 or v.shape != k.shape or q.shape[3] != k.shape[3] or q.shape[0] != k.shape[0]:
        raise Declined("attention of these shapes")
    if q.numel() == 0 or k.numel() == 0 or q.shape[1] % k.shape[1] or q.shape[3] > LONGEST_HEAD:
        raise Declined("attention of these shapes")
    if mask is not None and (mask.dtype is torch.bool or not mask.is_floating_point()):
        raise Declined("a mask that is not added")


def flash_attention_for_cpu(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, logsumexp); `scale` is 1/sqrt(D) where none is given."""
    _check(query, key, value, attn_mask, dropout_p)
    batch, heads, length, width = query.shape
    out = torch.empty_like(query)
    wide = torch.float64 if query.dtype is torch.float64 else torch.float32
    logsumexp = torch.empty((batch, length, heads), dtype=wide, device=query.device).transpose(1, 2)
    mask = _spread(attn_mask, query, key)
    blocks = _forward_blocks(query, key, is_causal)
    launch(
        forward, (tiles.parts(length, blocks["BT"]), batch * heads), query, key, value, mask, out, logsumexp,
        length, key.shape[2], width, heads, heads // key.shape[1], _scale(scale, width),
        *query.stride(), *key.stride(), *value.stride(), *out.stride(), *_strides(mask), CAUSAL=is_causal, **blocks,
    )  # fmt: skip
    return out, logsumexp


def flash_attention_for_cpu_backward(
    grad_out: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    out: torch.Tensor,
    logsumexp: torch.Tensor,
    dropout_p: float,
    is_causal: bool,
    *,
    attn_mask: torch.Tensor | None = None,
    scale: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dq, dk, dv), each shaped like what it is the gradient of, laid out as [B, T, H, D] in memory."""
    _check(query, key, value, attn_mask, dropout_p)
    if not (grad_out.dtype is out.dtype is query.dtype):
        raise Declined("attention of this type")
    batch, heads, length, width = query.shape
    groups, keys = key.shape[1:3]
    dq, dk, dv = (_heads_inside(x) for x in (query, key, value))
    mask = _spread(attn_mask, query, key)
    blocks = _backward_blocks(query, key, is_causal)
    inputs = (grad_out, query, key, value, mask, out, logsumexp)
    strides = [x.stride() for x in (grad_out, query, key, value, out)]
    ends = (*logsumexp.stride(), *_strides(mask))
    factor = _scale(scale, width)
    # The shape alone decides, so that threads change no result.
    one_pair = length <= blocks["BT"] and keys <= blocks["BS"]
    if one_pair or batch * groups >= tiles.of(query.device).whole_heads:
        sums = torch.empty((batch * heads, length, width), dtype=logsumexp.dtype, device=query.device)
        launch(
            backward_at_once, (batch * groups,), *inputs, sums, dq, dk, dv,
            length, keys, width, groups, heads // groups, factor,
            *itertools.chain(*strides, dq.stride(), dk.stride(), dv.stride(), ends), CAUSAL=is_causal, **blocks,
        )  # fmt: skip
        return dq, dk, dv
    launch(
        backward_query, (tiles.parts(length, blocks["BT"]), batch * heads), *inputs, dq,
        length, keys, width, heads, heads // groups, factor,
        *itertools.chain(*strides, dq.stride(), ends), CAUSAL=is_causal, **blocks,
    )  # fmt: skip
    launch(
        backward_key_value, (tiles.parts(keys, blocks["BS"]), batch * groups), *inputs, dk, dv,
        length, keys, width, groups, heads // groups, factor,
        *itertools.chain(*strides, dk.stride(), dv.stride(), ends), CAUSAL=is_causal, **blocks,
    )  # fmt: skip
    return dq, dk, dv


def _heads_inside(x: torch.Tensor) -> torch.Tensor:
    """New memory for [B, H, T, D] laid out as [B, T, H, D]."""
    return torch.empty_like(x.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)


def _scale(scale: float | None, width: int) -> float:
    return 1 / math.sqrt(width) if scale is None else scale


def _strides(mask: torch.Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0, 0) if mask is None else mask.stride()


def _spread(mask: torch.Tensor | None, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor | None:
    """The mask as [B, H, T, S], with stride 0 where it is broadcast."""
    if mask is None:
        return None
    try:
        return mask.expand(*query.shape[:3], key.shape[2])
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error


def _forward_blocks(query: torch.Tensor, key: torch.Tensor, causal: bool) -> dict[str, Any]:
    blocks = _blocks(query, key, tiles.of(query.device).attention, causal)
    # Queries do not meet, so that as many threads as there are may share them.
    heads, wanted = query.shape[0] * query.shape[1], 2 * tiles.threads(query.device)
    while blocks["BT"] > LEAST_CUT and heads * tiles.parts(query.shape[2], blocks["BT"]) < wanted:
        blocks["BT"] //= 2
    return blocks


def _backward_blocks(query: torch.Tensor, key: torch.Tensor, causal: bool) -> dict[str, Any]:
    return _blocks(query, key, tiles.of(query.device).attention_backward, causal)


def _blocks(query: torch.Tensor, key: torch.Tensor, longest: tuple[int, int], causal: bool) -> dict[str, Any]:
    row, sizes = tiles.of(query.device), {}
    block_d = max(row.min_dot, tiles.power_of_2(query.shape[3]))
    for name, size, most in zip(("BT", "BS"), (query.shape[2], key.shape[2]), longest, strict=True):
        # Half of the blocks on the diagonal is computed for nothing.
        cut = max(LEAST_CUT, tiles.power_of_2(size // 16 + 1)) if causal else most
        sizes[name] = tiles.cover(size, min(most, cut, max(LEAST_CUT, HELD // block_d)), row.min_dot)
    return {"COMPUTE": compute_type(query.dtype), **sizes, "BD": block_d, "num_warps": row.num_warps}


