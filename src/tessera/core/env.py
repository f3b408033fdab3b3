"""The one table of environment variables. All begin with `TESSERA_`; a value that cannot be used raises `UsageError`.

Values are read when asked for, not at import, so that a program may set them first.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tessera.core.errors import UsageError

PREFIX = "TESSERA_"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Variable(Generic[T]):
    """One variable: `parse` turns its text into a value or raises `ValueError`; unset or empty is `default`."""

    name: str
    rule: str
    default: T
    default_text: str
    example: str
    help: str
    parse: Callable[[str], T]

    def read(self, environ: Mapping[str, str] = os.environ) -> T:
        """The value now in the environment.

        Raises: UsageError with the value, the rule and an example of what would work.
        """
        text = environ.get(self.name, "").strip()
        if not text:
            return self.default
        try:
            return self.parse(text)
        except ValueError:
            remedy = f"set for example {self.name}={self.example}, or unset it for {self.default_text}"
            raise UsageError(f"{self.name} is {text!r}; it must be {self.rule}; {remedy}") from None


def _parse_positive_int(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _parse_word(text: str) -> str:
    if any(letter.isspace() for letter in text):
        raise ValueError(text)
    return text


def _parse_folder(text: str) -> Path:
    path = Path(text).expanduser()
    if not path.is_absolute() or path.is_file():
        raise ValueError(text)
    return path


NUM_THREADS = Variable[int | None](
    name="TESSERA_NUM_THREADS",
    rule="a whole number of at least 1",
    default=None,
    default_text="PyTorch's own number",
    example="2",
    help="Threads that a kernel's grid runs on.",
    parse=_parse_positive_int,
)

TARGET = Variable[str | None](
    name="TESSERA_TARGET",
    rule="one name of a compiler target",
    default=None,
    default_text="the CPU of this machine",
    example="x86-64-avx2",
    help="Instruction set that kernels for the CPU are compiled for.",
    parse=_parse_word,
)

CACHE_DIR = Variable[Path | None](
    name="TESSERA_CACHE_DIR",
    rule="the absolute path of a folder",
    default=None,
    default_text="`tessera` in the user's cache folder",
    example="/var/cache/tessera",
    help="Folder for what is measured on this machine.",
    parse=_parse_folder,
)

VARIABLES: tuple[Variable[int | None] | Variable[str | None] | Variable[Path | None], ...] = (
    NUM_THREADS,
    TARGET,
    CACHE_DIR,
)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what is measured on this machine is kept; need not exist. `XDG_CACHE_HOME` counts where it is absolute."""
    given = CACHE_DIR.read(environ)
    if given is not None:
        return given
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "tessera"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names in the environment that carry our prefix and mean nothing to us: most likely misspelt."""
    known = {variable.name for variable in VARIABLES}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
