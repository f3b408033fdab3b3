"""How times and sizes are written."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tessera.bringup.figures import model_facts, ms, threads


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0042, "4.2 µs"),
        (0.424, "0.42 ms"),
        (42.42, "42.4 ms"),
        (424.2, "424 ms"),
        (4242.0, "4242 ms"),
        (42e3, "42.0 s"),
    ],
)
def test_times_have_three_digits(value: float, text: str) -> None:
    assert ms(value) == text.replace(" ", "\N{NO-BREAK SPACE}")


@pytest.mark.parametrize(
    ("num", "text"),
    [
        (1_234, "1.2 k parameters"),
        (22_713_216, "22.7 M parameters"),
        (7_000_000_000, "7.0 G parameters"),
        (12, "12 parameters"),
    ],
)
def test_sizes_of_models(num: int, text: str) -> None:
    result: Any = SimpleNamespace(kind="Net", num_parameters=num, dtype="float32", inputs="8 × 128 tokens")
    assert model_facts(result) == ["Net", text.replace(" ", "\N{NO-BREAK SPACE}"), "float32", "8 × 128 tokens"]


def test_one_thread_is_no_plural() -> None:
    assert [text.split() for text in (threads(1), threads(2))] == [["1", "thread"], ["2", "threads"]]
