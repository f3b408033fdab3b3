"""Freed memory stays with the process, for as long as it lives.

By default glibc gives large blocks, and what lies at the end of its heap, back to the system at once, and gets new
pages for the next tensor: a fault for each, which cost several times what a pointwise kernel takes and come and go with
what happens to lie beside the tensor. They say nothing of kernels, and in a program they are the same whoever computes.
"""

from __future__ import annotations

import ctypes
import functools

# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@functools.cache
def keep_freed_memory() -> bool:
    """From now on; False where the C library has no such switch."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*option) for option in ((_M_TRIM_THRESHOLD, -1), (_M_MMAP_MAX, 0)))
