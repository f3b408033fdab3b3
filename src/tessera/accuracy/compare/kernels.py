"""Every operator of a run against PyTorch's own kernel and against float64, on the very inputs that it got.

An operator whose result is PyTorch's to the last bit is `exact`. Otherwise its loss against float64 is held against
what
PyTorch's kernel loses there (`judge.py`). Beyond that rule, a bound tells what rounding can explain: with unit
roundoff u of the type of accumulation, a sum of n terms errs with high probability by at most about sqrt(n) u times the
sum of absolute terms (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). What every
operator's "sum of absolute terms" is, is measured: inputs are perturbed relatively at random in float64 and the change
of the result is divided by the perturbation. Within the bound it is `suspicious`, beyond it `wrong`.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch.utils._pytree import tree_leaves, tree_map

from tessera.accuracy.capture.random import draws
from tessera.accuracy.capture.recorder import is_pure_view, mutated
from tessera.accuracy.double import widened, widened_named
from tessera.accuracy.judge import SMALL_ELEMENTS, hold, judge
from tessera.accuracy.result import Class

# Relative size of the perturbations that measure how an operator answers to changes of its inputs.
_PERTURBATION = 2.0**-20
# How many times the probabilistic bound may be reached; the bound holds for each element with high probability.
_SAFETY = 4.0
# Operators that hand out memory with whatever is in it.
_UNDEFINED = ("empty", "resize_")
_SHORT = (torch.bfloat16, torch.float16)
# Of so many earlier calls of an operator it is known what they should have made.
_REMEMBERED = 4


@dataclass(frozen=True, kw_only=True)
class KernelVerdict:
    """What one operator call did to its inputs. ratio: its loss over PyTorch's; got, expected: where it is wrong.

    kind: what is wrong, if the judge can tell better than the numbers at that place.
    """

    index: int
    name: str
    verdict: Class
    ratio: float = 0.0
    reason: str = ""
    kind: str = ""
    got: torch.Tensor | None = None
    expected: torch.Tensor | None = None
    call: tuple[torch._ops.OpOverload, list[object], dict[str, object]] | None = None


class KernelJudge:
    """Observes a run and judges every operator in it. native: the context in which PyTorch's own kernels run."""

    def __init__(self, native: Callable[[], AbstractContextManager[object]] = nullcontext) -> None:
        self._native = native
        self._given: tuple[list[object], dict[str, object]] | None = None
        self._former: dict[tuple[object, ...], deque[bytes]] = defaultdict(lambda: deque(maxlen=_REMEMBERED))
        self.verdicts: dict[int, KernelVerdict] = {}

    def before(
        self, index: int, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        """Keep the inputs; those that will be written to are copied."""
        self._given = None
        if is_pure_view(func) or draws(func) or any(word in func._schema.name for word in _UNDEFINED):
            return
        if torch.Tag.nondeterministic_seeded in func.tags:
            return
        changed = {id(tensor) for tensor in mutated(func, args, kwargs)}
        keep: Callable[[object], object] = lambda leaf: (  # noqa: E731
            leaf.detach().clone() if isinstance(leaf, torch.Tensor) and id(leaf) in changed else leaf
        )
        self._given = tree_map(keep, (list(args), dict(kwargs)))

    def after(self, index: int, func: torch._ops.OpOverload, result: object) -> None:
        """Run PyTorch's kernel on the same inputs and compare."""
        if self._given is None:
            return
        args, kwargs = self._given
        ours = results(result)
        # Gradients stay as they are: there are operators that return more while they are asked for.
        with self._native():
            theirs = results(func(*_fresh(func, args), **_fresh_named(func, kwargs)))
        found = self._compare(index, func, ours, theirs)
        if found.verdict in ("wrong", "suspicious", "non-finite", "layout"):
            copied = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, (args, kwargs))
            found = replace(found, call=(func, *copied))
            if found.verdict == "wrong":
                found = self._told(found, func, ours)
        for native in theirs:
            self._former[func, native.shape].append(_sample(native))
        self.verdicts[index] = found
        self._given = None

    def _told(self, found: KernelVerdict, func: torch._ops.OpOverload, ours: list[torch.Tensor]) -> KernelVerdict:
        """The verdict with what its numbers do not show: whose result it is, or of which memory it was made."""
        if any(self._is_former(func, mine) for mine in ours):
            return replace(found, kind="stale")
        if self._ignores_strides(func, ours):
            return replace(found, kind="permuted", reason=f"its input is read as if it were contiguous; {found.reason}")
        return found

    def _ignores_strides(self, func: torch._ops.OpOverload, ours: list[torch.Tensor]) -> bool:
        """Whether PyTorch's kernel makes the same of inputs whose elements are taken in the order of memory."""
        assert self._given is not None
        args, kwargs = self._given
        moved = tree_map(_in_memory_order, args)
        if func._schema.is_mutable or all(a is b for a, b in zip(tree_leaves(moved), tree_leaves(args), strict=True)):
            return False
        with self._native(), torch.no_grad():
            made = results(func(*moved, **kwargs))
        return any(
            mine.shape == other.shape
            and mine.is_floating_point()
            and mine.numel() > 1
            and judge(mine, hold(other, other.double()), noise=0.0).ok
            for mine, other in zip(ours, made, strict=True)
        )

    def _is_former(self, func: torch._ops.OpOverload, mine: torch.Tensor) -> bool:
        """Whether it is what an earlier call of the operator should have made."""
        return bool(sample := _sample(mine)) and sample in self._former[func, mine.shape]

    def _compare(
        self, index: int, func: torch._ops.OpOverload, ours: list[torch.Tensor], theirs: list[torch.Tensor]
    ) -> KernelVerdict:
        worst = KernelVerdict(index=index, name=str(func), verdict="exact")
        exact: list[torch.Tensor] | None = None
        for position, (mine, native) in enumerate(zip(ours, theirs, strict=True)):
            if _scratch(mine, ours) or _identical(mine, native, strides=not func._schema.is_mutable):
                continue
            if exact is None and mine.is_floating_point():
                exact = self._exact(func)
            reference = exact[position] if exact and position < len(exact) else None
            found = self._judge(index, func, mine, native, reference)
            worst = max(worst, found, key=lambda row: SEVERITY.index(row.verdict))
        return worst

    def _exact(self, func: torch._ops.OpOverload) -> list[torch.Tensor] | None:
        assert self._given is not None
        args, kwargs = self._given
        try:
            with self._native(), torch.no_grad():
                return results(
                    func(*_fresh(func, widened(func, _wide_written(func, args))), **widened_named(func, kwargs))
                )
        except RuntimeError:  # There is no float64 kernel; PyTorch's own output has to do as the reference.
            return None

    def _judge(
        self,
        index: int,
        func: torch._ops.OpOverload,
        mine: torch.Tensor,
        native: torch.Tensor,
        reference: torch.Tensor | None,
    ) -> KernelVerdict:
        base = KernelVerdict(index=index, name=str(func), verdict="wrong", ratio=math.inf, got=mine, expected=native)
        if mine.shape != native.shape or mine.dtype != native.dtype:
            return replace(base, reason=f"makes {_meta(mine)} where PyTorch makes {_meta(native)}")
        if not func._schema.is_mutable and mine.stride() != native.stride() and torch.equal(mine, native):
            where = f"strides {list(mine.stride())} where PyTorch's are {list(native.stride())}"
            return replace(base, verdict="layout", ratio=0.0, reason=where)
        if not mine.is_floating_point():
            wrong = int((mine != native).sum())
            return replace(base, reason=f"{wrong} of {mine.numel()} elements differ")
        usable = reference is not None and reference.shape == native.shape and reference.dtype == torch.float64
        standard = hold(native, reference if usable else native.double())
        verdict = judge(mine, standard, noise=0.0)
        if verdict.ok and _toward_zero(mine, native):
            where = f"rounds toward zero: each of its {int((mine != native).sum())} other results is the smaller one"
            return replace(base, verdict="suspicious", ratio=verdict.ratio, reason=where, kind="truncated")
        if verdict.ok:
            return replace(base, verdict="rounding", ratio=verdict.ratio, got=None, expected=None)
        kind: Class = "wrong"
        if not bool(torch.isfinite(mine).all()) and bool(torch.isfinite(native).all()):
            kind = "non-finite"
        elif math.isfinite(verdict.ratio) and usable and self._explained(func, mine, standard.reference):
            kind = "suspicious"
        expected = standard.reference
        return replace(base, verdict=kind, ratio=verdict.ratio, reason=verdict.reason, expected=expected)

    def _explained(self, func: torch._ops.OpOverload, mine: torch.Tensor, reference: torch.Tensor) -> bool:
        """Whether rounding can explain the error, element by element, by the bound that this file opens with."""
        assert self._given is not None
        args, kwargs = self._given
        wide, named = widened(func, _wide_written(func, args)), widened_named(func, kwargs)
        generator = torch.Generator().manual_seed(0)

        def perturbed(leaf: object) -> object:
            if not isinstance(leaf, torch.Tensor) or leaf.dtype != torch.float64:
                return leaf
            return leaf * (1 + _PERTURBATION * torch.randn(leaf.shape, generator=generator, dtype=torch.float64))

        power = torch.zeros_like(reference)
        for _ in range(4):
            with self._native():
                moved = results(func(*_fresh(func, tree_map(perturbed, wide)), **tree_map(perturbed, named)))
            same = next((made for made in moved if made.shape == reference.shape), reference)
            power += ((same - reference) / _PERTURBATION).square() / 4
        sizes = [
            max(leaf.shape) for leaf in tree_leaves((wide, named)) if isinstance(leaf, torch.Tensor) and leaf.dim()
        ]
        longest = max(sizes, default=1)
        accumulated = torch.finfo(torch.float32).eps / 2 if mine.dtype != torch.float64 else torch.finfo(mine.dtype).eps
        bound = torch.finfo(mine.dtype).eps * reference.abs() + accumulated * math.sqrt(longest) * power.sqrt()
        bound = bound + torch.finfo(mine.dtype).tiny
        return bool(((mine.double() - reference).abs() <= _SAFETY * bound).all())


SEVERITY: tuple[Class, ...] = ("exact", "rounding", "layout", "suspicious", "non-finite", "wrong")


def results(tree: object) -> list[torch.Tensor]:
    """The tensors that an operator returned."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _in_memory_order(leaf: object) -> object:
    """A tensor's memory as a kernel sees it that takes it for contiguous; the leaf itself if that is nothing else."""
    if not isinstance(leaf, torch.Tensor) or leaf.layout != torch.strided or leaf.is_quantized:
        return leaf
    size = leaf.untyped_storage().nbytes() // leaf.element_size()
    if leaf.is_contiguous() or size < leaf.storage_offset() + leaf.numel():
        return leaf
    steps = [math.prod(leaf.shape[dim + 1 :]) for dim in range(leaf.dim())]
    return leaf.detach().as_strided(leaf.shape, steps, leaf.storage_offset())


def _toward_zero(mine: torch.Tensor, native: torch.Tensor) -> bool:
    """Whether a result in a short type was cut off and not rounded to the nearest number.

    Then half of its numbers differ from rounded ones, and each of them is the one nearer to zero. Two ways to round to
    nearest differ in few, and in either direction alike.
    """
    if mine.dtype not in _SHORT or mine.numel() < SMALL_ELEMENTS:
        return False
    other = mine != native
    count = int(other.sum())
    return count >= max(40, mine.numel() // 4) and int((mine.abs() < native.abs()).sum()) >= 0.95 * count


def _sample(tensor: torch.Tensor) -> bytes:
    """Up to 64 of its numbers, spread over it, as bytes; nothing of what has no plain memory."""
    if tensor.layout != torch.strided or tensor.is_quantized or not tensor.numel():
        return b""
    flat = tensor.detach().reshape(-1)
    spread = flat[:: max(1, flat.numel() // 64)][:64].cpu().contiguous()
    return spread.view(torch.uint8).numpy().tobytes()


def _scratch(tensor: torch.Tensor, made: Sequence[torch.Tensor]) -> bool:
    """Whether it is what operators hand to their own backward pass: flat bytes beside floating results."""
    return tensor.dtype == torch.uint8 and tensor.dim() == 1 and any(other.is_floating_point() for other in made)


def _identical(a: torch.Tensor, b: torch.Tensor, *, strides: bool) -> bool:
    """Equal in shape, type and value, NaN equals NaN, and in strides if they are asked for."""
    if a.shape != b.shape or a.dtype != b.dtype or a.layout != b.layout:
        return False
    if strides and a.layout == torch.strided and a.stride() != b.stride() and a.numel() > 1:
        return False
    return bool(torch.equal(a, b)) or (a.is_floating_point() and bool(((a == b) | (a.isnan() & b.isnan())).all()))


def _fresh(func: torch._ops.OpOverload, args: Sequence[object]) -> list[object]:
    """The arguments with copies of what is written to, for the call may be made again."""
    changed = {id(tensor) for tensor in mutated(func, args, {})}
    return list(
        tree_map(
            lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) and id(leaf) in changed else leaf, list(args)
        )
    )


def _fresh_named(func: torch._ops.OpOverload, kwargs: Mapping[str, object]) -> dict[str, object]:
    changed = {id(tensor) for tensor in mutated(func, [], kwargs)}
    return {
        name: value.clone() if isinstance(value, torch.Tensor) and id(value) in changed else value
        for name, value in kwargs.items()
    }


def _wide_written(func: torch._ops.OpOverload, args: Sequence[object]) -> list[object]:
    """What is written to is widened too: here it is a copy."""
    changed = {id(tensor) for tensor in mutated(func, args, {})}

    def widen(leaf: object) -> object:
        return (
            leaf.double()
            if isinstance(leaf, torch.Tensor) and id(leaf) in changed and leaf.is_floating_point()
            else leaf
        )

    return list(tree_map(widen, list(args)))


def _meta(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)}"
