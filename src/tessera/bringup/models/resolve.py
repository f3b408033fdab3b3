"""From the name that the user gave to a loaded model."""

from __future__ import annotations

from pathlib import Path

from tessera.bringup.config import BringupConfig
from tessera.bringup.models.builtin import BUILTINS
from tessera.bringup.models.folder import load_folder
from tessera.bringup.models.function import load_function
from tessera.bringup.models.subject import Subject
from tessera.core.errors import UsageError, unknown_name

_SOURCES = "give builtin:minilm, a Hugging Face model folder or python:module:function"


def resolve(config: BringupConfig) -> Subject:
    """Load the model that `config.model` names.

    Errors: `UsageError` or `MissingDependency`, each one line that says what was wrong and what would work.
    """
    source, colon, rest = config.model.partition(":")
    if source == "builtin" and colon:
        if rest not in BUILTINS:
            raise unknown_name("model", f"builtin:{rest}", [f"builtin:{name}" for name in BUILTINS])
        return BUILTINS[rest](config)
    if source == "python" and colon:
        return load_function(config)
    path = Path(config.model).expanduser()
    if path.is_dir():
        return load_folder(path, config)
    raise _not_found(config.model, path)


def _not_found(name: str, path: Path) -> UsageError:
    """Say why a name is no model, with the likely slip."""
    if path.is_file():
        return UsageError(f"{name} is a file, not a model folder; give the folder that holds its config.json")
    known = [builtin for builtin in BUILTINS if builtin in name.lower()]
    if known:
        return UsageError(f"there is no model folder {name!r}; did you mean builtin:{known[0]}? {_SOURCES}")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return UsageError(
            f"there is no model folder {name!r}, and nothing is downloaded; "
            f"fetch it first, for example: hf download {name} --local-dir {name.split('/')[1]}"
        )
    return UsageError(f"there is no model folder {name!r}; {_SOURCES}")
