"""Memory that ends where nothing may be read any more."""

import ctypes
import mmap

import torch


def before_the_end(rows, cols, dtype):
    """A matrix of small whole numbers whose last byte is the last one of memory that may be read."""
    size = rows * cols * dtype.itemsize
    room = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(address + room), mmap.PAGESIZE, 0) == 0
    found = torch.frombuffer(memory, dtype=dtype, count=rows * cols, offset=room - size).view(rows, cols)
    return found.copy_(torch.randint(-4, 5, (rows, cols)))
