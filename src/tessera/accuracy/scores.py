"""A score moved: is it noise, and if it is not, which operators carry it?

Both runs answer the same questions, so the test is a paired one: under noise alone each difference might as well have
the other sign. The p-value is the share of sign patterns whose mean is as far off zero as the observed one; for answers
that are right or wrong that is the exact binomial test on the questions that only one run answers rightly
(McNemar, 1947).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tessera.core.errors import UsageError

LEVEL = 0.05
# Normal quantiles of a two-sided test at 5 % that sees a true difference with 80 % probability.
_QUANTILES = 1.960 + 0.842
_FLIPS = 20_000


@dataclass(frozen=True, kw_only=True)
class ScoreVerdict:
    """Whether a score moved by more than chance.

    moved: the mean difference, candidate less reference. p: how probable one so large is by chance. needed: questions
    that would tell a difference of this size in four of five tries; None if there is no difference.
    """

    moved: float
    p: float
    questions: int
    needed: int | None

    @property
    def noise(self) -> bool:
        """Whether chance explains it."""
        return self.p >= LEVEL

    def __str__(self) -> str:
        facts = f"the score moved by {self.moved:+.4g} on {self.questions} questions (p = {self.p:.2g})"
        if not self.noise:
            return f"not noise: {facts}"
        if self.needed is None:
            return f"no difference: {facts}"
        few = f", n is too small, {self.needed:,} questions would tell" if self.needed > self.questions else ""
        return f"noise{few}: {facts}"


def compare_scores(candidate: Sequence[float], reference: Sequence[float]) -> ScoreVerdict:
    """Judge the scores of two runs, question by question.

    Errors: `UsageError` if they do not belong to the same two or more questions, or are not finite.
    """
    if len(candidate) != len(reference) or len(candidate) < 2:
        raise UsageError(
            f"there are {len(candidate)} scores of the candidate and {len(reference)} of the reference; "
            "give one for each question, for the same two or more questions"
        )
    off = np.asarray(candidate, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    if not np.isfinite(off).all():
        raise UsageError("a score is not a finite number; leave out questions that could not be scored, in both runs")
    moved, spread = float(off.mean()), float(off.std(ddof=1))
    needed = None if moved == 0 else max(2, math.ceil((_QUANTILES * spread / moved) ** 2))
    return ScoreVerdict(moved=moved, p=_probability(off), questions=len(off), needed=needed)


def _probability(off: np.ndarray) -> float:
    changed = off[off != 0]
    if changed.size == 0:
        return 1.0
    if np.unique(np.abs(changed)).size == 1:
        return _binomial(int((changed > 0).sum()), int(changed.size))
    signs = np.random.default_rng(0).integers(0, 2, size=(_FLIPS, changed.size), dtype=np.int8) * 2 - 1
    sums = np.abs(signs @ changed)
    # The observed pattern is one of them, so p is never zero.
    return float((1 + (sums >= abs(changed.sum()) * (1 - 1e-12)).sum()) / (1 + _FLIPS))


def _binomial(wins: int, tries: int) -> float:
    """Two-sided, of a fair coin."""
    few = min(wins, tries - wins)
    tail = sum(math.comb(tries, k) for k in range(few + 1)) / 2**tries
    return min(1.0, 2 * float(tail))


def carriers(operators: Sequence[str], moves: Callable[[frozenset[str]], bool]) -> tuple[str, ...]:
    """A smallest set of operators that moves the score by itself, by delta debugging.

    Args:
        operators: all that can be switched on.
        moves: whether the score moves with exactly these switched on. It is called about k·log(n) times
            for k guilty ones.

    Errors: `UsageError` if the score does not move with all of them.
    Source: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
    """
    if not moves(frozenset(operators)):
        raise UsageError("the score does not move with all operators switched on, so none of them carries it")
    current, parts = list(operators), 2
    while len(current) > 1:
        size = math.ceil(len(current) / parts)
        pieces = [current[start : start + size] for start in range(0, len(current), size)]
        rests = [[name for name in current if name not in piece] for piece in pieces]
        smaller = next(
            (group for group in (*pieces, *rests) if 0 < len(group) < len(current) and moves(frozenset(group))), None
        )
        if smaller is not None:
            current, parts = smaller, 2 if smaller in pieces else max(parts - 1, 2)
        elif parts >= len(current):
            break
        else:
            parts = min(len(current), 2 * parts)
    return tuple(current)
