"""One sample on PyTorch's kernels, on ours and in float64, judged by the project's rule.

Floating results: the rule of `tessera.accuracy.judge`. Below 64 elements torch's own error is too small a sample; there
the noise is the largest error that torch has on any sample of the case, and at least 2 eps of the type. Where a result
hangs on few roundings, one run of torch says little about what torch loses: a result outside the rule is held against
the most that torch loses on the sample and on eight neighbours of it, whose operands are moved by an eps.
float64 has no wider type to judge by: within 64 eps of the largest element, or within 16 times of what PyTorch's own
result moves when every operand moves by 4 eps, where the call magnifies rounding; gradients within 2 eps of what flows
back. All other results: equal. Shape, type
and strides are PyTorch's, no operand is changed, and what raises in PyTorch raises the same type of exception.
A call that draws random numbers cannot give PyTorch's: of it the shape, the type and that a seed repeats it are judged.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from tessera.accuracy.judge import Loss, hold, judge
from tessera.aten.record import Record
from tessera.aten.switch import disable, enable, use
from tessera.ops.conformance.samples import Sample
from tessera.ops.table import VARIANTS

NOISE_EPS = 2.0
DOUBLE_EPS = 64.0
NUDGE_EPS = 4.0
NUDGE_LIMIT = 16.0
NEIGHBOURS = 8
LARGEST_WEIGHT = 1.5  # of the results in the sum that gradients are taken of
SEED = 7
# Operators that name places of elements in order; of equal elements PyTorch may name any.
UNORDERED = frozenset({"sort", "topk", "kthvalue", "median", "nanmedian", "mode"})
# Operators whose float64 kernels PyTorch wrote with constants in float32, such as a sixth; ours have them in float64.
FLOAT_CONSTANTS = frozenset({"hardsigmoid_backward"})
MOST_DIMS = 64  # beyond it PyTorch compares nothing: only inputs that must raise have more

Weigh = Callable[[torch.Size, torch.dtype], torch.Tensor]


@dataclass
class Outcome:
    """What a call gave: tensors (results, then gradients) or the exception; and whether it drew random numbers."""

    tensors: list[torch.Tensor]
    num_results: int = 0
    error: Exception | None = None
    random: bool = False


@dataclass
class Trial:
    """A sample run on PyTorch's kernels, on ours and in float64, in this order; float64 cannot run every sample.

    `given` are the operands as PyTorch's run left them, `record` says which operators ours called, `again` are later
    runs on our kernels.
    """

    sample: Sample
    theirs: Outcome
    given: Any
    ours: Outcome = field(default_factory=lambda: Outcome([]))
    given_to_ours: Any = None
    again: list[Outcome] = field(default_factory=list)
    reference: Outcome | None = None
    record: Record = field(default_factory=Record)

    @property
    def reached(self) -> bool:
        """Whether the sample calls an operator of ours."""
        return any(f"aten::{name}" in VARIANTS for name in self.record.calls)

    @property
    def random(self) -> bool:
        """Whether the sample draws random numbers; some entries put the generator back afterwards."""
        return self.theirs.random or any(map(_draws, self.record.calls))

    def torch_error(self) -> float:
        """The largest error of PyTorch's floating results, 0 where nothing measures it."""
        if self.reference is None or self.theirs.error or self.random:
            return 0.0
        both = zip(*(map(_parts, side) for side in self._both()), strict=False)
        pairs = [(a, b) for a, b in both if a.is_floating_point() and a.shape == b.shape]
        return max((hold(mine, exact).torch_loss.error for mine, exact in pairs if mine.numel()), default=0.0)

    def _both(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        assert self.reference is not None, "a trial without a float64 reference has nothing to pair"
        return self.theirs.tensors, self.reference.tensors

    def verdict(self, noise: float) -> str:
        """What is wrong, or an empty string.

        Where calls are watched, autograd and some functions take other formulas, PyTorch's own as well: each run is
        held against PyTorch's of its kind. Calls of the vendor's may differ from run to run; ours may not.
        """
        wrong = self._fault(noise)
        if wrong and self.record.calls:
            wrong = replace(self, theirs=seen_results_of(self.sample))._fault(noise)
        first, *later = self.again or [self.ours]
        if not wrong and not self.record.vendor and not all(_all_same(first.tensors, one.tensors) for one in later):
            wrong = "another result when it is called again"
        for one in self.again:
            if not wrong and not _all_same(self.ours.tensors, one.tensors):
                wrong = replace(self, ours=one)._fault(noise)
        return wrong

    def _fault(self, noise: float) -> str:
        """What is wrong with `ours`."""
        if self.ours.error is not None or self.theirs.error is not None:
            return _judge_errors(self.ours.error, self.theirs.error)
        if changed := self._changed():
            return changed
        if len(self.ours.tensors) != len(self.theirs.tensors):
            return f"{len(self.ours.tensors)} tensors where PyTorch gives {len(self.theirs.tensors)}"
        exact = self._references()
        for i, (mine, vendor, reference) in enumerate(zip(self.ours.tensors, self.theirs.tensors, exact, strict=True)):
            name = f"result {i}" if i < self.theirs.num_results else f"gradient {i - self.theirs.num_results}"
            wrong = layout_fault(mine, vendor, same_strides=i < self.theirs.num_results)
            if not wrong and not self.random:
                wrong = value_fault(mine, vendor, reference, noise)
                wrong = "" if wrong and self._another_tie(mine, vendor) else wrong
                wrong = "" if wrong and self._rounding_explains(i, mine, vendor, reference, noise) else wrong
            if wrong:
                return f"{name}: {wrong}"
        return ""

    def _another_tie(self, mine: torch.Tensor, vendor: torch.Tensor) -> bool:
        """Whether places in the first operand differ only where equal elements stand, of which PyTorch may name any.

        Places are either the result or where gradients went.
        """
        if not any(name.partition(".")[0] in UNORDERED for name in self.record.calls):
            return False
        x = self.sample.args[0].detach()
        x = x if x.dim() else x.view(1)
        same = _pick_the_same if mine.dtype is torch.int64 else _give_the_same
        return any(same(x, dim, mine, vendor) for dim in range(x.dim()))

    def _changed(self) -> str:
        """Whether our run changed an operand that PyTorch's leaves as it was."""
        sides = map(tensors, ((self.sample.args, self.sample.kwargs), self.given, self.given_to_ours))
        for was, vendor, mine in zip(*sides, strict=True):
            if _same_bits(was, vendor) and not _same_bits(was, mine):
                return "an operand was changed"
        return ""

    def _rounding_explains(
        self, i: int, mine: torch.Tensor, vendor: torch.Tensor, reference: torch.Tensor, noise: float
    ) -> bool:
        if vendor.dtype in (torch.float64, torch.complex128):
            return self._magnified(i, mine, vendor)
        mine, vendor, reference = _parts(mine), _parts(vendor), _parts(reference)
        if not vendor.is_floating_point() or vendor.shape != reference.shape:
            return False
        standard = hold(vendor, reference)
        near = [standard.torch_loss, *filter(None, (self._loss_near(i, turn) for turn in range(NEIGHBOURS)))]
        most = Loss(error=max(one.error for one in near), peak=max(one.peak for one in near))
        return judge(mine, replace(standard, torch_loss=most), noise=noise).ok

    def _loss_near(self, i: int, turn: int) -> Loss | None:
        """What PyTorch loses in tensor `i` on a neighbour of the sample, where it can be had."""
        moved = nudged(fresh((self.sample.args, self.sample.kwargs)), 1.0, turn)
        theirs = results_of(self.sample, *fresh(moved))
        reference = exact_results_of(self.sample, moved)
        if theirs.error is not None or reference.error is not None:
            return None
        pair = _parts(theirs.tensors[i]), _parts(reference.tensors[i])
        return hold(*pair).torch_loss if pair[0].shape == pair[1].shape else None

    def _magnified(self, i: int, mine: torch.Tensor, vendor: torch.Tensor) -> bool:
        """Whether a float64 result is off by no more than rounding of operands and of what is between explains."""
        if any(name.partition(".")[0] in FLOAT_CONSTANTS for name in self.record.calls):
            limit = NOISE_EPS * torch.finfo(torch.float32).eps
            return bool(torch.isclose(mine, vendor, rtol=limit, atol=0, equal_nan=True).all())
        args, kwargs = nudged(fresh((self.sample.args, self.sample.kwargs)), NUDGE_EPS, 0)
        with _Rounded():
            moved = results_of(self.sample, args, kwargs, _moved_weights)
        if moved.error is not None or moved.tensors[i].shape != vendor.shape:
            return False
        reach = torch.nan_to_num((moved.tensors[i] - vendor).abs())
        # Gradients are often small differences of what flows back, each of which is rounded.
        least = NOISE_EPS * torch.finfo(torch.float64).eps * LARGEST_WEIGHT if i >= self.theirs.num_results else 0.0
        return bool(((mine - vendor).abs() <= max(NUDGE_LIMIT * float(reach.max()), least)).all())

    def _references(self) -> list[torch.Tensor]:
        """The float64 results, or PyTorch's own where float64 gives other shapes or cannot be had."""
        found = self.reference
        if found is None or len(found.tensors) != len(self.theirs.tensors):
            return self.theirs.tensors
        pairs = zip(self.theirs.tensors, found.tensors, strict=True)
        return [exact if exact.shape == mine.shape else mine for mine, exact in pairs]


def _pick_the_same(x: torch.Tensor, dim: int, mine: torch.Tensor, vendor: torch.Tensor) -> bool:
    """Whether both name the same elements of `x` along `dim`, none of them twice."""
    if mine.dim() == x.dim() - 1:
        mine, vendor = mine.unsqueeze(dim), vendor.unsqueeze(dim)
    sizes = list(x.shape)
    if mine.dim() != x.dim() or any(mine.shape[d] != sizes[d] for d in range(x.dim()) if d != dim):
        return False
    if mine.numel() and not (int(mine.min()) >= 0 and int(mine.max()) < sizes[dim]):
        return False
    twice = mine.sort(dim)[0].diff(dim=dim).eq(0).any()
    return not bool(twice) and _same_bits(x.gather(dim, mine), x.gather(dim, vendor))


def _give_the_same(x: torch.Tensor, dim: int, mine: torch.Tensor, vendor: torch.Tensor) -> bool:
    """Whether both give equal elements of `x` along `dim` the same numbers, in any order among them."""
    if mine.shape != x.shape or vendor.shape != x.shape:
        return False

    def by_element(given: torch.Tensor) -> torch.Tensor:
        given, order = given.sort(dim)
        return given.gather(dim, x.gather(dim, order).sort(stable=True, dim=dim)[1])

    return _same_bits(by_element(mine), by_element(vendor))


def _draws(name: str) -> bool:
    packet, _, overload = name.partition(".")
    operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
    return torch.Tag.nondeterministic_seeded in operator.tags


def _parts(x: torch.Tensor) -> torch.Tensor:
    """A dense tensor of real numbers: complex ones as pairs."""
    x = x if x.layout is torch.strided else x.to_dense()
    return torch.view_as_real(x.resolve_conj()) if x.is_complex() else x


def tensors(value: Any) -> list[torch.Tensor]:
    return [leaf for leaf in tree_flatten(value)[0] if isinstance(leaf, torch.Tensor)]


def in_double(value: Any) -> Any:
    """Every floating tensor within `value` in float64, and what asks for a shorter type as well."""

    def widen(leaf: Any) -> Any:
        if isinstance(leaf, torch.Tensor) and leaf.is_floating_point():
            return leaf.detach().double().requires_grad_(leaf.requires_grad)
        if isinstance(leaf, torch.Tensor) and leaf.is_complex():
            return leaf.detach().to(torch.complex128).requires_grad_(leaf.requires_grad)
        if isinstance(leaf, torch.dtype) and leaf.is_complex:
            return torch.complex128
        return torch.float64 if isinstance(leaf, torch.dtype) and leaf.is_floating_point else leaf

    return tree_map(widen, value)


def nudged(value: Any, num_eps: float, turn: int) -> Any:
    """Every floating tensor within `value` with its elements moved up or down by so many eps, each turn others."""
    signs = torch.Generator().manual_seed(turn)

    def nudge(leaf: Any) -> Any:
        if not isinstance(leaf, torch.Tensor) or leaf.layout is not torch.strided:
            return leaf
        given = _parts(leaf.detach())
        if not given.is_floating_point():
            return leaf
        ways = torch.randint(0, 2, given.shape, generator=signs, dtype=torch.float64).mul_(2).sub_(1)
        moved = (given.double() * (1 + ways * (num_eps * torch.finfo(given.dtype).eps))).to(given.dtype)
        moved = torch.view_as_complex(moved.contiguous()) if leaf.is_complex() else moved
        return moved.requires_grad_(leaf.requires_grad)

    return tree_map(nudge, value)


class _Rounded(TorchDispatchMode):
    """Every new tensor that an operator gives is moved by an eps, as another order of roundings might."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if not func.is_view:
            given = set(map(id, tensors((args, kwargs))))
            for x in tensors(found):
                if id(x) not in given and x.dtype in (torch.float64, torch.complex128) and x.numel():
                    x.copy_(nudged(x, 1.0, x.numel()))
        return found


def layout_fault(ours: torch.Tensor, theirs: torch.Tensor, same_strides: bool = True) -> str:
    """How type, shape or strides differ from PyTorch's, or an empty string."""
    if ours.dtype is not theirs.dtype or ours.shape != theirs.shape:
        return f"{ours.dtype} {list(ours.shape)} where PyTorch gives {theirs.dtype} {list(theirs.shape)}"
    if ours.layout is not torch.strided or not same_strides or theirs.numel() <= 1:
        return ""
    pairs = zip(ours.shape, ours.stride(), theirs.stride(), strict=True)
    differ = any(size > 1 and mine != vendor for size, mine, vendor in pairs)
    return f"strides {ours.stride()} where PyTorch gives {theirs.stride()}" if differ else ""


def value_fault(ours: torch.Tensor, theirs: torch.Tensor, reference: torch.Tensor, noise: float = 0.0) -> str:
    """How the values are outside the rule, given PyTorch's result and the one in float64; or an empty string."""
    if theirs.layout is not torch.strided:
        ours, theirs, reference = (x.to_dense() for x in (ours, theirs, reference))
    if theirs.is_complex():
        parts = [torch.view_as_real(x.resolve_conj()) for x in (ours, theirs, reference.to(torch.complex128))]
        return value_fault(parts[0], parts[1], parts[2], noise)
    if not theirs.is_floating_point():
        return "" if torch.equal(ours, theirs) else _first_difference(ours, theirs)
    if theirs.dtype is torch.float64:
        return _double_fault(ours, theirs)
    least = NOISE_EPS * torch.finfo(theirs.dtype).eps
    verdict = judge(_without_overflow(ours, theirs, reference), hold(theirs, reference), noise=max(noise, least))
    return verdict.reason


def _without_overflow(ours: torch.Tensor, theirs: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """`ours` with PyTorch's elements where PyTorch overflows on the way to a number that the type holds, and ours is
    that number."""
    limits = torch.finfo(theirs.dtype)
    right = torch.isclose(ours.double(), reference.double(), rtol=NOISE_EPS * limits.eps, atol=0)
    return torch.where(~theirs.isfinite() & (reference.abs() <= limits.max) & right, theirs, ours)


def _double_fault(ours: torch.Tensor, theirs: torch.Tensor) -> str:
    finite = theirs[theirs.isfinite()]
    scale = float(finite.abs().max()) if finite.numel() else 0.0
    limit = DOUBLE_EPS * torch.finfo(torch.float64).eps * scale
    close = torch.isclose(ours, theirs, rtol=0, atol=limit, equal_nan=True)
    return "" if bool(close.all()) else f"beyond {DOUBLE_EPS:g} eps: {_first_difference(ours, theirs, close)}"


def _first_difference(ours: torch.Tensor, theirs: torch.Tensor, close: torch.Tensor | None = None) -> str:
    differ = ours != theirs if close is None else ~close
    place = tuple(differ.nonzero()[0].tolist())
    return f"{ours[place].item()} where PyTorch gives {theirs[place].item()}, at {list(place)} of {list(ours.shape)}"


def _judge_errors(ours: Exception | None, theirs: Exception | None) -> str:
    if type(ours) is type(theirs):
        return ""
    if ours is None:
        return f"no error where PyTorch raises {_words(theirs)}"
    return f"raises {_words(ours)} where PyTorch " + ("raises none" if theirs is None else f"raises {_words(theirs)}")


def _words(error: Exception | None) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}({lines[0][:120] if lines else ''})"


@functools.lru_cache(maxsize=256)
def _weights(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Made once, by PyTorch's own run, which comes first."""
    return torch.linspace(0.5, LARGEST_WEIGHT, shape.numel(), dtype=torch.float64).view(shape).to(dtype)


def _moved_weights(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """What flows back is an operand of the gradients, and moves with the others."""
    moved: torch.Tensor = nudged(_weights(shape, dtype), NUDGE_EPS, 1)
    return moved


def gradients_of(found: list[torch.Tensor], inputs: list[torch.Tensor], weigh: Weigh) -> list[torch.Tensor]:
    """The gradients of a weighted sum of all results by every input that asks for one."""
    found = [x for x in found if x.requires_grad]
    if not found or not inputs:
        return []
    weights = [weigh(x.shape, x.dtype) for x in found]
    return [x for x in torch.autograd.grad(found, inputs, weights, allow_unused=True) if x is not None]


def _generator_state() -> bytes:
    return torch.get_rng_state().numpy().tobytes()


def results_of(sample: Sample, args: Any, kwargs: Any, weigh: Weigh = _weights) -> Outcome:
    """Call the sample from the fixed seed and collect what comes out. Exceptions are results: both sides may raise."""
    torch.manual_seed(SEED)
    before = _generator_state()
    try:
        value = sample.call(*args, **kwargs)
        found = tensors(value)
        kept = [x.detach() for x in found]
        inputs = [x for x in tensors((args, kwargs)) if x.requires_grad] if sample.gradients else []
        kept += gradients_of(found, inputs, weigh)
    except Exception as error:
        return Outcome([], error=error)
    return Outcome(kept, num_results=len(found), random=before != _generator_state())


def exact_results_of(sample: Sample, operands: Any) -> Outcome:
    """The same in float64, which also is the type that whole numbers and numbers of Python become."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return results_of(sample, *in_double(operands))
    finally:
        torch.set_default_dtype(before)


class _Seen(TorchDispatchMode):
    """Sees calls, and changes nothing."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return func(*args, **(kwargs or {}))


def seen_results_of(sample: Sample) -> Outcome:
    """PyTorch's results where calls are watched."""
    with _Seen():
        return results_of(sample, *fresh((sample.args, sample.kwargs)))


def fresh(value: Any) -> Any:
    """A copy of operands with their strides, so that a call in place does not touch the sample."""
    return tree_map(_clone, value)


def _clone(leaf: Any) -> Any:
    if not isinstance(leaf, torch.Tensor):
        return copy.deepcopy(leaf) if isinstance(leaf, torch.Generator) else leaf
    if leaf.layout is not torch.strided or leaf.is_quantized or leaf.is_meta:
        return leaf
    with torch.no_grad():
        whole = leaf.detach()
        room = torch.empty(0, dtype=whole.dtype).set_(whole.untyped_storage().clone())
        return room.as_strided(whole.shape, whole.stride(), whole.storage_offset()).requires_grad_(leaf.requires_grad)


def expect(sample: Sample) -> Trial:
    """A sample on PyTorch's kernels; call it where ours do not serve."""
    given = fresh((sample.args, sample.kwargs))
    return Trial(sample, results_of(sample, *given), given)


@contextmanager
def served() -> Iterator[None]:
    """Our kernels serve, wherever there is one."""
    enable("always")
    try:
        yield
    finally:
        disable()


def run_ours(trial: Trial) -> None:
    """The same on our kernels, which must serve, three times: the first run is watched, the second is planned, the
    third is recalled."""
    trial.given_to_ours = fresh((trial.sample.args, trial.sample.kwargs))
    with use("always") as trial.record:
        trial.ours = results_of(trial.sample, *trial.given_to_ours)
    if not trial.reached:
        return
    trial.again = [_run(trial.sample, fresh) for _ in range(2)]


def add_reference(trial: Trial) -> None:
    """The same in float64, on PyTorch's kernels, where it can be had."""
    if trial.theirs.error is None and not trial.random:
        reference = exact_results_of(trial.sample, fresh((trial.sample.args, trial.sample.kwargs)))
        trial.reference = reference if reference.error is None else None


def _run(sample: Sample, change: Callable[[Any], Any]) -> Outcome:
    return results_of(sample, *change((sample.args, sample.kwargs)))


def _all_same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return len(first) == len(second) and all(map(_same_bits, first, second))


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.layout is not torch.strided or a.is_quantized or a.is_meta or a.dim() > MOST_DIMS:
        return True
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())
