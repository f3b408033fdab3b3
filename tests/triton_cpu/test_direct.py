"""`tessera.direct`: the same launches as Triton's own, by every way of giving arguments, and the same errors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from triton import knobs

import tessera
from tessera.core.errors import UsageError


@tessera.direct
@triton.jit
def axpy(x, y, out, a, size, BLOCK: tl.constexpr, TWICE: tl.constexpr = False):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = a * tl.load(x + at, mask=at < size) + tl.load(y + at, mask=at < size)
    if TWICE:
        value = 2 * value
    tl.store(out + at, value, mask=at < size)


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


def test_what_is_no_jit_function() -> None:
    with pytest.raises(UsageError, match=r"given a Autotuner; it takes a function decorated with @triton.jit"):
        tessera.direct(triton.autotune([triton.Config({"BLOCK": 32})], key=["size"])(axpy.kernel))


def test_it_names_its_kernel() -> None:
    assert "axpy" in repr(axpy)
