"""Triton's own settings around a kernel: heuristics while tuning, dumps of every stage, compiling without the cache."""

import os
import subprocess
import sys
import textwrap
import time

import torch
import triton
import triton.language as tl

from . import kernels


def test_tuning_with_heuristics_picks_a_configuration():
    configs = [triton.Config({"BLOCK": block}, num_warps=warps) for block in (128, 256) for warps in (1, 4)]

    @triton.autotune(configs=configs, key=["n"])
    @triton.heuristics({"EVEN": lambda given: given["n"] % given["BLOCK"] == 0})
    @triton.jit
    def triple(x, out, n, BLOCK: tl.constexpr, EVEN: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        if EVEN:
            tl.store(out + at, tl.load(x + at) * 3)
        else:
            tl.store(out + at, tl.load(x + at, mask=at < n) * 3, mask=at < n)

    for size in (1000, 1024):
        x, out = torch.randn(size), torch.empty(size)
        triple[lambda given, size=size: (triton.cdiv(size, given["BLOCK"]),)](x, out, size)
        assert torch.equal(out, x * 3) and triple.best_config in configs


class Counted:
    """A call to be measured: adds two vectors in blocks, and knows how often it was done."""

    def __init__(self, *, block: int = 64, warps: int = 4, size: int = 256, seconds: float = 0.0) -> None:
        self.x, self.calls = torch.ones(size), 0
        self.options = {"BLOCK": block, "num_warps": warps}
        self.seconds = seconds

    def of(self, other: "Counted") -> "Counted":
        """On the other's memory, as configurations of one tuning are."""
        self.x = other.x
        return self

    def __call__(self) -> None:
        self.calls += 1
        time.sleep(self.seconds)
        kernels.vector_add[(4,)](self.x, self.x, self.x, self.x.numel(), **self.options)


def test_the_same_machine_code_is_measured_once():
    measure = triton.runtime.driver.active.get_benchmarker()
    first = Counted(warps=1)
    took = measure(first, quantiles=(0.5, 0.2, 0.8))
    assert first.calls > 5 and len(took) == 3 and min(took) > 0
    same, other_block, other_memory = Counted(warps=8).of(first), Counted(block=32).of(first), Counted(warps=8)
    assert measure(same, quantiles=(0.5, 0.2, 0.8)) == took and same.calls == 1
    for another in (other_block, other_memory):
        measure(another, quantiles=(0.5, 0.2, 0.8))
        assert another.calls > 5
    again = Counted(warps=2).of(first)
    assert isinstance(measure(again), float) and again.calls > 5  # another question


def test_a_long_call_is_measured_by_itself():
    measure = triton.runtime.driver.active.get_benchmarker()
    assert 110 <= measure(long := Counted(seconds=0.11)) < 5000 and long.calls == 2
    took = measure(long := Counted(seconds=0.03), rep=20, quantiles=(0.5, 0.2, 0.8))
    assert len(took) == 3 and long.calls == 2
    assert len(measure(long := Counted(seconds=0.01), rep=500, return_mode="all")) > 1 and long.calls > 2


def test_what_launches_nothing_is_measured_every_time():
    calls = []
    for _ in range(2):
        before = len(calls)
        triton.runtime.driver.active.get_benchmarker()(lambda: calls.append(time.sleep(0.01)))
        assert len(calls) > before + 5


SCRIPT = """
    import torch, triton, triton.language as tl
    from triton import knobs

    @triton.jit
    def dumped(x, BLOCK: tl.constexpr):
        tl.store(x + tl.arange(0, BLOCK), 1.0)

    knobs.compilation.listener = lambda **what: print("hit" if what["cache_hit"] else "compiled")
    dumped[(1,)](torch.empty(64), BLOCK=64)
"""


def run_script(tmp_path, **environment) -> str:
    script = tmp_path / "kernel.py"
    script.write_text(textwrap.dedent(SCRIPT))
    settings = os.environ | {"TRITON_CACHE_DIR": str(tmp_path / "cache")} | environment
    return subprocess.run(
        [sys.executable, str(script)], env=settings, capture_output=True, text=True, check=True
    ).stdout.strip()


def test_every_stage_is_dumped_when_asked_for(tmp_path):
    run_script(tmp_path, TRITON_KERNEL_DUMP="1", TRITON_DUMP_DIR=str(tmp_path / "dump"))
    dumped = {path.suffix for path in (tmp_path / "dump").rglob("dumped.*")}
    assert {".ttir", ".tir", ".llir", ".asm", ".obj"} <= dumped


def test_always_compile_ignores_the_cache(tmp_path):
    assert [run_script(tmp_path) for _ in range(2)] == ["compiled", "hit"]
    assert run_script(tmp_path, TRITON_ALWAYS_COMPILE="1") == "compiled"
