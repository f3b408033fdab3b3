"""The ten model families, in small configurations with random weights, and inputs for them.

Shapes: B batch, T tokens, C channels, H and W pixels. A model is called with keyword arguments that include its labels
and returns a mapping or a ModelOutput whose `loss` is differentiable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

Inputs = dict[str, torch.Tensor]

_WIDTH, _HEADS, _LAYERS, _INNER, _WORDS = 128, 4, 2, 256, 512


@dataclass(frozen=True, kw_only=True)
class Family:
    """A model family: `build` makes the model in float32, `inputs` the arguments of one call.

    `inputs` takes the batch and a length: tokens of a text, pixels of an image's side, frames of a sound.
    lengths: two of them; the second is used where shapes are dynamic.
    """

    build: Callable[[], nn.Module]
    inputs: Callable[[int, int], Inputs]
    lengths: tuple[int, int]


def _text(batch: int, tokens: int) -> Inputs:
    """int64[B, T] token ids, the last row padded at its end, and the ids themselves as labels."""
    ids = torch.randint(_WORDS, (batch, tokens))
    mask = torch.ones_like(ids)
    mask[-1, tokens - tokens // 4 :] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, -100)}


def _sequences(batch: int, tokens: int) -> Inputs:
    """As `_text`, for an encoder and a decoder; labels are shorter than the text."""
    text = _text(batch, tokens)
    return {**text, "labels": torch.randint(_WORDS, (batch, tokens // 2 + 1))}


def _image(batch: int, pixels: int) -> Inputs:
    """float32[B, 3, H, W] and int64[B] classes."""
    return {"pixel_values": torch.randn(batch, 3, pixels, pixels), "labels": torch.randint(10, (batch,))}


def _sound(batch: int, frames: int) -> Inputs:
    """float32[B, 80, frames] spectrograms and int64[B, T] labels."""
    return {"input_features": torch.randn(batch, 80, frames), "labels": torch.randint(_WORDS, (batch, 12))}


def _noise(batch: int, pixels: int) -> Inputs:
    """A noisy latent float32[B, 4, H, W], its time step, 7 tokens of text to follow, and the noise to find."""
    latent = torch.randn(batch, 4, pixels, pixels)
    return {
        "sample": latent,
        "timestep": torch.randint(1000, (batch,)),
        "encoder_hidden_states": torch.randn(batch, 7, 64),
        "noise": torch.randn_like(latent),
    }


def _bert() -> nn.Module:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(
        BertConfig(
            hidden_size=_WIDTH, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS, intermediate_size=_INNER,
            vocab_size=_WORDS,
        )
    )  # fmt: skip


def _llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=_WIDTH, intermediate_size=_INNER, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
            num_key_value_heads=_HEADS // 2, vocab_size=_WORDS, max_position_embeddings=256,
        )
    )  # fmt: skip


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(
        GPT2Config(n_embd=_WIDTH, n_layer=_LAYERS, n_head=_HEADS, vocab_size=_WORDS, n_positions=256)
    )


def _t5() -> nn.Module:
    from transformers import T5Config, T5ForConditionalGeneration

    return T5ForConditionalGeneration(
        T5Config(
            d_model=_WIDTH, d_kv=_WIDTH // _HEADS, d_ff=_INNER, num_layers=_LAYERS, num_heads=_HEADS,
            vocab_size=_WORDS, decoder_start_token_id=0,
        )
    )  # fmt: skip


def _vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    return ViTForImageClassification(
        ViTConfig(
            hidden_size=_WIDTH, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS, intermediate_size=_INNER,
            image_size=64, patch_size=8, num_labels=10,
        )
    )  # fmt: skip


def _resnet() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(embedding_size=16, hidden_sizes=[32, 64, 96, 128], depths=[1, 1, 1, 1], num_labels=10)
    )


def _convnext() -> nn.Module:
    from transformers import ConvNextConfig, ConvNextForImageClassification

    return ConvNextForImageClassification(
        ConvNextConfig(hidden_sizes=[16, 32, 64, 96], depths=[1, 1, 1, 1], num_labels=10)
    )


def _mixtral() -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    model = MixtralForCausalLM(
        MixtralConfig(
            hidden_size=_WIDTH, intermediate_size=_INNER, num_hidden_layers=_LAYERS, num_attention_heads=_HEADS,
            num_key_value_heads=_HEADS // 2, vocab_size=_WORDS, max_position_embeddings=256, num_local_experts=4,
        )
    )  # fmt: skip
    # The usual product over groups of rows does not exist in float64, which the reference is computed in.
    model.set_experts_implementation("batched_mm")
    return model


def _whisper() -> nn.Module:
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    return WhisperForConditionalGeneration(
        WhisperConfig(
            d_model=_WIDTH, encoder_layers=_LAYERS, decoder_layers=_LAYERS, encoder_attention_heads=_HEADS,
            decoder_attention_heads=_HEADS, encoder_ffn_dim=_INNER, decoder_ffn_dim=_INNER, vocab_size=_WORDS,
            max_source_positions=64, max_target_positions=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            decoder_start_token_id=1, suppress_tokens=[], begin_suppress_tokens=[],
        )
    )  # fmt: skip


class _Denoiser(nn.Module):
    """A UNet with its loss: how far the noise that it finds is from the noise that was added."""

    def __init__(self, unet: nn.Module) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, noise: torch.Tensor, **inputs: torch.Tensor) -> Mapping[str, torch.Tensor]:
        found = self.unet(**inputs, return_dict=False)[0]
        return {"loss": nn.functional.mse_loss(found, noise), "sample": found}


def _unet() -> nn.Module:
    from diffusers import UNet2DConditionModel

    return _Denoiser(
        UNet2DConditionModel(
            sample_size=16, in_channels=4, out_channels=4, layers_per_block=1, block_out_channels=(32, 64),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=64, attention_head_dim=8, norm_num_groups=8,
        )
    )  # fmt: skip


FAMILIES: Mapping[str, Family] = {
    "bert": Family(build=_bert, inputs=_text, lengths=(48, 33)),
    "llama": Family(build=_llama, inputs=_text, lengths=(48, 33)),
    "gpt2": Family(build=_gpt2, inputs=_text, lengths=(48, 33)),
    "t5": Family(build=_t5, inputs=_sequences, lengths=(48, 33)),
    "vit": Family(build=_vit, inputs=_image, lengths=(64, 64)),
    "resnet": Family(build=_resnet, inputs=_image, lengths=(64, 96)),
    "convnext": Family(build=_convnext, inputs=_image, lengths=(64, 96)),
    "mixtral": Family(build=_mixtral, inputs=_text, lengths=(48, 33)),
    "whisper": Family(build=_whisper, inputs=_sound, lengths=(128, 128)),
    "unet": Family(build=_unet, inputs=_noise, lengths=(16, 24)),
}


def build(name: str, dtype: torch.dtype) -> nn.Module:
    """The model of a family in `dtype`, without dropout, which no other order of computing can repeat."""
    torch.manual_seed(0)
    model = FAMILIES[name].build().to(dtype)
    for module in model.modules():
        for key, value in vars(module).items():
            if "drop" in key and isinstance(value, float):
                setattr(module, key, 0.0)
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


def inputs(name: str, dtype: torch.dtype) -> tuple[Inputs, Inputs]:
    """Arguments of two calls, the same every time: a batch of 4, and one of 3 with the second length."""
    torch.manual_seed(1)
    family = FAMILIES[name]
    first, second = (family.inputs(batch, length) for batch, length in zip((4, 3), family.lengths, strict=True))
    return _cast(first, dtype), _cast(second, dtype)


def _cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    return {key: value.to(dtype) if value.is_floating_point() else value for key, value in inputs.items()}
