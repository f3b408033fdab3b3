"""Launches that do not ask Triton again: the same results by every way of giving arguments, and the same errors."""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs
from triton.runtime.jit import JITFunction

import tessera
from tessera.core.errors import UsageError


@triton.jit
def axpy(x, y, out, a, size, BLOCK: tl.constexpr, TWICE: tl.constexpr = False):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = a * tl.load(x + at, mask=at < size) + tl.load(y + at, mask=at < size)
    if TWICE:
        value = 2 * value
    tl.store(out + at, value, mask=at < size)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The kernels that Triton's own `run` was called for."""
    heard: list[str] = []
    run = JITFunction.run

    def told(self: Any, *args: Any, **named: Any) -> Any:
        heard.append(self.__name__)
        return run(self, *args, **named)

    monkeypatch.setattr(JITFunction, "run", told)
    yield heard


def operands(size: int = 100, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.arange(size, dtype=dtype), torch.ones(size, dtype=dtype), torch.zeros(size, dtype=dtype)


def expected(a: float, size: int = 100) -> list[float]:
    return [a * i + 1 for i in range(size)]


@pytest.mark.parametrize("grid", [(4,), (4, 1), (4, 1, 1), lambda meta: (triton.cdiv(meta["size"], meta["BLOCK"]),)])
def test_grids(grid: Any) -> None:
    x, y, out = operands()
    for a in (2.0, 3.0, 4.0):
        axpy[grid](x, y, out, a, 100, BLOCK=32)
        assert out.tolist() == expected(a)


def test_every_way_of_giving_arguments() -> None:
    x, y, out = operands()
    for a in (2.0, 3.0, 4.0):
        calls = (
            lambda a=a: axpy[(4,)](x, y, out, a, 100, 32),
            lambda a=a: axpy[(4,)](x, y, out, a=a, size=100, BLOCK=32),
            lambda a=a: axpy[(4,)](BLOCK=32, size=100, out=out, y=y, x=x, a=a),
            lambda a=a: axpy[(4,)](x, y, out, a, 100, BLOCK=32, num_warps=2),
        )
        for call in calls * 2:
            out.zero_()
            call()
            assert out.tolist() == expected(a)


def test_what_decides_about_the_code_is_told_apart() -> None:
    for _ in range(3):
        for size in (1, 2, 16, 100):
            for dtype in (torch.float32, torch.int64, torch.bfloat16):
                for a in (2, 3.0, 1, True):
                    for twice in (False, True):
                        x, y, out = operands(size, dtype)
                        axpy[(1,)](x, y, out, a, size, BLOCK=128, TWICE=twice)
                        wanted = [(a * i + 1) * (1 + twice) for i in range(size)]
                        assert out.tolist() == torch.tensor(wanted, dtype=dtype).tolist(), (size, dtype, a, twice)


def test_triton_is_asked_once_for_what_decides_about_the_code(asked: list[str]) -> None:
    @triton.jit
    def fill(out, value, size, BLOCK: tl.constexpr):
        at = tl.arange(0, BLOCK)
        tl.store(out + at, value, mask=at < size)

    def run(*args: Any, **named: Any) -> bool:
        """Whether Triton was asked."""
        asked.clear()
        fill[(1,)](*args, **named)
        assert out[:50].tolist() == [args[1]] * 50
        return bool(asked)

    out = torch.zeros(128)
    assert [run(out, float(i), 50, BLOCK=64) for i in range(5)] == [True, True, False, False, False]
    # Other values of the same kind, and the same type elsewhere.
    out = torch.zeros(128)
    assert not run(out, 7.5, 51, BLOCK=64) and not run(out, -1.0, 90, BLOCK=64)
    # Each of these is another kernel to Triton: asked for once, or twice where that kernel has never been launched.
    others: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((out, 2.0, 50, 64), {}), ((out, 2, 50), {"BLOCK": 64}), ((out, 2.0, 64), {"BLOCK": 64}),
        ((out, 2.0, 1 << 40), {"BLOCK": 64}), ((out, 2.0, 50), {"BLOCK": 128}),
        ((out, 2.0, 50), {"BLOCK": 64, "num_warps": 2}),
    ]  # fmt: skip
    for args, named in others:
        assert run(*args, **named)
        run(*args, **named)
        assert not run(*args, **named), (args, named)
        assert not run(out, 1.0, 50, BLOCK=64)


def test_numbers_that_triton_compiles_in() -> None:
    @triton.jit
    def tell(out, n, K: tl.constexpr):
        tl.store(out, n)
        tl.store(out + 1, 0.5 * K)

    out = torch.zeros(2)
    for _ in range(3):
        for n in (1, 2, 16, 1, 0, -1, 1 << 40, True, -(1 << 31)):
            for constant in (1, True, 1.0, 2, 3.0):
                tell[(1,)](out, n, constant)
                assert out.tolist() == [float(n), 0.5 * constant], (n, constant)


def test_as_many_kernels_are_compiled_as_triton_would() -> None:
    @triton.jit
    def tell(out, n: tl.int32, m: tl.int64, x: tl.float32):
        tl.store(out, n + m + x)

    out = torch.zeros(1)
    for _ in range(3):
        for n in (1, 8, 16, 17, 1):
            for m, x in ((5, 2.0), (7, 16), (1 << 40, 1)):
                tell[(1,)](out, n, m, x)
                assert out.item() == float(torch.tensor(float(n + m)) + x)
    (kernels, *_) = tell.device_caches.values()
    assert len(kernels[0]) == 3 * 2  # n is 1, a multiple of 16 or neither; m a multiple of 16 or not


SCALE = tl.constexpr(2)


def test_a_global_that_changed_is_tritons_to_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    @triton.jit
    def scaled(out):
        tl.store(out, SCALE)

    out = torch.zeros(1)
    for _ in range(3):
        scaled[(1,)](out)
    monkeypatch.setitem(globals(), "SCALE", tl.constexpr(3))
    with pytest.raises(RuntimeError, match="Global variable SCALE has changed"):
        scaled[(1,)](out)


def test_a_cache_that_was_cleared_is_filled_again() -> None:
    @triton.jit
    def one(out):
        tl.store(out, 1.0)

    out, device = torch.zeros(1), triton.runtime.driver.active.get_current_device()
    first = [one[(1,)](out) for _ in range(3)][-1]
    one.device_caches[device][0].clear()
    second = [one[(1,)](out) for _ in range(3)][-1]
    one.device_caches.clear()
    third = [one[(1,)](out) for _ in range(3)][-1]
    assert first is not second and second is not third


def test_what_is_warmed_up_does_not_run_and_what_runs_is_returned() -> None:
    x, y, out = operands()
    kernels = [axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32) for _ in range(3)]
    out.zero_()
    assert axpy.warmup(x, y, out, 2.0, 100, BLOCK=32, grid=(4,)) is kernels[0]
    assert kernels[0] is kernels[1] is kernels[2] and not out.any()


def test_hooks_before_a_run_are_called() -> None:
    @triton.jit
    def one(out):
        tl.store(out, 1.0)

    out, heard = torch.zeros(1), []
    for _ in range(3):
        one[(1,)](out)
    one.add_pre_run_hook(lambda *args, **named: heard.append(args))
    one[(1,)](out)
    assert len(heard) == 1


def test_an_argument_that_is_a_list_may_change() -> None:
    @triton.jit
    def tell(out, K: tl.constexpr):
        tl.store(out, K[0])

    out, constants = torch.zeros(1), [1]
    for value in (1, 1, 1, 5, 6):
        constants[0] = value
        tell[(1,)](out, tuple(constants))
        assert out.item() == value


def test_unaligned_tensors() -> None:
    for offset in (0, 1, 0, 3):
        x, y, out = (t[offset:] for t in operands(100 + offset))
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
        assert out.tolist() == [2.0 * (i + offset) + 1 for i in range(100)]


def test_launch_hooks_are_told() -> None:
    x, y, out = operands()
    heard: list[str] = []

    def hook(data: Any) -> None:
        heard.append(data.get()["name"])

    axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    knobs.runtime.launch_enter_hook.add(hook)
    try:
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    finally:
        knobs.runtime.launch_enter_hook.remove(hook)
    axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    assert heard == ["axpy"]


def test_a_capture_records_it() -> None:
    x, y, out = operands()
    axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    with tessera.capture() as graph:
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    x.zero_()
    graph.replay()
    assert out.tolist() == [1.0] * 100


def test_wrong_arguments_are_tritons_to_refuse() -> None:
    x, y, out = operands()
    for _ in range(3):
        axpy[(4,)](x, y, out, 2.0, 100, 32, False)
        with pytest.raises(TypeError):
            axpy[(4,)](x, y, out, 2.0, 100, 32, False, 5)
        with pytest.raises(TypeError):
            axpy[(4,)](x, y, out)
        with pytest.raises((TypeError, KeyError)):
            axpy[(4,)](x, y, out, 2.0, 100, 32, nonsense=1)




def test_a_grid_that_is_a_function_is_given_every_parameter_and_no_option() -> None:
    x, y, out = operands()
    seen: list[dict[str, Any]] = []

    def grid(meta: dict[str, Any]) -> tuple[int]:
        seen.append(dict(meta))
        return (triton.cdiv(meta["size"], meta["BLOCK"]),)

    for a in (2.0, 3.0, 4.0):
        axpy[grid](x, y, out, a, num_warps=2, BLOCK=32, size=100)
        assert out.tolist() == expected(a)
    assert {tuple(sorted(meta)) for meta in seen} == {("BLOCK", "TWICE", "a", "out", "size", "x", "y")}
    assert [meta["a"] for meta in seen] == [2.0, 3.0, 4.0]


@triton.jit
def rounded(out, SIZE: tl.constexpr):
    tl.store(out, triton.cdiv(SIZE, 4))
    tl.store(out + 1, triton.next_power_of_2(SIZE))


def test_triton_functions_of_the_host_give_what_they_gave() -> None:
    out = torch.zeros(2, dtype=torch.int32)
    rounded[(1,)](out, SIZE=13)
    assert out.tolist() == [4, 16]
    assert (triton.cdiv(7, 2), triton.cdiv(x=7, y=2), triton.cdiv(tl.constexpr(7), 2)) == (4, 4, 4)
    assert triton.cdiv(7.0, 2) == 4.0
    assert (triton.next_power_of_2(5), triton.next_power_of_2(n=tl.constexpr(5))) == (8, 8)
    with pytest.raises(TypeError):
        triton.cdiv(7)


def test_what_a_grid_raises_is_raised_and_it_is_asked_once() -> None:
    x, y, out = operands()
    calls = []

    def grid(meta: dict[str, Any]) -> tuple[int, ...]:
        calls.append(meta["a"])
        if meta["a"] == 3.0:
            raise ValueError("no grid for three")
        return (4, 2, 0) if meta["a"] == 4.0 else (4,)

    for a in (2.0, 2.0, 3.0, 4.0, 5.0):
        with pytest.raises(ValueError, match="no grid for three") if a == 3.0 else contextlib.nullcontext():
            axpy[grid](x, y, out, a, 100, BLOCK=32)
    assert calls == [2.0, 2.0, 3.0, 4.0, 5.0]
    assert out.tolist() == expected(5.0)


@pytest.mark.parametrize("grid", [[4], torch.Size([4]), lambda meta: [4, 1]])
def test_grids_that_are_other_sequences(grid: Any, asked: list[str]) -> None:
    x, y, out = operands()
    for a in (2.0, 3.0):
        axpy[grid](x, y, out, a, 100, BLOCK=32)
    asked.clear()
    axpy[grid](x, y, out, 4.0, 100, BLOCK=32)
    assert asked == [] and out.tolist() == expected(4.0)


@pytest.mark.parametrize("grid", [(1.5,), (), 7, ("a",)])
def test_what_is_no_grid_is_tritons_to_refuse(grid: Any) -> None:
    x, y, out = operands()
    for _ in range(2):
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    for _ in range(2):
        with pytest.raises((TypeError, IndexError, UsageError)):
            axpy[grid](x, y, out, 2.0, 100, BLOCK=32)


def test_a_grid_may_launch_and_clear_what_it_is_the_grid_of() -> None:
    """What the native half looks at stays alive while Python runs in the middle of a launch."""

    @triton.jit
    def count(out, K: tl.constexpr):
        tl.store(out, tl.load(out) + K)

    out = torch.zeros(1)

    def grid(meta: dict[str, Any]) -> tuple[int]:
        count.device_caches.clear()
        count[(1,)](out, K=10)
        gc.collect()
        return (1,)

    for _ in range(4):
        count[grid](out, K=1)
    assert out.item() == 44


@pytest.mark.parametrize("what", ["debug", "driver", "hook", "pre_run", "stages"])
def test_what_changes_meanwhile_is_seen(what: str, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, out = operands()
    for _ in range(2):
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    asked.clear()
    axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
    assert asked == []
    with monkeypatch.context() as patch:
        if what == "debug":
            patch.setattr(knobs.runtime, "debug", True)
        elif what == "driver":
            patch.setattr(triton.runtime.driver, "_active", type(triton.runtime.driver.active)())
        elif what == "hook":
            patch.setattr(knobs.runtime, "launch_exit_hook", knobs.HookChain())
            knobs.runtime.launch_exit_hook.add(lambda data: None)
        elif what == "pre_run":
            patch.setattr(axpy, "pre_run_hooks", [lambda *args, **named: None])
        else:
            patch.setattr(knobs.runtime, "add_stages_inspection_hook", lambda *args: ("key", "hash"))
        axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32)
        assert asked == ["axpy"]
    axpy[(4,)](x, y, out, 3.0, 100, BLOCK=32)
    asked.clear()
    axpy[(4,)](x, y, out, 4.0, 100, BLOCK=32)
    assert asked == [] and out.tolist() == expected(4.0)


def test_launches_keep_and_lose_no_reference() -> None:
    x, y, out = operands()

    def function(meta: dict[str, Any]) -> tuple[int]:
        return (4,)

    given = [x, out, function, *(axpy[(4,)](x, y, out, 2.0, 100, BLOCK=32) for _ in range(2))]
    refused = (1.5,)
    for grid in ((4,), function, refused):
        counts = []
        for _ in range(3):
            for _ in range(50):
                with pytest.raises(UsageError) if grid is refused else contextlib.nullcontext():
                    axpy[grid](x, y, out, 2.0, 100, BLOCK=32)
            gc.collect()
            counts.append([sys.getrefcount(one) for one in (*given, grid)])
        assert counts[1] == counts[2]
