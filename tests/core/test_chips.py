"""Chips: the table is sound, machines match the right rows, and kernels compile for what the table says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from packaging.version import Version

from tessera.core.chip import Chip, chip_as_dict
from tessera.core.chip_rows import CHIPS
from tessera.core.chips import accelerator_row, cpu_row, detect

TORCH_DTYPES = {"float64", "float32", "float16", "bfloat16", "int8"}
# Formats that have no tensor type of this very name in PyTorch.
OTHER_DTYPES = {"tfloat32", "float8", "float4"}


def by_name(name: str) -> Chip:
    return next(chip for chip in CHIPS if chip.name == name)


def test_names_are_unique() -> None:
    assert len({chip.name for chip in CHIPS}) == len(CHIPS)


@pytest.mark.parametrize("chip", CHIPS, ids=lambda chip: chip.name)
def test_row_is_sound(chip: Chip) -> None:
    assert set(chip.dtypes) | set(chip.peak_flops) <= TORCH_DTYPES | OTHER_DTYPES
    assert set(chip.peak_flops) - {"tfloat32"} <= set(chip.dtypes)
    assert chip.vector_bits % 64 == 0
    # Figures are a maker's: a row that has any names its source, a row that has none says so.
    assert bool(chip.source) == bool(chip.peak_flops)
    assert chip.kind == "cpu" or chip.peak_flops or "no figures" in chip.note
    # An accelerator is recognised by its name, a CPU by its features.
    assert bool(chip.device_names) == (chip.kind != "cpu")
    assert bool(chip.machine and chip.features) == (chip.kind == "cpu")
    assert json.loads(json.dumps(chip_as_dict(chip)))["target"] == str(chip.target)


@pytest.mark.parametrize(("faster", "slower"), [("H200", "H100"), ("B200", "H200"), ("MI300X", "MI250")])
def test_published_figures_grow_with_the_generation(faster: str, slower: str) -> None:
    ours, theirs = by_name(faster), by_name(slower)
    assert ours.bandwidth_bytes_per_s is not None and theirs.bandwidth_bytes_per_s is not None
    assert ours.bandwidth_bytes_per_s > theirs.bandwidth_bytes_per_s
    assert ours.peak_flops["bfloat16"] >= theirs.peak_flops["bfloat16"] > theirs.peak_flops["float32"]


AVX2 = {"sse2", "avx", "avx2", "fma", "f16c"}
AVX512 = {*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl"}


@pytest.mark.parametrize(
    ("machine", "features", "name"),
    [
        ("x86_64", AVX512, "x86-64-avx512"),
        ("AMD64", AVX512, "x86-64-avx512"),
        ("x86_64", AVX512 - {"avx512bw"}, "x86-64-avx2"),
        ("aarch64", {"neon", "sve"}, "aarch64-sve"),
        ("arm64", {"neon"}, "aarch64-neon"),
        ("riscv64", {"m", "a", "f", "d", "v"}, "riscv64-rvv"),
        ("loongarch64", {"lsx", "lasx"}, "loongarch64-lasx"),
    ],
)
def test_cpu_matches_the_most_able_row(machine: str, features: set[str], name: str) -> None:
    assert cpu_row(machine, features).name == name


def test_cpu_outside_the_table_is_described_as_untested() -> None:
    chip = cpu_row("s390x", {"vector"})
    assert (chip.name, chip.status, chip.kind) == ("s390x", "untested", "cpu")
    assert "not in the table" in chip.note


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "A100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("AMD Instinct MI300X", "MI300X"),
        ("AMD Instinct MI250X / MI250", "MI250"),
        ("K100_AI", "K100_AI"),
        ("Ascend910B3", "Ascend 910B"),
        ("MTT S4000", "S4000"),
    ],
)
def test_accelerator_matches_by_the_name_it_reports(reported: str, name: str) -> None:
    row = accelerator_row(reported)
    assert row is not None and row.name == name


def test_this_machine_has_its_cpu() -> None:
    cpu = detect()[-1]
    assert cpu.torch_device == "cpu"
    assert cpu.chip.kind == "cpu"
    assert cpu.model and cpu.core in cpu.title and cpu.title.startswith(cpu.model)
    assert cpu.memory_bytes == psutil.virtual_memory().total
    assert 1 <= cpu.num_units <= (psutil.cpu_count() or 1)
    assert json.loads(json.dumps(cpu.as_dict()))["chip"]["name"] == cpu.chip.name


def plant_accelerator(monkeypatch: pytest.MonkeyPatch, device_type: str, name: str, **properties: Any) -> None:
    """Let PyTorch report one device that is not there."""
    module = SimpleNamespace(
        device_count=lambda: 1,
        get_device_name=lambda index: name,
        get_device_properties=lambda index: SimpleNamespace(total_memory=2**34, **properties),
    )
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: SimpleNamespace(type=device_type))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)


def test_known_gpu_is_found_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    plant_accelerator(monkeypatch, "cuda", "NVIDIA H200", multi_processor_count=132, major=9, minor=0, warp_size=32)
    gpu, cpu = detect()
    assert (gpu.chip.name, gpu.torch_device, gpu.num_units, gpu.memory_bytes) == ("H200", "cuda:0", 132, 2**34)
    assert cpu.torch_device == "cpu"


@pytest.mark.parametrize(
    ("device_type", "name", "properties", "vendor", "target"),
    [
        ("cuda", "NVIDIA L4", {"major": 8, "minor": 9, "warp_size": 32}, "NVIDIA", "cuda:89"),
        ("cuda", "AMD W7900", {"gcnArchName": "gfx1100:sramecc-", "warp_size": 32}, "AMD", "hip:gfx1100"),
        ("musa", "MTT X", {"major": 2, "minor": 1}, "Moore Threads", "musa:21"),
        ("npu", "Ascend950", {"cube_core_num": 24}, "Huawei", "npu:Ascend950"),
    ],
)
def test_unlisted_accelerator_is_described_by_what_it_reports(
    monkeypatch: pytest.MonkeyPatch, device_type: str, name: str, properties: dict[str, Any], vendor: str, target: str
) -> None:
    plant_accelerator(monkeypatch, device_type, name, **properties)
    chip = detect()[0].chip
    assert (chip.name, chip.vendor, str(chip.target), chip.status) == (name, vendor, target, "untested")


def compile_add(chip: Chip) -> set[str]:
    """The stages that compiling a small kernel for the chip gives."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tessera.core.self_check import _add

    source = ASTSource(_add, {**dict.fromkeys(("x", "y", "out"), "*fp32"), "size": "i32"}, constexprs={"BLOCK": 256})
    target = GPUTarget(chip.target.backend, chip.target.arch, chip.target.warp_size)
    return set(triton.compile(source, target=target).asm)


GPU_TARGETS = {chip.target: chip for chip in CHIPS if chip.target.backend in ("cuda", "hip")}
CPU_ROWS = [chip for chip in CHIPS if chip.kind == "cpu"]


@pytest.mark.parametrize("chip", GPU_TARGETS.values(), ids=lambda chip: str(chip.target))
def test_status_of_a_gpu_is_what_the_installed_triton_does(chip: Chip, capfd: pytest.CaptureFixture[str]) -> None:
    import triton

    if chip.status == "compiles" and Version(triton.__version__) >= Version(chip.since_triton or "0"):
        assert compile_add(chip) & {"cubin", "hsaco"}
    else:
        with pytest.raises(RuntimeError):
            compile_add(chip)
        assert "unsupported target" in capfd.readouterr().err


@pytest.mark.parametrize("chip", CPU_ROWS, ids=lambda chip: chip.name)
def test_kernels_compile_for_every_cpu_row(chip: Chip) -> None:
    assert {"tir", "llir", "asm", "obj"} <= compile_add(chip)


@pytest.mark.parametrize("chip", [chip for chip in CPU_ROWS if chip.status == "native"], ids=lambda chip: chip.name)
def test_kernels_run_on_native_rows_that_this_machine_fulfils(chip: Chip, tmp_path: Path) -> None:
    import llvmlite.binding

    features = {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}
    if not features.issuperset(chip.features):
        pytest.skip(f"this machine lacks {sorted(set(chip.features) - features)}")
    environ = {**os.environ, "TRITON_DEFAULT_BACKEND": "cpu", "TRITON_CACHE_DIR": str(tmp_path)}
    environ["TESSERA_TARGET"] = str(chip.target.arch)
    done = subprocess.run(
        [sys.executable, "-m", "tessera.core.self_check"], env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
