"""Scores: noise is called noise, with the number of questions that would tell; guilty operators are found."""

from __future__ import annotations

import numpy as np
import pytest

from tessera.accuracy.scores import carriers, compare_scores
from tessera.core.errors import UsageError


def test_a_small_move_on_few_questions_is_noise_and_says_how_many_would_tell() -> None:
    reference = [1, 0] * 50
    candidate = [1 - score if k in (3, 8, 20) else score for k, score in enumerate(reference)]
    verdict = compare_scores(candidate, reference)
    assert verdict.noise and verdict.needed is not None and verdict.needed > 100
    assert "n is too small" in str(verdict) and f"{verdict.needed:,} questions would tell" in str(verdict)


def test_a_real_move_is_no_noise() -> None:
    verdict = compare_scores([0] * 12 + [1] * 88, [1] * 100)
    assert not verdict.noise
    assert verdict.p == pytest.approx(2 / 2**12)
    assert str(verdict).startswith("not noise: the score moved by -0.12 on 100 questions")


def test_equal_scores_are_no_difference() -> None:
    assert str(compare_scores([0.5, 1.0], [0.5, 1.0])).startswith("no difference")


def test_false_alarms_are_as_rare_as_the_level_says() -> None:
    generator = np.random.default_rng(1)
    alarms = sum(not compare_scores(*generator.normal(size=(2, 40))).noise for _ in range(60))
    assert alarms <= 9


@pytest.mark.parametrize("guilty", [{"mm"}, {"mm", "gelu"}, {"add", "exp", "tanh"}])
def test_the_operators_that_carry_a_move_are_found(guilty: set[str]) -> None:
    names = ["add", "bmm", "cat", "exp", "gelu", "layer_norm", "mm", "mul", "softmax", "tanh"]
    calls = []

    def moves(switched_on: frozenset[str]) -> bool:
        calls.append(switched_on)
        return guilty <= switched_on

    assert set(carriers(names, moves)) == guilty
    assert len(calls) < 60


def test_bad_input_is_answered() -> None:
    with pytest.raises(UsageError, match="there are 2 scores of the candidate and 3 of the reference"):
        compare_scores([1, 2], [1, 2, 3])
    with pytest.raises(UsageError, match="is not a finite number"):
        compare_scores([1, float("nan")], [1, 2])
    with pytest.raises(UsageError, match="none of them carries it"):
        carriers(["mm"], lambda names: False)
