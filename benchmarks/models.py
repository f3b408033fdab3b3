"""Whole models, PyTorch eager with the library switched off and on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from benchmarks.case import Call, dtype_text
from benchmarks.overhead import switched_on
from tessera.bench.markdown import significant
from tessera.bench.turns import Effort, Side, take_turns
from tessera.bringup.config import BringupConfig
from tessera.bringup.models.builtin import load_minilm

_BATCH, _TOKENS = 8, 128


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with its work: `prepare` returns the call to time; `small` asks for one that only compiles the same.

    target: the ratio to PyTorch that the call must reach; None where none is set.
    """

    what: str
    dtype: torch.dtype
    prepare: Callable[..., Call]
    target: float | None = None


def _minilm(dtype: torch.dtype) -> Callable[..., Call]:
    def prepare(*, small: bool = False) -> Call:
        batch = 2 if small else _BATCH
        subject = load_minilm(BringupConfig(dtype=dtype_text(dtype), batch=batch, tokens=_TOKENS))
        return lambda: subject.call.run(subject.model)

    return prepare


def _llama(dtype: torch.dtype) -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=512, intermediate_size=1408, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
        vocab_size=8192, max_position_embeddings=512, tie_word_embeddings=False,
    )  # fmt: skip
    model: nn.Module = LlamaForCausalLM(config).to(dtype).eval()
    return model


def cache_of(results: Mapping[str, Any]) -> tuple[str, Any]:
    """The cache among a model's results, and the name that the model takes and returns it by: it differs by version."""
    from transformers import Cache

    return next((name, value) for name, value in results.items() if isinstance(value, Cache))


def _prefill(dtype: torch.dtype) -> Callable[..., Call]:
    def prepare(*, small: bool = False) -> Call:
        model = _llama(dtype)
        tokens = torch.randint(8192, (1, 16 if small else _TOKENS))
        return _without_gradients(lambda: model(tokens))

    return prepare


def _decode(dtype: torch.dtype) -> Callable[..., Call]:
    """One token after 128; the cache is cut back to them after each call, on both sides alike."""

    def prepare(*, small: bool = False) -> Call:
        model, tokens = _llama(dtype), 16 if small else _TOKENS
        with torch.no_grad():
            name, cache = cache_of(model(torch.randint(8192, (1, tokens)), use_cache=True))
        token = torch.randint(8192, (1, 1))

        def step() -> None:
            model(token, use_cache=True, **{name: cache})
            cache.crop(-1)

        return _without_gradients(step)

    return prepare


def _training(*, small: bool = False) -> Call:
    """Forward, backward and SGD of a classifier with layers 784, 512, 512, 10 and batches of 64."""
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    # `foreach` would take PyTorch's fused path, which no operator of ours serves.
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, foreach=False)
    images, labels = torch.randn(64, 784), torch.randint(10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(images), labels))
        optimizer.step()

    return step


def _without_gradients(call: Call) -> Call:
    def run() -> Any:
        with torch.no_grad():
            return call()

    return run


_TYPES = (torch.float32, torch.bfloat16)


def _subjects() -> Iterator[tuple[str, Subject]]:
    for dtype in _TYPES:
        text = dtype_text(dtype)
        what = f"sentence encoder MiniLM, {_BATCH} × {_TOKENS} tokens"
        target = 0.7 if dtype is torch.float32 else None
        yield f"minilm {text}", Subject(what=what, dtype=dtype, prepare=_minilm(dtype), target=target)
    for dtype in _TYPES:
        text = dtype_text(dtype)
        what = f"Llama, 4 layers of width 512, prefill of {_TOKENS} tokens"
        yield f"llama prefill {text}", Subject(what=what, dtype=dtype, prepare=_prefill(dtype))
        what = f"Llama, 4 layers of width 512, one token after {_TOKENS}"
        yield f"llama decode {text}", Subject(what=what, dtype=dtype, prepare=_decode(dtype))
    what = "training step of a classifier 784-512-512-10, batch 64"
    yield "mlp training float32", Subject(what=what, dtype=torch.float32, prepare=_training)


SUBJECTS: Mapping[str, Subject] = dict(_subjects())


def measure(
    names: Sequence[str], threads: Sequence[int], effort: Effort, say: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    """A row for each model and number of threads."""
    for name in names:
        say(name)
        subject = SUBJECTS[name]
        torch.manual_seed(0)
        call = subject.prepare()
        for count in threads:
            torch.set_num_threads(count)
            yield {"model": name, "what": subject.what, "threads": count, **_row(call, subject, effort)}


def _row(call: Call, subject: Subject, effort: Effort) -> dict[str, Any]:
    calls = {"": call}
    timings = take_turns({"ours": Side(calls=calls, context=switched_on), "torch": Side(calls=calls)}, effort)
    ours, theirs = timings["ours"][""], timings["torch"][""]
    ratio = ours.speedup_over(theirs)
    row = {
        "ours_ms": significant(1e3 * ours.median_s),
        "torch_ms": significant(1e3 * theirs.median_s),
        "ratio": significant(ratio),
    }
    if subject.target is None:
        return {**row, "target": "", "met": None}
    return {**row, "target": f"≥ {subject.target:g}×", "met": ratio >= subject.target}
