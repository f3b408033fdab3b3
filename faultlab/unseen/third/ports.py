"""Models of the transformers library with a field of the configuration lost on the way, or a weight stored wrongly."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    CLIPTextConfig,
    CLIPTextModel,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from faultlab.unseen.ports import Plain, Port, made_port

_SMALL = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
_EAGER = {"attn_implementation": "eager"}


def _made(kind: Any, config: Any) -> nn.Module:
    torch.manual_seed(0)
    model = kind(config)
    # As initialised, biases are zero and gains are one, which no trained model has.
    for weight in model.parameters():
        if weight.dim() == 1:
            weight.data += 0.1 * torch.randn_like(weight)
        else:
            weight.data *= 4
    return Plain(model).eval()


def gemma2(**changed: Any) -> nn.Module:
    """A decoder with capped scores and windows in every other layer."""
    settings = {"num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4,
                "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "use_cache": False}  # fmt: skip
    return _made(Gemma2ForCausalLM, Gemma2Config(**{**_SMALL, **_EAGER, **settings, **changed}))


def qwen3_moe(**changed: Any) -> nn.Module:
    """A decoder with sparse experts."""
    settings = {"num_key_value_heads": 2, "head_dim": 8, "moe_intermediate_size": 16, "num_experts": 4,
                "num_experts_per_tok": 2, "norm_topk_prob": True, "use_cache": False}  # fmt: skip
    return _made(Qwen3MoeForCausalLM, Qwen3MoeConfig(**{**_SMALL, **_EAGER, **settings, **changed}))


def gpt_neox(**changed: Any) -> nn.Module:
    """A decoder that rotates a part of each head, and whose two branches read the same."""
    return _made(GPTNeoXForCausalLM, GPTNeoXConfig(**{**_SMALL, **_EAGER, "use_cache": False, **changed}))


def granite(**changed: Any) -> nn.Module:
    """A decoder with multipliers everywhere."""
    settings = {"num_key_value_heads": 2, "embedding_multiplier": 3.0, "residual_multiplier": 0.7,
                "attention_multiplier": 0.2, "logits_scaling": 2.0, "use_cache": False}  # fmt: skip
    return _made(GraniteForCausalLM, GraniteConfig(**{**_SMALL, **_EAGER, **settings, **changed}))


def clip_text(**changed: Any) -> nn.Module:
    """An encoder of texts."""
    config = CLIPTextConfig(**{**_SMALL, **_EAGER, "max_position_embeddings": 16, **changed})
    return _made(CLIPTextModel, config)


def bloom(**changed: Any) -> nn.Module:
    """A decoder whose scores fall with distance."""
    return _made(BloomForCausalLM, BloomConfig(vocab_size=64, hidden_size=32, n_layer=2, n_head=4, use_cache=False,
                                               **changed))  # fmt: skip


def mamba_library(**changed: Any) -> nn.Module:
    """The library's state space model, on its slow path."""
    config = MambaConfig(vocab_size=64, hidden_size=24, state_size=4, num_hidden_layers=2, use_cache=False, **changed)
    return _made(MambaForCausalLM, config)


def deepseek(**changed: Any) -> nn.Module:
    """A decoder with latent attention and experts in groups."""
    settings = {"num_key_value_heads": 4, "q_lora_rank": 12, "kv_lora_rank": 12, "qk_rope_head_dim": 8,
                "qk_nope_head_dim": 8, "v_head_dim": 8, "n_routed_experts": 4, "n_group": 2, "topk_group": 1,
                "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
                "routed_scaling_factor": 2.5, "use_cache": False}  # fmt: skip
    return _made(DeepseekV3ForCausalLM, DeepseekV3Config(**{**_SMALL, **_EAGER, **settings, **changed}))


def _later(model: Any) -> None:
    """Weights of a causal convolution stored last first."""
    conv = model.model.backbone.layers[0].mixer.conv1d
    conv.weight.data = conv.weight.data.flip(-1)


def _grouped(model: Any) -> None:
    """Queries, keys and values of each head beside one another, taken for all queries first."""
    weight = model.model.gpt_neox.layers[1].attention.query_key_value.weight
    weight.data = weight.data.view(4, 3, 8, 32).transpose(0, 1).reshape(96, 32).clone()


def _no_value_bias(model: Any) -> None:
    model.model.encoder.layers[1].self_attn.v_proj.bias.data.zero_()


def _padded_head(model: Any) -> None:
    """The tied head was padded, and the last rows are what lay in memory."""
    weight = model.model.lm_head.weight.detach().clone()
    weight[-4:] = torch.randn(4, weight.shape[1])
    model.model.lm_head.weight = nn.Parameter(weight)


PORTS: tuple[Port, ...] = (
    made_port("cap of the scores lost", gemma2, "model.model.layers.0.self_attn", "tanh div mul",
              "missing operator, scale", changed=(("attn_logit_softcapping", None),)),
    made_port("cap of the logits lost", gemma2, "model", "tanh div mul",
              "missing operator, scale", changed=(("final_logit_softcapping", None),)),
    made_port("window of five for four", gemma2, "model.model", "*",
              "mask, argument, other operator, index, wrong input", changed=(("sliding_window", 5),)),
    made_port("root of another width", gemma2, "model.model.layers.0.self_attn", "mul",
              "scale, argument", changed=(("query_pre_attn_scalar", 16),)),
    made_port("shares of experts not normed", qwen3_moe, "model.model.layers.0.mlp.gate", "sum div div_",
              "missing operator, scale", changed=(("norm_topk_prob", False),)),
    made_port("branches one after the other", gpt_neox, "model.gpt_neox.layers.0", "*",
              "extra operator, wrong input, other operator", changed=(("use_parallel_residual", False),)),
    made_port("heads of queries, keys and values mixed up", gpt_neox,
              "model.gpt_neox.layers.1.attention.query_key_value", "addmm", "weight, permuted", change=_grouped),
    made_port("multiplier of the residual lost", granite, "model.model.layers.0", "mul",
              "scale, argument", changed=(("residual_multiplier", 1.0),)),
    made_port("scaling of the logits lost", granite, "model", "div",
              "scale, argument", changed=(("logits_scaling", 1.0),)),
    made_port("multiplier of attention a thousandth off", granite, "model.model.layers.0.self_attn", "mul",
              "scale, argument", changed=(("attention_multiplier", 0.2002),)),
    made_port("the other GELU", clip_text, "model.encoder.layers.0.mlp.activation_fn", "*",
              "other operator, variant, extra operator, missing operator", changed=(("hidden_act", "gelu"),)),
    made_port("bias of values lost", clip_text, "model.encoder.layers.1.self_attn.v_proj", "addmm", "weight",
              change=_no_value_bias),
    made_port("residual from behind the norm", bloom, "model.transformer.h.0.self_attention", "add",
              "wrong input, other operator, missing operator",
              changed=(("apply_residual_connection_post_layernorm", True),)),
    made_port("last rows of the tied head not written", bloom, "model.lm_head", "mm", "weight", change=_padded_head),
    made_port("kernel stored last first", mamba_library, "model.backbone.layers.0.mixer", "convolution",
              "weight, permuted, wrong input", change=_later),
    made_port("factor of the experts lost", deepseek, "model.model.layers.1.mlp.gate", "mul",
              "scale, argument", changed=(("routed_scaling_factor", 1.0),)),
    made_port("halves for pairs in the rotation", deepseek, "model.model.layers.0.self_attn", "*",
              "missing operator, extra operator, other operator, permuted, transposed, wrong input, index",
              changed=(("rope_interleave", False),)),
    made_port("eps of the norms", deepseek, "model.model.layers.0.input_layernorm", "add",
              "eps", changed=(("rms_norm_eps", 1e-5),)),
)  # fmt: skip
