"""Run the grid of a kernel over the threads of this process.

In:  the address of a kernel, `void NAME(ptr args, i64 begin, i64 end, i32 num_x, i32 num_y, i32 num_z)`, which runs the
     programs whose linear index (x fastest) is in begin..end; its packed arguments; the grid.
Out: the kernel's effect on memory, complete when `launch` returns, and the same for any number of threads.
Errors: `UsageError` for a grid that no launch can have, or too many threads.

There is one pool a process, made at the first launch; a child of a fork makes its own. Workers are daemon threads of
Python that stay in one native call for ever. A launch is one native call as well; the protocol is told in `pool_ir.py`.
A launch cannot be interrupted: Ctrl-C arrives when the grid is done.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tessera.core import env
from tessera.core.errors import UsageError
from tessera.runtime import pool_ir
from tessera.runtime.arguments import PackedArgs
from tessera.runtime.loader import LoadedKernel, load_all

# After a launch a worker looks this long for the next one before it sleeps, and a launch this long for its last worker:
# longer than the Python between two launches of a busy program, too short to take a core from anybody.
SPIN_US = 100.0
# Kernels keep their scratch on the stack, a few MB of it.
WORKER_STACK_BYTES = 64 * 1024 * 1024
MAX_THREADS = 1024

_MAX_DIM = 2**31 - 1
_MAX_PROGRAMS = 2**62


@dataclass(frozen=True, kw_only=True)
class _Native:
    """The functions of `pool_ir`, compiled and callable; `loaded` keeps their code in memory."""

    create: Callable[[int, bytes], int | None]
    relax: Callable[[int], None]
    work: Callable[[int], None]
    launch: Callable[[int, int, PackedArgs, int, int, int, int], None]
    loaded: list[LoadedKernel]


@functools.cache
def _native() -> _Native:
    """Compile and load the native half, once a process: about 12 ms."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    target = binding.Target.from_default_triple()
    module = binding.parse_assembly(pool_ir.module_text(target.triple))
    module.verify()
    obj = target.create_target_machine(opt=2, reloc="pic").emit_object(module)
    loaded = load_all(obj, pool_ir.EXPORTS)
    create, relax, work, launch = (kernel.address for kernel in loaded)
    pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    return _Native(
        create=ctypes.CFUNCTYPE(pointer, i64, ctypes.c_char_p)(create),
        relax=ctypes.CFUNCTYPE(None, i64)(relax),
        work=ctypes.CFUNCTYPE(None, pointer)(work),
        launch=ctypes.CFUNCTYPE(None, pointer, pointer, ctypes.c_char_p, i32, i32, i32, i32)(launch),
        loaded=loaded,
    )


class _Pool:
    """A native pool and its workers, which are added as launches ask for them and then stay."""

    def __init__(self) -> None:
        self._native = _native()
        address = self._native.create(_looks(self._native, SPIN_US), _processors())
        if address is None:
            raise MemoryError("no memory for the state of the thread pool, about 1 KiB")
        self.address = address
        self.run = self._native.launch
        self.num_threads = 1
        self.wanted_threads = _thread_count()
        self._lock = threading.Lock()

    def grow(self, num_threads: int) -> None:
        """Have enough workers for launches on `num_threads` threads, the caller's being one."""
        if num_threads > MAX_THREADS:
            raise UsageError(
                f"a launch on {num_threads} threads was asked for; the pool has at most {MAX_THREADS}: "
                f"set {env.NUM_THREADS.name} or torch.set_num_threads to the number of cores"
            )
        with self._lock:
            if num_threads <= self.num_threads:
                return
            stack_bytes = threading.stack_size(WORKER_STACK_BYTES)
            try:
                for index in range(self.num_threads, num_threads):
                    name = f"tessera-worker-{index}"
                    threading.Thread(target=self._native.work, args=(self.address,), name=name, daemon=True).start()
                    self.num_threads = index + 1
            finally:
                threading.stack_size(stack_bytes)


def _looks(native: _Native, spin_us: float) -> int:
    """How many looks of a spinning thread take `spin_us`: what one takes differs tenfold between processors."""
    looks = 1000

    def taken_ns() -> int:
        start = time.perf_counter_ns()
        native.relax(looks)
        return time.perf_counter_ns() - start

    fastest_ns = max(1, min(taken_ns() for _ in range(3)))
    return max(1, int(spin_us * 1e3 * looks / fastest_ns))


def _processors() -> bytes:
    """The processors that this process may use, a bit each; none where the system does not tell."""
    mask = 0
    if hasattr(os, "sched_getaffinity"):
        mask = sum(1 << cpu for cpu in os.sched_getaffinity(0) if cpu < 8 * pool_ir.MASK_BYTES)
    return mask.to_bytes(pool_ir.MASK_BYTES, sys.byteorder)


def _thread_count() -> Callable[[], int]:
    """What says, at each launch, how many threads it may use: the environment, which is read here, or PyTorch."""
    fixed = env.NUM_THREADS.read()
    if fixed is not None:
        return lambda: fixed
    import torch

    return torch.get_num_threads


_pool: _Pool | None = None
_starting = threading.Lock()


def _start() -> _Pool:
    global _pool
    with _starting:
        if _pool is None:
            _at_fork()
            _pool = _Pool()
        return _pool


@functools.cache
def _at_fork() -> None:
    """From now on children of a fork, which have none of the workers, begin without a pool."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    global _pool, _starting
    _pool = None
    _starting = threading.Lock()


def launch(address: int, packed: PackedArgs, grid_x: int, grid_y: int, grid_z: int) -> None:
    """Run every program of the grid and return when all are done; an empty grid runs none.

    The grid runs on as many threads as PyTorch has at this moment (`torch.set_num_threads`), or, where
    `TESSERA_NUM_THREADS` was set at the first launch, on that many. A launch that finds another one running, from a
    second thread of Python, runs its grid on its own thread alone.
    """
    programs = grid_x * grid_y * grid_z
    if (grid_x < 1 or grid_y < 1 or grid_z < 1 or programs > _MAX_DIM) and _is_empty(grid_x, grid_y, grid_z):
        return
    pool = _pool or _start()
    num_threads = 1
    if programs != 1:
        num_threads = pool.wanted_threads()
        if num_threads > pool.num_threads:
            pool.grow(num_threads)
    try:
        pool.run(pool.address, address, packed, grid_x, grid_y, grid_z, num_threads)
    except ctypes.ArgumentError as error:
        raise UsageError(
            f"a launch of the grid {(grid_x, grid_y, grid_z)} at address {address!r} is not made of whole numbers "
            f"({error}): divide by // or triton.cdiv"
        ) from error


def _is_empty(*grid: int) -> bool:
    """Whether there is nothing to run. Raises `UsageError` for a grid out of range."""
    if min(grid) < 0 or max(grid) > _MAX_DIM or grid[0] * grid[1] * grid[2] > _MAX_PROGRAMS:
        raise UsageError(f"the grid is {grid}; each dimension must be in 0..{_MAX_DIM}, at most 2**62 programs in all")
    return 0 in grid
