"""Scaled dot-product attention with a running softmax: the matrix of scores is never stored.

S = scale · Q Kᵀ + mask,  P = softmax(S),  out = P V,  logsumexp = log Σ exp(S)
Shapes: q [B, H, T, D], k [B, G, S, D], v [B, G, S, D] with H a multiple of G (each group of H / G query heads shares
one head of k and v); mask [B, H, T, S] with any strides, added to the scores; out like q, also in memory; logsumexp
[B, H, T] in float32. A row whose every score is -inf gives 0 for both, as PyTorch's kernel does.
Source: "FlashAttention-2", Dao, 2023; "Online normalizer calculation for softmax", Milakov and Gimelshein, 2018.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from tessera.ops import tiles
from tessera.ops.declined import Declined
from tessera.ops.launch import launch

LONGEST_HEAD = 256


@triton.jit
def forward(
    q, k, v, mask, out, logsumexp, T, S, D, H, shared, scale: tl.float64,
    q_b, q_h, q_t, q_d, k_b, k_h, k_s, k_d, v_b, v_h, v_s, v_d, o_b, o_h, o_t, o_d, m_b, m_h, m_t, m_s,
    CAUSAL: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, BD: tl.constexpr,
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
    top = tl.full([BT], -float("inf"), tl.float32)
    total = tl.zeros([BT], tl.float32)
    acc = tl.zeros([BT, BD], tl.float32)
    end = S
    if CAUSAL:
        end = tl.minimum(S, (tl.program_id(0) + 1) * BT)
    for start in range(0, end, BS):
        s = start + tl.arange(0, BS).to(tl.int64)
        in_s = s < S
        k_tile = tl.load(
            k_head + (s * k_s)[None, :] + (d * k_d)[:, None], mask=in_s[None, :] & in_d[:, None], other=0.0
        )
        scores = tl.dot(q_tile, k_tile, input_precision="ieee") * tl.cast(scale, tl.float32)
        if mask is not None:
            scores += tl.load(
                mask + batch * m_b + head * m_h + (t * m_t)[:, None] + (s * m_s)[None, :],
                mask=in_t[:, None] & in_s[None, :], other=0.0,
            ).to(tl.float32)  # fmt: skip
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
        acc = tl.dot(p.to(v_tile.dtype), v_tile, acc * shrink[:, None], input_precision="ieee")
        top = higher
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out + batch * o_b + head * o_h + (t * o_t)[:, None] + (d * o_d)[None, :], result.to(out.dtype.element_ty),
        mask=in_t[:, None] & in_d[None, :],
    )  # fmt: skip
    level = tl.where(total == 0.0, 0.0, top + tl.log(total))
    tl.store(logsumexp + (batch * T + t) * H + head, level, mask=in_t)


def _check(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, dropout_p: float) -> None:
    if dropout_p:
        raise Declined("attention with dropout")
    if q.dtype not in (torch.float32, torch.bfloat16, torch.float16) or not (q.dtype is k.dtype is v.dtype):
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
    keys = key.shape[2]
    out = torch.empty_like(query)
    logsumexp = torch.empty((batch, length, heads), dtype=torch.float32, device=query.device).transpose(1, 2)
    try:
        mask = None if attn_mask is None else attn_mask.expand(batch, heads, length, keys)
    except RuntimeError as error:
        raise Declined("shapes do not broadcast") from error
    row = tiles.of(query.device)
    block_t, block_s = (
        max(row.min_dot, tiles.block(size, most)) for most, size in zip(row.attention, (length, keys), strict=True)
    )
    launch(
        forward, (triton.cdiv(length, block_t), batch * heads), query, key, value, mask, out, logsumexp,
        length, keys, width, heads, heads // key.shape[1], scale if scale is not None else 1 / math.sqrt(width),
        *query.stride(), *key.stride(), *value.stride(), *out.stride(),
        *(mask.stride() if mask is not None else (0, 0, 0, 0)),
        CAUSAL=is_causal, BT=block_t, BS=block_s, BD=max(row.min_dot, tiles.power_of_2(width)), num_warps=row.num_warps,
    )  # fmt: skip
    return out, logsumexp
