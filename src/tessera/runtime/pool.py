"""Run the grid of a kernel over the threads of this process.

In:  the address of a kernel, `void NAME(ptr args, i64 begin, i64 end, i32 num_x, i32 num_y, i32 num_z)`, which runs the
     programs whose linear index (x fastest) is in begin..end; its packed arguments; the grid.
Out: the kernel's effect on memory, complete when `launch` returns, and the same for any number of threads.
Errors: `UsageError` for a grid that no launch can have, or too many threads.

There is one pool a process, made at the first launch; a child of a fork makes its own. Workers are daemon threads of
Python that stay in one native call for ever. A launch is one native call as well; the protocol is told in `pool_ir.py`.
A launch cannot be interrupted: Ctrl-C arrives when the grid is done.

Between operators of PyTorch's, launches run on PyTorch's threads (`borrow`): these look for work for milliseconds after
each operator, and two pools that do so on the same processors keep each other from working. `lent_ir` says how it is
found out whether they do.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Protocol

from tessera.core import env
from tessera.core.errors import UsageError
from tessera.runtime import pool_ir
from tessera.runtime.arguments import PackedArgs
from tessera.runtime.native import Native, bind, native, torch_function
from tessera.runtime.shares_ir import MAX_THREADS

# After a launch a worker looks this long for the next one before it sleeps, and a launch this long for its last worker:
# longer than the Python between two launches of a busy program, too short to take a core from anybody.
SPIN_US = 100.0
# A grid whose programs take less in all runs on one thread: to share it would take longer.
BRIEF_US = 1.5
# Kernels keep their scratch on the stack, a few MB of it.
WORKER_STACK_BYTES = 64 * 1024 * 1024

_MAX_DIM = 2**31 - 1
_MAX_PROGRAMS = 2**62


class _Pool:
    """A native pool and its workers, which are added as launches ask for them and then stay."""

    def __init__(self) -> None:
        self._native = native()
        looks, ticks = _rates(self._native)
        address = self._native.create(max(1, int(looks * SPIN_US)), int(ticks * BRIEF_US), _processors())
        if address is None:
            raise MemoryError("no memory for the state of the thread pool, about 3 KiB")
        self.address = address
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
                    worker = (self.address, index)
                    threading.Thread(target=self._native.work, args=worker, name=name, daemon=True).start()
                    self.num_threads = index + 1
            finally:
                threading.stack_size(stack_bytes)


def _rates(native: Native) -> tuple[float, float]:
    """Looks of a spinning thread, and ticks of the counter, a microsecond: processors differ tenfold in either."""
    looks = 1000

    def measured() -> tuple[float, int]:
        start = time.perf_counter()
        ticks = native.relax(looks)
        return 1e6 * (time.perf_counter() - start), ticks

    fastest_us, ticks = min(measured() for _ in range(3))
    return looks / fastest_us, ticks / fastest_us


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


class Lent(Enum):
    """When launches run on PyTorch's threads; at other times they run on the pool's own."""

    NEVER = "never"
    WHILE_AWAKE = "while they are awake"
    ALWAYS = "always"


_pool: _Pool | None = None
_starting = threading.Lock()
_lent: Lent | None = None
_forked = False


def _start() -> _Pool:
    global _pool
    with _starting:
        if _pool is None:
            _at_fork()
            _pool = _Pool()
            _tell(_pool.address)
            # Who fixes the number of threads means another one than PyTorch has.
            if _lent is None and env.NUM_THREADS.read() is None:
                borrow(Lent.WHILE_AWAKE)
        return _pool


@functools.cache
def _at_fork() -> None:
    """From now on children of a fork, which have none of the workers, begin without a pool."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    global _pool, _starting, _forked
    _forked = True
    borrow(Lent.NEVER)
    _pool = None
    _starting = threading.Lock()
    listeners.clear()


def borrow(when: Lent) -> None:
    """On whose threads launches run from now on. A child of a fork, which has none of PyTorch's, keeps to its own."""
    global _lent
    _at_fork()
    _lent = Lent.NEVER if _forked else when
    team = None if _lent is Lent.NEVER else torch_function("torch_parallel_for")
    native().borrow(team, _lent is Lent.ALWAYS)


def _ready() -> int:
    """How many threads a launch of several programs uses now; there are as many workers when this returns."""
    pool = _pool or _start()
    num_threads = pool.wanted_threads()
    if num_threads > pool.num_threads:
        pool.grow(num_threads)
    return num_threads


def _tell(address: int | None) -> None:
    """The native half keeps no references: a function of this module and names in its code live as long as it does."""
    native().use(address, _ready, "data_ptr", "is_cpu", "calls", "dtype")


@functools.cache
def entries() -> Native:
    """The native functions, told how to find the pool."""
    _tell(None)
    return native()


def _bind_and_launch(address: int, packed: PackedArgs, grid_x: int, grid_y: int, grid_z: int) -> None:
    """The first launch of the process; later ones find the native function in this one's place."""
    global _launch
    _launch = bind(entries().one, None)
    _launch(address, packed, grid_x, grid_y, grid_z)


_launch: Callable[[int, PackedArgs, int, int, int], None] = _bind_and_launch


class Listener(Protocol):
    """Who is told of the launches of a thread."""

    def launched(self, address: int, packed: PackedArgs, grid: tuple[int, int, int]) -> None:
        """A launch has run."""

    def given(self, values: Sequence[Any]) -> None:
        """The arguments of the next launch, before they were packed."""

    def to_check(self, check: Callable[[], None]) -> None:
        """`check` raises where the launch before has failed."""


listeners: dict[int, Listener] = {}
"""By thread (`threading.get_ident()`)."""


def listener() -> Listener | None:
    """Who listens to this thread."""
    return listeners.get(threading.get_ident()) if listeners else None


def listen(who: Listener | None) -> None:
    """Tell `who` of this thread's launches from now on; None: nobody."""
    before = listeners.pop(threading.get_ident(), None)
    if who is not None:
        listeners[threading.get_ident()] = who
    entries().divert((who is not None) - (before is not None))


def launch(address: int, packed: PackedArgs, grid_x: int, grid_y: int, grid_z: int) -> None:
    """Run every program of the grid and return when all are done; an empty grid runs none.

    The grid runs on as many threads as PyTorch has at this moment (`torch.set_num_threads`), or, where
    `TESSERA_NUM_THREADS` was set at the first launch, on that many. A launch that finds another one running, from a
    second thread of Python, runs its grid on its own thread alone.
    """
    programs = grid_x * grid_y * grid_z
    if (grid_x < 1 or grid_y < 1 or grid_z < 1 or programs > _MAX_DIM) and _is_empty(grid_x, grid_y, grid_z):
        return
    try:
        _launch(address, packed, grid_x, grid_y, grid_z)
    except TypeError as error:
        raise UsageError(
            f"a launch of the grid {(grid_x, grid_y, grid_z)} at address {address!r} is not made of whole numbers "
            f"({error}): divide by // or triton.cdiv"
        ) from error
    if listeners and (who := listener()) is not None:
        who.launched(address, packed, (grid_x, grid_y, grid_z))


def _is_empty(*grid: int) -> bool:
    """Whether there is nothing to run. Raises `UsageError` for a grid out of range."""
    if min(grid) < 0 or max(grid) > _MAX_DIM or grid[0] * grid[1] * grid[2] > _MAX_PROGRAMS:
        raise UsageError(f"the grid is {grid}; each dimension must be in 0..{_MAX_DIM}, at most 2**62 programs in all")
    return 0 in grid
