"""Loading object code: symbols resolve, names do not clash, bad code is refused by message."""

from __future__ import annotations

import math
import subprocess
import threading
from collections.abc import Callable

import pytest
import torch
from native_kernels import KERNEL, compile_ir, make_kernel

from tessera.core.errors import UsageError
from tessera.runtime.arguments import make_packer
from tessera.runtime.loader import LoadedKernel, load
from tessera.runtime.pool import launch

STORE = """
  %number.at = getelementptr i64, ptr %a0, i64 %i
  store i64 {number}, ptr %number.at
"""

pack = make_packer(("*i64", "*i64", "*i64"))


def run_one(kernel: LoadedKernel, out: torch.Tensor) -> None:
    launch(kernel.address, pack((out, None, None)), 1, 1, 1)


def number_of(kernel: LoadedKernel) -> int:
    out = torch.zeros(1, dtype=torch.int64)
    run_one(kernel, out)
    return int(out)


def test_same_name_many_times() -> None:
    kernels = [make_kernel(STORE.format(number=number)) for number in range(5)]
    assert [number_of(kernel) for kernel in kernels] == [0, 1, 2, 3, 4]
    assert {kernel.name for kernel in kernels} == {"kernel"}


def test_others_stay_when_one_is_unloaded() -> None:
    first, second = (make_kernel(STORE.format(number=number)) for number in (7, 8))
    assert number_of(first) == 7
    del first
    third = make_kernel(STORE.format(number=9))
    assert (number_of(second), number_of(third)) == (8, 9)


def test_kernels_may_call_the_c_and_math_libraries() -> None:
    body = """
  call void @llvm.memset.p0.i64(ptr %a0, i8 1, i64 800, i1 false)
  %copy.at = getelementptr i8, ptr %a0, i64 800
  call ptr @memcpy(ptr %copy.at, ptr %a0, i64 800)
  %power = call float @expf(float 0.5)
  %tangent = call double @tanh(double 0.5)
  store float %power, ptr %a0
  %next.at = getelementptr i64, ptr %a0, i64 1
  store double %tangent, ptr %next.at
"""
    declared = "declare ptr @memcpy(ptr, ptr, i64)\ndeclare float @expf(float)\ndeclare double @tanh(double)\n"
    out = torch.zeros(200, dtype=torch.int64)
    run_one(load(compile_ir(declared + KERNEL.format(body=body)), "kernel"), out)
    assert out.view(torch.float32)[0].item() == pytest.approx(math.exp(0.5), rel=1e-6)
    assert out.view(torch.float64)[1].item() == pytest.approx(math.tanh(0.5), rel=1e-15)
    assert out[2:].tolist() == [0x0101010101010101] * 98 + [0x0101010101010101] * 100


def test_from_several_threads() -> None:
    objects = [compile_ir(KERNEL.format(body=STORE.format(number=number))) for number in range(4)]
    found: dict[int, list[int]] = {}

    def repeat(number: int) -> None:
        found[number] = [number_of(load(objects[number], "kernel")) for _ in range(20)]

    callers = [threading.Thread(target=repeat, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert found == {number: [number] * 20 for number in range(4)}


def test_bytes_that_are_no_object_code() -> None:
    with pytest.raises(UsageError, match=r"kernel 'softmax' could not be loaded from 9 bytes .* be an object file"):
        load(b"no object", "softmax")


def test_name_that_is_not_exported() -> None:
    with pytest.raises(UsageError, match="kernel 'softmax' could not be loaded"):
        load(compile_ir(KERNEL.format(body="")), "softmax")


def test_symbol_that_nobody_has(capfd: pytest.CaptureFixture[str]) -> None:
    text = "declare void @nobody_has_it()\n" + KERNEL.format(body="  call void @nobody_has_it()")
    with pytest.raises(UsageError, match="calls only what this process has"):
        load(compile_ir(text), "kernel")
    assert "nobody_has_it" in capfd.readouterr().err


def test_child_of_a_fork_can_load(script: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    result = script("""
child = os.fork()
if child == 0:
    kernel = make_kernel(VISIT)
    counts = torch.zeros(1, dtype=torch.int64)
    launch(kernel.address, pack((counts, None, None)), 1, 1, 1)
    os._exit(int(counts.item()))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
    assert result.stdout == "1\n", result.stderr
