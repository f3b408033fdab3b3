"""Watching a run changes nothing in it, and says where every operator came from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.capture.memory import Memory
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.records import Trace
from tessera.accuracy.capture.run import Job, Setup, watch
from tessera.accuracy.capture.value import close, distance, value_of
from tests.accuracy.small_models import encoder, tokens


def run(
    model: nn.Module, x: torch.Tensor, *, tape: RandomTape | None = None, double: bool = False, **job: object
) -> Trace:
    made = Job(calls=(Call.of(x),), **job)  # type: ignore[arg-type]
    return watch(model, made, Setup(double=double), tape or RandomTape())


def test_outputs_and_gradients_are_bit_equal_with_and_without_capture() -> None:
    model, x = encoder(), tokens()
    trace = run(model, x, backward=True)
    leaf = x.clone().requires_grad_()
    output = model(leaf)
    assert trace.final("output").value.digest == value_of(output).digest  # type: ignore[union-attr]
    drawn = np.random.Generator(np.random.PCG64(20260102 + output.numel())).standard_normal(output.numel())
    direction = torch.from_numpy(drawn).bfloat16().float()
    output.backward(direction.view(output.shape))
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        assert trace.final(f"gradient {name}").value.digest == value_of(weight.grad).digest  # type: ignore[union-attr]


def test_afterwards_the_model_is_as_it_was() -> None:
    model, x = encoder(), tokens()
    before = {name: (weight.data_ptr(), weight.clone()) for name, weight in model.named_parameters()}
    run(model, x, steps=2)
    run(model, x, double=True)
    for name, weight in model.named_parameters():
        assert weight.data_ptr() == before[name][0] and torch.equal(weight, before[name][1]) and weight.grad is None
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_every_operator_knows_its_module_and_its_line() -> None:
    model, x = encoder(), tokens()
    trace = run(model, x, backward=True)
    products = [op for op in trace.ops if op.name == "aten.addmm.default" and op.phase == "forward"]
    assert {op.module for op in products} >= {"layers.0.linear1", "layers.1.linear2", "layers.0.self_attn"}
    backward = [op for op in trace.ops if op.phase == "backward" and op.name == "aten.mm.default"]
    assert {op.module for op in backward} >= {"layers.0.linear1", "layers.1.linear2"}
    assert all(op.source.endswith(".py:" + op.source.rsplit(":", 1)[1]) for op in trace.ops if op.source)
    assert any("test_capture.py" in op.source for op in trace.ops)


def test_reads_are_traced_to_the_last_writer_also_through_views() -> None:
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            store = torch.zeros(4, 3)
            store[1:2] = x
            return store * 2

    trace = run(Writes(), torch.ones(1, 3))
    writer = next(op for op in trace.ops if op.name == "aten.copy_.default")
    reader = next(op for op in trace.ops if op.name == "aten.mul.Tensor")
    assert reader.inputs[0].producer == writer.index
    assert [value.shape for value in writer.written] == [(4, 3)]


def test_dropout_masks_are_the_same_in_every_run_and_type() -> None:
    model, x, tape = encoder(dropout=0.5), tokens(), RandomTape()
    first = run(model, x, tape=tape, backward=True)
    exact = run(model, x, tape=tape, backward=True, double=True)
    for name in ("output", "gradient layers.0.linear1.weight"):
        ours, wide = first.final(name), exact.final(name)
        assert ours is not None and wide is not None
        assert close(ours.value, wide.value, 1e-5)


def test_the_callers_random_numbers_go_on_as_if_nothing_had_run() -> None:
    model = encoder(dropout=0.5)
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run(model, tokens())
    assert torch.equal(torch.rand(2), expected)


def test_distances_are_told_from_sketches() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 77, generator=generator)
    for size in (1e-1, 1e-4):
        y = x + size * torch.randn(x.shape, generator=generator)
        true = float((x.double() - y.double()).norm())
        assert 0.7 * true < distance(value_of(x), value_of(y)) < 1.3 * true
    one = x.clone()
    one[500, 3] *= 1.001
    assert distance(value_of(x), value_of(one)) > 0
    assert distance(value_of(x), value_of(x.t())) > 0.5 * float(x.norm())


def test_values_that_are_no_numbers_are_counted_and_left_out() -> None:
    value = value_of(torch.tensor([1.0, float("nan"), float("inf"), 2.0], dtype=torch.float64))
    assert (value.nans, value.infs, value.largest) == (1, 1, 2.0)
    assert not value.finite
    huge = torch.full((128,), torch.finfo(torch.float64).max, dtype=torch.float64)
    assert close(value_of(huge), value_of(huge.clone()), 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("size", [1, 61, 1000, 100_000])
def test_a_measure_tells_norms_distances_and_every_bit(size: int, dtype: torch.dtype) -> None:
    tensor = torch.randn(size, generator=torch.Generator().manual_seed(size)).to(dtype)
    moved = tensor.double() + torch.linspace(1, 2, size).double()
    value = value_of(tensor)
    assert value.norm == pytest.approx(float(tensor.double().norm()), rel=1e-6)
    estimate = distance(value_of(tensor.double()), value_of(moved))
    assert estimate == pytest.approx(float((moved - tensor.double()).norm()), rel=0.6)
    assert value_of(tensor.clone()).digest == value.digest
    last_bit = tensor.clone()
    last_bit.view(torch.uint8)[size // 2 * tensor.element_size()] ^= 1
    exchanged = tensor.clone()
    exchanged[0], exchanged[-1] = tensor[-1], tensor[0] + (size == 1)
    assert value.digest not in (value_of(last_bit).digest, value_of(exchanged).digest)


def test_a_single_element_of_a_larger_tensor_is_measured() -> None:
    table = torch.arange(16).view(2, 8)
    assert value_of(table[1:, 3]).norm == value_of(torch.tensor([11])).norm == 11


def test_the_same_fault_in_one_column_of_two_rows_is_no_zero() -> None:
    """Its signs may cancel only where both fall into one bucket, as columns of a usual width never do."""
    right = torch.zeros(2, 64, dtype=torch.float64)
    for column in range(64):
        wrong = right.clone()
        wrong[:, column] = 1.0
        assert distance(value_of(right), value_of(wrong)) == pytest.approx(2**0.5)


def test_numbers_whose_squares_float32_does_not_hold_are_measured() -> None:
    for size in (1e-25, 1e25):
        assert value_of(torch.full((100,), size)).norm == pytest.approx(10 * size)


def test_how_a_model_fails_is_part_of_the_record() -> None:
    class Breaks(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ZeroDivisionError("a fault of the model's own")

    trace = run(Breaks(), torch.ones(2))
    assert trace.error == "ZeroDivisionError: a fault of the model's own"


def test_memory_that_is_used_again_is_not_mistaken_for_what_was_there() -> None:
    memory = Memory({})
    for size in (20, 1) * 200:
        # Alternately made where the watcher sees it and where it does not, at an address that was just given back.
        tensor = torch.full((size,), float(size))
        if size == 20:
            memory.wrote(0, tensor, made=True)
        else:
            assert memory.edge(tensor).producer is None
            value, whole = memory.wrote(1, tensor, made=False)
            assert value.digest == value_of(tensor).digest
            assert whole is None
        del tensor
