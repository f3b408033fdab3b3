"""Recalled calls: which calls have one key, and what becomes of a call by what is known for its key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from tessera.runtime.pool import listen
from tessera.runtime.recall import Known, Spelling, handed_on, make_recall
from tessera.runtime.spelling_ir import MOST_WORDS

FIRST = object()


def key(*args: Any, spelling: Spelling | None = None, watching: list[Any] | None = None, **named: Any) -> Any:
    """The key of a call, None where it has none."""

    def slow(spelled: Any, *given: Any, **given_by_name: Any) -> Any:
        assert all(a is b for a, b in zip(given, args, strict=True)) and given_by_name == named
        return spelled

    return make_recall({}, slow, watching or [], spelling or Spelling(), FIRST)(*args, **named)


X = torch.zeros(4, 6)


@pytest.mark.parametrize(
    "other",
    [
        X.double(), X[:2], X.t(), X[:, :3], X.flatten(), torch.nn.Parameter(X), torch.nn.Parameter(X, False), None, 1,
        1.0, True, 0, 0.0, -0.0, 2, "floor", "trunc", "", [1, 2], [1], [], [X], [X, X], [None], torch.float32,
        torch.strided, torch.channels_last,
    ],
    ids=str,
)  # fmt: skip
def test_calls_that_differ_have_keys_that_differ(other: Any) -> None:
    assert key(X) is not None
    assert key(X) != key(other)
    assert key(X, other) != key(X)
    assert key(X, other=other) not in (key(X), key(X, other), key(X, another=other))


def test_numbers_are_told_apart_by_type_and_sign() -> None:
    keys = [key(x) for x in (0, 0.0, -0.0, False, 1, 1.0, True, "1", None)]
    assert None not in keys
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.ones(4, 6), lambda: torch.zeros(8, 6)[2:6], lambda: 123456789, lambda: float("123.25"),
        lambda: float("nan"), lambda: [torch.ones(2), None, torch.ones(3)], lambda: "".join(["flo", "or"]),
    ],
)  # fmt: skip
def test_calls_that_are_alike_have_one_key(make: Callable[[], Any]) -> None:
    assert key(make()) is not None
    assert key(make()) == key(make())
    assert key(X, name=make()) == key(X, name=make())


def test_of_numbers_that_are_handed_on_the_type_is_spelled() -> None:
    handed = Spelling(places=(1,), names=("alpha",))
    assert key(X, 2.5, spelling=handed) == key(X, -3.5, spelling=handed)
    assert key(X, 2.5, spelling=handed) != key(X, 2, spelling=handed)
    assert key(X, [2.5, 3.0], spelling=handed) == key(X, [9.5, 7.0], spelling=handed)
    assert key(X, alpha=2.5, spelling=handed) == key(X, alpha=4.5, spelling=handed)
    assert key(X, beta=2.5, spelling=handed) != key(X, beta=4.5, spelling=handed)
    assert key(2.5, X, spelling=handed) != key(4.5, X, spelling=handed)
    specials = [key(X, x, spelling=handed) for x in (0, 1, 2, 0.0, -0.0, 1.0, 2.0, True)]
    assert len(set(specials)) == len(specials)


def test_what_of_the_process_belongs_to_a_key() -> None:
    before = key(X)
    threads, dtype = torch.get_num_threads(), torch.get_default_dtype()
    try:
        torch.set_num_threads(threads + 1)
        assert key(X) != before
        torch.set_num_threads(threads)
        assert key(X) == before
        torch.set_default_dtype(torch.float64)
        assert key(X) != before
    finally:
        torch.set_num_threads(threads)
        torch.set_default_dtype(dtype)


def test_views_that_are_to_be_read_otherwise_are_told_apart_where_it_matters() -> None:
    z = torch.zeros(3, dtype=torch.complex64)
    seen = Spelling(views=True)
    assert key(z.conj(), spelling=seen) != key(z, spelling=seen)
    assert key(z.conj().imag, spelling=seen) != key(z.imag, spelling=seen)
    assert key(z.conj().imag) == key(z.imag)


@pytest.mark.parametrize(
    "value",
    [object(), 1j, 1 << 70, (1, 2), "x" * 40, torch.Generator(), torch.device("cpu"), [[object()]], [1] * MOST_WORDS],
    ids=lambda x: type(x).__name__,
)
def test_what_cannot_be_spelled_has_no_key(value: Any) -> None:
    assert key(value) is None
    assert key(X, name=value) is None


def test_calls_that_others_are_to_see_have_no_key() -> None:
    class Listener:
        launched = given = to_check = lambda *_: None

    assert key(X, watching=[FIRST]) is None
    listen(Listener())
    try:
        assert key(X) is None
    finally:
        listen(None)
    assert key(X) is not None


def test_what_is_known_for_a_key_is_done() -> None:
    known: Known = {}
    recall = make_recall(known, lambda *given, **named: ("slow", *given, named), [], Spelling(), FIRST)
    _, spelled, *_ = recall(X, dim=1)
    known[spelled] = handed_on(lambda *given, **named: ("known", *given, named), 0.0)
    kind, *given = recall(X, dim=1)
    assert kind == "known" and given[0] is FIRST and given[1] is X and given[2] == {"dim": 1}
    assert recall(X, dim=2)[0] == "slow"
    known[spelled] = None
    assert recall(X, dim=1)[:2] == ("slow", None)


def test_an_error_of_what_is_known_is_raised() -> None:
    def fail(*_: Any) -> None:
        raise ValueError("no")

    known: Known = {}
    known[make_recall(known, lambda spelled, *_: spelled, [], Spelling(), FIRST)(X)] = handed_on(fail, 0.0)
    with pytest.raises(ValueError, match="no"):
        make_recall(known, fail, [], Spelling(), FIRST)(X)
