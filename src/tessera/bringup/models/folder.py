"""A Hugging Face model folder: `config.json`, safetensors (also sharded), perhaps `tokenizer.json`; all local."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from tessera.accuracy.layers import first_line
from tessera.bringup.config import BringupConfig
from tessera.bringup.models.inputs import inputs_for
from tessera.bringup.models.subject import Subject
from tessera.bringup.models.text import INSTALL
from tessera.core.errors import MissingDependency, UsageError

_WEIGHTS = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def load_folder(folder: Path, config: BringupConfig) -> Subject:
    """Build the model that `config.json` describes, load its weights strictly, and make inputs for it."""
    _check_files(folder)
    try:
        import transformers
    except ImportError as error:
        raise MissingDependency(f"a model folder needs the library transformers; {INSTALL}") from error
    with _quiet(transformers):
        settings = _read_settings(transformers, folder)
        model_class = _model_class(transformers, folder, settings)
        model, notes = _load(model_class, folder, config)
        call, inputs = inputs_for(model, settings, folder, config)
    return Subject(name=str(folder), model=model, call=call, inputs=inputs, notes=notes)


def _check_files(folder: Path) -> None:
    """Everything needed is there; what is missing is said together with what is there."""
    present = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(present[:8]) + (", …" if len(present) > 8 else "") if present else "nothing"
    if "config.json" not in present:
        raise UsageError(
            f"{folder} has no config.json, so it is no Hugging Face model folder; it holds: {listed}; "
            "save a model there with model.save_pretrained(folder)"
        )
    if _INDEX in present:
        index = _read_json(folder / _INDEX)
        missing = sorted(set(index.get("weight_map", {}).values()) - set(present))
        if missing:
            raise UsageError(f"{folder} lacks {', '.join(missing[:3])}, which {_INDEX} names; fetch the missing files")
    elif _WEIGHTS not in present:
        raise UsageError(
            f"{folder} has no weights: neither {_WEIGHTS} nor {_INDEX}; it holds: {listed}; "
            "save them with model.save_pretrained(folder), which writes safetensors"
        )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path} holds a JSON {type(data).__name__}; it must be an object")
    return data


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Without the library's own progress bars and load reports; what matters of them is said by us."""
    logging = transformers.utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _read_settings(transformers: Any, folder: Path) -> Any:
    data = _read_json(folder / "config.json")
    if "auto_map" in data and data.get("model_type") not in transformers.CONFIG_MAPPING:
        raise UsageError(
            f"{folder} brings its own model code, which is not run from a folder; "
            "write a function that returns (model, inputs) and give python:module:function"
        )
    try:
        return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, TypeError, KeyError) as error:
        raise UsageError(f"{folder / 'config.json'} cannot be used: {first_line(error)}") from error


def _model_class(transformers: Any, folder: Path, settings: Any) -> Any:
    """The class that the config names under `architectures`, or the base model of its type if it names none."""
    names = list(settings.architectures or [])
    if not names:
        return transformers.AutoModel
    found = getattr(transformers, names[0], None)
    if found is None:
        kind = settings.model_type
        known = [name for name in dir(transformers) if name.lower().startswith(kind.replace("_", "").lower())]
        near = difflib.get_close_matches(names[0], known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"{folder / 'config.json'} names the architecture {names[0]!r}, which transformers "
            f"{transformers.__version__} does not have; {hint}correct `architectures` or update transformers"
        )
    return found


def _load(model_class: Any, folder: Path, config: BringupConfig) -> tuple[nn.Module, tuple[str, ...]]:
    """The model with its weights, every one of them from the file, and notes on what was left over."""
    try:
        # Mismatches are let through here because the library's own error does not name them; ours does.
        model, info = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=config.torch_dtype,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except MemoryError:
        raise
    except Exception as error:  # safetensors and transformers raise many kinds for files that do not fit.
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise UsageError(f"the weights in {folder} cannot be loaded: {reason}; fetch the files again") from error
    kind = type(model).__name__
    _check_match(folder, kind, info)
    model.eval()
    left = sorted(info["unexpected_keys"])
    if not left:
        return model, ()
    return model, (f"{len(left)} tensors in the weights are not used by {kind}: {_some(left)}",)


def _check_match(folder: Path, kind: str, info: dict[str, Any]) -> None:
    mismatched = sorted(
        f"{name} is {list(stored)}, the config wants {list(wanted)}" for name, stored, wanted in info["mismatched_keys"]
    )
    if mismatched:
        raise UsageError(
            f"the weights in {folder} do not match its config.json: {mismatched[0]}"
            + (f", and {len(mismatched) - 1} more" if len(mismatched) > 1 else "")
            + "; use the config.json that was saved with them"
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise UsageError(
            f"the weights in {folder} do not match its config.json: {kind} needs {len(missing)} tensors "
            f"that are not there: {_some(missing)}; use the config.json that was saved with them"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
