"""Two loss curves, step by step: does rounding explain how they part, and if not, when and how do they?

Rounding makes two runs of one program part, and training makes a small difference larger from step to step, so no fixed
tolerance fits. What fits is measured: runs of the reference whose roundings differ (`rounding_spread`) part from it as
an innocent candidate would. With K of them, p_k their losses, b the reference's and d the candidate's difference, under
rounding alone

    d_t / sigma_t  follows Student's t with K degrees of freedom,
    sigma_t^2 = max over s <= t of mean over k of (p_k,s - b_s)^2

as all are drawn alike (the maximum: curves cross, and that they meet for a step means nothing). A step is explained if
|d_t| is within the quantile that all T steps together leave by chance once in a hundred curves. More runs make a closer
limit: over 100 steps 8 of them allow 7 sigma, 3 allow 28, 1 allows 6,400.

Without such runs there is only a wide limit, the reference's own scatter from step to step: two runs that have nothing
but their statistics in common part by that much. Within it nothing can be told, and that is said.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from tessera.accuracy.capture.state import neighbours
from tessera.accuracy.capture.store import INDEX, read_dump
from tessera.accuracy.capture.value import scalar_of
from tessera.accuracy.student import t_quantile
from tessera.core.errors import UsageError

# Of curves that part by rounding alone, this share may be accused.
LEVEL = 0.01
Curve = dict[int, float]
Way = Literal["noise", "undecided", "diverged", "offset", "slope"]


@dataclass(frozen=True, kw_only=True)
class LossStep:
    """One step of both curves. limit: how far rounding may part them there."""

    step: int
    candidate: float
    reference: float
    limit: float

    @property
    def difference(self) -> float:
        """Candidate less reference."""
        return self.candidate - self.reference


@dataclass(frozen=True, kw_only=True)
class LossVerdict:
    """The answer of `compare_losses`.

    way: how the curves part: `noise` (rounding explains all), `undecided` (within the reference's scatter, and no runs
    tell what rounding does), `offset` (by one amount from the first step), `slope` (by more and more), `diverged` (from
    one step on). step: the first that rounding does not explain. spread: how many runs told what rounding does.
    """

    way: Way
    reason: str
    step: int | None
    steps: tuple[LossStep, ...]
    spread: int

    @property
    def ok(self) -> bool:
        """Whether rounding explains the candidate's curve."""
        return self.way == "noise"

    def __str__(self) -> str:
        return self.reason

    def to_json(self) -> str:
        """The verdict as JSON text; a loss that is no finite number is null."""
        rows = [{**asdict(row), "difference": row.difference} for row in self.steps]
        plain = [{name: value if math.isfinite(value) else None for name, value in row.items()} for row in rows]
        return json.dumps({**asdict(self), "steps": plain}, indent=2) + "\n"


def compare_losses(
    candidate: Sequence[float] | Curve,
    reference: Sequence[float] | Curve,
    spread: Sequence[Sequence[float] | Curve] = (),
) -> LossVerdict:
    """Judge a loss curve against another.

    Args:
        candidate, reference: the losses of both runs, in order, or by step.
        spread: losses of the reference's program, run again with other roundings (`rounding_spread`).

    Errors: `UsageError` if the curves share fewer than two steps, or the reference's is not finite.
    """
    ours, theirs, others = _curve(candidate), _curve(reference), [_curve(run) for run in spread]
    steps = sorted(set(ours).intersection(theirs, *others))
    if len(steps) < 2:
        raise UsageError(
            f"the curves share {len(steps)} steps of {len(ours)} and {len(theirs)}; give losses of the same two or "
            "more steps, from the same batches"
        )
    base = np.array([theirs[step] for step in steps])
    runs = np.array([[run[step] for step in steps] for run in others]).reshape(len(others), len(steps))
    if not (np.isfinite(base).all() and np.isfinite(runs).all()):
        raise UsageError("a loss of the reference is not a finite number; compare up to the step before")
    limits = _limits(base, runs)
    rows = tuple(
        LossStep(step=step, candidate=ours[step], reference=theirs[step], limit=float(limit))
        for step, limit in zip(steps, limits, strict=True)
    )
    return _verdict(rows, len(others))


def _curve(losses: Sequence[float] | Curve) -> Curve:
    return losses if isinstance(losses, dict) else dict(enumerate(losses))


def _limits(base: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """How far the candidate may be off the reference at each step."""
    if len(runs):
        sigma: np.ndarray = np.sqrt(np.maximum.accumulate(((runs - base) ** 2).mean(0)))
        # Losses are written with so many digits, or rounded to a type: below one float32 rounding nothing is meant.
        explained: np.ndarray = np.maximum(t_quantile(LEVEL / len(base), len(runs)) * sigma, 2.0**-23 * np.abs(base))
        return explained
    off = np.diff(base)
    # Half of the squared steps' size is the scatter around a curve that is smooth from one step to the next.
    scatter = math.sqrt(float(np.median(off**2)) / 0.455 / 2)
    return np.full(len(base), t_quantile(LEVEL / len(base), len(off)) * scatter * math.sqrt(2))


def _verdict(rows: tuple[LossStep, ...], spread: int) -> LossVerdict:
    first = next((k for k, row in enumerate(rows) if not abs(row.difference) <= row.limit), None)
    if first is None:
        way: Way = "noise" if spread else "undecided"
        return LossVerdict(way=way, reason=_quiet(rows, spread), step=None, steps=rows, spread=spread)
    way, words = _way(rows, first)
    row = rows[first]
    limit = f"rounding explains {row.limit:.2g}" if spread else f"the reference's own scatter explains {row.limit:.2g}"
    reason = f"{words}; at step {row.step} the loss is off by {row.difference:+.3g} and {limit}"
    return LossVerdict(way=way, reason=reason, step=row.step, steps=rows, spread=spread)


def _quiet(rows: tuple[LossStep, ...], spread: int) -> str:
    worst = max(rows, key=lambda row: abs(row.difference))
    far = f"the largest difference of {len(rows)} steps is {worst.difference:+.2g}, at step {worst.step}"
    if spread:
        return f"noise: {far}, where rounding explains {worst.limit:.2g}, as {spread} runs with other roundings show"
    return (
        f"undecided: {far}, within what the reference moves from step to step ({worst.limit:.2g}); "
        "whether rounding explains it can be told from runs of the reference with other roundings"
    )


def _way(rows: tuple[LossStep, ...], first: int) -> tuple[Way, str]:
    """Which of three shapes, each with one size to fit, leaves the least of the differences."""
    off = np.array([row.difference for row in rows])
    where = f"diverged at step {rows[first].step}"
    bad = next((k for k, value in enumerate(off) if not math.isfinite(value)), None)
    if bad is not None and bad == first:
        return "diverged", f"{where}: the loss is {rows[bad].candidate}"
    off = off if bad is None else off[:bad]
    count = np.arange(len(off), dtype=np.float64)
    shapes: tuple[tuple[Way, np.ndarray], ...] = (
        ("offset", np.ones(len(off))), ("slope", count), ("diverged", (count >= max(first, 1)).astype(np.float64))
    )  # fmt: skip
    left = {way: _left(off, shape) for way, shape in shapes}
    rise = float(off @ count / (count @ count))
    # A slope shows as soon as it is larger than the limit; what shows much later began later.
    shown = next((k for k in range(len(off)) if abs(rise) * k > rows[k].limit), len(off))
    if first > 2 * shown:
        left.pop("slope")
    best = min(left, key=left.__getitem__)
    size = float(np.mean(off))
    if best == "offset" and first == 0:
        return best, f"offset from step {rows[0].step}: {size:+.3g} on average"
    if best == "slope":
        return best, f"slope differs: by {rise:+.3g} more each step"
    return "diverged", where


def _left(off: np.ndarray, shape: np.ndarray) -> float:
    power = float(shape @ shape)
    return math.inf if power == 0 else float(((off - (off @ shape) / power * shape) ** 2).sum())


def rounding_spread(
    train: Callable[[nn.Module], Sequence[float]], model: nn.Module, *, runs: int = 8
) -> list[list[float]]:
    """Losses of the reference with other roundings, to hold a candidate's against.

    Each run trains a copy of which, before every forward pass, each weight is moved to one of its two neighbours in its
    type at random: as much as computing it in another order would.

    Args:
        train: trains a model, from the same batches each time, and returns its losses.
        model: as it is before the first step. It is not changed.
    """
    found = []
    for number in range(runs):
        copied = copy.deepcopy(model)
        generator = torch.Generator().manual_seed(number)
        handle = copied.register_forward_pre_hook(lambda module, _, g=generator: _nudge(module, g))
        found.append([float(loss) for loss in train(copied)])
        handle.remove()
    return found


@torch.no_grad()
def _nudge(module: nn.Module, generator: torch.Generator) -> None:
    for weight in module.parameters():
        if weight.is_floating_point():
            weight.copy_(neighbours(weight, generator))


# --- files ---


def read_losses(path: Path) -> Curve:
    """A loss curve from a file or a dump.

    A file has a JSON list of numbers, or lines of JSON objects with `loss` and perhaps `step`, or comma-separated
    columns of these names, or one number a line. Of a dump made with steps the output `loss` is taken.
    Errors: `UsageError` if there is no such curve in it.
    """
    if path.is_dir():
        return _from_dump(path)
    if not path.is_file():
        raise UsageError(f"{path} is neither a file of losses nor a dump; give JSON, JSON lines, CSV or a dump")
    text = path.read_text(encoding="utf-8").strip()
    try:
        rows = list(_rows(text))
        curve = dict(_step_and_loss(row, number) for number, row in enumerate(rows))
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} holds no losses ({error}); give numbers, or `loss` and `step` in each row") from error
    if len(curve) < len(rows):
        raise UsageError(f"{path} has {len(rows)} rows for {len(curve)} steps; give each step once")
    return curve


def _rows(text: str) -> Iterator[object]:
    lines = [line for line in text.splitlines() if line.strip()]
    if text.startswith("["):
        yield from json.loads(text)
    elif lines and ("," in lines[0] or lines[0].strip() in ("loss", "step")) and not text.startswith("{"):
        yield from csv.DictReader(io.StringIO(text), skipinitialspace=True)
    else:
        yield from (json.loads(line) if line.startswith("{") else line for line in lines if line.strip() != "loss")


def _step_and_loss(row: object, number: int) -> tuple[int, float]:
    if isinstance(row, dict):
        if "loss" not in row:
            raise ValueError(f"row {number + 1} has {', '.join(map(str, row)) or 'nothing'} and no loss")
        return int(row.get("step", number)), float(row["loss"])
    return number, float(str(row))


def _from_dump(path: Path) -> Curve:
    if not (path / INDEX).is_file():
        raise UsageError(f"{path} is no dump: there is no {INDEX} in it; give a file of losses or a dump")
    finals = read_dump(path).streams["own"].finals
    named = {final.name: final.value for final in finals if final.value.numel == 1}
    marked = {name.rpartition(" ")[2]: value for name, value in named.items() if name.startswith("output")}
    curve = {int(step) - 1: scalar_of(value) for step, value in marked.items() if step.isdigit()}
    if not curve:
        raise UsageError(f"{path} has no loss for each step: no output of one number; make it with --steps")
    return curve
