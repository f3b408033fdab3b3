"""Switching on and off, and what a record counts."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
import torch
from torch.utils._python_dispatch import _get_current_dispatch_mode

import tessera
from tessera.core.errors import UsageError


def test_importing_the_package_imports_neither_torch_nor_triton() -> None:
    code = "import sys, tessera; print(sorted({'torch', 'triton'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="'enabel'"):
        tessera.enabel  # noqa: B018


def test_calls_run_on_ours_within_the_block_only() -> None:
    x = torch.randn(4)
    with tessera.use("always") as record:
        x + x
    x + x
    assert (record.calls["add.Tensor"].ours, record.calls["add.Tensor"].vendor) == (1, 0)


def test_operators_without_a_row_are_the_vendors() -> None:
    with tessera.use("always") as record:
        torch.linalg.qr(torch.eye(3))
    calls = record.calls["linalg_qr"]
    assert (calls.ours, calls.vendor, calls.reasons) == (0, 1, {"no kernel of ours": 1})


def test_a_declined_call_is_the_vendors_with_its_reason() -> None:
    x = torch.ones(2, 2, dtype=torch.complex64)
    with tessera.use("always") as record:
        product = x.cumprod(0)
    assert product.tolist() == [[1, 1], [1, 1]]
    assert record.calls["cumprod"].reasons == {"sums of this type": 1}


@pytest.mark.parametrize("make", [torch.linspace, torch.logspace])
def test_a_range_of_complex_numbers_is_the_vendors(make: Callable[..., torch.Tensor]) -> None:
    with tessera.use("always") as record:
        found = make(0, 1, 5, dtype=torch.complex64)
    assert torch.equal(found, make(0, 1, 5, dtype=torch.complex64))
    assert any("complex64" in reason for calls in record.calls.values() for reason in calls.reasons)


def test_composites_are_counted_by_what_they_call() -> None:
    layer, x = torch.nn.Linear(4, 3), torch.randn(2, 5, 4)
    with torch.inference_mode(), tessera.use("always") as record:
        layer(x).softmax(-1).contiguous()
    assert set(record.calls) == {"addmm", "_softmax"}


def test_views_and_allocation_are_no_compute() -> None:
    x = torch.randn(4, 6)
    with tessera.use("always") as record:
        torch.empty(3)
        x.view(2, 12).t()[1:].unsqueeze(0).expand(3, 11, 2).detach()[0].select(0, 1)
    assert not record.calls


def test_blocks_nest() -> None:
    x = torch.randn(4)
    with tessera.use("always") as outer:
        x.exp()
        with tessera.use("always") as inner:
            x.sin()
        x.cos()
    assert set(inner.calls) == {"sin"}
    assert set(outer.calls) == {"exp", "sin", "cos"}
    assert outer.ours == 3 and outer.vendor == 0


def test_a_block_that_counts_nothing_watches_nothing() -> None:
    a = torch.ones(4)
    with tessera.use("always", counted=False) as record:
        assert _get_current_dispatch_mode() is None
        assert tessera.explain_choice("add", a, a).policy == "always"
        assert torch.equal(a + a, torch.full((4,), 2.0))
    for ask in (lambda: record.calls, lambda: record.ours, lambda: record.vendor):
        with pytest.raises(UsageError, match=r"no calls were counted: .* tessera\.use\(counted=False\)"):
            ask()


def test_a_block_that_counts_nothing_leaves_the_outer_ones_count() -> None:
    a = torch.ones(4)
    with tessera.use("always") as outer:
        with tessera.use("always", counted=False):
            a + a
        a * a
    assert {name: calls.ours for name, calls in outer.calls.items()} == {"add.Tensor": 1, "mul.Tensor": 1}


def test_enable_and_disable_may_be_repeated() -> None:
    x = torch.randn(3, 3)
    vendor = torch.library.get_kernel("aten::mm", "CPU")
    tessera.enable("always")
    tessera.enable("always")
    try:
        ours = torch.library.get_kernel("aten::mm", "CPU")
        with tessera.use("always") as record:
            x @ x
        assert record.ours == 1
        assert torch.library.get_kernel("aten::mm", "CPU").__repr__() == ours.__repr__() != vendor.__repr__()
    finally:
        tessera.disable()
        tessera.disable()
    assert torch.library.get_kernel("aten::mm", "CPU").__repr__() == vendor.__repr__()


def test_switching_is_silent(recwarn: pytest.WarningsRecorder) -> None:
    with tessera.use("always"):
        torch.ones(2) + 1
    assert not recwarn.list


def test_an_error_in_the_block_switches_off() -> None:
    vendor = torch.library.get_kernel("aten::mm", "CPU").__repr__()
    with pytest.raises(RuntimeError, match="must match"), tessera.use("always"):
        torch.ones(2) + torch.ones(3)
    assert torch.library.get_kernel("aten::mm", "CPU").__repr__() == vendor


def test_other_threads_are_counted() -> None:
    x = torch.randn(5)
    with tessera.use("always") as record:
        thread = threading.Thread(target=lambda: x.exp())
        thread.start()
        thread.join()
    assert record.calls["exp"].ours == 1


def test_gradients_flow_through_our_kernels() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    with tessera.use("always") as record:
        (x.tanh() * 2).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, 2 * (1 - x.detach().tanh() ** 2))
    assert record.calls["tanh_backward"].ours == 1 and record.vendor == 0


def test_a_number_that_pytorch_passes_as_a_tensor_reaches_the_vendors_kernel():
    x = torch.randn(6, dtype=torch.complex64)
    with tessera.use("always"):
        assert torch.equal(x.mean(), x.sum() / 6)


@pytest.mark.parametrize("policy", ["always", "measured"])
def test_numbers_that_the_vendors_kernels_cast_are_theirs(policy: str) -> None:
    """With casts and copies of ours alone, PyTorch's kernels hand them the numbers that they are called with."""
    x, whole = torch.randn(5), torch.arange(3)
    calls: list[Callable[[], torch.Tensor]] = [
        lambda: x.clone().mul_(0.9), lambda: x.bfloat16() * 0.9, lambda: torch.where(x > 0, 1.5, 2.5),
        lambda: whole + 1.5, lambda: torch.clamp(whole, 0.5, 1.5), lambda: x.double().pow(True),
    ]  # fmt: skip
    expected = [call() for call in calls]
    with tessera.use(policy, only=["_to_copy", "clone", "copy_"]):
        for _ in range(3):
            for call, result in zip(calls, expected, strict=True):
                torch.testing.assert_close(call(), result, rtol=0, atol=0)


@pytest.mark.parametrize("other", [True, torch.tensor(True)])
def test_a_difference_with_a_boolean_is_refused_as_pytorch_does(other: bool | torch.Tensor) -> None:
    with tessera.use("always"):
        for call in (lambda: torch.ones(3) - other, lambda: torch._foreach_sub([torch.ones(3)], other)):
            with pytest.raises(RuntimeError, match="with a bool tensor is not supported"):
                call()
