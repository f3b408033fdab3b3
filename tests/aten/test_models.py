"""Whole models on our kernels: every compute call is ours, and the outputs are inside the accuracy rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import tessera
from benchmarks.models import cache_of
from tessera.accuracy.call import Call
from tessera.accuracy.double import double_copy, run_in_double
from tessera.accuracy.judge import hold, judge
from tests.ops.judged import vendor_calls

transformers = pytest.importorskip("transformers")

TYPES = [torch.float32, torch.bfloat16]
ATTENTION = ["sdpa", "eager"]
SIZES = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    """[2, 24] token ids and a mask that ends the second row early."""
    torch.manual_seed(0)
    mask = torch.ones(2, 24, dtype=torch.long)
    mask[1, 17:] = 0
    return torch.randint(0, 100, (2, 24)), mask


def bert(attention: str) -> nn.Module:
    torch.manual_seed(1)
    config = transformers.BertConfig(num_hidden_layers=2, attn_implementation=attention, **SIZES)
    return transformers.BertModel(config).eval()


def llama(attention: str) -> nn.Module:
    torch.manual_seed(2)
    config = transformers.LlamaConfig(
        num_hidden_layers=2, num_key_value_heads=2, attn_implementation=attention, **SIZES
    )
    return transformers.LlamaForCausalLM(config).eval()


class PrefillAndStep(nn.Module):
    """The logits of a prompt and of one more token, read with the cache of the first."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        first = self.model(input_ids=ids, attention_mask=mask, use_cache=True)
        longer = None if mask is None else torch.cat([mask, mask[:, :1]], dim=1)
        name, cache = cache_of(first)
        second = self.model(input_ids=ids[:, :1], attention_mask=longer, use_cache=True, **{name: cache})
        return torch.cat([first.logits, second.logits], dim=1)


def assert_model(model: nn.Module, dtype: torch.dtype, result: Callable[[Any], torch.Tensor], **inputs: Any) -> None:
    model = model.to(dtype)
    call = Call(kwargs=inputs)
    with torch.no_grad():
        theirs, exact = result(call.run(model)), result(run_in_double(double_copy(model), call))
        with tessera.use("always") as record:
            ours = result(call.run(model))
    judgement = judge(ours, hold(theirs, exact))
    assert judgement.ok, judgement.reason
    assert record.ours > 20
    assert not vendor_calls(record)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("masked", [True, False])
def test_encoder(attention: str, dtype: torch.dtype, masked: bool) -> None:
    ids, mask = tokens()
    inputs = {"input_ids": ids, "attention_mask": mask if masked else None}
    assert_model(bert(attention), dtype, lambda out: out.last_hidden_state, **inputs)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("attention", ATTENTION)
@pytest.mark.parametrize("masked", [True, False])
def test_decoder(attention: str, dtype: torch.dtype, masked: bool) -> None:
    ids, mask = tokens()
    model = PrefillAndStep(llama(attention)).eval()
    assert_model(model, dtype, lambda out: out, ids=ids, mask=mask if masked else None)


def test_generated_tokens_are_pytorchs() -> None:
    model, (ids, _) = llama("sdpa"), tokens()
    with torch.inference_mode():
        wanted = model.generate(ids, max_new_tokens=6, do_sample=False)
        with tessera.use("always") as record:
            found = model.generate(ids, max_new_tokens=6, do_sample=False)
    assert torch.equal(found, wanted)
    assert not vendor_calls(record)


def classifier() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.LayerNorm(32), nn.Linear(32, 32), nn.GELU(), nn.Linear(32, 32), nn.SiLU(),
        nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10),
    )  # fmt: skip


def train(model: nn.Module, dtype: torch.dtype, foreach: bool) -> list[torch.Tensor]:
    """The loss of each of two steps, and all parameters after them."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01, foreach=foreach)
    x, y = (torch.arange(8 * 16).view(8, 16) / 64 - 1).to(dtype), torch.arange(8)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return [*losses, *(p.detach() for p in model.parameters())]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("foreach", [True, False])
def test_training_steps(dtype: torch.dtype, foreach: bool) -> None:
    theirs = train(classifier().to(dtype), dtype, foreach)
    exact = train(classifier().to(dtype).double(), torch.float64, foreach)
    model = classifier().to(dtype)
    with tessera.use("always") as record:
        ours = train(model, dtype, foreach)
    for mine, vendor, wanted in zip(ours, theirs, exact, strict=True):
        judgement = judge(mine, hold(vendor, wanted), noise=4 * torch.finfo(dtype).eps)
        assert judgement.ok, judgement.reason
    assert not vendor_calls(record)
    assert record.ours > 50  # the optimizer's operators on lists of tensors count once
