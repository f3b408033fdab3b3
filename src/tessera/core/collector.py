"""A pause of Python's garbage collector while much is made that stays.

Each collection walks all objects that there are, PyTorch's half a million among them, and one is due whenever the young
ones have become many: of the time to make a few thousand lasting objects half would go by in vain.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_paused() -> Iterator[None]:
    """Nothing is collected within it, in any thread. May be nested; a function may be decorated with it."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
