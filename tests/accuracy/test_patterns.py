"""Patterns of wrong elements, each by a tensor that has it and none by rounding alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from tessera.accuracy.compare.patterns import Clues, classify

RIGHT = torch.randn(6, 8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def _put(place: tuple[object, ...], value: float | None = None) -> Callable[[torch.Tensor], torch.Tensor]:
    def change(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[place] = value if value is not None else x[place] * 3 + 1  # type: ignore[index]
        return x

    return change


ROWS = [
    ("scale", "1.001 times", lambda x: x * 1.001),
    ("sign", "other sign", lambda x: -x),
    ("offset", "off by 0.25", lambda x: x + 0.25),
    ("zeroed", "zero", lambda x: x * 0),
    ("transposed", "[0, 2, 1]", lambda x: x.transpose(1, 2).reshape(x.shape)),
    ("permuted", "dim 1 is reversed", lambda x: x.flip(1)),
    ("shifted", "moved by 1 along dim 2", lambda x: x.roll(1, 2)),
    ("permuted", "other places", lambda x: x[:, [1, 0, *range(2, 8)]]),
    ("saturated", "beyond 1.5 in size are 1.5", lambda x: x.clamp(-1.5, 1.5)),
    ("short type", "looks like bfloat16", lambda x: x.bfloat16().double()),
    ("edge", "last 3 of 16 along dim 2 are zero", _put((..., slice(-3, None)), 0.0)),
    ("edge", "first 1 of 8 along dim 1", _put((slice(None), 0))),
    ("stride", "every 4th along dim 1", _put((slice(None), slice(None, None, 4)))),
    ("single element", "[2, 3, 4]", _put((2, 3, 4))),
    ("block", "dim 0 at 1", _put((1, slice(2, 4), slice(3, 9)))),
    ("non-finite", "dim 0 at 1", _put((1, 2), float("nan"))),
    ("values", "elements", lambda x: x.sin() + x.square()),
]


@pytest.mark.parametrize(("kind", "where", "change"), ROWS, ids=[f"{row[0]}-{row[1]}" for row in ROWS])
def test_a_pattern_is_named(kind: str, where: str, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    found = classify(change(RIGHT), RIGHT, Clues())
    assert found.kind == kind
    assert where in found.where


def test_a_stale_tensor_is_known_by_the_one_before() -> None:
    before = torch.randn(6, 8, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert classify(before, RIGHT, Clues(previous=before)).kind == "stale"


def test_rounding_does_not_hide_a_pattern() -> None:
    clues = Clues(dtype=torch.bfloat16, equal=2.0**-6)
    got = (RIGHT * (1 + 2.0**-9 * torch.randn(RIGHT.shape))).bfloat16()
    got[..., -2:] = 0
    assert classify(got, RIGHT, clues).kind == "edge"


def test_another_size_is_a_kind_of_its_own() -> None:
    assert classify(RIGHT[1:], RIGHT, Clues()).kind == "shape"
