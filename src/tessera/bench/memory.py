"""Freed memory stays with the process, for as long as it lives.

By default glibc gives large blocks, and what lies at the end of its heap, back to the system at once, and gets new
pages for the next tensor: a fault for each, which cost several times what a pointwise kernel takes and come and go with
what happens to lie beside the tensor. They say nothing of kernels, and in a program they are the same whoever computes.

Small things lie down where a large tensor was, so that the next one no longer fits there and the heap grows for a while
yet: so it is made large at once, and looked after before each measurement.
"""

from __future__ import annotations

import ctypes
import functools
import os

# glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_RESERVE_BYTES = 1 << 32
_ROOM_BYTES = 1 << 28


@functools.cache
def keep_freed_memory() -> bool:
    """From now on; False where the C library has no such switch."""
    mallopt = getattr(_library(), "mallopt", None)
    if mallopt is None or not all(mallopt(*option) for option in ((_M_TRIM_THRESHOLD, -1), (_M_MMAP_MAX, 0))):
        return False
    _touched.take(min(_RESERVE_BYTES, os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8))
    return True


def keep_room() -> None:
    """That a block of tensors, as large as calls work on, is there without new pages; where memory is kept at all."""
    if keep_freed_memory():
        _touched.take(_ROOM_BYTES)


class _Touched:
    """How far the heap, which grows in one direction, has pages already."""

    end = 0

    def take(self, size_bytes: int) -> None:
        """Take pages from the system where a block of this size would be new, and leave them in the heap."""
        block = _library().malloc(size_bytes)
        if block:
            new = max(block, self.end)
            if new < block + size_bytes:
                ctypes.memset(new, 0, block + size_bytes - new)
                self.end = block + size_bytes
            _library().free(block)


_touched = _Touched()


@functools.cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(None)
    library.malloc.argtypes, library.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
    library.free.argtypes, library.free.restype = [ctypes.c_void_p], None
    return library
