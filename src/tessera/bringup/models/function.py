"""`python:module:function`: a function of the user's returns a model and example inputs."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from torch import nn

from tessera.accuracy.call import Call
from tessera.accuracy.layers import first_line
from tessera.bringup.config import BringupConfig
from tessera.bringup.models.subject import Subject
from tessera.core.errors import UsageError


def load_function(config: BringupConfig) -> Subject:
    """Import the module, call the function without arguments, and take `(model, inputs)` from it.

    Inputs are a tensor, a tuple of positional or a dict of keyword arguments. Floating inputs and the model are cast
    to the type of the run. Modules in the current folder are found.
    """
    parts = config.model.split(":")
    if len(parts) != 3 or not all(parts):
        raise UsageError(f"{config.model!r} does not name a function; write python:module:function")
    _, module_name, function_name = parts
    with _current_folder_importable():
        module = _import(module_name)
        made = _call(module, function_name)
    model, inputs = _checked(made, f"{module_name}.{function_name}")
    call = Call.of(inputs).cast(config.torch_dtype)
    return Subject(
        name=config.model,
        model=model.to(config.torch_dtype).eval(),
        call=call,
        inputs=f"the example inputs of {function_name}()",
    )


@contextmanager
def _current_folder_importable() -> Iterator[None]:
    """An installed program, unlike `python -m`, does not look for modules where the user is."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        # The user's module may have taken it away itself.
        if folder in sys.path:
            sys.path.remove(folder)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise UsageError(
                f"there is no module {name!r}; it must be installed or lie in the current folder {Path.cwd()}"
            ) from error
        raise UsageError(f"importing {name} failed: there is no module {error.name!r}; install it") from error
    except Exception as error:  # A module of the user's may fail in any way.
        raise UsageError(f"importing {name} failed: {type(error).__name__}: {first_line(error)}") from error


def _call(module: ModuleType, name: str) -> object:
    function = getattr(module, name, None)
    if not callable(function):
        functions = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        near = difflib.get_close_matches(name, functions, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UsageError(
            f"module {module.__name__} has no function {name!r}; {hint}it has: {', '.join(functions) or 'none'}"
        )
    try:
        made: object = function()
    except Exception as error:  # As above.
        raise UsageError(
            f"{module.__name__}.{name}() raised {type(error).__name__}: {first_line(error)}; "
            "it is called without arguments and must return (model, inputs)"
        ) from error
    return made


def _checked(made: object, name: str) -> tuple[nn.Module, object]:
    if isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module):
        return made[0], made[1]
    if isinstance(made, tuple):
        got = "(" + ", ".join(type(item).__name__ for item in made) + ")"
    else:
        got = f"a {type(made).__name__}"
    raise UsageError(f"{name}() returned {got}; it must return (torch.nn.Module, inputs)")
