"""Calls that a front serves with no Python: the same as those before it knew them, and nothing kept or lost by them."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import tessera
from tessera.runtime import front

pytestmark = pytest.mark.skipif(
    not front.layouts_known(), reason="fronts need a release of PyTorch whose layouts are known, on Linux"
)
F = torch.nn.functional
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
WHOLE = torch.arange(48).reshape(6, 8) - 20


@pytest.fixture(autouse=True)
def ours() -> Iterator[None]:
    tessera.enable("always")
    yield
    tessera.disable()


CALLS: dict[str, Callable[[], Any]] = {
    "a new tensor": lambda: torch.relu(X),
    "a number in the place of a tensor": lambda: X * 0.7,
    "a whole number there": lambda: WHOLE * 3,
    "a number that promotes": lambda: WHOLE * 0.7,
    "a 0-dim tensor in that place": lambda: WHOLE * torch.tensor(0.7, dtype=torch.float64),
    "a 0-dim tensor of whole numbers": lambda: X * torch.tensor(3),
    "a truth": lambda: WHOLE + True,
    "a handed number": lambda: torch.add(X, X, alpha=0.3),
    "a handed number left at its default": lambda: F.leaky_relu(X),
    "one of two": lambda: F.softplus(X, 2.5),
    "the first of two": lambda: F.hardtanh(X, -1.0, 0.5),
    "whole numbers in place of others": lambda: F.hardtanh(X, -1, 2),
    "in place": lambda: X.clone().mul_(X),
    "out": lambda: torch.mul(X, X, out=torch.empty(6, 8)),
    "out of itself": lambda: [y := X.clone(), torch.mul(y, 2.0, out=y)][1],
    "several results": lambda: torch.native_layer_norm(X, [8], X[0], None, 1e-5),
    "named results": lambda: tuple(X.max(1)),
    "a list of tensors": lambda: torch.cat([X, X, X[:1]], 0),
    "tensors in place": lambda: [ys := [X.clone(), X.clone()], torch._foreach_mul_(ys, 0.5)][0],
    "new lists": lambda: torch._foreach_add([X, X[:1], X[:0]], [X, X[1:2], X[:0]], alpha=2.0),
    "new lists, numbers apart": lambda: torch._foreach_mul([X, X[:3]], [0.5, 2.0]),
    "gradients of a list": lambda: torch.autograd.grad(
        torch.cat(torch._foreach_mul([z := X.clone().requires_grad_(), X], 3.0)).sum(), z
    ),
    "a truth returned": lambda: torch.tensor([torch.equal(X, X.clone()), torch.equal(X, X + 1), torch.equal(X, X[:2])]),
    "a list of numbers": lambda: X.sum([0, 1], True),
    "a dtype": lambda: X.sum(1, dtype=torch.float64),
    "a text": lambda: F.gelu(X, approximate="tanh"),
    "no elements": lambda: torch.relu(X[:0]),
    "transposed": lambda: torch.relu(X.t()),
    "products": lambda: X @ X.t(),
    "convolution": lambda: F.conv2d(X.view(1, 1, 6, 8), X[:3, :3].reshape(1, 1, 3, 3), None, 1, 1),
    "gradients": lambda: torch.autograd.grad(F.softmax(y := X.clone().requires_grad_(), 1)[:, 0].sum(), y),
    "gradients of some": lambda: torch.ops.aten.native_layer_norm_backward(
        X, X, [8], *torch.native_layer_norm(X, [8], X[0], None, 1e-5)[1:], X[0], None, [True, False, False]
    ),
    "conjugated": lambda: torch.complex(X, X).conj() @ torch.complex(X, X).t(),
    "negated": lambda: torch.complex(X, X).conj().imag @ X.t(),
    "an index": lambda: X[torch.tensor([3, 1, 1])],
    "an embedding": lambda: F.embedding(torch.tensor([[3, 1], [0, 5]]), X),
    "complex": lambda: torch.complex(X, X).conj() * torch.complex(X, X),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_is_the_same_each_time(call: Callable[[], Any]) -> None:
    with tessera.use("always"):
        first = call()
    for _ in range(6):
        torch.testing.assert_close(call(), first, rtol=0, atol=0, equal_nan=True, check_stride=True)


def test_the_default_type_belongs_to_the_key() -> None:
    for _ in range(5):
        assert (WHOLE * 0.7).dtype == torch.float32
    torch.set_default_dtype(torch.float64)
    try:
        assert (WHOLE * 0.7).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert (WHOLE * 0.7).dtype == torch.float32


def test_a_result_in_place_is_the_same_tensor() -> None:
    y = X.clone()
    for _ in range(6):
        assert y.mul_(1.5) is y
        out = torch.empty(6, 8)
        assert torch.mul(y, y, out=out) is out


def test_tensors_that_overlap_are_refused_each_time() -> None:
    y = torch.randn(64)
    for _ in range(6):
        y[:32].mul_(y[32:])
    for _ in range(3):
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            y[:32].mul_(y[1:33])


def step_of_sgd(weights: list[torch.Tensor], grads: list[torch.Tensor], momenta: list[torch.Tensor]) -> None:
    torch._fused_sgd_(
        weights, grads, momenta, weight_decay=0.01, momentum=0.9, lr=0.1, dampening=0.0, nesterov=False,
        maximize=False, is_first_step=False,
    )  # fmt: skip


@pytest.mark.parametrize("num", [2, 40])
def test_operators_that_return_nothing_need_no_python(num: int) -> None:
    def make() -> list[list[torch.Tensor]]:
        generator = torch.Generator().manual_seed(1)
        return [[torch.randn(9000, generator=generator) for _ in range(num)] for _ in range(3)]

    called: list[str] = []
    lists = make()
    for _ in range(4):
        step_of_sgd(*lists)
        torch._foreach_mul_(lists[0], 0.5)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    step_of_sgd(*lists)
    torch._foreach_mul_(lists[0], 0.5)
    sys.setprofile(None)
    assert called == ["step_of_sgd"]
    expected = make()
    with tessera.use(exclude="*"):
        for _ in range(5):
            step_of_sgd(*expected)
            torch._foreach_mul_(expected[0], 0.5)
    torch.testing.assert_close(lists, expected)


def test_lists_and_truths_need_no_python() -> None:
    xs, ys = [torch.randn(900), torch.randn(7)], [torch.randn(900), torch.randn(7)]
    called: list[str] = []
    for _ in range(4):
        torch._foreach_add(xs, ys), torch._foreach_maximum(xs, 0.0), torch.equal(xs[0], ys[0])
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    added, above, same = torch._foreach_add(xs, ys), torch._foreach_maximum(xs, 0.0), torch.equal(xs[0], ys[0])
    itself = torch.equal(xs[0], xs[0])
    sys.setprofile(None)
    assert called == []
    torch.testing.assert_close(list(added), [x + y for x, y in zip(xs, ys, strict=True)], rtol=0, atol=0)
    torch.testing.assert_close(list(above), [x.clamp(min=0) for x in xs], rtol=0, atol=0)
    assert same is False and itself is True


def test_a_list_that_someone_holds_is_not_changed() -> None:
    """A script's list is one object through all calls; the results must be in another."""

    @torch.jit.script
    def twice(xs: list[torch.Tensor]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        first = torch._foreach_add(xs, 1.0)
        return first, torch._foreach_add(xs, 2.0)

    xs = [X.clone(), X[:2].clone()]
    for _ in range(8):
        first, second = twice(xs)
        torch.testing.assert_close([xs[0], xs[1]], [X, X[:2]], rtol=0, atol=0)
        torch.testing.assert_close(first, [X + 1, X[:2] + 1], rtol=0, atol=0)
        torch.testing.assert_close(second, [X + 2, X[:2] + 2], rtol=0, atol=0)


def test_numbers_left_at_their_default_need_no_python() -> None:
    x, called = torch.randn(20000), []
    leaky_relu, hardtanh = torch.ops.aten.leaky_relu, torch.ops.aten.hardtanh
    for _ in range(4):
        leaky_relu(x), hardtanh(x), leaky_relu(x, 0.3)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    found = leaky_relu(x), hardtanh(x), leaky_relu(x, 0.3)
    sys.setprofile(None)
    assert called == ["__call__"] * 3
    torch.testing.assert_close(found[0], torch.where(x > 0, x, x * 0.01), rtol=0, atol=0)
    torch.testing.assert_close(found[1], x.clamp(-1, 1), rtol=0, atol=0)
    torch.testing.assert_close(found[2], torch.where(x > 0, x, x * 0.3), rtol=0, atol=0)


def test_lists_whose_tensors_overlap_are_pytorchs_each_time() -> None:
    apart = [torch.ones(32), torch.ones(32)]
    for _ in range(6):
        torch._foreach_mul_(apart, 2.0)
    for _ in range(3):
        y = torch.ones(33)
        torch._foreach_mul_([y[:32], y[1:]], 2.0)
        assert y.tolist() == [2.0, *[4.0] * 31, 2.0]
        torch._foreach_mul_(apart, 0.5)
    assert apart[0].tolist() == [8.0] * 32


def test_a_wrong_index_raises_each_time() -> None:
    right, wrong = torch.tensor([3, 1]), torch.tensor([3, 6])
    for _ in range(3):
        for _ in range(6):
            assert torch.equal(F.embedding(right, X), X[[3, 1]])
        with pytest.raises(IndexError, match="out of range"):
            F.embedding(wrong, X)
        with pytest.raises((IndexError, RuntimeError), match=r"out of (range|bounds)"):
            X.index_select(0, wrong)


def test_nothing_is_kept_and_nothing_freed_too_early() -> None:
    x, parts = X.clone(), [X.clone(), X.clone()]
    for _ in range(6):
        torch.relu(x), torch.cat(parts), x * 0.7, x.mul_(1.0), x.sum([0, 1]), torch._foreach_add(parts, parts)
    holders = [x._use_count(), *(y._use_count() for y in parts)]
    for _ in range(1000):
        torch.relu(x), torch.cat(parts), x * 0.7, x.mul_(1.0), x.sum([0, 1]), torch._foreach_add(parts, parts)
    assert [x._use_count(), *(y._use_count() for y in parts)] == holders
    result = torch.relu(x)
    alive = weakref.ref(result)
    del result
    gc.collect()
    assert alive() is None


def test_memory_does_not_grow() -> None:
    code = """
import resource, torch, tessera
tessera.enable("always")
x, parts = torch.randn(64, 64), [torch.randn(64, 64) for _ in range(3)]
def work(n):
    for _ in range(n):
        torch.relu(torch.relu(x) * 0.7 + x).sum([0, 1]), torch.cat(parts, 1)
        torch.nn.functional.gelu(x, approximate="tanh"), torch._foreach_add(parts, 1.0), torch.equal(x, parts[0])
        torch.nn.functional.layer_norm(x, [64]), x.max(1)
work(2000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
work(40000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 3000, "KiB that 280,000 calls have left behind"


def test_threads_call_the_same_operator() -> None:
    xs = [torch.randn(n, 16) for n in range(1, 30)]
    expected = [x.double().mul(0.7).clamp(min=0).float() for x in xs]
    failures: list[int] = []

    def work() -> None:
        for _ in range(60):
            for index, x in enumerate(xs):
                if not torch.allclose(torch.relu(x * 0.7), expected[index]):
                    failures.append(index)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_large_tensors_use_all_threads_with_equal_bits() -> None:
    x = torch.randn(512, 1024)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            results.append([torch.softmax(x, 1) for _ in range(5)][-1])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_child_of_a_fork_goes_on() -> None:
    code = """
import os, torch, tessera
tessera.enable("always")
x = torch.randn(512, 1024)
expected = [torch.softmax(x, 1) for _ in range(6)][-1]
child = os.fork()
if child == 0:
    torch.set_num_threads(1)
    os._exit(0 if all(torch.equal(torch.softmax(x, 1), expected) for _ in range(6)) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "0\n"


def test_calls_are_recorded_and_captured_all_the_same() -> None:
    for _ in range(6):
        torch.relu(X)
    with tessera.use("always") as record:
        torch.relu(X)
    assert record.calls["relu"].ours == 1
    out = torch.empty(6, 8)
    for _ in range(6):
        torch.mul(X, X, out=out)
    with tessera.capture() as graph:
        torch.mul(X, X, out=out)
    out.zero_()
    graph.replay()
    assert torch.equal(out, X * X)
