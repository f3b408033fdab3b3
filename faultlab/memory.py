"""What checking a large model takes: a decoder of 1.1 G parameters in bfloat16, in the isolated view.

The peak is that of the whole process, libraries and our compiler included.
"""

from __future__ import annotations

import json
import resource
from dataclasses import asdict, dataclass
from time import perf_counter

import torch
from torch import nn

from tessera.accuracy.check import check
from tessera.aten.switch import paused, use

TOKENS = 32
_GIB = 1 << 30


@dataclass(frozen=True)
class Peak:
    """Sizes in GiB. limit: 1.3 times the model and 2 GiB."""

    parameters: int
    tokens: int
    verdict: str
    operators: dict[str, int]
    model_gib: float
    before_gib: float
    peak_gib: float
    limit_gib: float
    seconds: float

    def line(self) -> str:
        """For a terminal."""
        said = ", ".join(f"{count} {name}" for name, count in sorted(self.operators.items()))
        return (
            f"{self.parameters / 1e9:.2f} G parameters in bfloat16, {self.model_gib:.2f} GiB: {self.verdict} ({said}); "
            f"peak {self.peak_gib:.2f} GiB of {self.limit_gib:.2f} allowed, {self.seconds:.0f} s"
        )


def measure() -> Peak:
    """Build the decoder, check it on Tessera's kernels, and read the peak of this process."""
    model = decoder()
    num_parameters = sum(weight.numel() for weight in model.parameters())
    model_bytes = sum(weight.nbytes for weight in model.parameters())
    ids = torch.randint(32000, (1, TOKENS), generator=torch.Generator().manual_seed(0))
    before = _peak_bytes()
    start = perf_counter()
    result = check(model, {"input_ids": ids, "use_cache": False}, context=use, native=paused, view="isolated")
    return Peak(
        parameters=num_parameters,
        tokens=TOKENS,
        verdict=result.verdict,
        operators=result.operators,
        model_gib=round(model_bytes / _GIB, 2),
        before_gib=round(before / _GIB, 2),
        peak_gib=round(_peak_bytes() / _GIB, 2),
        limit_gib=round(1.3 * model_bytes / _GIB + 2, 2),
        seconds=round(perf_counter() - start, 1),
    )


def decoder() -> nn.Module:
    """A Llama of 22 layers and width 2048 with random weights, made in bfloat16 from the start."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=32000, hidden_size=2048, intermediate_size=5632, num_hidden_layers=22, num_attention_heads=32,
        num_key_value_heads=4, max_position_embeddings=2048,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config).bfloat16()
    model.to_empty(device="cpu")
    torch.manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Norms as they begin, products with the spread that training starts from.
            weight.fill_(1.0) if "norm" in name else weight.uniform_(-0.035, 0.035)
    # Buffers are computed, not stored, and `to_empty` has lost them.
    made: nn.Module = model.model
    made.rotary_emb = type(made.rotary_emb)(config)  # type: ignore[operator]
    return model.eval()


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def as_row(row: Peak) -> str:
    """For the results' folder."""
    return json.dumps(asdict(row), indent=1) + "\n"
