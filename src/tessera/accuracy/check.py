"""The check: is a candidate right, and if not, which operator is to blame?

Three questions, each with its own evidence, so that rounding never stands accused:

1. Is it the same computation? Candidate and reference both run in float64, where rounding is 1e-16 and every difference
   of the programs stands out, however small (`blame.py`).
2. Does every kernel compute what it should? Each operator of the candidate's run in its own type is repeated, on the
very
   inputs that it got, by PyTorch's own kernel and in float64 (`kernels.py`).
3. Is it as careful in its own type? Where programs are equal in float64 but one rounds where the other does not (a
missing
   upcast, a cast that saturates), errors against float64 part where the operators differ (`precision.py`).

If all three answers are yes, what is left of a difference is rounding, and the verdict is `clean`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.capture.keep import Keep
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.recorder import Observer
from tessera.accuracy.capture.records import Trace
from tessera.accuracy.capture.run import Job, MakeOptimizer, Setup, plain_descent, watch, watch_previous
from tessera.accuracy.capture.state import main_type, moved, types_like
from tessera.accuracy.compare.kernels import KernelJudge, KernelVerdict
from tessera.accuracy.conclude import Evidence, conclude
from tessera.accuracy.dumps import against_dump
from tessera.accuracy.result import CheckResult
from tessera.accuracy.seeds import decide_all
from tessera.core.errors import UsageError

Context = Callable[[], AbstractContextManager[object]]
View = Literal["both", "isolated"]
_ISOLATED = "no operator loses more on its own inputs than PyTorch's own kernels do"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that a check runs, so that any of its runs can be repeated."""

    candidate: nn.Module
    reference: nn.Module
    job: Job
    tape: RandomTape
    ours: Setup
    theirs: Setup
    ours_double: Setup
    theirs_double: Setup
    seeds: int = 0

    def watch_candidate(self, *, double: bool, observers: Sequence[Observer] = ()) -> Trace:
        """Run the candidate."""
        return watch(self.candidate, self.job, self.ours_double if double else self.ours, self.tape, observers)

    def watch_reference(self, *, double: bool, observers: Sequence[Observer] = ()) -> Trace:
        """Run the reference."""
        return watch(self.reference, self.job, self.theirs_double if double else self.theirs, self.tape, observers)

    def decided(self, judge: KernelJudge, native: Context) -> Mapping[int, KernelVerdict]:
        """The judgements on kernels, suspicious ones decided by other inputs."""
        return decide_all(judge.verdicts, self.seeds, self.ours.context, native)

    def previous(self, double: bool) -> Trace:
        """The candidate's call before the watched one."""
        return watch_previous(self.candidate, self.job, self.ours_double if double else self.ours, self.tape)

    def moved(self, names: frozenset[str]) -> Trace:
        """The candidate in float64, with the weights of these names moved by a rounding of their own type."""
        with moved(self.candidate, names):
            return self.watch_candidate(double=True)

    def keep(self, side: str, double: bool, indices: frozenset[int]) -> Keep:
        """Repeat a run (`candidate` or `reference`) for the full tensors of some operators."""
        kept = Keep(indices)
        run = self.watch_candidate if side == "candidate" else self.watch_reference
        run(double=double, observers=[kept])
        return kept


# What a reference is called that is the candidate's own program on PyTorch's own kernels.
OWN_PROGRAM = ("native", "float64")


def check(
    candidate: nn.Module,
    inputs: object,
    *,
    reference: nn.Module | str | Path | None = None,
    backward: bool = False,
    steps: int = 0,
    optimizer: MakeOptimizer = plain_descent,
    reference_optimizer: MakeOptimizer | None = None,
    context: Context = nullcontext,
    native: Context = nullcontext,
    view: View = "both",
    seeds: int = 0,
) -> CheckResult:
    """Judge a candidate against a reference and name the operator that is wrong.

    Args:
        candidate: the model to judge, in the type to judge it in.
        inputs: example inputs: a tensor, a tuple of positional or a dict of keyword arguments.
        reference: the model that is right; None, `"native"` or `"float64"` (both are always used): the candidate's own
            program on PyTorch's own kernels; any other path: a dump of the right run. A model is given the candidate's
            types, and need not have its module names or structure.
        backward: judge gradients as well.
        steps: judge that many steps of training with `optimizer`.
        reference_optimizer: what the reference trains with; None: the same. It judges an optimizer of one's own.
        context: makes the context in which the candidate's kernels run, entered outside of the check's own watching.
        native: makes the context in which PyTorch's own kernels run while `context` is open.
        view: `both`: runs from end to end, whose errors accumulate, and every operator on its own inputs; `isolated`:
            the latter alone. It makes one run and widens one operator at a time, so a model that fills half of the
            memory can be checked.
        seeds: judge an operator that is suspicious again on so many other inputs, which decide.

    Errors: `UsageError` if the candidate is no module, if the reference cannot be run on the inputs, if one is given
    for the isolated view, or if a reference's optimizer is given where none would be used.
    """
    if not isinstance(candidate, nn.Module):
        raise UsageError(f"the candidate is a {type(candidate).__name__}; give a torch.nn.Module")
    if isinstance(reference, str) and reference in OWN_PROGRAM:
        reference = None
    if reference_optimizer is not None and (not steps or isinstance(reference, (str, Path))):
        raise UsageError("reference_optimizer trains a reference model; give steps=N and no dump as the reference")
    if view == "isolated":
        if reference is not None or reference_optimizer is not None:
            raise UsageError("the isolated view judges kernels, not programs; leave out the reference or view both")
        plan = _plan(candidate, inputs, candidate, backward, steps, optimizer, context)
        return _isolated(replace(plan, seeds=seeds), native)
    if isinstance(reference, (str, Path)):
        plan = _plan(candidate, inputs, candidate, backward, steps, optimizer, context)
        return against_dump(_live(replace(plan, seeds=seeds), native), plan, Path(reference), Call.of(inputs))
    plan = _plan(candidate, inputs, reference or candidate, backward, steps, optimizer, context)
    plan = _trained_by(replace(plan, seeds=seeds), reference_optimizer)
    alone = reference is None and reference_optimizer is None
    result = _judged(plan, native, alone=alone)
    culprit = result.culprit
    if plan.job.previous is not None and culprit is not None and culprit.kind == "weight" and "buffer" in culprit.where:
        # A buffer that differs at the start was made so by the previous call: look at a first call instead.
        first = _judged(replace(plan, job=replace(plan.job, previous=None)), native, alone=alone)
        return result if first.ok else first
    return result


def _judged(plan: Plan, native: Context, *, alone: bool) -> CheckResult:
    """Make all runs and conclude. alone: the candidate is its own reference."""
    theirs = plan.watch_reference(double=False)
    if theirs.error:
        raise UsageError(
            f"the reference cannot be run on these inputs: {_line(theirs.error)}; give inputs that it accepts"
        )
    judge = KernelJudge(native)
    ours = plan.watch_candidate(double=False, observers=[judge])
    again = plan.watch_candidate(double=False)
    theirs_double = plan.watch_reference(double=True)
    ours_double = theirs_double if alone else plan.watch_candidate(double=True)
    evidence = Evidence(
        ours=ours,
        again=again,
        theirs=theirs,
        ours_double=None if ours_double.error else ours_double,
        theirs_double=None if theirs_double.error else theirs_double,
        kernels=plan.decided(judge, native),
        notes=tuple(f"no float64 run: {_line(trace.error)}" for trace in (theirs_double,) if trace.error),
    )
    return conclude(evidence, plan)


def _isolated(plan: Plan, native: Context) -> CheckResult:
    """One run, in which every operator is judged on the inputs that it got."""
    judge = KernelJudge(native)
    ours = plan.watch_candidate(double=False, observers=[judge])
    evidence = Evidence(
        ours=ours,
        again=ours,
        theirs=ours,
        ours_double=None,
        theirs_double=None,
        kernels=plan.decided(judge, native),
    )
    result = conclude(evidence, plan)
    return replace(result, reason=_ISOLATED) if result.ok else result


def _live(plan: Plan, native: Context) -> Evidence:
    """The candidate's own runs; as its reference it has itself until another takes its place."""
    judge = KernelJudge(native)
    ours = plan.watch_candidate(double=False, observers=[judge])
    exact = plan.watch_candidate(double=True)
    return Evidence(
        ours=ours,
        again=plan.watch_candidate(double=False),
        theirs=ours,
        ours_double=None if exact.error else exact,
        theirs_double=None,
        kernels=plan.decided(judge, native),
        notes=(f"no float64 run: {_line(exact.error)}",) if exact.error else (),
    )


def _plan(
    candidate: nn.Module,
    inputs: object,
    reference: nn.Module,
    backward: bool,
    steps: int,
    optimizer: MakeOptimizer,
    context: Context,
) -> Plan:
    calls = tuple(Call.of(item) for item in inputs) if isinstance(inputs, list) and steps else (Call.of(inputs),)
    previous = None if steps or any(call.has_state for call in calls) else calls[0].rolled()
    dtype = main_type(candidate)
    types = {} if candidate is reference else types_like(reference, candidate)
    return Plan(
        candidate=candidate,
        reference=reference,
        job=Job(calls=calls, previous=previous, backward=backward, steps=steps, optimizer=optimizer),
        tape=RandomTape(),
        ours=Setup(inputs=dtype, context=context),
        theirs=Setup(dtypes=types, inputs=dtype),
        ours_double=Setup(inputs=dtype, double=True),
        theirs_double=Setup(dtypes=types, inputs=dtype, double=True),
    )


def _trained_by(plan: Plan, optimizer: MakeOptimizer | None) -> Plan:
    """The plan with an optimizer of its own for the reference."""
    return replace(
        plan,
        theirs=replace(plan.theirs, optimizer=optimizer),
        theirs_double=replace(plan.theirs_double, optimizer=optimizer),
    )


def _line(error: str) -> str:
    return " ".join(error.split())[:200]
