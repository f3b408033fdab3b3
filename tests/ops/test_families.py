"""One call or more of every family beyond the basic ones, judged, with gradients where it has them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as nn

import tessera
from tests.ops.judged import assert_call, assert_calls, assert_gradients, vendor_calls

torch.manual_seed(0)
image = torch.randn(2, 12, 9, 10)
planes = torch.rand(2, 3, 7, 8)
rows = torch.randn(20, 33)
places = torch.randint(0, 20, (20, 33))
chance = torch.rand(20, 33) * 0.9 + 0.05
weights = torch.randn(16, 12, 3, 3)
depthwise = torch.randn(12, 1, 3, 3)
transposed = torch.randn(12, 8, 3, 2)
volume, cube = torch.randn(1, 8, 5, 6, 7), torch.randn(8, 8, 2, 3, 3)
pixels = torch.randint(0, 3, (2, 7, 8))
words, starts = torch.randint(0, 20, (23,)), torch.tensor([0, 4, 4, 5, 17])

Case = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]

CALLS: dict[str, Case] = {
    "conv2d": (nn.conv2d, (image, weights, torch.randn(16)), {"stride": (2, 1), "padding": 1, "dilation": (1, 2)}),
    "conv2d of groups": (nn.conv2d, (image, torch.randn(32, 6, 3, 3)), {"groups": 2, "padding": 2}),
    "conv2d of single channels": (nn.conv2d, (image, depthwise), {"groups": 12, "padding": 1}),
    "conv2d in channels-last": (nn.conv2d, (image.to(memory_format=torch.channels_last), weights), {"padding": 1}),
    "conv2d of patches": (nn.conv2d, (image, torch.randn(16, 12, 4, 2)), {"stride": (4, 2)}),
    "conv1d": (nn.conv1d, (rows[None], torch.randn(9, 20, 5)), {"padding": 2}),
    "conv3d": (nn.conv3d, (volume, cube), {"padding": (0, 1, 1)}),
    "conv_transpose2d": (
        nn.conv_transpose2d, (image, transposed, torch.randn(8)), {"stride": 2, "output_padding": 1, "padding": 1},
    ),
    "max_pool2d": (nn.max_pool2d, (image, 3), {"stride": 2, "padding": 1, "ceil_mode": True}),
    "max_pool3d": (nn.max_pool3d, (volume, 2), {"dilation": (1, 2, 2)}),
    "adaptive_max_pool2d": (nn.adaptive_max_pool2d, (image, (4, 3)), {}),
    "fractional_max_pool2d": (
        nn.fractional_max_pool2d, (image, (2, 3), (5, 4), None, False, torch.rand(2, 12, 2)), {},
    ),
    "fractional_max_pool3d": (
        nn.fractional_max_pool3d, (volume, 2, None, 0.6, False, torch.rand(1, 8, 3)), {},
    ),
    "avg_pool2d": (nn.avg_pool2d, (image, 3), {"stride": 2, "padding": 1, "count_include_pad": False}),
    "avg_pool3d": (nn.avg_pool3d, (volume, 2), {"divisor_override": 3}),
    "adaptive_avg_pool2d": (nn.adaptive_avg_pool2d, (image, (4, 3)), {}),
    **{
        f"upsample {mode}": (nn.interpolate, (planes,), {"size": (11, 5), "mode": mode})
        for mode in ("nearest", "nearest-exact", "bilinear", "bicubic")
    },
    "upsample trilinear": (
        nn.interpolate, (volume,), {"scale_factor": 2.0, "mode": "trilinear", "align_corners": True},
    ),
    **{
        f"grid_sample {mode} {padding} {align}": (
            nn.grid_sample, (planes, torch.rand(2, 5, 6, 2) * 3 - 1.5),
            {"mode": mode, "padding_mode": padding, "align_corners": align},
        )
        for mode, padding, align in (
            ("bilinear", "zeros", False), ("bilinear", "reflection", True), ("nearest", "border", False),
            ("bicubic", "zeros", True), ("bicubic", "reflection", False),
        )
    },
    "grid_sample of a volume": (
        nn.grid_sample, (volume, torch.rand(1, 3, 4, 5, 3) * 3 - 1.5),
        {"padding_mode": "border", "align_corners": False},
    ),
    "unfold": (nn.unfold, (image, (3, 2)), {"dilation": (1, 2), "padding": 1, "stride": (2, 1)}),
    "fold": (nn.fold, (torch.randn(2, 72, 90), (9, 10), 3), {"padding": 1}),
    "reflect": (nn.pad, (planes, (2, 1, 3, 0)), {"mode": "reflect"}),
    "replicate": (nn.pad, (planes, (2, 1, 3, 0)), {"mode": "replicate"}),
    "constant": (nn.pad, (planes, (2, 1, -3, 0)), {"value": 0.5}),
    "reflect a long way": (nn.pad, (planes, (3, 2, 0, -1)), {"mode": "reflect"}),
    "replicate a long way": (nn.pad, (planes, (19, 6, 0, -1)), {"mode": "replicate"}),
    "constant around a volume": (nn.pad, (volume, (1, 2, 0, 9, 3, 1)), {"value": -2.0}),
    "roll": (torch.roll, (rows, (3, -2), (0, 1)), {}),
    "roll of many": (torch.roll, (torch.randn(3, 20001), 9000), {}),
    "flip of long rows": (torch.flip, (torch.randn(3, 2, 9001), (0, 2)), {}),
    "flip of all": (torch.flip, (torch.randn(2, 3, 9, 7), (0, 1, 2, 3)), {}),
    "repeat along every dim": (torch.Tensor.repeat, (volume, 2, 3, 2, 1, 2), {}),
    "flip": (torch.flip, (rows, (0, 1)), {}),
    "repeat": (torch.Tensor.repeat, (rows, 2, 1, 3), {}),
    "triu": (torch.triu, (image, -1), {}),
    "scatter_add": (torch.scatter_add, (rows, 0, places, rows.clone()), {}),
    "scatter_reduce": (torch.scatter_reduce, (rows, 0, places, rows.clone(), "mean"), {"include_self": False}),
    "index_add": (torch.index_add, (rows, 0, places[:, 0], rows.clone()), {"alpha": 2.0}),
    "index_put": (torch.index_put, (rows, (places[0],), rows[:1].clone()), {"accumulate": True}),
    "var": (torch.var, (image, (0, 2)), {"correction": 0}),
    "std": (torch.std, (rows, 1), {}),
    "prod": (torch.prod, (chance, 1), {}),
    **{
        f"{fn.__name__} in a short type": (fn, (places.to(torch.int8), 1), {"dtype": torch.int8})
        for fn in (torch.sum, torch.prod)
    },
    "cumprod": (torch.cumprod, (chance + 0.5, 1), {}),
    **{f"norm {p}": (torch.linalg.vector_norm, (rows, p, 1), {}) for p in (0.5, 1, 2, 3, torch.inf)},
    **{f"cdist {p}": (torch.cdist, (rows[:6], rows, p), {}) for p in (0.0, 0.7, 1.0, 2.0, 2.5, torch.inf)},
    "cdist of one and many": (torch.cdist, (image, image[:1, :, :4]), {}),
    **{f"pdist {p}": (torch.pdist, (rows, p), {}) for p in (0.0, 0.7, 1.0, 2.0, 2.5, torch.inf)},
    **{
        f"bags {mode} without {padding}": (
            torch.ops.aten._embedding_bag, (rows, words, starts, False, mode, False, None, False, padding), {},
        )
        for mode in (0, 1, 2) for padding in (-1, int(words[3]))
    },
    "bags weighted": (
        torch.ops.aten._embedding_bag,
        (rows, words, torch.tensor([0, 4, 4, 23]), False, 0, False, torch.randn(23), True, int(words[3])), {},
    ),
    "cross": (torch.linalg.cross, (rows[:3], rows[:1, :1].expand(3, 33)), {"dim": 0}),
    "norm": (torch.norm, (rows, 3, 1), {}),
    "repeat_interleave": (torch.repeat_interleave, (rows, torch.arange(20) % 3, 0), {}),
    "digamma": (torch.digamma, (rows,), {}),
    "polygamma": (torch.polygamma, (3, rows), {}),
    "mvlgamma": (torch.mvlgamma, (chance + 2.5, 5), {}),
    "addbmm": (torch.addbmm, (rows[:9, :9], image[0], image[1].transpose(1, 2)), {"beta": 0.5, "alpha": 2}),
    "zeta": (torch.special.zeta, (chance + 1.5, rows), {}),
    "flip of a transposed image": (torch.flip, (image.transpose(1, 3), (0, 3)), {}),
    "mv": (torch.mv, (rows, torch.randn(33)), {}),
    "addr": (torch.addr, (rows, torch.randn(20), torch.randn(33)), {"alpha": 0.5}),
    "dot": (torch.dot, (rows[0], rows[1]), {}),
    **{
        fn.__name__: (fn, (rows,), {})
        for fn in (
            nn.elu, nn.selu, nn.celu, nn.hardswish, nn.hardsigmoid, nn.hardtanh, nn.mish, nn.softplus, nn.softshrink,
            nn.hardshrink, nn.leaky_relu, nn.logsigmoid,
        )
    },
    "glu": (nn.glu, (image, 1), {}),
    "rrelu": (nn.rrelu, (rows, 0.1, 0.4), {}),
    "prelu": (nn.prelu, (image, torch.randn(12)), {}),
    **{
        fn.__name__: (fn, (rows, rows.flip(0)), {"reduction": "mean"})
        for fn in (nn.mse_loss, nn.smooth_l1_loss, nn.huber_loss, nn.soft_margin_loss)
    },
    "binary_cross_entropy": (nn.binary_cross_entropy, (chance, chance.flip(0)), {}),
    "cross_entropy of pixels": (nn.cross_entropy, (planes, pixels), {}),
    "addcmul": (torch.addcmul, (rows, rows.clone(), chance), {"value": 0.5}),
    "addcdiv": (torch.addcdiv, (rows, rows.clone(), chance), {"value": 0.5}),
    "lerp": (torch.lerp, (rows, chance, 0.7), {}),
    "logaddexp": (torch.logaddexp, (rows, chance), {}),
    "fmod": (torch.fmod, (rows, chance), {}),
    "div floor": (functools.partial(torch.div, rounding_mode="floor"), (rows, chance), {}),
}  # fmt: skip


def typed(value: Any, dtype: torch.dtype) -> Any:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone(memory_format=torch.preserve_format).to(dtype).requires_grad_()
    return value


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", CALLS)
def test_results(name: str, dtype: torch.dtype) -> None:
    if name == "avg_pool3d" and dtype is torch.bfloat16:
        pytest.skip("PyTorch has no avg_pool3d of bfloat16 on CPUs to hold ours against")
    if name.startswith(("cdist", "pdist", "grid_sample", "zeta")) and dtype is torch.bfloat16:
        pytest.skip("PyTorch has no distances, grids and zeta of bfloat16 on CPUs to hold ours against")
    call, args, kwargs = CALLS[name]
    given = [(tuple(typed(x, dtype).detach() if isinstance(x, torch.Tensor) else x for x in args), kwargs)]
    for record in assert_calls(call, given):
        assert not vendor_calls(record)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", [name for name in dir(torch.special) if "_polynomial_" in name])
def test_orthogonal_polynomials(name: str, dtype: torch.dtype) -> None:
    """Inside and outside of [-1, 1], at its ends, for low and high degrees, and where there is none."""
    x = torch.cat([torch.linspace(-3, 3, 40), torch.tensor([-1.0, 0.0, 0.5, 1.0])]).to(dtype)
    n = torch.tensor([-3.0, 0.0, 1.0, 2.0, 3.9, 8.0, 9.0, 14.0], dtype=dtype).unsqueeze(1)
    call = getattr(torch.special, name)
    for record in assert_calls(call, [((x, n), {}), ((x, 5), {}), ((0.3, n), {})]):
        assert not vendor_calls(record)


def test_a_degree_that_no_recurrence_reaches_ends_at_once() -> None:
    x, n = torch.tensor([0.3, 0.3, 0.3]), torch.tensor([2.0**40, torch.inf, 2.0])
    with tessera.use("always"):
        found = torch.special.legendre_polynomial_p(x, n)
    assert found[0].isnan() and found[1] == 0
    torch.testing.assert_close(found[2], (3 * x[2] ** 2 - 1) / 2)


@pytest.mark.parametrize("name", CALLS)
def test_gradients(name: str) -> None:
    call, args, kwargs = CALLS[name]
    given = [typed(x, torch.float32) for x in args]
    if name == "soft_margin_loss":
        given[1] = given[1].detach()  # PyTorch has no gradient by the target
    assert_gradients(call, [(tuple(given), kwargs)])


def parameters(sizes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    torch.manual_seed(1)
    return [torch.nn.Parameter(torch.randn(size)) for size in sizes]


OPTIMIZERS = {
    "adam": functools.partial(torch.optim.Adam, weight_decay=0.1, amsgrad=True, fused=True),
    "adamw": functools.partial(torch.optim.AdamW, fused=True),
    "sgd": functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1, fused=True),
    "adagrad": functools.partial(torch.optim.Adagrad, lr_decay=0.1, fused=True),
    "adamw of lists": functools.partial(torch.optim.AdamW, foreach=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_walk_where_pytorchs_do(name: str) -> None:
    ends = []
    for ours in (False, True):
        given = parameters((7, 40000, 1))
        optimizer = OPTIMIZERS[name](given)
        for step in range(4):
            for i, p in enumerate(given):
                p.grad = torch.sin(p.detach() * (step + 1) + i)
            if ours:
                with tessera.use("always") as record:
                    optimizer.step()
                assert record.ours
            else:
                optimizer.step()
        ends.append(torch.cat([p.detach() for p in given]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-6, atol=1e-6)


def test_lists_of_mixed_types_and_layouts() -> None:
    given = [torch.randn(4, 6).t(), torch.randn(3, dtype=torch.float64), torch.arange(5), torch.randn(2, 0)]
    with tessera.use("always") as record:
        found = torch._foreach_add(given, 2)
        torch._foreach_mul_(found, found)
    for x, y in zip(given, found, strict=True):
        torch.testing.assert_close(y, (x + 2) ** 2)
        assert y.stride() == x.stride()
    assert not vendor_calls(record)


def test_exponentials_of_matrices_of_any_size() -> None:
    given = torch.randn(3, 5, 5) * torch.tensor([0.01, 1.0, 20.0]).view(3, 1, 1)
    for record in assert_gradients(torch.linalg.matrix_exp, [((given[:2].requires_grad_(),), {})]):
        assert not vendor_calls(record)
    with tessera.use("always"):
        for x in given.detach():
            torch.testing.assert_close(torch.linalg.matrix_exp(x), torch.linalg.matrix_exp(x.double()).float())


def test_digamma_has_a_pole_of_the_other_sign_on_each_side_of_0() -> None:
    with tessera.use("always"):
        assert torch.digamma(torch.tensor([0.0, -0.0])).tolist() == [-torch.inf, torch.inf]
        assert torch.digamma(torch.tensor([0])).tolist() == [-torch.inf]


def test_powers_of_integers() -> None:
    x = torch.tensor([-3, -1, 0, 1, 2, 7])
    with tessera.use("always") as record:
        assert torch.pow(x, 5).tolist() == [-243, -1, 0, 1, 32, 16807]
        assert torch.pow(x, torch.tensor([2, -3, 0, -2, -1, 70])).tolist() == [9, -1, 1, 1, 0, pow(7, 70, 2**64)]
        assert torch.pow(2.0, torch.tensor([0.5, -3.0], dtype=torch.float64))[1] == 0.125
    assert not vendor_calls(record)


def test_any_and_all_of_bytes_are_bytes() -> None:
    x = torch.tensor([[0, 2], [1, 3]], dtype=torch.uint8)
    with tessera.use("always") as record:
        found = x.all(1)
    assert found.dtype is torch.uint8 and found.tolist() == [0, 1]
    assert not record.vendor


def test_integer_division_by_zero_is_pytorchs_error() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="ZeroDivisionError"):
        torch.arange(5) // torch.zeros(5, dtype=torch.int64)
    low = torch.tensor([torch.iinfo(torch.int64).min, 7])
    with tessera.use("always"):
        assert torch.remainder(low, -1).tolist() == [0, 0]


def test_spaced_ranges_end_where_they_should() -> None:
    with tessera.use("always") as record:
        line, powers = torch.linspace(-1, 1, 5), torch.logspace(0, 3, 4)
    assert line.tolist() == [-1.0, -0.5, 0.0, 0.5, 1.0]
    torch.testing.assert_close(powers, torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    assert not record.vendor


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.int8], ids=str)
@pytest.mark.parametrize("ends", [(0.5, 5.7, 1), (0, 5, 1.5), (-2.5, 3.2, 1.9), (5.5, 0, -1.5), (3, 3.5), (0, 9, 2.5)])
def test_ranges_of_whole_numbers_from_fractional_ends(ends: tuple[float, ...], dtype: torch.dtype) -> None:
    assert not vendor_calls(assert_call(torch.arange, *ends, dtype=dtype))


def test_a_step_that_is_cut_off_to_0_is_pytorchs_error() -> None:
    assert torch.arange(0, 5, 0.5, dtype=torch.int32).tolist() == [0] * 10
    with tessera.use("always"):
        assert torch.arange(0, 5, 0.5, dtype=torch.int32).tolist() == [0] * 10
        with pytest.raises(ValueError, match="step must be nonzero"):
            torch.arange(0, 5, 0.5, dtype=torch.int64)


@pytest.mark.parametrize("numbers", [(3, 1), (-1.5, 2.7), (0.5, -3)])
def test_thresholds_of_integers(numbers: tuple[float, float]) -> None:
    x = torch.arange(-9, 9, dtype=torch.int8)
    assert not vendor_calls(assert_call(nn.threshold, x, *numbers))
    assert not vendor_calls(assert_call(torch.ops.aten.native_dropout_backward, x, x > 0, 1.5))


def test_a_threshold_that_the_type_cannot_hold_is_pytorchs_error() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="cannot be converted"):
        nn.threshold(torch.arange(3, dtype=torch.int8), 1, 300)


@pytest.mark.parametrize(("words", "starts"), [([3, 4], [0, 1]), ([-1, 0], [0, 1]), ([0, 1], [1, 1]), ([0, 1], [0, 3])])
def test_bags_outside_are_an_error(words: list[int], starts: list[int]) -> None:
    table, given = torch.randn(4, 3), (torch.tensor(words), torch.tensor(starts))
    for _ in range(3):  # the third runs the plan
        with tessera.use("always"), pytest.raises(RuntimeError, match=r"must lie in \[0, 4\)"):
            nn.embedding_bag(given[0], table, given[1])


def test_gradients_of_bags_are_divided_by_how_often_their_index_stands() -> None:
    table = torch.ones(6, 1, requires_grad=True)
    with tessera.use("always") as record:
        words, starts = torch.tensor([5, 1, 5, 2]), torch.tensor([0, 3])
        bags = nn.embedding_bag(words, table, starts, mode="sum", scale_grad_by_freq=True)
        bags.backward(torch.tensor([[3.0], [7.0]]))
    assert table.grad is not None and table.grad.view(-1).tolist() == [0.0, 3.0, 7.0, 0.0, 0.0, 3.0]
    assert not vendor_calls(record)


def test_scattering_is_the_same_for_any_number_of_threads() -> None:
    index, values = torch.randint(0, 50, (4000, 64)), torch.randn(4000, 64)
    found = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with tessera.use("always"):
                found.append(torch.zeros(50, 64).scatter_add_(0, index, values))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])


JOINED: dict[str, tuple[list[torch.Tensor], int]] = {
    "rows of several lengths": ([torch.randn(50, 3, 40), torch.randn(50, 1, 40), torch.randn(50, 0, 40)], 1),
    "longer than a block": ([torch.randn(3, 5000), torch.randn(3, 17), torch.randn(3, 2049)], 1),
    "halves": ([torch.randn(9, 64).bfloat16()] * 5, -1),
    "truths": ([torch.randn(7, 90) > 0, torch.randn(7, 65) > 0], 1),
    "bytes": ([torch.randint(0, 255, (4, 130), dtype=torch.uint8)] * 2, 1),
    "complex": ([torch.randn(4, 30, dtype=torch.complex64), torch.randn(4, 30, dtype=torch.complex64).conj()], 1),
    "columns": ([torch.randn(20, 6), torch.randn(300, 6)], 0),
    "many columns": ([torch.randn(2000, 6), torch.randn(3000, 6)], 0),
    "short rows": ([torch.randn(300, 2), torch.randn(300, 3)], 1),
    "strided": ([torch.randn(80, 40).t(), torch.randn(40, 80)], 1),
    "several types": ([torch.randn(8, 80), torch.randn(8, 80, dtype=torch.float64)], 1),
    "channels-last": ([torch.randn(2, 8, 5, 6).to(memory_format=torch.channels_last)] * 2, 1),
    "negated": ([torch.randn(4, 60, dtype=torch.complex64).conj().imag, torch.randn(4, 60)], 1),
}


@pytest.mark.parametrize(("parts", "dim"), JOINED.values(), ids=JOINED)
def test_parts_are_joined_to_the_bit(parts: list[torch.Tensor], dim: int) -> None:
    expected = torch.cat(parts, dim)
    for _ in range(4):  # the third runs the plan
        with tessera.use("always"):
            torch.testing.assert_close(torch.cat(parts, dim), expected, rtol=0, atol=0, check_stride=True)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("step", [1, 3])
def test_products_of_long_vectors(dtype: torch.dtype, step: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randint(-3, 4, (step * 400_001,), generator=generator).to(dtype)[::step] for _ in range(2))
    exact = torch.dot(x.double(), y.double())
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with tessera.use("always") as record:
                assert torch.equal(torch.dot(x, y), exact.to(dtype))
            assert not vendor_calls(record)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("power", [0.5, 2.0, 3.0])
def test_the_norm_of_one_element_is_its_size(power: float) -> None:
    x = torch.randn(1, 50)
    with tessera.use("always"):
        assert torch.equal(torch.linalg.vector_norm(x, power, 0), x[0].abs())


@pytest.mark.parametrize("reduced", [torch.amax, torch.aminmax, torch.sum, torch.any])
def test_more_dims_than_pytorch_reduces_over_are_its_error(reduced: Callable[..., Any]) -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="only tensors with up to 64 dims are supported"):
        reduced(torch.zeros([1] * 65), dim=-1)


def test_the_angle_of_a_negative_number_is_pi_in_its_own_type() -> None:
    x = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)
    with tessera.use("always"):
        assert torch.equal(torch.angle(x), torch.tensor([torch.pi, 0.0, 0.0], dtype=torch.float64))


def test_log_sigmoid_lies_in_the_order_of_its_dims() -> None:
    with tessera.use("always"):
        assert nn.logsigmoid(torch.randn(10, 2).t()).stride() == (10, 1)


def test_windows_over_no_elements_are_pytorchs_error() -> None:
    with tessera.use("always"), pytest.raises(RuntimeError, match="non-batch dimensions"):
        nn.max_pool3d(torch.zeros(1, 0, 4, 4, 4), 2)
