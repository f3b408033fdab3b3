"""A space in which no dispatch mode sees what runs: neither the watcher nor modes of the candidate's own."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch.utils._python_dispatch import _disable_current_modes

_PLAIN = nullcontext()


def unwatched() -> AbstractContextManager[object]:
    """Within it no dispatch mode is active. It costs next to nothing where none is, as in most handlers of modes."""
    return _disable_current_modes() if torch._C._len_torch_dispatch_stack() else _PLAIN
