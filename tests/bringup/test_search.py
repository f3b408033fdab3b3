"""Rankings agree if they are the same, but for what torch's own rounding leaves open."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from fake_kernels import FakeKernels
from torch import nn

from tessera.accuracy.call import Call
from tessera.bringup.models.subject import Subject
from tessera.bringup.result import Search
from tessera.bringup.search import answer_queries

QUERIES, SENTENCES = 3, 10


def vectors_of(angles: list[float]) -> torch.Tensor:
    """All queries at angle 0, the sentences at theirs: a score is the angle's cosine."""
    all_angles = torch.tensor([0.0] * QUERIES + angles, dtype=torch.float64)
    return torch.stack([all_angles.cos(), all_angles.sin()], -1)


EVEN = [0.1 * (index + 1) for index in range(SENTENCES)]


def search(by_torch: list[float], by_ours: list[float], exact: list[float]) -> Search:
    kernels = FakeKernels()

    def embed(model: nn.Module, texts: Sequence[str]) -> torch.Tensor:
        assert len(texts) == QUERIES + SENTENCES
        if next(model.parameters()).dtype == torch.float64:
            return vectors_of(exact)
        return vectors_of(by_ours if kernels.switched["enable"] > kernels.switched["disable"] else by_torch)

    subject = Subject(name="fake", model=nn.Linear(1, 1), call=Call(), inputs="none", embed=embed)
    found = answer_queries(subject, kernels)
    assert found is not None
    return found


def swapped(angles: list[float], first: int) -> list[float]:
    result = list(angles)
    result[first], result[first + 1] = result[first + 1], result[first]
    return result


def test_same_ranking() -> None:
    found = search(EVEN, EVEN, EVEN)
    assert found.agrees
    assert found.cosine == pytest.approx(1, abs=1e-12)
    assert [row.ours_rank for row in found.answers[0].found] == list(range(1, 11))
    assert found.answers[0].found[0].ours_score == pytest.approx(math.cos(0.1))


def test_another_ranking() -> None:
    found = search(EVEN, swapped(EVEN, 3), EVEN)
    assert not found.agrees
    assert [row.torch_rank for row in found.answers[0].found] == [1, 2, 3, 5, 4, 6, 7, 8, 9, 10]
    assert found.cosine == pytest.approx(math.cos(0.1))


def test_a_swap_within_torchs_own_noise_agrees() -> None:
    near = list(EVEN)
    near[4] = near[3] + 1e-5
    noisy = [angle + 1e-5 for angle in near]
    assert search(noisy, swapped(near, 3), near).agrees
    assert not search(near, swapped(near, 3), near).agrees


def test_other_models_have_no_search() -> None:
    subject = Subject(name="fake", model=nn.Linear(1, 1), call=Call(), inputs="none")
    assert answer_queries(subject, FakeKernels()) is None
