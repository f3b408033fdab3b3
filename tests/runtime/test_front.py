"""Fronts: which calls of an operator PyTorch's own kernel is handed without Python, and which reach Python."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tessera.aten.vendor import kernel_of, vendor_of
from tessera.runtime import front
from tessera.runtime.account_ir import MOST_LOST_US
from tessera.runtime.front import Front, make_front
from tessera.runtime.front_ir import RETURNS
from tessera.runtime.recall import Known, Spelling, handed_on, make_recall

pytestmark = pytest.mark.skipif(
    not front.layouts_known(), reason="fronts need a release of PyTorch whose layouts are known, on Linux"
)
KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
X = torch.arange(24.0).reshape(4, 6)


class Fronted:
    """An overload whose calls all are the vendor's; `seen` are those that Python was asked for."""

    def __init__(self, name: str, *, handed: int = 0, gain: float = 0.0) -> None:
        self.seen = 0
        self.known: Known = {}
        self.watching: list[Any] = []
        self.account = ctypes.c_double(0.0)
        vendor = vendor_of(f"aten::{name}")
        schema = torch._C._get_schema(f"aten::{name.partition('.')[0]}", name.partition(".")[2])
        account = ctypes.addressof(self.account)
        made = make_front(
            f"aten::{name}", kernel_of(vendor), self.watching, handed=handed, account=account,
            defaults=[None] * len(schema.arguments), returns=RETURNS["other"],
        )  # fmt: skip
        assert isinstance(made, Front)
        self.front = made

        def slow(spelled: bytes | None, *args: Any, **kwargs: Any) -> Any:
            self.seen += 1
            if spelled is not None:
                self.known[spelled] = handed_on(vendor, gain)
            return vendor(KEYS, *args, **kwargs)

        places = [place for place in range(64) if handed >> place & 1]
        spelling = Spelling(places=places, account=account, front=self.front.address)
        self.library = torch.library.Library("aten", "IMPL")
        self.library.impl(name, make_recall(self.known, slow, self.watching, spelling, KEYS), "CPU")
        self.front.attach()

    def taught(self, call: Callable[[], Any]) -> Any:
        """The call's result when the front knows it."""
        for _ in range(3):
            call()
        self.known.clear()
        self.seen = 0
        return call()


@pytest.fixture
def fronted() -> Iterator[Callable[..., Fronted]]:
    made: list[Fronted] = []

    def make(name: str, **options: Any) -> Fronted:
        made.append(Fronted(name, **options))
        return made[-1]

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Warning only once for all operators", category=UserWarning)
        yield make
    for one in made:
        one.front.detach()
        one.library._destroy()


CALLS: list[tuple[str, Callable[[], Any], list[Callable[[], Any]]]] = [
    ("relu", lambda: torch.relu(X), [lambda: torch.relu(X[:2]), lambda: torch.relu(X.double()),
                                     lambda: torch.relu(X.t()), lambda: torch.relu(X[0])]),
    ("mul.Tensor", lambda: X * 0.5, [lambda: X * X, lambda: X * X[0], lambda: X.int() * 0.5]),
    ("add.Tensor", lambda: torch.add(X, X, alpha=3), [lambda: torch.add(X, X, alpha=3.0), lambda: X + X,
                                                      lambda: torch.add(X, X, alpha=4)]),
    ("cat", lambda: torch.cat([X, X]), [lambda: torch.cat([X, X, X]), lambda: torch.cat([X, X], 1),
                                        lambda: torch.cat([X, X[:2]])]),
    ("sum.dim_IntList", lambda: X.sum([0]), [lambda: X.sum([1]), lambda: X.sum([0, 1]), lambda: X.sum([0], True),
                                             lambda: X.sum([0], dtype=torch.float64)]),
    ("gelu", lambda: torch.nn.functional.gelu(X), [lambda: torch.nn.functional.gelu(X, approximate="tanh")]),
    ("native_layer_norm", lambda: torch.native_layer_norm(X, [6], None, X[0], 1e-5),
     [lambda: torch.native_layer_norm(X, [6], X[0], None, 1e-5),
      lambda: torch.native_layer_norm(X, [6], None, X[0], 1e-6)]),
    ("_to_copy", lambda: torch.ops.aten._to_copy(X, dtype=torch.bfloat16),
     [lambda: torch.ops.aten._to_copy(X, dtype=torch.float16), lambda: torch.ops.aten._to_copy(X)]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "others"), CALLS, ids=[name for name, _, _ in CALLS])
def test_calls_that_are_known_do_not_reach_python_and_others_do(
    fronted: Callable[..., Fronted], name: str, call: Callable[[], Any], others: list[Callable[[], Any]]
) -> None:
    expected = [one() for one in (call, *others)]
    operator = fronted(name)
    torch.testing.assert_close(operator.taught(call), expected[0], rtol=0, atol=0)
    assert operator.seen == 0
    for count, (other, value) in enumerate(zip(others, expected[1:], strict=True), 1):
        torch.testing.assert_close(other(), value, rtol=0, atol=0)
        assert operator.seen == count


def test_a_number_that_is_only_handed_on_is_no_part_of_the_key(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("leaky_relu", handed=0b10)
    operator.taught(lambda: torch.nn.functional.leaky_relu(-X, 0.25))
    assert torch.equal(torch.nn.functional.leaky_relu(-X, 0.5), -0.5 * X)
    assert operator.seen == 0
    torch.nn.functional.leaky_relu(-X, 0.0)
    assert operator.seen == 1


def test_the_number_of_threads_belongs_to_the_key(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("relu")
    operator.taught(lambda: torch.relu(X))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        torch.relu(X)
    finally:
        torch.set_num_threads(threads)
    assert operator.seen == 1


def test_python_sees_all_calls_while_somebody_watches(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("relu")
    operator.taught(lambda: torch.relu(X))
    operator.watching.append(None)
    torch.relu(X)
    assert operator.seen == 1
    operator.watching.clear()
    torch.relu(X)
    assert operator.seen == 1


def test_gains_are_counted_and_losses_until_the_account_is_spent(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("relu", gain=-1.0)
    operator.taught(lambda: torch.relu(X))
    lost = operator.account.value
    torch.relu(X)
    assert operator.account.value == lost - 1.0
    operator.account.value = -MOST_LOST_US - 1.0
    torch.relu(X)
    assert operator.seen == 1
    operator.account.value = 0.0
    torch.relu(X)
    assert operator.seen == 1


def test_an_exception_of_pytorchs_passes(fronted: Callable[..., Fronted]) -> None:
    fronted("mul.Tensor")
    for _ in range(5):
        with pytest.raises(RuntimeError, match="must match the size of tensor b"):
            X * X[:, :5]


def test_threads_share_what_is_known(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("relu")
    operator.taught(lambda: torch.relu(X))
    shapes = [torch.randn(n, 3) for n in range(1, 40)]

    def work() -> None:
        for _ in range(50):
            for x in shapes:
                assert torch.equal(torch.relu(x), x.clamp(min=0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    torch.relu(X)
    seen = operator.seen
    operator.known.clear()
    work()
    assert operator.seen == seen


def test_more_calls_than_a_front_can_know_reach_python(fronted: Callable[..., Fronted]) -> None:
    operator = fronted("relu")
    xs = [torch.zeros(n) for n in range(1200)]
    for _ in range(4):
        for x in xs:
            assert torch.relu(x).shape == x.shape
    assert operator.seen >= 1200


def test_what_is_detached_is_gone(fronted: Callable[..., Fronted]) -> None:
    before = repr(torch.library.get_kernel("aten::relu", "CPU"))
    operator = fronted("relu")
    operator.taught(lambda: torch.relu(X))
    assert repr(torch.library.get_kernel("aten::relu", "CPU")) != before
    operator.front.detach()
    torch.relu(X)
    assert operator.seen == 1
    operator.front.attach()
    torch.relu(X)
    assert operator.seen == 1


def test_where_layouts_are_known_there_are_fronts() -> None:
    assert front.available()


def test_an_unknown_release_has_no_fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "__version__", "99.0.0")
    assert not front.available.__wrapped__()


def test_switching_on_prints_nothing() -> None:
    code = "import torch, tessera; tessera.enable('always'); torch.relu(torch.ones(3))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == done.stderr == ""
