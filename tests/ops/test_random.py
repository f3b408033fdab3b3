"""Random numbers: their distributions, and that a seed repeats them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats

import tessera
from tessera.aten.serve import operator_of
from tessera.ops.table import VARIANTS
from tests.ops.judged import vendor_calls

NUM = 40_000
# A right sample is farther off once in a hundred thousand times.
LEAST_CHANCE = 1e-5

CONTINUOUS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], Callable[..., object]]] = {
    "uniform": (lambda x: x.uniform_(-1.0, 3.0), stats.uniform(-1.0, 4.0).cdf),
    "normal": (lambda x: x.normal_(2.0, 0.5), stats.norm(2.0, 0.5).cdf),
    "exponential": (lambda x: x.exponential_(1.5), stats.expon(scale=1 / 1.5).cdf),
    "log_normal": (lambda x: x.log_normal_(0.3, 0.6), stats.lognorm(0.6, scale=math.exp(0.3)).cdf),
    "cauchy": (lambda x: x.cauchy_(1.0, 2.0), stats.cauchy(1.0, 2.0).cdf),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CONTINUOUS)
def test_distributions(name: str, dtype: torch.dtype) -> None:
    draw, cdf = CONTINUOUS[name]
    torch.manual_seed(11)
    with tessera.use("always") as record:
        x = draw(torch.empty(NUM, dtype=dtype))
    # The one number that seeds the others is PyTorch's.
    assert set(vendor_calls(record)) <= {"random_"}
    assert stats.kstest(x.numpy(), cdf).pvalue > LEAST_CHANCE


def test_neighbours_have_nothing_in_common() -> None:
    torch.manual_seed(3)
    with tessera.use("always"):
        x = torch.randn(NUM, dtype=torch.float64)
    for step in (1, 2, 256, 512, 1024):
        assert abs(float((x[step:] * x[:-step]).mean())) < 5 / math.sqrt(NUM)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.75, 1.0])
def test_chances(p: float) -> None:
    torch.manual_seed(5)
    with tessera.use("always"):
        hits = int(torch.empty(NUM).bernoulli_(p).sum())
        each = int(torch.bernoulli(torch.full((NUM,), p)).sum())
    for count in (hits, each):
        assert abs(count - NUM * p) <= 5 * math.sqrt(NUM * p * (1 - p))


def test_whole_numbers_are_even_and_permutations_whole() -> None:
    torch.manual_seed(7)
    with tessera.use("always"):
        dice = torch.randint(1, 7, (NUM,))
        order = torch.randperm(1000)
        trials = torch.empty(NUM, dtype=torch.int64).geometric_(0.25).double()
    assert stats.chisquare(dice.bincount(minlength=7)[1:].numpy()).pvalue > LEAST_CHANCE
    assert order.sort()[0].tolist() == list(range(1000))
    assert order.tolist() != list(range(1000))
    assert abs(float(trials.mean()) - 4.0) < 5 * math.sqrt(12 / NUM)


def test_a_seed_repeats_them_for_any_number_of_threads() -> None:
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(9)
            with tessera.use("always"):
                found.append((torch.rand(NUM), torch.randn(30, 1000).t(), torch.rand(5, dtype=torch.float64)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


def test_each_call_moves_the_generator_on() -> None:
    own = torch.Generator().manual_seed(1)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with tessera.use("always"):
        first, second = torch.rand(100, generator=own), torch.rand(100, generator=own)
        assert torch.equal(torch.get_rng_state(), before)
        again = torch.rand(100, generator=own.manual_seed(1))
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@pytest.mark.parametrize("own", [False, True], ids=["the default generator", "a generator that is given"])
def test_repeated_calls_draw_anew_and_follow_the_seed(own: bool) -> None:
    """Calls of one kind are planned after the first: the seed is no part of the plan."""
    generator = torch.Generator() if own else torch.default_generator

    def calls() -> list[torch.Tensor]:
        generator.manual_seed(7)
        return [torch.rand(32, generator=generator) for _ in range(6)]

    with tessera.use("always"):
        first = calls()
    tessera.enable("always")  # calls that nobody counts are recalled by native code
    try:
        again = calls()
    finally:
        tessera.disable()
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert len({tuple(x.tolist()) for x in first}) == 6


def test_random_calls_are_planned_with_their_seed() -> None:
    x = torch.empty(37)
    with tessera.use("always"):
        for _ in range(3):
            x.uniform_()
    found = operator_of(VARIANTS["aten::uniform_"]).steps.values()
    assert any(len(steps.fills) == 1 for steps in found if steps is not None)


def test_a_replayed_graph_draws_anew() -> None:
    x = torch.empty(64)
    with tessera.use("always"):
        for _ in range(3):
            x.uniform_()
        with tessera.capture() as graph:
            x.uniform_()
        seen = [x.clone()]
        for _ in range(2):
            graph.replay()
            seen.append(x.clone())
    assert len({tuple(x.tolist()) for x in seen}) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: torch.bernoulli(torch.tensor([0.5, 1 + 1e-12], dtype=torch.float64)), "to be between 0 and 1"),
        (lambda: torch.bernoulli(torch.tensor([0.5, math.nan])), "to be between 0 and 1"),
        (lambda: torch.normal(torch.zeros(2), torch.tensor([1.0, -1.0])), "std to be at least 0"),
        (lambda: torch.multinomial(torch.tensor([1.0, -1.0]), 1), "invalid multinomial distribution"),
        (lambda: torch.multinomial(torch.tensor([0.0, 0.0]), 1, True), "invalid multinomial distribution"),
        (lambda: torch.multinomial(torch.tensor([[1.0], [math.inf]]), 2, True), "invalid multinomial distribution"),
        (lambda: torch.multinomial(torch.tensor([1.0, math.nan]), 1), "invalid multinomial distribution"),
    ],
)  # fmt: skip
def test_chances_that_are_none_are_an_error_each_time(call: Callable[[], Any], message: str) -> None:
    with tessera.use("always"):
        for _ in range(3):
            with pytest.raises(RuntimeError, match=message):
                call()


def test_many_draws_of_a_long_row_have_the_weights_chances() -> None:
    torch.manual_seed(4)
    weights = torch.rand(1000).mul(2).floor_() * torch.rand(1000)
    with tessera.use("always"):
        places = torch.multinomial(weights, 200_000, True)
    counts = places.bincount(minlength=1000).double()
    drawn = weights > 0
    assert counts[~drawn].sum() == 0
    wanted = weights[drawn].double()
    wanted *= counts.sum() / wanted.sum()
    assert stats.chisquare(counts[drawn].numpy(), wanted.numpy(), sum_check=False).pvalue > LEAST_CHANCE


def test_dropout_keeps_what_its_mask_says() -> None:
    torch.manual_seed(2)
    x = torch.randn(200, 200, requires_grad=True)
    with tessera.use("always"):
        y, mask = torch.native_dropout(x, 0.25, True)
        y.sum().backward()
    kept = torch.where(mask, 1 / 0.75, 0.0)
    torch.testing.assert_close(y, x * kept)
    torch.testing.assert_close(x.grad, kept)
    assert abs(float(mask.float().mean()) - 0.75) < 0.02


@pytest.mark.parametrize("replacement", [True, False])
def test_drawn_places_have_the_weights_chances(replacement: bool) -> None:
    torch.manual_seed(3)
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0, 6.0, 0.0]).repeat(3000, 1)
    with tessera.use("always") as record:
        places = torch.multinomial(weights, 2, replacement)
    first = places[:, 0].bincount(minlength=6)
    assert first[[0, 3, 5]].tolist() == [0, 0, 0]
    assert stats.chisquare(first[[1, 2, 4]].numpy(), [300, 900, 1800]).pvalue > LEAST_CHANCE
    twice = int((places[:, 0] == places[:, 1]).sum())
    assert abs(twice - 0.46 * 3000) < 200 if replacement else twice == 0
    assert not record.vendor


def test_limits_out_of_order_are_refused() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="uniform_ expects"):
        torch.empty(3).uniform_(2.0, 1.0)
