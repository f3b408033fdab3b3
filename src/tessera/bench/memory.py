"""Freed memory stays with the process, for as long as it lives.

By default glibc gives large blocks, and what lies at the end of its heap, back to the system at once, and gets new
pages for the next tensor: a fault for each, which cost several times what a pointwise kernel takes and come and go with
what happens to lie beside the tensor. They say nothing of kernels, and in a program they are the same whoever computes.

Small things lie down where a large tensor was, so that the next one no longer fits there and the heap grows for a while
yet: so it is made large at once.
"""

from __future__ import annotations

import ctypes
import functools
import os

# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_RESERVE_BYTES = 1 << 32


@functools.cache
def keep_freed_memory() -> bool:
    """From now on; False where the C library has no such switch."""
    library = ctypes.CDLL(None)
    mallopt = getattr(library, "mallopt", None)
    if mallopt is None or not all(mallopt(*option) for option in ((_M_TRIM_THRESHOLD, -1), (_M_MMAP_MAX, 0))):
        return False
    _touch(library, min(_RESERVE_BYTES, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8))
    return True


def _touch(library: ctypes.CDLL, size_bytes: int) -> None:
    """Take pages from the system, and leave them in the heap."""
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    block = library.malloc(size_bytes)
    if block:
        ctypes.memset(block, 0, size_bytes)
        library.free(block)
