"""Between operators of PyTorch's, launches run on its threads, else on the pool's own, however busy the machine is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

pytestmark = pytest.mark.skipif("linux" not in sys.platform, reason="only Linux has clocks of other threads")

Script = Callable[..., "subprocess.CompletedProcess[str]"]

# `rounds` says in each of them which part of the time the pool's own worker ran and how many threads took part.
_SCRIPT = '''
busy = make_kernel("""
  %offset = mul i64 %i, 65536
  %mine = getelementptr i8, ptr %a1, i64 %offset
  call void @llvm.memset.p0.i64(ptr %mine, i8 7, i64 65536, i1 true)
  %self = call i64 @pthread_self()
  %who.at = getelementptr i64, ptr %a0, i64 %i
  store i64 %self, ptr %who.at
""")
torch.set_num_threads(2)
big = torch.rand(300, 300)
seen, space = torch.zeros(64, dtype=torch.int64), torch.zeros(64 * 8192, dtype=torch.int64)

def ran(thread):
    return time.clock_gettime(~thread << 3 | 6)

def rounds(with_products, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        workers = [t.native_id for t in threading.enumerate() if t.name.startswith("tessera-worker")]
        start, before, most = time.monotonic(), sum(map(ran, workers)), 0
        while time.monotonic() < start + 0.1:
            if with_products:
                big @ big
            launch(busy.address, pack((seen, space, None)), 64, 1, 1)
            most = max(most, len(set(seen.tolist())))
        yield (sum(map(ran, workers)) - before) / (time.monotonic() - start), most
'''


def test_launches_between_products_run_on_pytorchs_threads(script: Script) -> None:
    done = script(_SCRIPT + "print(any(share < 0.05 and most == 2 for share, most in rounds(True, 30)))\n")
    assert done.stdout == "True\n", done.stderr


def test_launches_alone_run_on_own_threads(script: Script) -> None:
    done = script(_SCRIPT + "print(any(share > 0.3 and most == 2 for share, most in rounds(False, 30)))\n")
    assert done.stdout == "True\n", done.stderr


def test_launches_come_back_to_own_threads(script: Script) -> None:
    done = script(
        _SCRIPT
        + "print(any(share < 0.05 and most == 2 for share, most in rounds(True, 20)),"
        + " any(share > 0.3 and most == 2 for share, most in rounds(False, 20)))\n"
    )
    assert done.stdout == "True True\n", done.stderr
