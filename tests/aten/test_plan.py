"""Plans: the third call of a layout does what the first did, and a plan serves no call that it was not made for."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

import tessera
from tessera.aten import serve
from tessera.aten.plan import meeting
from tessera.ops.table import VARIANTS

CALLS = 3  # the second makes the plan, the third finds it


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    tessera.enable("always")
    yield
    tessera.disable()


@pytest.fixture
def plans() -> Callable[[str], dict[Any, Any]]:
    """The plans of an overload by its full name."""
    return lambda name: serve.operator_of(VARIANTS[name]).plans


def vendor(call: Callable[[], Any]) -> Any:
    tessera.disable()
    try:
        return call()
    finally:
        tessera.enable("always")


def each_time(call: Callable[[], Any]) -> list[Any]:
    return [call() for _ in range(CALLS)]


def test_a_plan_is_made_at_the_second_call_and_kept(plans: Callable[[str], dict[Any, Any]]) -> None:
    x, y = torch.randn(3, 5, 7), torch.randn(3, 1, 7)
    before = len(plans("aten::add.Tensor"))
    counts = []
    for _ in range(4):
        x + y
        counts.append(len(plans("aten::add.Tensor")) - before)
    assert counts == [0, 1, 1, 1]
    tessera.disable()
    tessera.enable("always")
    x + y
    assert len(plans("aten::add.Tensor")) == before + 1


def test_new_memory_and_new_values_in_each_call() -> None:
    x = torch.zeros(4, 4)
    results = []
    for step in range(5):
        x.fill_(step)
        results.append(x + 1)
    assert [float(r.mean()) for r in results] == [1, 2, 3, 4, 5]
    assert len({r.data_ptr() for r in results}) == 5


@pytest.mark.parametrize("first_alike", [True, False])
def test_one_tensor_twice_and_two_tensors_share_a_plan(first_alike: bool) -> None:
    x, y = torch.randn(6, 11 + first_alike), torch.randn(6, 11 + first_alike)
    pairs = [(x, x), (x, y)] if first_alike else [(x, y), (x, x)]
    for a, b in pairs * CALLS:
        assert torch.equal(a - b, vendor(lambda a=a, b=b: a - b))
    base = torch.randn(40)
    for _ in range(CALLS):  # two parts of one memory
        assert torch.equal(base[:20] - base[10:30], vendor(lambda: base[:20] - base[10:30]))


def test_writing_over_an_input_is_the_vendors_to_judge() -> None:
    base = torch.arange(8.0)
    for _ in range(CALLS):
        base[:4].add_(base[4:])
    assert base.tolist() == [12.0, 16.0, 20.0, 24.0, 4.0, 5.0, 6.0, 7.0]
    for _ in range(CALLS):
        with pytest.raises(RuntimeError, match="single memory location"):
            base[1:5].add_(base[:4])
    with tessera.use("always") as record, pytest.raises(RuntimeError, match="single memory location"):
        base[1:5].add_(base[:4])
    assert record.calls["add_.Tensor"].reasons == {"an input overlaps the output": 1}
    x = torch.ones(4)
    for _ in range(CALLS):
        x.add_(x)
        torch.mul(x, x, out=x)
    assert x.tolist() == [((2.0**2 * 2) ** 2 * 2) ** 2] * 4


def test_numbers_are_told_apart() -> None:
    x = torch.tensor([1, -2, 3])
    for number in (2, 2.0, True, 1, 1.0, 0, 0.0, -0.0, False):
        expected = vendor(lambda n=number: x * n)
        for result in each_time(lambda n=number: x * n):
            assert result.dtype is expected.dtype and str(result) == str(expected), number
    y = torch.tensor([0.0, 1.0])
    for number in (0.0, -0.0):
        expected = vendor(lambda n=number: (y + 1) * n)
        assert all(torch.equal(1 / r, 1 / expected) for r in each_time(lambda n=number: (y + 1) * n)), number


def test_a_number_that_is_new_in_each_call_is_never_planned(plans: Callable[[str], dict[Any, Any]]) -> None:
    x, before = torch.ones(3), len(plans("aten::mul.Tensor"))
    assert [float((x * (0.1 * step)).sum()) for step in range(50)] == pytest.approx([0.3 * step for step in range(50)])
    assert len(plans("aten::mul.Tensor")) == before


def test_not_a_number() -> None:
    x = torch.ones(3)
    assert all(bool(r.isnan().all()) for r in each_time(lambda: x * float("nan")))


def test_the_default_type_is_part_of_the_key() -> None:
    x = torch.arange(1, 6)
    assert {r.dtype for r in each_time(lambda: x / 2)} == {torch.float32}
    torch.set_default_dtype(torch.float64)
    try:
        assert {r.dtype for r in each_time(lambda: x / 2)} == {torch.float64}
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_default_device_does_not_move_results() -> None:
    x = torch.randn(5, 3, requires_grad=True)
    with torch.device("meta"):
        for _ in range(CALLS):
            y = functional.layer_norm(x, (3,)).sin().sum()
            (gradient,) = torch.autograd.grad(y, x)
    assert y.device.type == gradient.device.type == "cpu"


LAYOUTS = {
    "contiguous": lambda: torch.randn(2, 3, 4, 5),
    "channels last": lambda: torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
    "transposed": lambda: torch.randn(5, 4, 3, 2).permute(3, 2, 1, 0),
    "sliced": lambda: torch.randn(2, 3, 8, 10)[..., ::2, ::2],
    "expanded": lambda: torch.randn(3, 1, 5).expand(2, 3, 4, 5),
    "no elements": lambda: torch.randn(2, 0, 4, 5),
    "one element": lambda: torch.randn(()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "call",
    [
        lambda x: x + 1, lambda x: x * x.sum(), lambda x: x.relu_(), lambda x: x.sum(-1), lambda x: x.amax(0),
        lambda x: x.softmax(-1), lambda x: x.to(torch.bfloat16), lambda x: torch.cat([x.view(-1), x.view(-1)]),
        lambda x: torch.where(x > 0, x, -x), lambda x: x.max(-1), lambda x: x.clone(),
    ],
    ids=["add", "mul", "relu_", "sum", "amax", "softmax", "to", "cat", "where", "max", "clone"],
)  # fmt: skip
def test_layouts_are_kept(layout: str, call: Callable[[torch.Tensor], Any]) -> None:
    x = vendor(LAYOUTS[layout])

    def run() -> list[torch.Tensor] | str:
        try:
            result = call(vendor(x.clone) if x.is_contiguous() else x)
        except (RuntimeError, IndexError) as error:
            return type(error).__name__
        return list(result) if isinstance(result, tuple) else [result]

    expected = vendor(run)
    for found in each_time(run):
        if isinstance(expected, str) or isinstance(found, str):
            assert found == expected
            continue
        for ours, theirs in zip(found, expected, strict=True):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            assert theirs.numel() < 2 or ours.stride() == theirs.stride()
            torch.testing.assert_close(ours, theirs)


def test_gradients_and_modes() -> None:
    weight = torch.nn.Parameter(torch.randn(4, 4))
    x = torch.randn(3, 4)
    for _ in range(CALLS):
        weight.grad = None
        (x @ weight).tanh().sum().backward()
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad, x.t() @ (1 - (x @ weight.detach()).tanh() ** 2))
        assert not (x @ weight).is_inference()
        with torch.inference_mode():
            assert (x @ x.t()).is_inference()


def test_an_index_outside_is_noticed_by_a_plan(plans: Callable[[str], dict[Any, Any]]) -> None:
    table, index = torch.randn(4, 3), torch.tensor([0, 3])
    for _ in range(CALLS):
        assert torch.equal(table[index], torch.stack([table[0], table[3]]))
    assert plans("aten::index.Tensor")
    index[1] = 4
    with pytest.raises(IndexError, match="an index must lie in"):
        table[index]
    index[1] = 2
    assert torch.equal(table[index], torch.stack([table[0], table[2]]))


def test_declined_calls_are_remembered_with_their_reason() -> None:
    x = torch.ones(2, 2, dtype=torch.complex64)
    for _ in range(CALLS):
        with tessera.use("always") as record:
            assert x.cumprod(0).tolist() == [[1, 1], [1, 1]]
        assert record.calls["cumprod"].reasons == {"sums of this type": 1}


def test_plans_are_bounded(plans: Callable[[str], dict[Any, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "MOST_PLANS", 8)
    held = plans("aten::sin")
    held.clear()
    for size in range(1, 30):
        x = torch.linspace(0, 1, size)
        for result in each_time(x.sin):
            torch.testing.assert_close(result, vendor(x.sin))
        assert len(held) <= 8
    assert len(held) == 8


def test_from_several_threads() -> None:
    wrong: list[str] = []

    def work(seed: int) -> None:
        numbers = torch.Generator().manual_seed(seed)
        for step in range(300):
            x = torch.randn(1 + step % 7, 1 + (step + seed) % 5, generator=numbers)
            if not torch.equal((x + x) - x, x) or (x.t() * 2).stride() != x.t().stride():
                wrong.append(f"{seed} {step}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_large_tensor_uses_all_threads_and_gives_the_same() -> None:
    x = torch.randn(1 << 20)
    before = torch.get_num_threads()
    found = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        found += each_time(lambda: (x * 2 + 1).sum())
    torch.set_num_threads(before)
    assert all(torch.equal(found[0], other) for other in found)


def test_a_plan_is_of_the_number_of_threads_that_it_was_made_on(plans: Callable[[str], dict[Any, Any]]) -> None:
    """The slices of a large index_add_ are shared out among as many programs as there are threads."""
    x, index = torch.zeros(1024, 64), torch.arange(1024)
    start, before, counts = len(plans("aten::index_add_")), torch.get_num_threads(), []
    try:
        for threads in (3, 5, 3):
            torch.set_num_threads(threads)
            each_time(lambda: x.index_add_(0, index, x))
            counts.append(len(plans("aten::index_add_")) - start)
    finally:
        torch.set_num_threads(before)
    assert counts == [1, 2, 2]


def test_an_entry_that_first_copies_its_argument_is_planned(plans: Callable[[str], dict[Any, Any]]) -> None:
    x = torch.arange(12.0).view(3, 4).t()
    expected = torch.cumsum(x, 0)
    with tessera.use("always"):
        found = [torch.cumsum(x, 0) for _ in range(3)]
    assert all(torch.equal(one, expected) for one in found)
    assert any(key[2][2] == x.stride() for key in plans("aten::cumsum"))


def test_slices_of_one_tensor_that_share_no_element_stay_on_our_kernels() -> None:
    for _ in range(CALLS):
        x = torch.arange(24.0).view(4, 6)
        with tessera.use("always") as record:
            x[:, :2].copy_(x[:, 3:5])
        assert x[:, :2].tolist() == x[:, 3:5].tolist() == [[6.0 * i + 3, 6.0 * i + 4] for i in range(4)]
        assert not record.vendor


def test_whether_slices_meet_is_told_as_their_elements_do() -> None:
    base = torch.arange(60).view(3, 4, 5)
    ranges = itertools.product(((0, 2), (1, 3)), ((0, 4), (1, 2), (2, 4)), ((0, 2), (2, 5)))
    slices = [base[tuple(slice(*ends) for ends in one)] for one in ranges]
    for one in slices:
        for other in slices:
            ahead = other.data_ptr() - one.data_ptr()
            assert meeting(one, other)(ahead) == bool(set(one.flatten().tolist()) & set(other.flatten().tolist()))


def test_a_list_is_planned_with_tables_of_its_launch(plans: Callable[[str], dict[Any, Any]]) -> None:
    sizes = (5, 20000, 0, 64)
    before = len(plans("aten::_foreach_mul.Scalar"))
    for number in (2.0, 3.0):
        for _ in range(CALLS):  # other memory each time
            given = [torch.randn(size) for size in sizes]
            for x, found in zip(given, torch._foreach_mul(given, number), strict=True):
                assert torch.equal(found, vendor(lambda x=x, n=number: x * n))
    assert len(plans("aten::_foreach_mul.Scalar")) == before + 1


def test_numbers_of_lists_are_filled_in_at_each_call(plans: Callable[[str], dict[Any, Any]]) -> None:
    weights, grads = ([torch.randn(n, dtype=torch.float64) for n in (3, 4000)] for _ in range(2))
    before = len(plans("aten::_foreach_add.List"))
    for step in range(1, 8):
        found = torch._foreach_add(weights, grads, alpha=-0.1 * step)
        for f, w, g in zip(found, weights, grads, strict=True):
            torch.testing.assert_close(f, w - 0.1 * step * g)
    assert len(plans("aten::_foreach_add.List")) == before + 1
    for numbers in ([2.0, 3.0], [2, 0.5], [0.0, 1], [float("nan"), float("inf")], [-0.0, True]) * CALLS:
        found = torch._foreach_mul(weights, numbers)
        for x, n, y in zip(weights, numbers, found, strict=True):
            torch.testing.assert_close(y, x * n, rtol=0, atol=0, equal_nan=True)


def test_numbers_that_lists_are_not_planned_for_are_seen_at_each_call() -> None:
    integers = [torch.arange(5), torch.arange(7)]
    for number in (2, 3, 2.5, 3.5, True, 0, -7) * CALLS:
        found = torch._foreach_mul(integers, number)
        for x, f in zip(integers, found, strict=True):
            assert torch.equal(f, x * number) and f.dtype == (x * number).dtype


def test_a_rate_that_is_new_in_each_step_needs_one_plan(plans: Callable[[str], dict[Any, Any]]) -> None:
    def train() -> list[torch.Tensor]:
        weights = [torch.linspace(-1, 1, n).requires_grad_() for n in (7, 9000)]
        optimizer = torch.optim.SGD(weights, lr=0.1, momentum=0.9, weight_decay=0.01, fused=True)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
        for step in range(6):
            for w in weights:
                w.grad = torch.full_like(w, float(step))
            optimizer.step()
            schedule.step()
        return [w.detach() for w in weights]

    before = len(plans("aten::_fused_sgd_"))
    for ours, theirs in zip(train(), vendor(train), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert len(plans("aten::_fused_sgd_")) == before + 1


def test_lists_that_overlap_are_the_vendors_to_judge() -> None:
    base = torch.arange(40.0)
    apart = [base[i : i + 5] for i in range(0, 40, 10)]
    other = [base[i : i + 5] for i in range(5, 40, 10)]
    shifted = [base[i : i + 5] for i in range(4, 36, 10)]
    for _ in range(CALLS):
        torch._foreach_add_(apart, other)
    with tessera.use("always") as record:
        torch._foreach_add_(apart, other)
        assert record.calls["_foreach_add_.List"].ours == 1
        with pytest.raises(RuntimeError, match="single memory location"):
            torch._foreach_add_(apart, shifted)
    assert record.calls["_foreach_add_.List"].reasons == {"an input overlaps the output": 1}
    assert apart[0].tolist() == [20.0, 25.0, 30.0, 35.0, 40.0]


def test_planned_steps_of_adam_count_on_and_skip_what_overflowed() -> None:
    def train() -> list[torch.Tensor]:
        weights, means, squares, grads = ([torch.linspace(0.1, last, n) for n in (7, 9000)] for last in (1, 2, 3, 4))
        counts = [torch.zeros(()) for _ in weights]
        for step in range(5):
            overflowed = torch.tensor(float(step == 3))
            torch._foreach_add_(counts, 1)
            torch._fused_adamw_(
                weights, [g.clone() for g in grads], means, squares, [], counts, lr=0.1, beta1=0.9,
                beta2=0.99, weight_decay=0.1, eps=1e-8, amsgrad=False, maximize=False,
                grad_scale=torch.tensor(2.0), found_inf=overflowed,
            )  # fmt: skip
        return [*weights, *means, *squares]

    for ours, theirs in zip(train(), vendor(train), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_recalled_call_sees_where_its_tensors_lie() -> None:
    x = torch.arange(8.0)
    for _ in range(CALLS + 1):
        out = torch.empty(4)
        torch.neg(x[:4], out=out)
        assert out.tolist() == [-0.0, -1.0, -2.0, -3.0]
    for _ in range(2):
        with pytest.raises(RuntimeError, match="refer to a single memory location"):
            torch.neg(x[:4], out=x[2:6])
    torch.neg(x[:4], out=x[:4])
    assert x.tolist() == [-0.0, -1, -2, -3, 4, 5, 6, 7]


def test_a_recalled_call_raises_what_its_check_finds() -> None:
    weight, index = torch.randn(5, 3), torch.tensor([4, 0, 2])
    for _ in range(CALLS + 1):
        assert torch.equal(functional.embedding(index, weight), weight[index])
    index[1] = 5
    for _ in range(2):
        with pytest.raises(IndexError, match="out of range"):
            functional.embedding(index, weight)
    index[1] = 1
    assert torch.equal(functional.embedding(index, weight), weight[index])


@pytest.mark.parametrize("name", ["unique_consecutive", "_unique2", "masked_select"])
def test_a_result_as_long_as_its_values_say_is_planned(name: str, plans: Callable[[str], dict[Any, Any]]) -> None:
    given = [(torch.randn(40, 50) > bound).float() for bound in (0.0, 1.0, 9.0, -9.0, 0.5)]
    arguments = [(x, x > 0) if name == "masked_select" else (x,) for x in given]
    call = getattr(torch.ops.aten, name)
    before = len(plans(f"aten::{name}"))
    # The first runs as it is, the second is planned, the others are recalled.
    found = [call(*each) for each in arguments]
    assert len(plans(f"aten::{name}")) == before + 1
    assert_equal(found, vendor(lambda: [call(*each) for each in arguments]))


def assert_equal(found: list[Any], wanted: list[Any]) -> None:
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


def test_who_goes_on_with_a_result_as_long_as_its_values_say_is_not_planned_with_it() -> None:
    for _ in range(CALLS + 1):
        x = torch.randn(200).round()
        _, counts = torch.unique_consecutive(x, return_counts=True)
        assert counts.sum() == 200
        pairs = torch.masked_select(torch.complex(x, x), x > 0)
        assert_equal([pairs.real], [x[x > 0]])


def test_a_recalled_call_knows_its_default_type() -> None:
    x = torch.arange(6)
    try:
        for dtype in (torch.float32, torch.float64, torch.float32):
            torch.set_default_dtype(dtype)
            assert {torch.sqrt(x).dtype for _ in range(CALLS + 1)} == {dtype}
    finally:
        torch.set_default_dtype(torch.float32)


def test_recalled_calls_are_counted_while_someone_counts() -> None:
    x = torch.randn(7)
    for _ in range(CALLS + 1):
        torch.neg(x)
    with tessera.use("always") as record:
        torch.neg(x)
    assert record.calls["neg"].ours == 1
