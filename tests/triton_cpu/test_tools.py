"""Triton's own settings around a kernel: heuristics while tuning, dumps of every stage, compiling without the cache."""

import os
import subprocess
import sys
import textwrap

import torch
import triton
import triton.language as tl


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
