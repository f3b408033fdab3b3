"""What watching costs: a transformer's forward and backward pass, plain and watched in statistics mode, in turns.

The model is all-MiniLM-L6-v2's encoder with random weights (6 layers, width 384) and its task is 8 texts of 128 tokens.
The ratio of a round is the watched run's time over that of the plain run beside it, so that a machine that is busy
with other things slows down both.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from time import perf_counter

import torch
from torch import nn

from tessera.accuracy.call import Call, floating_tensors
from tessera.accuracy.capture.random import RandomTape
from tessera.accuracy.capture.run import Job, Setup, watch

BATCH, TOKENS, ROUNDS = 8, 128, 21


@dataclass(frozen=True)
class Overhead:
    """Times of one type: medians in milliseconds, and the median of the ratios of the rounds."""

    dtype: str
    threads: int
    operators: int
    plain_ms: float
    watched_ms: float
    ratio: float

    def line(self) -> str:
        """For a terminal."""
        words = f"{self.dtype}, {self.threads} threads, {self.operators} operators: plain {self.plain_ms:.0f} ms"
        return f"{words}, watched {self.watched_ms:.0f} ms, {self.ratio:.2f} times the plain time"


def measure(dtype: torch.dtype, rounds: int = ROUNDS) -> Overhead:
    """Time the encoder in a type."""
    model, call = encoder(), _call()
    model.to(dtype)
    job, setup = Job(calls=(call,), backward=True), Setup()
    operators = len(watch(model, job, setup, RandomTape()).ops)
    _plain(model, call)
    times = [(_seconds(lambda: _plain(model, call)), _seconds(lambda: watch(model, job, setup, RandomTape())))
             for _ in range(rounds)]  # fmt: skip
    return Overhead(
        dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        operators=operators,
        plain_ms=round(1e3 * median(plain for plain, _ in times), 1),
        watched_ms=round(1e3 * median(watched for _, watched in times), 1),
        ratio=round(median(watched / plain for plain, watched in times), 2),
    )


def encoder() -> nn.Module:
    """The encoder, in float32."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    made: nn.Module = BertModel(config, add_pooling_layer=False)
    return made.eval()


def _call() -> Call:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(30522, (BATCH, TOKENS), generator=generator)
    return Call(kwargs={"input_ids": ids, "attention_mask": torch.ones_like(ids)})


def _plain(model: nn.Module, call: Call) -> None:
    """The same work, unwatched."""
    outputs = [tensor for _, tensor in floating_tensors(call.run(model, gradients=True)) if tensor.requires_grad]
    torch.autograd.backward(outputs, [torch.ones_like(tensor) for tensor in outputs])
    model.zero_grad(set_to_none=True)


def _seconds(run: Callable[[], object]) -> float:
    start = perf_counter()
    run()
    return perf_counter() - start


def as_rows(rows: list[Overhead]) -> str:
    """For the results' folder."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"
