"""Capture and replay, from the user's view: what is recorded, what a replay sees, and what is refused."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable, Iterator

import pytest
import torch
import triton
import triton.language as tl
from torch.nn import functional

import tessera
from tessera.runtime.capture import CaptureError
from tessera.triton_cpu.driver import DeviceAssertionError


@triton.jit
def add_number(x, y, number, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < size) + number, mask=at < size)


@triton.jit
def count_up(x):
    tl.store(x, tl.load(x) + 1)


@triton.jit
def assert_positive(x, y):
    v = tl.load(x)
    tl.device_assert(v > 0, "x must be positive")
    tl.store(y, v * 2)


@pytest.fixture(params=["ours", "vendor"])
def operators(request: pytest.FixtureRequest) -> Iterator[str]:
    """With our operators switched on, and without."""
    if request.param == "ours":
        tessera.enable("always")
    yield request.param
    tessera.disable()


def test_a_kernel_of_tritons_reads_new_inputs() -> None:
    x, y = torch.arange(100.0), torch.zeros(100)
    with tessera.capture() as graph:
        add_number[(4,)](x, y, 0.5, 100, BLOCK=32)
    assert torch.equal(y, torch.arange(100.0) + 0.5)
    x.fill_(7)
    graph.replay()
    assert torch.equal(y, torch.full((100,), 7.5))
    assert (graph.num_launches, graph.num_calls) == (1, 0)
    assert repr(graph) == "Graph(1 launches, 0 calls)"


def test_launches_are_replayed_in_order_each_time() -> None:
    x = torch.zeros(1, dtype=torch.int64)
    with tessera.capture() as graph:
        for _ in range(10):
            count_up[(1,)](x)
    assert x.item() == 10
    for _ in range(5):
        graph.replay()
    assert x.item() == 60


@pytest.mark.parametrize("num_threads", [1, 2])
def test_every_program_of_a_grid_runs(num_threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        x, y = torch.randn(100_000), torch.zeros(100_000)
        with tessera.capture() as graph:
            add_number[(triton.cdiv(100_000, 64),)](x, y, 1.0, 100_000, BLOCK=64)
            add_number[(triton.cdiv(100_000, 64),)](y, y, 1.0, 100_000, BLOCK=64)
        x.normal_()
        graph.replay()
        assert torch.equal(y, x + 1 + 1)
    finally:
        torch.set_num_threads(before)


def test_an_empty_grid_records_nothing_of_its_own() -> None:
    x = torch.zeros(4)
    with tessera.capture() as graph:
        add_number[(0,)](x, x, 1.0, 4, BLOCK=4)
        add_number[(1,)](x, x, 1.0, 4, BLOCK=4)
    assert graph.num_launches == 1


def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(12, 32), torch.nn.GELU(), torch.nn.LayerNorm(32), torch.nn.Dropout(0.1),
        torch.nn.Linear(32, 8), torch.nn.Softmax(-1),
    ).eval()  # fmt: skip


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_model_on_new_inputs(operators: str, mode: Callable[[], object]) -> None:
    net, x = model(), torch.randn(3, 12)
    with mode():  # type: ignore[attr-defined]
        with tessera.capture() as graph:
            out = net(x)
        for seed in range(3):
            x.copy_(torch.randn(3, 12, generator=torch.Generator().manual_seed(seed)))
            graph.replay()
            assert torch.equal(out, net(x))
    assert (graph.num_launches > 0, graph.num_calls > 0) == (operators == "ours", operators == "vendor")


def test_a_graph_may_be_replayed_outside_the_mode_of_its_capture(operators: str) -> None:
    net, x = model(), torch.randn(3, 12)
    with torch.inference_mode(), tessera.capture() as graph:
        out = net(x)
    x.zero_()
    graph.replay()
    assert torch.equal(out, net(x))


def test_ours_and_the_vendors_take_turns() -> None:
    a = torch.randn(5, 5)
    with tessera.use("always"), tessera.capture() as graph:
        b = a.exp()
        q, r = torch.linalg.qr(b)  # no kernel of ours
        c = (q @ r).relu()
    a.copy_(torch.randn(5, 5))
    graph.replay()
    torch.testing.assert_close(c, a.exp())
    assert graph.num_launches == 3 and graph.num_calls >= 1


def test_operators_that_look_at_values_are_called_again() -> None:
    table, index = torch.randn(10, 4), torch.tensor([1, 2, 3])
    with tessera.use("always"), tessera.capture() as graph:
        rows = table[index] + 1
    index.copy_(torch.tensor([7, 0, 9]))
    graph.replay()
    assert torch.equal(rows, table[[7, 0, 9]] + 1)
    index[0] = 10
    with pytest.raises(IndexError):
        graph.replay()


def test_in_place_and_out(operators: str) -> None:
    x, y, out = torch.ones(4), torch.full((4,), 2.0), torch.zeros(4)
    with tessera.capture() as graph:
        x.mul_(y)
        torch.add(x, y, out=out)
    graph.replay()
    graph.replay()
    assert x.tolist() == [8.0] * 4 and out.tolist() == [10.0] * 4


def test_views_are_free_and_stay_views(operators: str) -> None:
    x = torch.arange(12.0).view(3, 4)
    with tessera.capture() as graph:
        y = x.t()[1:].contiguous() + 1
        x.select(0, 0).zero_()
    x.copy_(torch.arange(12.0).view(3, 4) * 2)
    graph.replay()
    assert torch.equal(y, (torch.arange(12.0).view(3, 4) * 2).t()[1:] + 1)
    assert x[0].tolist() == [0.0] * 4


def test_random_numbers_are_new_in_each_replay(operators: str) -> None:
    x = torch.zeros(100)
    with tessera.capture() as graph:
        y = torch.rand_like(x) + x
    first = y.clone()
    graph.replay()
    assert not torch.equal(first, y) and 0 < y.mean() < 1


def test_a_step_of_training(operators: str) -> None:
    def losses(captured: bool) -> list[float]:
        net = model()
        x, target = torch.randn(16, 12, generator=torch.Generator().manual_seed(1)), torch.arange(16) % 8
        weights = list(net.parameters())

        def step() -> torch.Tensor:
            loss = functional.cross_entropy(net(x), target)
            with torch.no_grad():
                for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    weight.sub_(gradient, alpha=0.5)
            return loss.detach()

        if not captured:
            return [step().item() for _ in range(4)]
        with tessera.capture() as graph:
            loss = step()
        found = [loss.item()]
        for _ in range(3):
            graph.replay()
            found.append(loss.item())
        return found

    eager = losses(captured=False)
    assert losses(captured=True) == eager
    assert eager[-1] < eager[0]


def test_temporaries_stay_alive_and_in_place() -> None:
    x = torch.randn(1000)
    with tessera.use("always"), tessera.capture() as graph:
        out = ((x + 1).exp() * 2).log()
    gc.collect()
    junk = [torch.full((1000,), float("nan")) for _ in range(50)]
    x.copy_(torch.rand(1000))
    graph.replay()
    assert torch.equal(out, ((x + 1).exp() * 2).log()) or torch.allclose(out, ((x + 1).exp() * 2).log())
    assert all(bool(x.isnan().all()) for x in junk)


def test_kernels_code_outlives_the_kernel() -> None:
    x = torch.zeros(1, dtype=torch.int64)

    def capture_one() -> object:
        fresh = triton.jit(count_up.fn)
        with tessera.capture() as graph:
            fresh[(1,)](x)
        return graph

    graph = capture_one()
    gc.collect()
    graph.replay()  # type: ignore[attr-defined]
    assert x.item() == 2


def test_a_replay_inside_a_capture_is_recorded() -> None:
    x = torch.zeros(1, dtype=torch.int64)
    with tessera.capture() as inner:
        count_up[(1,)](x)
    with tessera.capture() as outer:
        inner.replay()
        inner.replay()
    assert (outer.num_launches, x.item()) == (2, 3)
    outer.replay()
    assert x.item() == 5


def test_captures_of_two_threads_do_not_meet() -> None:
    graphs: dict[int, object] = {}
    both = threading.Barrier(2)
    xs = [torch.zeros(1, dtype=torch.int64) for _ in range(2)]

    def record(number: int) -> None:
        both.wait()
        with tessera.capture() as graph:
            for _ in range(50 + number):
                count_up[(1,)](xs[number])
            both.wait()
        graphs[number] = graph

    threads = [threading.Thread(target=record, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [graphs[n].num_launches for n in range(2)] == [50, 51]  # type: ignore[attr-defined]
    graphs[1].replay()  # type: ignore[attr-defined]
    assert [x.item() for x in xs] == [50, 102]


def test_one_graph_from_several_threads() -> None:
    x = torch.zeros(1, dtype=torch.int64)
    with tessera.capture() as graph:
        for _ in range(20):
            count_up[(1,)](x)
    threads = [threading.Thread(target=lambda: [graph.replay() for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert x.item() == 20 + 20 * 50 * 4


def test_a_failed_assertion_names_itself_and_the_graph_goes_on() -> None:
    x, y = torch.ones(1), torch.zeros(1)
    with tessera.capture() as graph:
        assert_positive[(1,)](x, y, debug=True)
    x.fill_(-1)
    with pytest.raises(DeviceAssertionError, match="x must be positive"):
        graph.replay()
    x.fill_(3)
    graph.replay()
    assert y.item() == 6


def test_a_failure_in_the_capture_ends_it() -> None:
    x, y = torch.full((1,), -1.0), torch.zeros(1)
    with pytest.raises(DeviceAssertionError), tessera.capture() as graph:
        assert_positive[(1,)](x, y, debug=True)
    with pytest.raises(CaptureError, match="its capture ended with DeviceAssertionError: capture again"):
        graph.replay()
    with tessera.capture() as graph:  # and the thread is free for another
        count_up[(1,)](torch.zeros(1))


def test_an_empty_capture() -> None:
    with pytest.raises(CaptureError, match=r"recorded nothing: .* call the model inside the block"), tessera.capture():
        torch.empty(3).view(1, 3)


def test_a_capture_within_a_capture() -> None:
    x = torch.zeros(1)
    with tessera.capture() as outer:
        count_up[(1,)](x)
        with pytest.raises(CaptureError, match="inside another one of the same thread"), tessera.capture():
            pass
        count_up[(1,)](x)
    assert outer.num_launches == 2


def test_replay_before_the_end() -> None:
    with tessera.capture() as graph:
        count_up[(1,)](torch.zeros(1))
        with pytest.raises(CaptureError, match="has not ended yet: replay it after the block"):
            graph.replay()


def test_reading_a_value(operators: str) -> None:
    x = torch.ones(3)
    with pytest.raises(CaptureError, match="value was read inside a capture"), tessera.use("always"), tessera.capture():
        torch.equal(torch.ones(3), torch.ones(3))
    with pytest.raises(CaptureError, match=r"value was read inside a capture .* torch.where"), tessera.capture():
        if (x + 1).sum() > 2:
            x.add_(1)


def test_memory_that_has_moved() -> None:
    x = torch.zeros(4)
    with tessera.capture() as graph:
        count_up[(1,)](x)
    x.resize_(1_000_000)
    with pytest.raises(CaptureError, match=r"1 of 1 blocks of memory .* have been freed or moved .* copy_"):
        graph.replay()


def test_a_result_whose_size_follows_from_values() -> None:
    x = torch.tensor([1.0, 0.0, 2.0])
    with tessera.capture() as graph:
        torch.nonzero(x)
    graph.replay()
    x.zero_()
    with pytest.raises(CaptureError, match=r"aten::nonzero gave \(0, 1\) in a replay and \(2, 1\) in the capture"):
        graph.replay()


def test_launches_of_other_threads_are_not_recorded() -> None:
    mine, other = torch.zeros(1), torch.zeros(1)
    with tessera.capture() as graph:
        count_up[(1,)](mine)
        thread = threading.Thread(target=lambda: count_up[(1,)](other))
        thread.start()
        thread.join()
    graph.replay()
    assert (mine.item(), other.item(), graph.num_launches) == (2, 1, 1)


def test_the_addresses_of_lists_live_as_long_as_the_graph() -> None:
    x, y = ([torch.randn(3) for _ in range(400)] for _ in range(2))
    expected = [a + 5 * b for a, b in zip(x, y, strict=True)]
    with tessera.use("always"):
        for _ in range(3):
            torch._foreach_add_(x, y)
        with tessera.capture() as graph:
            torch._foreach_add_(x, y)
        gc.collect()
        # What was only borrowed by the capture is written over.
        rubbish = [ctypes.create_string_buffer(size) for size in range(6000, 14000, 8) for _ in range(3)]
        graph.replay()
    assert len(rubbish) and all(torch.allclose(a, b, atol=1e-5) for a, b in zip(x, expected, strict=True))
