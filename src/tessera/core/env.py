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
    """One variable: `parse` turns its text into a value or raises `ValueError`; unset or empty is None.

    default_text: what is done where it is None.
    """

    name: str
    parse: Callable[[str], T]
    rule: str
    example: str
    default_text: str
    help: str

    def read(self, environ: Mapping[str, str] = os.environ) -> T | None:
        """The value now in the environment.

        Raises: UsageError with the value, the rule and an example of what would work.
        """
        text = environ.get(self.name, "").strip()
        if not text:
            return None
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


NUM_THREADS = Variable(
    name="TESSERA_NUM_THREADS", parse=_parse_positive_int, rule="a whole number of at least 1", example="2",
    default_text="PyTorch's own number", help="Threads that a kernel's grid runs on.",
)  # fmt: skip
TARGET = Variable(
    name="TESSERA_TARGET", parse=_parse_word, rule="one name of a compiler target", example="x86-64-avx2",
    default_text="the CPU of this machine", help="Instruction set that kernels for the CPU are compiled for.",
)  # fmt: skip
CACHE_DIR = Variable(
    name="TESSERA_CACHE_DIR", parse=_parse_folder, rule="the absolute path of a folder", example="/var/cache/tessera",
    default_text="`tessera` in the user's cache folder",
    help="Folder for what is measured and compiled on this machine.",
)  # fmt: skip

VARIABLES: tuple[Variable[int] | Variable[str] | Variable[Path], ...] = (NUM_THREADS, TARGET, CACHE_DIR)


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Where what is measured and compiled lies; it need not exist. `XDG_CACHE_HOME` counts where it is absolute."""
    given = CACHE_DIR.read(environ)
    if given is not None:
        return given
    base = Path(environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "tessera"


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names in the environment that carry our prefix and mean nothing to us: most likely misspelt."""
    known = {variable.name for variable in VARIABLES}
    return sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
