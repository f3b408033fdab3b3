"""What the tests of the runtime share: two kernels, the number of threads, and scripts in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from native_kernels import VISIT, WHO, make_kernel

from tessera.runtime.loader import LoadedKernel


@pytest.fixture(scope="session")
def visit() -> LoadedKernel:
    """Counts in argument 0, an int64 per program, how often each was run."""
    return make_kernel(VISIT)


@pytest.fixture(scope="session")
def who() -> LoadedKernel:
    """Writes the thread that ran each program to argument 0, an int64 per program."""
    return make_kernel(WHO)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    """`torch.set_num_threads`, undone after the test."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run lines of Python in a fresh process, with `visit`, `who`, `launch`, `pack` and `torch` there; 60 s at most."""

    def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = tmp_path / "script.py"
        path.write_text(_PRELUDE.format(folder=str(Path(__file__).parent)) + code)
        env = {**os.environ, **environment}
        return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, env=env)

    return run


_PRELUDE = """
import os, sys, threading, time
sys.path.insert(0, {folder!r})
import torch
from native_kernels import VISIT, WHO, make_kernel
from tessera.runtime.arguments import make_packer
from tessera.runtime.pool import Lent, borrow, launch
visit, who, pack = make_kernel(VISIT), make_kernel(WHO), make_packer(("*i64",) * 3)

def count(programs):
    counts = torch.zeros(programs, dtype=torch.int64)
    launch(visit.address, pack((counts, None, None)), programs, 1, 1)
    return bool((counts == 1).all())

def distinct(programs=24):
    seen = torch.zeros(programs, dtype=torch.int64)
    launch(who.address, pack((seen, None, None)), programs, 1, 1)
    return len(set(seen.tolist()))
"""
