"""The rule must refuse every planted fault and pass every honest difference in rounding."""

from __future__ import annotations

import math

import pytest
import torch

from tessera.accuracy.judge import Judgement, Standard, floor, hold, judge
from tessera.core.errors import UsageError

TYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture
def operands() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(256, 384, generator=generator, dtype=torch.float64)
    return a, torch.randn(384, 512, generator=generator, dtype=torch.float64)


def standard_of(operands: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> tuple[Standard, torch.Tensor]:
    """The standard of a matrix product in `dtype`, and torch's own result."""
    a, b = (operand.to(dtype) for operand in operands)
    native = a @ b
    return hold(native, a.double() @ b.double()), native


def in_another_order(operands: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """The product summed in four parts from the far end in float32, rounded once at the end."""
    a, b = (operand.to(dtype).float() for operand in operands)
    parts = [a[:, start : start + 96] @ b[start : start + 96] for start in (288, 192, 96, 0)]
    return (((parts[0] + parts[1]) + parts[2]) + parts[3]).to(dtype)


@pytest.mark.parametrize("dtype", TYPES)
def test_another_order_of_summation_passes(operands: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> None:
    standard, native = standard_of(operands, dtype)
    judged = judge(in_another_order(operands, dtype), standard)
    assert judged.ok, judged
    assert judged.reason == ""
    assert 0.3 < judged.ratio < 2
    assert judge(native, standard).ratio <= 1


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [0.0, 1.5])
def test_one_wrong_element_is_named(
    operands: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype, value: float
) -> None:
    standard, native = standard_of(operands, dtype)
    wrong = native.clone()
    middle = int(native.abs().flatten().argsort()[native.numel() // 2])
    row, column = divmod(middle, native.shape[1])
    wrong[row, column] *= value
    judged = judge(wrong, standard)
    assert not judged.ok
    # In half types the norm alone does not see it: that is what the peak is for.
    if dtype is torch.bfloat16:
        assert judged.ratio < 2
        assert judged.reason.startswith(f"element [{row}, {column}] is off by")


@pytest.mark.parametrize("dtype", TYPES)
def test_transposed_result_fails(operands: tuple[torch.Tensor, torch.Tensor], dtype: torch.dtype) -> None:
    square = (operands[0][:, :256], operands[1][:256, :256])
    standard, native = standard_of(square, dtype)
    judged = judge(native.t().contiguous(), standard)
    assert not judged.ok
    assert "times what torch loses (limit 2)" in judged.reason


def test_scale_of_one_in_a_thousand_fails_in_float32(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    standard, native = standard_of(operands, torch.float32)
    judged = judge(native * 1.001, standard)
    assert not judged.ok
    assert judged.error == pytest.approx(1e-3, rel=0.01)


def test_result_computed_in_a_shorter_type_fails(operands: tuple[torch.Tensor, torch.Tensor]) -> None:
    standard, _ = standard_of(operands, torch.float32)
    shorter = (operands[0].bfloat16() @ operands[1].bfloat16()).float()
    assert not judge(shorter, standard).ok


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_not_finite_where_torch_is_finite(operands: tuple[torch.Tensor, torch.Tensor], value: float) -> None:
    standard, native = standard_of(operands, torch.float32)
    wrong = native.clone()
    wrong[3, 4] = value
    judged = judge(wrong, standard)
    assert not judged.ok
    assert judged.reason == (
        f"1 of {native.numel()} elements are not finite or not torch's, the first at [3, 4]: {value}"
    )


def test_infinities_of_a_mask_must_be_torchs() -> None:
    reference = torch.linspace(1, 2, 100, dtype=torch.float64)
    reference[7] = -math.inf
    native = reference.float()
    standard = hold(native, reference)
    assert judge(native.clone(), standard).ok
    for other in (math.inf, math.nan, 0.0):
        wrong = native.clone()
        wrong[7] = other
        assert not judge(wrong, standard).ok


def test_overflow_of_the_type_is_judged_by_torchs_value() -> None:
    reference = torch.full((100,), 1e5, dtype=torch.float64)
    reference[:50] = 1.0
    native = reference.half()
    standard = hold(native, reference)
    assert judge(native.clone(), standard).ok
    wrong = native.clone()
    wrong[60] = 65504.0
    assert not judge(wrong, standard).ok


def test_where_torch_is_exact_half_an_epsilon_is_allowed_and_no_more_than_twice() -> None:
    reference = torch.full((1000,), 1.5, dtype=torch.float64)
    native = reference.float()
    standard = hold(native, reference)
    assert standard.torch_loss.error == 0
    assert judge(native, standard).ratio == 0
    one_step = torch.nextafter(native, torch.full_like(native, 2.0))
    judged = judge(one_step, standard)
    assert judged.ok
    assert judged.ratio == pytest.approx(2 / 1.5)
    two_steps = torch.nextafter(one_step, torch.full_like(native, 2.0))
    assert not judge(two_steps, standard).ok


def test_zeros_must_be_zeros() -> None:
    reference = torch.zeros(100, dtype=torch.float64)
    standard = hold(reference.float(), reference)
    assert judge(torch.zeros(100), standard).ok
    assert not judge(torch.full((100,), 1e-30), standard).ok


def test_few_elements_are_judged_by_the_noise_of_the_run_so_far() -> None:
    reference = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    lucky = reference.float()
    unlucky = lucky * (1 + 1e-6)
    assert not judge(unlucky, hold(lucky, reference)).ok
    assert judge(unlucky, hold(lucky, reference), noise=1e-6).ok
    assert not judge(lucky * 1.001, hold(lucky, reference), noise=1e-6).ok
    many = reference.repeat(30)
    assert not judge(many.float() * (1 + 1e-6), hold(many.float(), many), noise=1e-6).ok


@pytest.mark.parametrize(
    ("candidate", "said"),
    [
        (torch.zeros(3, 2), "output is float32[3, 2] where torch gives float32[2, 3]"),
        (torch.zeros(2, 3, dtype=torch.float64), "output is float64[2, 3] where torch gives float32[2, 3]"),
    ],
)
def test_another_shape_or_type(candidate: torch.Tensor, said: str) -> None:
    standard = hold(torch.ones(2, 3), torch.ones(2, 3, dtype=torch.float64))
    judged = judge(candidate, standard)
    assert (judged.ok, judged.ratio, judged.reason) == (False, math.inf, said)


def test_without_a_reference_only_the_same_bits_pass() -> None:
    native = torch.linspace(1, 2, 100)
    native[0] = math.nan
    standard = hold(native, None)
    assert judge(native.clone(), standard).ok
    wrong = native.clone()
    wrong[5] = torch.nextafter(native[5], torch.tensor(3.0))
    assert "no float64 reference" in judge(wrong, standard).reason


def test_empty_and_scalar_outputs() -> None:
    empty = torch.empty(0, 4)
    assert judge(empty, hold(empty, empty.double())).ok
    reference = torch.tensor(2.0, dtype=torch.float64)
    judged: Judgement = judge(torch.tensor(2.1), hold(torch.tensor(2.0), reference))
    assert not judged.ok
    assert judged.error == pytest.approx(0.05, rel=1e-3)


def test_standard_needs_one_shape() -> None:
    with pytest.raises(UsageError, match=r"float32\[2\] and the reference is float64\[3\]; .* one shape"):
        hold(torch.ones(2), torch.ones(3, dtype=torch.float64))


def test_floor_is_half_an_epsilon() -> None:
    assert floor(torch.float32) == 2**-24
    assert floor(torch.bfloat16) == 2**-8
