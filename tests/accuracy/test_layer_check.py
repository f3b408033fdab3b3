"""The layer check must name the first faulty layer, and leave the model as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
import transformers
from torch import nn

from benchmarks.models import cache_of
from tessera.accuracy.call import Call
from tessera.accuracy.double import double_copy, run_in_double
from tessera.accuracy.layers import Candidate, LayerCheck, check_layers
from tessera.core.errors import UsageError


class Block(nn.Module):
    """Calls one module twice, casts on its way, and returns a dict with a tuple and an integer tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(32, 32)
        self.activation = nn.ReLU(inplace=True)
        self.second = nn.Linear(32, 16)

    def forward(self, x: torch.Tensor) -> dict[str, object]:
        y = self.activation(self.first(x))
        y = self.activation(self.first(y) / 3)
        scale = y.float().pow(2).mean(-1, keepdim=True).rsqrt().to(y.dtype)
        z = self.second(y * scale)
        return {"parts": (z, z.argmax(-1)), "mean": z.mean()}


@pytest.fixture
def model() -> Block:
    torch.manual_seed(0)
    return Block().eval()


@pytest.fixture
def call() -> Call:
    return Call.of(torch.randn(40, 32, generator=torch.Generator().manual_seed(1)))


def faulty(module: nn.Linear, factor: float) -> Candidate:
    """A candidate whose `module` is wrong by a factor."""

    @contextmanager
    def context() -> Iterator[None]:
        weight = module.weight.data
        module.weight.data = weight * factor
        try:
            yield
        finally:
            module.weight.data = weight

    return context


def num_hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


NAMES = [
    "first",
    "activation",
    "first#2",
    "activation#2",
    "second",
    "(model)[parts][0]",
    "(model)[mean]",
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_come_in_order_of_completion_and_torch_itself_passes(
    model: Block, call: Call, dtype: torch.dtype
) -> None:
    check = check_layers(model.to(dtype), call.cast(dtype), nullcontext)
    assert [layer.name for layer in check.layers] == NAMES
    assert check.ok
    assert check.first_fault is None
    assert all(layer.judgement.error == layer.judgement.torch_error for layer in check.layers)
    assert 0 < check.layers[0].judgement.torch_error < 3 * torch.finfo(dtype).eps


def test_the_first_faulty_layer_is_named(model: Block, call: Call) -> None:
    check = check_layers(model, call, faulty(model.second, 1.001))
    assert not check.ok
    assert check.first_fault is not None
    assert check.first_fault.name == "second"
    assert [layer.judgement.ok for layer in check.layers[:4]] == [True] * 4


def test_windows_give_what_one_run_gives(model: Block, call: Call) -> None:
    whole = check_layers(model, call, faulty(model.second, 1.001))
    in_parts = check_layers(model, call, faulty(model.second, 1.001), kept_bytes=1)
    assert in_parts == whole


def test_the_reference_keeps_float64_through_the_models_own_casts(model: Block, call: Call) -> None:
    exact = run_in_double(double_copy(model), call)
    plain = double_copy(model)(call.cast(torch.float64).args[0])
    assert isinstance(exact, dict)
    x = call.cast(torch.float64).args[0]
    w1, b1, w2, b2 = (parameter.detach().double() for parameter in model.parameters())
    assert isinstance(x, torch.Tensor)
    y = ((x @ w1.t() + b1).relu() @ w1.t() + b1).div(3).relu()
    right = y * y.pow(2).mean(-1, keepdim=True).rsqrt() @ w2.t() + b2
    assert torch.allclose(exact["parts"][0], right, rtol=1e-13, atol=1e-14)
    assert not torch.allclose(plain["parts"][0], right, rtol=1e-10, atol=1e-12)


def test_hooks_are_gone_also_after_an_exception(model: Block, call: Call) -> None:
    check_layers(model, call, nullcontext)
    assert num_hooks(model) == 0
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        check_layers(model, Call.of(torch.randn(4, 31)), nullcontext)
    assert num_hooks(model) == 0


def test_a_candidate_that_fails_is_a_result(model: Block, call: Call) -> None:
    @contextmanager
    def broken() -> Iterator[None]:
        with faulty(model.second, 1.0)():
            model.second.weight.data = torch.zeros(16, 3)
            yield

    check = check_layers(model, call, broken)
    assert not check.ok
    assert [layer.name for layer in check.layers] == NAMES[:4]
    assert check.candidate_error.startswith("RuntimeError: mat1 and mat2 shapes cannot be multiplied")
    assert num_hooks(model) == 0


class NeedsSingle(nn.Module):
    """Its code refuses float64, as an operator without a float64 kernel does."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.linear(x)
        if y.dtype == torch.float64:
            raise NotImplementedError('"norm" not implemented for Double')
        return y


def test_without_float64_the_reason_is_said_and_only_equality_passes() -> None:
    torch.manual_seed(0)
    single = NeedsSingle().eval()
    call = Call.of(torch.randn(16, 8))

    def check(candidate: Candidate) -> LayerCheck:
        return check_layers(single, call, candidate)

    same = check(nullcontext)
    assert same.ok
    assert same.reference_error == '"norm" not implemented for Double'
    other = check(faulty(single.linear, 1 + 1e-6))
    assert not other.ok
    assert other.first_fault is not None
    assert "no float64 reference" in other.first_fault.judgement.reason


class WritesToCache(nn.Module):
    """Appends to a list among its inputs, as a model does with its key-value cache."""

    def forward(self, x: torch.Tensor, cache: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        cache.append(x * 2)
        return torch.cat(cache).cumsum(0), cache


def test_a_cache_is_seen_and_not_shared_between_runs() -> None:
    cache = [torch.ones(2, 70)]
    check = check_layers(WritesToCache().eval(), Call.of({"x": torch.ones(1, 70), "cache": cache}), nullcontext)
    assert [layer.name for layer in check.layers] == ["(model)[0]", "(model)[1][0]", "(model)[1][1]"]
    assert check.ok
    assert len(cache) == 1


def test_training_mode_and_models_without_floats_are_refused(model: Block, call: Call) -> None:
    with pytest.raises(UsageError, match=r"call model\.eval"):
        check_layers(model.train(), call, nullcontext)
    with pytest.raises(UsageError, match="no module of the model has a floating output"):
        check_layers(nn.Identity().eval(), Call.of(torch.arange(4)), nullcontext)


def test_inputs_of_another_kind_are_refused() -> None:
    with pytest.raises(UsageError, match=r"example inputs are a str; give a tensor, a tuple .* or a dict"):
        Call.of("hello")


def test_candidate_context_is_entered_once_a_run(model: Block, call: Call) -> None:
    entered: list[int] = []

    def counting() -> AbstractContextManager[object]:
        entered.append(1)
        return nullcontext()

    check_layers(model, call, counting)
    assert len(entered) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_decode_step_with_a_cache(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=100,
    )
    llama = transformers.LlamaForCausalLM(config).eval()
    ids = torch.randint(100, (4, 12))
    with torch.no_grad():
        name, cache = cache_of(llama(ids[:, :11]))
    call = Call.of({"input_ids": ids[:, 11:], name: cache}).cast(dtype)
    llama.to(dtype)
    assert call.has_state
    check = check_layers(llama, call, nullcontext)
    assert check.ok
    assert check.reference_error == ""
    assert f"(model)[{name}][1][0]" in [layer.name for layer in check.layers]
    assert cache.get_seq_length() == 11
    scaled = check_layers(llama, call, faulty(llama.model.layers[1].mlp.up_proj, 1.1))
    assert scaled.first_fault is not None
    assert scaled.first_fault.name == "model.layers.1.mlp.up_proj"
