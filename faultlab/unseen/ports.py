"""Models of the transformers library as ports of one another: from configurations, with what goes wrong in conversion.

Also training with an optimizer that is not the right one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

MakeOptimizer = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


class Plain(nn.Module):
    """A library's model whose output is one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """The first part of the output."""
        return self.model(ids, return_dict=False)[0]


def llama(**changed: Any) -> nn.Module:
    """A small decoder with grouped queries."""
    torch.manual_seed(0)
    settings = {"rms_norm_eps": 1e-5, "attn_implementation": "sdpa", **changed}
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        use_cache=False,
        **settings,
    )
    return Plain(LlamaForCausalLM(config)).eval()


def bert(**changed: Any) -> nn.Module:
    """A small encoder."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, **changed
    )
    return Plain(BertModel(config, add_pooling_layer=False)).eval()


def gpt2(**changed: Any) -> nn.Module:
    """A small decoder with weights stored the other way round."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=4, use_cache=False, **changed)
    return Plain(GPT2LMHeadModel(config)).eval()


def ids() -> tuple[torch.Tensor, ...]:
    """Token numbers for all of them."""
    return (torch.randint(64, (2, 12), generator=torch.Generator().manual_seed(1)),)


@dataclass(frozen=True)
class Port:
    """A wrong port. change: to the candidate after it was made; operators, kinds, module: that name it rightly."""

    name: str
    make: Callable[..., nn.Module]
    module: str
    operators: frozenset[str]
    kinds: frozenset[str]
    changed: tuple[tuple[str, Any], ...] = ()
    change: Callable[[Any], None] | None = None


def made_port(name: str, make: Callable[..., nn.Module], module: str, operators: str, kinds: str, **more: Any) -> Port:
    """A row: operators separated by blanks, kinds by commas."""
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Port(name, make, module, named, frozenset(kind.strip() for kind in kinds.split(",")), **more)


def _pairs_first(model: Any) -> None:
    weight = model.model.model.layers[0].self_attn.q_proj.weight
    weight.data = weight.data.view(4, 4, 2, 32).transpose(1, 2).reshape(32, 32).clone()


def _turned(model: Any) -> None:
    weight = model.model.transformer.h[0].attn.c_proj.weight
    weight.data = weight.data.t().clone()


def _positions(model: Any) -> None:
    model.model.embeddings.position_ids += 2


def _scaling(model: Any) -> None:
    model.model.model.layers[1].self_attn.scaling = 1.0


def _no_bias(model: Any) -> None:
    model.model.encoder.layer[1].output.dense.bias.data.zero_()
    model.model.encoder.layer[1].output.dense.weight.data[0] += 0.05


PORTS = (
    made_port(
        "another base of rotation",
        llama,
        "model.model.rotary_emb",
        "*",
        "weight, argument",
        changed=(("rope_parameters", {"rope_type": "default", "rope_theta": 500000.0}),),
    ),
    made_port(
        "another epsilon",
        llama,
        "model.model.layers.0.input_layernorm",
        "add",
        "eps",
        changed=(("rms_norm_eps", 1e-6),),
    ),
    made_port(
        "queries in the order of pairs",
        llama,
        "model.model.layers.0.self_attn.q_proj",
        "mm linear",
        "weight, permuted",
        change=_pairs_first,
    ),
    made_port("scaling of attention lost", llama, "model.model.layers.1.self_attn", "*", "scale", change=_scaling),
    made_port(
        "a stored weight transposed",
        gpt2,
        "model.transformer.h.0.attn.c_proj",
        "addmm",
        "weight, transposed",
        change=_turned,
    ),
    # `gather` was added after the first run: it is what this model reads the positions with.
    made_port(
        "positions from two", bert, "model.embeddings", "slice embedding gather", "weight, index", change=_positions
    ),
    made_port(
        "the other GELU",
        bert,
        "model.encoder.layer.0.intermediate.intermediate_act_fn",
        "*",
        "other operator, variant, extra operator",
        changed=(("hidden_act", "gelu_new"),),
    ),
    made_port("one row of a weight", bert, "model.encoder.layer.1.output.dense", "addmm", "weight", change=_no_bias),
)


def right_optimizer(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """What training should be done with."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05, foreach=False)


def _adamw(**changed: Any) -> MakeOptimizer:
    settings = {"lr": 1e-3, "weight_decay": 0.05, "foreach": False, **changed}
    return lambda parameters: torch.optim.AdamW(parameters, **settings)


class Clipped(torch.optim.AdamW):
    """Gradients are clipped before each step."""

    def step(self, closure: Any = None) -> Any:
        """Clip, then step."""
        weights = [weight for group in self.param_groups for weight in group["params"]]
        nn.utils.clip_grad_norm_(weights, 0.05, foreach=False)
        return super().step(closure)


@dataclass(frozen=True)
class Training:
    """A wrong optimizer for the subject `lossy`."""

    name: str
    optimizer: MakeOptimizer
    operators: frozenset[str]
    kinds: frozenset[str]


def _training(name: str, optimizer: MakeOptimizer, operators: str, kinds: str) -> Training:
    named = frozenset(f"aten.{operator}" for operator in operators.split())
    return Training(name, optimizer, named, frozenset(kind.strip() for kind in kinds.split(",")))


TRAININGS = (
    _training(
        "decay added to the gradient",
        lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.05, foreach=False),
        "mul_ mul add add_ lerp_",
        "missing operator, extra operator, other operator, scale",
    ),
    _training("another beta", _adamw(betas=(0.9, 0.99)), "mul_ addcmul_", "argument, scale"),
    _training("an epsilon of another size", _adamw(eps=1e-4), "add_ add", "eps"),
    _training(
        "gradients clipped that should not be",
        lambda p: Clipped(p, lr=1e-3, weight_decay=0.05, foreach=False),
        "mul_ clamp stack linalg_vector_norm add reciprocal mul",
        "extra operator, scale, saturated",
    ),
    _training("the largest of the powers kept", _adamw(amsgrad=True), "maximum", "extra operator, other operator"),
)
