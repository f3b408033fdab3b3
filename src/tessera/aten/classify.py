"""What of a call decides whose kernel is faster: the types, the layout and the size class.

In:  an overload's row of the table and a call's arguments.
Out: a `Place`, by which measurements are stored and found again.

A size class is a power of 4 of the call's work: of multiplications and additions for matrix products, convolutions and
attention, of elements for all others. What a layout tells apart is a matter of the operator's family.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch

from tessera.ops.table import Variant


class Place(NamedTuple):
    """Where a call belongs among the measurements of its operator.

    dtype: the types of the tensors, each once, in the order of the arguments: "float32", "float32+int64".
    size: the class; its calls do about 4 ** size of work.
    """

    dtype: str
    layout: str
    size: int

    def __str__(self) -> str:
        return f"{self.dtype}, {self.layout}, size class {self.size}"


@dataclass(frozen=True)
class Given:
    """A call's tensors, lists spread out and without those that are written by name, and its other arguments."""

    tensors: tuple[torch.Tensor, ...]
    values: dict[str, Any]


def place_of(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Place:
    """The place of a call of `variant`, whose arguments are as PyTorch's schema has them."""
    given = _given(variant, args, kwargs)
    layout, work = _rule_of(variant)(given)
    dtypes = dict.fromkeys(str(x.dtype).removeprefix("torch.") for x in given.tensors)
    return Place("+".join(dtypes), layout, size_class(work))


def work_of(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, bool]:
    """The work of a call by which it is classed, and whether it is counted in multiplications and additions."""
    rule = _rule_of(variant)
    return rule(_given(variant, args, kwargs))[1], rule in (_product, _outer, _convolution, _attention)


def size_class(work: float) -> int:
    """The power of 4 that is nearest to `work`; 0 for none."""
    return round(math.log2(max(work, 1.0)) / 2)


def _given(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    values = {a.name: a.default_value for a in variant.arguments if a.has_default_value()}
    values |= dict(zip([a.name for a in variant.arguments if not a.kwarg_only], args, strict=False)) | kwargs
    found = [values[a.name] for a in variant.arguments if not a.is_out and a.name in variant.tensors]
    return Given(tuple(_tensors(found)), values)


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


# --- layouts and work by family ---

# Part of the layouts of calls that leave blocks partly empty.
UNEVEN = " uneven"
_NARROW, _EVEN, _MANY = 64, 16, 256

Rule = Callable[[Given], tuple[str, float]]


def _elementwise(given: Given) -> tuple[str, float]:
    """The largest tensor's elements. Others of another shape are broadcast."""
    work = _largest(given)
    return _order(given.tensors), work


def _largest(given: Given) -> int:
    return max((x.numel() for x in given.tensors), default=0)


def _order(tensors: tuple[torch.Tensor, ...]) -> str:
    shapes = {x.shape for x in tensors if x.dim()}
    if len(shapes) > 1:
        return "broadcast"
    alike = len({x.stride() for x in tensors if x.dim()}) < 2
    return "contiguous" if alike and all(map(_dense, tensors)) else "strided"


def _dense(x: torch.Tensor) -> bool:
    """Contiguous, also with the channels last."""
    return x.is_contiguous() or (x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last))


def _along_dims(given: Given) -> tuple[str, float]:
    """Which dims are worked along: all, the last among them, or others."""
    x = given.tensors[0]
    dims = given.values.get("dim", given.values.get("normalized_shape"))
    if dims is None or dims == [] or x.dim() == 0:
        where = "all"
    else:
        places = {d % x.dim() for d in (dims if isinstance(dims, list | tuple) else [dims])}
        where = "all" if len(places) == x.dim() else "rows" if x.dim() - 1 in places else "columns"
    return where + _narrow(x, where == "rows") + ("" if _dense(x) else " strided"), x.numel()


def _narrow(x: torch.Tensor, along_rows: bool) -> str:
    """Short rows leave most of a block of ours empty."""
    return " narrow" if along_rows and x.dim() and x.shape[-1] < _NARROW else ""


def _rows(given: Given) -> tuple[str, float]:
    x = given.tensors[0]
    return ("contiguous" if x.is_contiguous() else "strided") + _narrow(x, True), x.numel()


def _product(given: Given) -> tuple[str, float]:
    """The last two operands; few rows or columns are bound by memory, whatever the work, and a side that fills no block
    costs as if."""
    a, b = given.tensors[-2:]
    sides = (a.shape[-2] if a.dim() > 1 else 1), a.shape[-1], (b.shape[-1] if b.dim() > 1 else 1)
    rows, _, columns = sides
    kind = "vector" if min(rows, columns) < 8 else "matrix" + (UNEVEN if any(s % _EVEN for s in sides) else "")
    return kind + ("" if all(map(_unit_stride, (a, b))) else " strided"), 2.0 * a.numel() * columns


def _unit_stride(x: torch.Tensor) -> bool:
    return x.numel() < 2 or 1 in x.stride()[-2:]


def _outer(given: Given) -> tuple[str, float]:
    a, b = given.tensors[-2:]
    return "contiguous", 2.0 * a.numel() * b.numel()


def _convolution(given: Given) -> tuple[str, float]:
    """The window and all that changes how it moves: a kernel that is fast for one may be slow for another.

    Work is that of all places where the window stands: of the result, or of the input where transposed.
    """
    weight = given.tensors[2] if "grad_output" in given.values else given.tensors[1]
    x, values = given.values["input"], given.values
    words = ["x".join(map(str, weight.shape[2:]))]
    if max(values["stride"], default=1) > 1:
        words.append(f"stride {max(values['stride'])}")
    if max(values["dilation"], default=1) > 1:
        words.append("dilated")
    if values["groups"] > 1:
        words.append("depthwise" if values["groups"] == x.shape[1] else "grouped")
    if values["transposed"]:
        words.append("transposed")
    if x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        words.append("channels last")
    return " ".join(words), 2.0 * x.shape[0] * math.prod(_windows(given, weight)) * weight.numel()


def _windows(given: Given, weight: torch.Tensor) -> Iterator[int]:
    """How many windows there are along each dim."""
    values, moves = given.values, ("stride", "padding", "dilation")
    for d, (size, count) in enumerate(zip(values["input"].shape[2:], weight.shape[2:], strict=True)):
        stride, pad, dilation = (values[name][min(d, len(values[name]) - 1)] for name in moves)
        yield size if values["transposed"] else max(0, size + 2 * pad - dilation * (count - 1) - 1) // stride + 1


def _attention(given: Given) -> tuple[str, float]:
    """[batch, heads, tokens, width]; one token on many is bound by memory, and tokens that fill no block cost as if."""
    query, key = given.values["query"], given.values["key"]
    uneven = any(x.shape[-2] % _EVEN and x.shape[-2] < _MANY for x in (query, key))
    kind = "decode" if query.shape[-2] < 8 else "prefill" + (UNEVEN if uneven else "")
    kind += " causal" if given.values.get("is_causal") else ""
    return kind, 4.0 * query.numel() * key.shape[-2]


def _read_by_index(given: Given) -> tuple[str, float]:
    """The elements that are read: of rows, for each index one."""
    table, *others = given.tensors
    width = table.shape[-1] if table.dim() > 1 else 1
    return "contiguous" if table.is_contiguous() else "strided", max(x.numel() for x in others) * width


def _bags(given: Given) -> tuple[str, float]:
    """The elements of all rows that go into bags, or that their gradient goes to."""
    x, indices = given.tensors[0], given.values["indices"]
    return "contiguous" if x.is_contiguous() else "strided", indices.numel() * (x.shape[-1] if x.dim() else 1)


def _written_by_index(given: Given) -> tuple[str, float]:
    _, *others = given.tensors
    return _order(given.tensors[:1]), max((x.numel() for x in others), default=0)


def _gather(given: Given) -> tuple[str, float]:
    layout, work = _written_by_index(given)
    return f"{layout} {_along_dims(given)[0]}", work


def _list(given: Given) -> tuple[str, float]:
    return "list", sum(x.numel() for x in given.tensors)


def _made(given: Given) -> tuple[str, float]:
    """Operators that only write: the size of what is written."""
    out = given.values.get("out")
    return "contiguous", out.numel() if isinstance(out, torch.Tensor) else _largest(given)


# Patterns of base names, the first that fits. All others are elementwise.
_RULES: tuple[tuple[str, Rule], ...] = (
    ("_foreach_*", _list),
    ("_fused_ad*", _list),
    ("_fused_sgd*", _list),
    ("_scaled_dot_product*", _attention),
    ("convolution*", _convolution),
    *((name, _product) for name in ("mm", "addmm", "bmm", "baddbmm", "addbmm", "mv", "addmv", "dot", "vdot")),
    ("addr", _outer),
    ("embedding", _read_by_index),
    ("_embedding_bag*", _bags),
    ("index_select", _read_by_index),
    ("index.Tensor", _read_by_index),
    ("gather", _gather),
    *((name, _written_by_index) for name in ("scatter*", "index_*", "_index_put_impl_", "embedding_dense_backward")),
    *((name, _along_dims) for name in (
        "sum*", "mean*", "prod*", "nansum*", "count_nonzero*", "amin*", "amax*", "max", "min", "max.dim", "min.dim",
        "aminmax*", "argm*", "any*", "all*", "var*", "std*", "linalg_vector_norm*", "norm.*", "cum*", "_softmax*",
        "_log_softmax*", "cat", "flip", "roll",
    )),
    *((name, _rows) for name in ("native_layer_norm*", "_fused_rms_norm*")),
    *((name, _made) for name in ("arange*", "linspace*", "logspace*", "eye*")),
)  # fmt: skip


@functools.cache
def _rule_of(variant: Variant) -> Rule:
    base = str(variant.base._name).removeprefix("aten::")
    return next((rule for pattern, rule in _RULES if fnmatchcase(base, pattern)), _elementwise)
