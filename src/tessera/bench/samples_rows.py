"""Calls of families that work along dims, by index, on matrices, and of attention.

Shapes: R rows, C columns of the maker; N, M, K of a product.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from tessera.bench.maker import Call, Maker, call

Family = tuple[str, Callable[[Maker], Call | list[Call]]]
# What sides that fill no block are longer than those that do.
_MOST_SIDE, _UNEVEN = 1024, 4


# --- along dims ---


def _whole(m: Maker) -> Call:
    return call(m.x())


def _along(m: Maker) -> list[Call]:
    """Along the last dim, also of short rows, and along the first."""
    return [call(m.x(), [-1]), call(_narrow(m), [-1]), call(m.x(), [0])]


def _narrow(m: Maker) -> torch.Tensor:
    """Rows of 32, as of an image's places, a head's tokens or a few classes."""
    return m.x(max(1, m.elements // 32), 32)


def _along_one(m: Maker) -> list[Call]:
    return [call(m.x(), -1), call(m.x(), 0)]


def _spread(m: Maker) -> list[Call]:
    return [call(m.x(), [-1], correction=1), call(m.x(), [0], correction=1)]


def _truths(m: Maker) -> list[Call]:
    """Of masks, which is what models ask; the answer is known at the last element only."""
    x = torch.full((m.rows, m.columns), m.operator.startswith("all"))
    if "." not in m.operator:
        return [call(x)]
    dims = ([-1], [0]) if m.operator.endswith("dims") else (-1, 0)
    return [call(x, dim) for dim in dims]


def _norm(m: Maker) -> list[Call]:
    return [call(m.x(), 2.0), call(m.x(), 2.0, [-1])]


def _norm_along(m: Maker) -> list[Call]:
    dtype = {"dtype": m.dtype} if m.operator.endswith("dtype") else {}
    return [call(m.x(), 2.0, [-1], False, **dtype), call(m.x(), 2.0, [0], False, **dtype)]


def _cross(m: Maker) -> Call:
    return call(m.x(max(1, m.elements // 3), 3), m.x(max(1, m.elements // 3), 3))


def _repeated(m: Maker) -> Call:
    return call(m.below(4, max(1, m.elements // 2)))


def _extremes(m: Maker) -> list[Call]:
    return [call(m.x(), dim=-1), call(m.x())]


def _softmax(m: Maker) -> list[Call]:
    return [call(m.x(), -1, False), call(_narrow(m), -1, False), call(m.x(), 0, False)]


def _softmax_backward(m: Maker) -> list[Call]:
    return [call(x, torch.softmax(x.float(), -1).to(m.dtype), -1, m.dtype) for x in (m.x(), _narrow(m))]


def _layer_norm(m: Maker) -> list[Call]:
    return [call(x, [x.shape[1]], m.x(x.shape[1]), m.x(x.shape[1]), 1e-5) for x in (m.x(), _narrow(m))]


def _layer_norm_backward(m: Maker) -> Call:
    x, weight, bias = m.x(), m.x(m.columns), m.x(m.columns)
    _, mean, rstd = torch.native_layer_norm(x, [m.columns], weight, bias, 1e-5)
    return call(m.x(), x, [m.columns], mean, rstd, weight, bias, [True, True, True])


def _rms_norm(m: Maker) -> list[Call]:
    return [call(x, [x.shape[1]], m.x(x.shape[1]), 1e-6) for x in (m.x(), _narrow(m))]


def _rms_norm_backward(m: Maker) -> Call:
    x, weight = m.x(), m.x(m.columns)
    _, rstd = torch.ops.aten._fused_rms_norm(x, [m.columns], weight, 1e-6)
    return call(m.x(), x, [m.columns], rstd, weight, [True, True])


def _halves(m: Maker) -> Call:
    return call(m.x(m.rows, 2 * m.columns), -1)


def _halves_backward(m: Maker) -> Call:
    return call(m.x(), m.x(m.rows, 2 * m.columns), -1)


# --- making and moving ---


def _filled(m: Maker) -> list[Call]:
    """All of a masked_fill's overloads: a tensor, a mask, and a number or a 0-dim tensor."""
    value = 0.0 if m.operator.endswith("Scalar") else torch.zeros((), dtype=m.dtype)
    return [call(m.x(), m.mask(), value), call(m.x(), m.mask(m.columns), value)]


def _copy(m: Maker) -> list[Call]:
    other = torch.bfloat16 if m.dtype is torch.float32 else torch.float32
    x = m.x()
    return [call(m.x(), x), call(m.x(), x.to(other)), call(m.x(), x.t().contiguous().t())]


def _clone(m: Maker) -> list[Call]:
    x = m.x()
    return [call(x), call(x.t(), memory_format=torch.contiguous_format)]


def _cast(m: Maker) -> list[Call]:
    other = torch.bfloat16 if m.dtype is torch.float32 else torch.float32
    return [call(m.x(), dtype=other), call(m.x().t(), dtype=other, memory_format=torch.contiguous_format)]


def _one_value(m: Maker) -> Call:
    return call(m.x(), torch.ones((), dtype=m.dtype))


def _cat(m: Maker) -> list[Call]:
    return [call([m.x(), m.x()], -1), call([m.x(), m.x()], 0)]


def _range(m: Maker) -> Call:
    return call(0, m.elements, 1, out=torch.empty(m.elements, dtype=m.dtype))


def _steps(m: Maker) -> Call:
    return call(0.0, 1.0, m.elements, out=torch.empty(m.elements, dtype=m.dtype))


def _eye(m: Maker) -> Call:
    side = m.side(2)
    sizes = (side, side) if m.operator == "eye.m_out" else (side,)
    return call(*sizes, out=torch.empty(side, side, dtype=m.dtype))


def _isin(m: Maker) -> Call:
    return call(m.below(1000, m.rows, m.columns), m.below(1000, 16))


def _roll(m: Maker) -> Call:
    return call(m.x(), [1], [-1])


def _repeat(m: Maker) -> Call:
    return call(m.x(), [1, 2])


def _narrowed(m: Maker) -> Call:
    return call(m.x(), 1, 0, m.columns // 2)


def _pad(m: Maker) -> Call:
    return call(m.x(), [1, 1])


# --- products ---


def _mm(m: Maker) -> list[Call]:
    """Square, with sides that fill no block as well, and one row with a matrix."""
    side = min(_MOST_SIDE, m.side(2))
    squares = [call(m.x(s, s), m.x(s, s)) for s in (side, side + _UNEVEN)]
    return [*squares, call(m.x(1, m.side(2)), m.x(m.side(2), m.side(2)))]


def _addmm(m: Maker) -> list[Call]:
    """As a Linear layer calls it, with its weight transposed."""
    side, whole = min(_MOST_SIDE, m.side(2)), m.side(2)
    squares = [call(m.x(s), m.x(s, s), m.x(s, s).t()) for s in (side, side + _UNEVEN)]
    return [*squares, call(m.x(whole), m.x(1, whole), m.x(whole, whole).t())]


def _bmm(m: Maker) -> list[Call]:
    """The two products of attention with a width of 64, with as many tokens, and one token on many."""
    side = 64 if m.elements >= 2**14 else m.side(2)
    batch = max(1, m.elements // side**2)
    uneven = side + _UNEVEN
    shapes = ((side, side), (uneven, uneven), (1, side))
    calls = [(m.x(batch, rows, depth), m.x(batch, depth, depth)) for rows, depth in shapes]
    if m.operator == "bmm":
        return [call(*operands) for operands in calls]
    return [call(m.x(*a.shape[:2], b.shape[2]), a, b) for a, b in calls]


def _addbmm(m: Maker) -> Call:
    """A gradient of a shared matrix: the products of a batch, added up."""
    side = 64 if m.elements >= 2**14 else m.side(2)
    batch = max(1, m.elements // side**2)
    return call(m.x(side, side), m.x(batch, side, side), m.x(batch, side, side))


def _mv(m: Maker) -> Call:
    side = m.side(2)
    given = (m.x(side, side), m.x(side))
    return call(*given) if m.operator == "mv" else call(m.x(side), *given)


def _addr(m: Maker) -> Call:
    side = m.side(2)
    return call(m.x(side, side), m.x(side), m.x(side))


def _dot(m: Maker) -> Call:
    return call(m.x(m.elements), m.x(m.elements))


def _trace(m: Maker) -> Call:
    return call(m.x(m.side(2), m.side(2)))


def _heads(m: Maker) -> list[list[torch.Tensor]]:
    """Queries, keys and values [1, heads, tokens, 64]: as many tokens of each, a number that fills no block, and one
    query on many tokens."""
    width = 64 if m.elements >= 2**14 else 16
    tokens = min(max(4, m.elements // ((4 if width == 64 else 1) * width)), 1024)
    uneven = 17 if m.elements < 2**16 else 197

    def keys(count: int) -> list[int]:
        return [1, max(1, m.elements // (count * width)), count, width]

    pairs = ((keys(tokens), tokens), (keys(uneven), uneven), (keys(tokens), 1))
    return [[m.x(*key[:2], queries, width), m.x(*key), m.x(*key)] for key, queries in pairs]


def _attention(m: Maker) -> list[Call]:
    whole, uneven, one = _heads(m)
    both = [call(*given, 0.0, causal) for given in (whole, uneven) for causal in (False, True)]
    return [*both, call(*one, 0.0, False)]


def _attention_backward(m: Maker) -> list[Call]:
    whole, uneven, _ = _heads(m)
    calls = []
    for given, causal in itertools.product((whole, uneven), (False, True)):
        out, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*given, 0.0, causal)
        calls.append(call(torch.ones_like(out), *given, out, lse, 0.0, causal))
    return calls


# --- by index ---


def _embedding(m: Maker) -> Call:
    width = min(m.columns, 512)
    words = 4096
    return call(m.x(words, width), m.below(words, max(1, m.elements // width)))


def _embedding_backward(m: Maker) -> Call:
    width = min(m.columns, 512)
    tokens = max(1, m.elements // width)
    return call(m.x(tokens, width), m.below(4096, tokens), 4096, -1, False)


def _bags(m: Maker) -> Call:
    """Sums of 8 rows each, which nothing is known of but where they start, and their gradients."""
    width = min(m.columns, 512)
    tokens = max(8, m.elements // width // 8 * 8)
    table, words, starts = m.x(4096, width), m.below(4096, tokens), torch.arange(0, tokens, 8)
    if not m.operator.endswith("backward"):
        return call(table, words, starts)
    grad, bag_of = m.x(tokens // 8, width), torch.arange(tokens) // 8
    sizes = torch.full_like(starts, 8)
    given = {
        "_embedding_bag_backward": (words, starts, bag_of, sizes, sizes, 4096, False, 0, False, None),
        "_embedding_bag_dense_backward": (words, bag_of, sizes, sizes, 4096, False, 0, None),
        "_embedding_bag_per_sample_weights_backward": (table, words, starts, bag_of, 0),
    }
    return call(grad, *given[m.operator])


def _picked(m: Maker) -> Call:
    return call(m.x(), 0, m.below(m.rows, m.rows))


def _gather(m: Maker) -> Call:
    return call(m.x(), -1, m.below(m.columns, m.rows, m.columns))


def _by_rows(m: Maker) -> Call:
    return call(m.x(), [m.below(m.rows, m.rows)])


def _scatter(m: Maker) -> Call:
    index = m.below(m.columns, m.rows, m.columns)
    given = [m.x(), -1, index, 0.5 if "value" in m.operator else m.x()]
    if m.operator == "scatter_.reduce" or m.operator == "scatter_.value_reduce":
        return call(*given, reduce="add")
    return call(*given, "sum") if m.operator.endswith("two") else call(*given)


def _index_write(m: Maker) -> Call:
    index = torch.randperm(m.rows)
    if m.operator.startswith("index_fill"):
        return call(m.x(), 0, index, 0.5)
    given = (m.x(), 0, index, m.x())
    return call(*given, "amax") if m.operator.startswith("index_reduce") else call(*given)


def _index_put(m: Maker) -> Call:
    return call(m.x(), [torch.randperm(m.rows)], m.x())


# --- losses over classes ---


def _classes(m: Maker) -> Call:
    """Rows of log-probabilities; of the second kind an image of them."""
    x, target = _scores(m)
    if m.operator.endswith("forward"):
        return call(x, target, None, 1, -100)
    weight = torch.ones((), dtype=m.dtype)
    return call(torch.ones((), dtype=m.dtype), x, target, None, 1, -100, weight)


def _scores(m: Maker) -> tuple[torch.Tensor, torch.Tensor]:
    if "2d" not in m.operator:
        return m.x(), m.below(m.columns, m.rows)
    classes, side = 4, m.side(2, of=max(1, m.elements // 4))
    return m.x(1, classes, side, side), m.below(classes, 1, side, side)


def _distances(m: Maker) -> Call:
    """Of rows of 16."""
    side = m.side(2)
    x1, x2 = m.x(side, 16), m.x(side, 16)
    if not m.operator.endswith("backward"):
        return call(x1, x2, 2.0, None)
    found = torch.ops.aten._cdist_forward(x1, x2, 2.0, None)
    return call(torch.ones_like(found), x1, x2, 2.0, found)


def _own_distances(m: Maker) -> Call:
    """Of rows of 16 among themselves; there are half as many pairs as squares."""
    x = m.x(m.side(2, of=2 * m.elements, least=2), 16)
    if not m.operator.endswith("backward"):
        return call(x, 2.0)
    found = torch.ops.aten._pdist_forward(x, 2.0)
    return call(torch.ones_like(found), x, 2.0, found)


FAMILIES: tuple[Family, ...] = (
    ("_cdist_forward _cdist_backward", _distances),
    ("_pdist_forward _pdist_backward", _own_distances),
    ("sum mean prod max min", _whole),
    ("sum.dim_IntList mean.dim amax amin nansum count_nonzero*", _along),
    ("prod.dim_int max.dim min.dim argmax argmin cumsum cumprod", _along_one),
    ("var.* std.* var_mean.* std_mean.*", _spread),
    ("any any.* all all.*", _truths),
    ("linalg_vector_norm", _norm),
    ("norm.*", _norm_along),
    ("linalg_cross", _cross),
    ("repeat_interleave.Tensor", _repeated),
    ("aminmax", _extremes),
    ("_softmax _log_softmax", _softmax),
    ("_softmax_backward_data _log_softmax_backward_data", _softmax_backward),
    ("native_layer_norm", _layer_norm),
    ("native_layer_norm_backward", _layer_norm_backward),
    ("_fused_rms_norm", _rms_norm),
    ("_fused_rms_norm_backward", _rms_norm_backward),
    ("glu", _halves),
    ("glu_backward", _halves_backward),
    ("masked_fill*", _filled),
    ("copy_", _copy),
    ("clone", _clone),
    ("_to_copy", _cast),
    ("fill_.Tensor", _one_value),
    ("cat", _cat),
    ("arange.*", _range),
    ("linspace.* logspace.*", _steps),
    ("eye.*", _eye),
    ("isin.*", _isin),
    ("flip", _along),
    ("roll", _roll),
    ("repeat", _repeat),
    ("narrow_copy", _narrowed),
    ("constant_pad_nd", _pad),
    ("mm", _mm),
    ("addmm", _addmm),
    ("bmm baddbmm", _bmm),
    ("addbmm", _addbmm),
    ("mv addmv", _mv),
    ("addr", _addr),
    ("dot vdot", _dot),
    ("trace linalg_matrix_exp", _trace),
    ("_scaled_dot_product_flash_attention_for_cpu", _attention),
    ("_scaled_dot_product_flash_attention_for_cpu_backward", _attention_backward),
    ("embedding", _embedding),
    ("embedding_dense_backward", _embedding_backward),
    ("_embedding_bag*", _bags),
    ("index_select", _picked),
    ("gather", _gather),
    ("index.Tensor", _by_rows),
    ("scatter*", _scatter),
    ("index_put* _index_put_impl_", _index_put),
    ("index_*", _index_write),
    ("nll_loss*", _classes),
)
