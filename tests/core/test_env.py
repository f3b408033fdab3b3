"""Environment variables: typed values, and messages that say the value, the rule and the remedy."""

from __future__ import annotations

import pytest

from tessera.core import env
from tessera.core.errors import UsageError


@pytest.mark.parametrize(("text", "value"), [("1", 1), (" 16 ", 16)])
def test_num_threads_is_a_number(monkeypatch: pytest.MonkeyPatch, text: str, value: int) -> None:
    monkeypatch.setenv("TESSERA_NUM_THREADS", text)
    assert env.NUM_THREADS.read() == value


@pytest.mark.parametrize("environ", [{}, {"TESSERA_NUM_THREADS": ""}])
def test_unset_or_empty_is_the_default(environ: dict[str, str]) -> None:
    assert env.NUM_THREADS.read(environ) is None


@pytest.mark.parametrize("text", ["0", "-2", "two", "1.5"])
def test_bad_num_threads_names_value_rule_and_remedy(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        env.NUM_THREADS.read({"TESSERA_NUM_THREADS": text})
    assert str(caught.value) == (
        f"TESSERA_NUM_THREADS is {text!r}; it must be a whole number of at least 1; "
        "set for example TESSERA_NUM_THREADS=2, or unset it for PyTorch's own number"
    )


def test_target_is_one_word() -> None:
    assert env.TARGET.read({"TESSERA_TARGET": "x86-64-avx2"}) == "x86-64-avx2"
    with pytest.raises(UsageError, match="TESSERA_TARGET is 'x86 64'; it must be one name of a compiler target"):
        env.TARGET.read({"TESSERA_TARGET": "x86 64"})


def test_every_row_carries_the_prefix_and_its_example_is_valid() -> None:
    for variable in env.VARIABLES:
        assert variable.name.startswith(env.PREFIX)
        assert variable.read({variable.name: variable.example}) is not None


def test_misspelt_variables_are_found() -> None:
    environ = {"TESSERA_NUM_THREAD": "2", "TESSERA_NUM_THREADS": "2", "PATH": "/bin"}
    assert env.unknown_variables(environ) == ["TESSERA_NUM_THREAD"]
