"""The line of the user's code that is running."""

from __future__ import annotations

import linecache
import sys
from functools import lru_cache
from pathlib import Path
from types import FrameType

import torch

_HIDDEN = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


@lru_cache(maxsize=4096)
def _is_users(filename: str) -> bool:
    return not filename.startswith(_HIDDEN) and not filename.startswith("<frozen")


def user_line() -> str:
    """`file:line` of the innermost frame outside PyTorch and this checker; empty if there is none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def text_of(source: str) -> str:
    """The text of a line given as `file:line`; empty if it cannot be read here."""
    filename, _, line = source.rpartition(":")
    return linecache.getline(filename, int(line)).strip() if filename and line.isdigit() else ""
