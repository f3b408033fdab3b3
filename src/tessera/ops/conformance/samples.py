"""The samples of a case: PyTorch's own, and the same in other layouts and forms.

Of each sample input: the call itself (with gradients where the type has them), with non-contiguous operands, in place,
and into `out=`. Of pointwise entries also as matrices with an expanded, a transposed and an empty first operand.
Importing this module imports PyTorch's test library.
"""

from __future__ import annotations

import difflib
import functools
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from tessera.core.errors import UsageError
from tessera.ops.conformance.result import ERRORS, Case

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
# Run where they are asked for by name.
COMPLEX = (torch.complex64, torch.complex128)
# PyTorch's own kernels of these are wrong where the dims of an `out` are not in order: triangles are written outside of
# it, so that the process ends later, in whatever comes next; means over volumes and narrow copies as if its dims were
# in order.
ORDERED_OUT = frozenset({"tril", "triu", "nn.functional.avg_pool3d", "narrow_copy"})
MOST_OF_TENTH = 4
Call = Callable[..., Any]


@dataclass(frozen=True)
class Sample:
    """One call of an operator; `in_place` says that its first operand may change, `gradients` asks for them too."""

    label: str
    call: Call
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    in_place: bool = False
    gradients: bool = False


def dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@functools.cache
def database() -> dict[str, Any]:
    """The entries by name, with those of lists of tensors; a variant's name follows a slash."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.testing._internal import common_methods_invocations as made
    lists: list[Any] = [made.foreach_unary_op_db, made.foreach_binary_op_db, made.foreach_pointwise_op_db]
    lists += [made.foreach_reduce_op_db, made.foreach_other_op_db]
    found = [*made.op_db, *(op for ops in lists for op in ops)]
    return {f"{op.name}/{op.variant_test_name}" if op.variant_test_name else op.name: op for op in found}


def cases(only: tuple[str, ...] = (), dtypes: tuple[str, ...] = (), tenth: bool = False) -> list[Case]:
    """The cases of the database; `only` are names of entries (with or without the variant), `tenth` is a fixed tenth.

    `dtypes` are the types to run, all real ones where none is named.

    Of a case in the tenth only a few samples are run: what a sample costs is the compiling of its kernels, and the next
    ones tell little that is new.

    Errors: `UsageError` for a name or a type that is not there.
    """
    known = {dtype_name(d): d for d in (*DTYPES, *COMPLEX)}
    _check_known("--dtype", dtypes, [*known, ERRORS])
    dtypes = dtypes or (*map(dtype_name, DTYPES), ERRORS)
    _check_known("--only", only, [*database(), *(name.partition("/")[0] for name in database())])
    found = []
    for name, op in database().items():
        if only and name not in only and name.partition("/")[0] not in only:
            continue
        supported = [Case(name, n) for n, d in known.items() if d in op.supported_dtypes("cpu")]
        supported += [Case(name, ERRORS)] if op.error_inputs_func is not None else []
        found += [case for case in supported if case.dtype in dtypes]
    return [replace(c, most=MOST_OF_TENTH) for c in found if zlib.crc32(str(c).encode()) % 10 == 0] if tenth else found


def _check_known(option: str, given: tuple[str, ...], known: list[str]) -> None:
    for name in given:
        if name not in known:
            names = sorted(set(known))
            near = difflib.get_close_matches(name, names, n=5) or [k for k in names if name in k][:5] or names[:5]
            raise UsageError(f"{option} {name}: none of the {len(names)} known names; some near it: {', '.join(near)}")


def chosen(case: Case) -> list[Sample]:
    """The samples of a case: those that compute, or those that must raise, as many as the case wants."""
    found = list(error_samples(case) if case.dtype == ERRORS else samples(case))
    step = -(-len(found) // case.most) if case.most else 1
    # Each turn begins one later, so that the forms of a sample, which follow each other, all have theirs.
    return [sample for i, sample in enumerate(found) if (i - i // step) % step == 0]


def samples(case: Case) -> Iterator[Sample]:
    """The samples of a case that computes, made with a fixed seed."""
    op, dtype = database()[case.entry], getattr(torch, case.dtype)
    torch.manual_seed(0)
    differentiable = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    for i, given in enumerate(op.sample_inputs("cpu", dtype, requires_grad=differentiable)):
        yield from _forms(op, i, given, differentiable)
        if all(x.layout is torch.strided for x in _tensors((given.input, given.args, given.kwargs))):
            spread = given.noncontiguous()
            args = (spread.input, *spread.args)
            yield Sample(f"{i} non-contiguous", op, args, spread.kwargs, gradients=differentiable)
        if hasattr(op, "ref") and i < 3 and _is_pointwise(op):
            yield from _layouts(op, f"{i}", given)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, torch.Tensor)]


def _is_pointwise(op: Any) -> bool:
    from torch.testing._internal.opinfo.core import BinaryUfuncInfo, UnaryUfuncInfo

    return isinstance(op, (UnaryUfuncInfo, BinaryUfuncInfo))


def _forms(op: Any, number: int, given: Any, gradients: bool) -> Iterator[Sample]:
    """The call, the call in place, and the call into given memory, which every other sample wants in reversed dims."""
    label = str(number)
    args, kwargs = (given.input, *given.args), given.kwargs
    yield Sample(label, op, args, kwargs, gradients=gradients)
    plain = tree_map(lambda x: x.detach() if isinstance(x, torch.Tensor) else x, (args, kwargs))
    in_place = op.get_inplace()
    if in_place is not None and not given.broadcasts_input:
        yield Sample(f"{label} in place", in_place, plain[0], plain[1], in_place=True)
    if op.supports_out:
        strange = bool(number % 2) and op.name not in ORDERED_OUT
        yield Sample(f"{label} out=", functools.partial(_into_out, op, strange), plain[0], plain[1])


def _into_out(op: Any, strange: bool, *args: Any, **kwargs: Any) -> Any:
    """The operator's result, written over zeros in memory of the same shape (`strange`: with its dims reversed)."""
    result = op(*args, **kwargs)
    given = tree_map(lambda x: _memory(x, strange) if isinstance(x, torch.Tensor) else x, result)
    if any(not isinstance(x, torch.Tensor) for x in tree_flatten(given)[0]):
        return result
    return op(*args, **kwargs, out=given)


def _memory(like: torch.Tensor, strange: bool) -> torch.Tensor:
    if not strange:
        return torch.zeros(like.shape, dtype=like.dtype)
    return torch.zeros(like.shape[::-1], dtype=like.dtype).permute(*range(like.dim() - 1, -1, -1))


def _layouts(op: Any, label: str, given: Any) -> Iterator[Sample]:
    """The operands seen as matrices, and the first of them expanded, transposed and empty."""
    x = given.input
    if not isinstance(x, torch.Tensor) or x.numel() < 4:
        return

    def matrix(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.shape != x.shape:
            return leaf
        return leaf.detach().reshape(-1)[: x.numel() // 2 * 2].view(2, -1)

    first, args = matrix(x), tree_map(matrix, given.args)
    if any(isinstance(a, torch.Tensor) and a.dim() and a.shape != first.shape for a in args):
        return
    changed = {"expanded": first[:, :1].expand(first.shape), "transposed": first.t().contiguous().t()}
    for name, other in changed.items():
        yield Sample(f"{label} {name}", op, (other, *args), given.kwargs)
    nothing = tree_map(lambda leaf: leaf[:0] if isinstance(leaf, torch.Tensor) and leaf.dim() else leaf, args)
    yield Sample(f"{label} empty", op, (first[:0], *nothing), given.kwargs)


def error_samples(case: Case) -> Iterator[Sample]:
    """The inputs of an entry that must raise."""
    op = database()[case.entry]
    torch.manual_seed(0)
    for i, wrong in enumerate(op.error_inputs("cpu")):
        given = wrong.sample_input
        yield Sample(f"error {i}", op, (given.input, *given.args), given.kwargs)
