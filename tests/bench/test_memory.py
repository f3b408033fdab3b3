"""What is measured runs in memory that the process has already."""

from __future__ import annotations

import subprocess
import sys

import pytest


def new_pages(script: str) -> int:
    """What a script prints that counts them, in a process of its own."""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return int(ran.stdout)


TENSORS_AND_SMALL_THINGS = """
import resource
import torch
from tessera.bench.memory import keep_freed_memory

torch.set_num_threads(1)
assert keep_freed_memory()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
kept = []
for n in range(12):
    tensor = torch.ones(2**22 + 1000 * n)
    kept.append(bytearray(5000 + 100 * n))  # It lies where the tensor was, so that the next one finds no room there.
    del tensor
    kept.append(bytearray(5000 + 100 * n))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has the switch")
def test_no_new_pages_while_tensors_come_and_go() -> None:
    pages_of_one = 2**24 // 4096
    assert new_pages(TENSORS_AND_SMALL_THINGS) < pages_of_one / 4


WORN_HEAP = """
import resource
import torch
from tessera.bench import memory

torch.set_num_threads(1)
memory._RESERVE_BYTES = 2**26
assert memory.keep_freed_memory()
kept = [torch.ones(2**22) for _ in range(8)]  # the whole reserve, and more
memory.keep_room()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has the switch")
def test_there_is_room_again_where_the_reserve_was_used_up() -> None:
    pages_of_it = 2**26 // 4096
    assert new_pages(WORN_HEAP) < pages_of_it / 4
