"""The kernel that measures tensors, against PyTorch's operators on the same chunks, and what happens if it is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from tessera.accuracy.capture import measure
from tessera.accuracy.capture.chunks import CHUNK, Chunks, chunks_of
from tessera.accuracy.capture.value import distance, value_of

FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
WHOLE = [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool]
SIZES = [1, 60, 61, 62, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 777]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What one test makes the checker believe is not believed in the next."""
    yield
    measure._believed.cache_clear()


def drawn(dtype: torch.dtype, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(size)
    if dtype in FLOATS:
        return torch.randn(size, generator=generator).to(dtype)
    return torch.randint(0, 2 if dtype == torch.bool else 100, (size,), generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", FLOATS + WHOLE, ids=str)
def test_the_kernel_measures_what_pytorch_measures(dtype: torch.dtype) -> None:
    for size in SIZES:
        x = drawn(dtype, size)
        ours, theirs = measure.measured(x), chunks_of(x)
        rounding = 1e-12 if dtype in (torch.float32, torch.float64) else 1e-4
        assert np.allclose(ours.sums, theirs.sums, rtol=0, atol=rounding * max(theirs.power))
        assert np.allclose(ours.power, theirs.power, rtol=1e-5)
        assert ours.largest == theirs.largest
        assert ours.check == theirs.check


@pytest.mark.parametrize("dtype", FLOATS + WHOLE, ids=str)
def test_matrices_are_read_in_logical_order_however_they_lie(dtype: torch.dtype) -> None:
    for rows, columns in ((384, 70), (1, 5), (5, 1), (0, 4), (65, 129)):
        for x in (drawn(dtype, rows * columns).view(columns, rows).t(), drawn(dtype, 4000).view(50, 80)[3:, 5:60].t()):
            assert torch.equal(measure.in_order(x), x.contiguous()) and measure.in_order(x).is_contiguous()


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_what_is_no_number_is_counted_and_left_out(dtype: torch.dtype) -> None:
    x = drawn(dtype, 2 * CHUNK + 5)
    holes = x.clone()
    holes[[3, CHUNK + 9]], holes[2 * CHUNK + 1] = math.nan, -math.inf
    value, zeroed = value_of(holes), value_of(holes.nan_to_num(nan=0.0, neginf=0.0))
    assert (value.nans, value.infs) == (2, 1)
    assert value.norm == pytest.approx(zeroed.norm, rel=1e-5)
    assert np.allclose(value.sketch, zeroed.sketch, rtol=0, atol=1e-4 * value.norm)


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e30, 3e38])
def test_squares_that_float32_cannot_hold_are_measured(scale: float) -> None:
    x = torch.rand(CHUNK + 40) * scale
    assert value_of(x).norm == pytest.approx(float(torch.linalg.vector_norm(x.double())), rel=1e-6)


def test_numbers_at_the_end_of_float64_do_not_overflow() -> None:
    value = value_of(torch.full((CHUNK + 1,), torch.finfo(torch.float64).max, dtype=torch.float64))
    assert math.isfinite(value.norm) and value.infs == 0 and np.isfinite(value.sketch).all()


def test_equal_numbers_have_one_digest_wherever_they_lie() -> None:
    for dtype in (torch.bfloat16, torch.float32, torch.int8):
        x = drawn(dtype, 1003)
        base = torch.zeros(2048, dtype=dtype)
        for offset in (0, 1, 3, 7):
            base[offset : offset + 1003] = x
            assert value_of(base[offset : offset + 1003]).digest == value_of(x).digest
        changed = x.clone()
        changed[-1] = changed[-1] + 1
        assert value_of(changed).digest != value_of(x).digest


def test_a_swap_a_shift_and_one_element_are_seen() -> None:
    x = drawn(torch.float32, 4 * CHUNK)
    one = x.clone()
    one[CHUNK + 3] += 0.5
    assert distance(value_of(x), value_of(one)) == pytest.approx(0.5, rel=1e-6)
    assert distance(value_of(x), value_of(x.roll(CHUNK))) > value_of(x).norm / 2
    assert distance(value_of(x), value_of(x.clone())) == 0


def test_a_kernel_that_is_wrong_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = measure._launched

    def wrong(flat: torch.Tensor) -> Chunks:
        chunks = right(flat)
        return replace(chunks, power=[power * 1.001 for power in chunks.power])

    x = drawn(torch.float32, 1000)
    expected = value_of(x)
    measure._believed.cache_clear()
    monkeypatch.setattr(measure, "_launched", wrong)
    with pytest.warns(RuntimeWarning, match="measures float32 tensors on cpu is wrong on numbers whose sums are known"):
        got = value_of(x)
    assert got.norm == pytest.approx(expected.norm, rel=1e-6) and got.digest == expected.digest


def test_a_kernel_that_fails_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(flat: torch.Tensor) -> Chunks:
        raise RuntimeError("no such chip")

    measure._believed.cache_clear()
    monkeypatch.setattr(measure, "_launched", fails)
    with pytest.warns(RuntimeWarning, match="fails: RuntimeError: no such chip; PyTorch's operators measure them"):
        assert value_of(torch.ones(8)).norm == pytest.approx(math.sqrt(8))


def test_the_interpreter_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    import triton

    def never(flat: torch.Tensor) -> Chunks:
        raise AssertionError("launched")

    monkeypatch.setattr(triton.knobs.runtime, "interpret", True)
    monkeypatch.setattr(measure, "_launched", never)
    assert value_of(torch.ones(8)).norm == pytest.approx(math.sqrt(8))
