"""Errors: their classes, and what the message for an unknown name says."""

from __future__ import annotations

import pytest

from tessera.core.errors import MissingDependency, TesseraError, UsageError, unknown_name


def test_user_errors_can_be_caught_as_the_builtin_they_refine() -> None:
    assert issubclass(UsageError, TesseraError) and issubclass(UsageError, ValueError)
    assert issubclass(MissingDependency, TesseraError) and issubclass(MissingDependency, ImportError)


def test_unknown_name_lists_known_and_suggests_nearest() -> None:
    error = unknown_name("chip", "H10O", ["MI300X", "H100", "A100"])
    assert isinstance(error, UsageError)
    assert str(error) == "unknown chip 'H10O'; did you mean 'H100'? known: A100, H100, MI300X"


def test_unknown_name_ignores_case_when_it_looks_for_the_nearest() -> None:
    assert "did you mean 'MI300X'?" in str(unknown_name("chip", "mi300x", ["MI300X", "A100"]))


@pytest.mark.parametrize(("known", "listed"), [([], "none"), (["A100"], "A100")])
def test_unknown_name_suggests_nothing_when_nothing_is_near(known: list[str], listed: str) -> None:
    assert str(unknown_name("chip", "zzz", known)) == f"unknown chip 'zzz'; known: {listed}"
