"""Operators that are suspicious on the inputs that they got, judged again on others of the same kind.

One input may be an unlucky draw. With other inputs the same operator has an excess each time,

    x = max(error / (2 * PyTorch's), peak / (4 * PyTorch's)),        `judge.py`, which allows 1

and over n inputs the mean of log x is tested against 0 with Student's t: below, the operator loses no more than the
rule allows and it is rounding; above, it always loses more, and it is wrong. Else it stays suspicious. The input that
drew suspicion is not counted, for it was chosen for its excess.

Other inputs of the same kind are each tensor's own elements, drawn anew with replacement. Integers, such as indices,
and flags stay.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils._pytree import tree_map

from tessera.accuracy.compare.kernels import KernelVerdict, results
from tessera.accuracy.double import widen
from tessera.accuracy.judge import ERROR_LIMIT, PEAK_LIMIT, hold, judge
from tessera.accuracy.result import Class, OpCall
from tessera.accuracy.student import t_quantile

Context = Callable[[], AbstractContextManager[object]]
# How often an operator may be decided wrongly.
LEVEL = 0.01


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What other inputs say. verdict: rounding, wrong, or suspicious if they do not tell. excess: of each of them."""

    verdict: Class
    excess: tuple[float, ...]
    reason: str


def decide_all(
    verdicts: Mapping[int, KernelVerdict], seeds: int, context: Context, native: Context
) -> dict[int, KernelVerdict]:
    """The same verdicts, with suspicious ones decided by so many other inputs each; none: as they are."""
    return {
        index: _decided(row, seeds, context, native) if seeds and row.verdict == "suspicious" else row
        for index, row in verdicts.items()
    }


def _decided(row: KernelVerdict, seeds: int, context: Context, native: Context) -> KernelVerdict:
    if row.call is None or row.got is None or not _repeats(row.call, row.got, context):
        return replace(row, reason=f"{row.reason}; alone it does not give the same again, so other inputs tell nothing")
    found = decide(row.call, seeds, context, native)
    return replace(row, verdict=found.verdict, reason=f"{row.reason}; {found.reason}")


def _repeats(call: OpCall, got: torch.Tensor, context: Context) -> bool:
    """Whether the operator gives what it gave in the run: if not, what is repeated is another kernel."""
    outputs = _run(call, context)
    return any(made.shape == got.shape and torch.equal(made, got) for made in outputs)


def decide(call: OpCall, seeds: int, context: Context, native: Context) -> Decision:
    """Judge an operator on other inputs. context: where the candidate's kernel runs; native: PyTorch's own."""
    excess = []
    for seed in range(seeds):
        try:
            excess.append(_excess(_redrawn(call, seed), context, native))
        except RuntimeError as error:  # Some operators take no such inputs: a factorisation, for one.
            words = " ".join(str(error).split())[:100]
            return Decision(verdict="suspicious", excess=tuple(excess), reason=f"other inputs cannot be made: {words}")
    return _tested(excess)


def _tested(excess: list[float]) -> Decision:
    if len(excess) < 2:
        return Decision(verdict="suspicious", excess=tuple(excess), reason="one other input tells nothing; give more")
    # An exact result has no logarithm; 2^-20 is as good.
    logs = np.log(np.clip(np.array(excess), 2.0**-20, 2.0**60))
    middle = float(logs.mean())
    reach = t_quantile(LEVEL, len(logs) - 1) * float(logs.std(ddof=1)) / math.sqrt(len(logs))
    low, high = math.exp(middle - reach), math.exp(middle + reach)
    loses = f"{math.exp(middle):.2g} times what is allowed ({low:.2g} to {high:.2g})"
    words = f"on {len(logs)} other inputs it loses {loses}"
    verdict: Class = "wrong" if low > 1 else "rounding" if high < 1 else "suspicious"
    return Decision(verdict=verdict, excess=tuple(excess), reason=words)


def _excess(call: OpCall, context: Context, native: Context) -> float:
    ours, theirs = _run(call, context), _run(call, native)
    func, args, kwargs = call
    exact = _run((func, *tree_map(widen, (args, kwargs))), native)
    worst = 0.0
    for mine, other, wide in zip(ours, theirs, exact, strict=True):
        if mine.is_floating_point():
            found = judge(mine, hold(other, wide))
            worst = max(worst, found.ratio / ERROR_LIMIT, found.peak_ratio / PEAK_LIMIT)
    return worst


def _run(call: OpCall, context: Context) -> list[torch.Tensor]:
    """Run the operator on copies, for it may write to what it gets."""
    func, args, kwargs = tree_map(lambda leaf: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf, call)
    with context(), torch.no_grad():
        return results(func(*args, **kwargs))


def _redrawn(call: OpCall, seed: int) -> OpCall:
    generator = torch.Generator().manual_seed(seed)

    def redraw(leaf: object) -> object:
        if not isinstance(leaf, torch.Tensor) or not leaf.is_floating_point() or leaf.numel() < 2:
            return leaf
        places = torch.randint(leaf.numel(), (leaf.numel(),), generator=generator).to(leaf.device)
        drawn = leaf.flatten()[places].view(leaf.shape)
        return torch.empty_like(leaf).copy_(drawn)

    func, args, kwargs = call
    return (func, *tree_map(redraw, (args, kwargs)))
