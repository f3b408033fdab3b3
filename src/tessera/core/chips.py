"""Which chips are in this machine: the CPU by its features, accelerators by the name that PyTorch reports."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from tessera.core.chip import Chip, Device, Kind, TritonTarget
from tessera.core.chip_rows import CHIPS


def detect() -> list[Device]:
    """The chips in this machine, accelerators first, the CPU last."""
    return [*_detect_accelerators(), detect_cpu()]


# --- the CPU ---

# LLVM's feature names that mean arithmetic in the type, not only conversions.
_DTYPE_FEATURES = {
    "bfloat16": {"avx512bf16", "amx-bf16", "bf16", "sve-bf16", "zvfbfwma"},
    "float16": {"avx512fp16", "amx-fp16", "fullfp16", "zvfh"},
    "int8": {"avx512vnni", "avxvnni", "amx-int8", "dotprod", "i8mm"},
}


def detect_cpu() -> Device:
    """This machine's CPU."""
    import llvmlite.binding
    import psutil

    features = {name for name, present in llvmlite.binding.get_host_cpu_features().items() if present}
    chip = cpu_row(platform.machine(), features)
    extra = [dtype for dtype, marks in _DTYPE_FEATURES.items() if marks & features and dtype not in chip.dtypes]
    return Device(
        chip=chip,
        model=_cpu_model_name() or platform.processor() or platform.machine(),
        torch_device="cpu",
        num_units=psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        dtypes=(*chip.dtypes, *extra),
        core=_core_name(),
    )


def _core_name() -> str:
    import llvmlite.binding

    name = llvmlite.binding.get_host_cpu_name()
    # A CPU that LLVM does not know is named after its instruction set, which the row tells.
    return "" if name.startswith(("generic", "x86-64")) else name


def cpu_row(machine: str, features: set[str]) -> Chip:
    """The first row that a CPU with these LLVM features fulfils; rows are ordered from the most able down."""
    normal = {"AMD64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    for chip in CHIPS:
        if chip.kind == "cpu" and chip.machine == normal and features.issuperset(chip.features):
            return chip
    target = TritonTarget(backend="cpu", arch=normal, warp_size=1)
    return _unlisted(name=normal, vendor="unknown", kind="cpu", target=target, vector_bits=64)


def _cpu_model_name() -> str:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return ""
    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model Name", "uarch"):
            return value.strip()
    return ""


# --- accelerators ---


def _detect_accelerators() -> list[Device]:
    """GPUs of NVIDIA, AMD and Hygon, Moore Threads, and Ascend NPUs, as far as the installed PyTorch sees them."""
    import torch

    if not torch.accelerator.is_available():
        return []
    accelerator = torch.accelerator.current_accelerator()
    if accelerator is None or accelerator.type not in ("cuda", "musa", "npu"):
        return []
    module = torch.get_device_module(accelerator)
    return [
        _accelerator(accelerator.type, index, module.get_device_name(index), module.get_device_properties(index))
        for index in range(module.device_count())
    ]


def _accelerator(device_type: str, index: int, model: str, properties: Any) -> Device:
    chip = accelerator_row(model) or _unlisted_accelerator(device_type, model, properties)
    return Device(
        chip=chip,
        model=model,
        torch_device=f"{device_type}:{index}",
        # torch_npu says cube_core_num where the others say multi_processor_count.
        num_units=getattr(properties, "multi_processor_count", 0) or getattr(properties, "cube_core_num", 0),
        memory_bytes=properties.total_memory,
        dtypes=chip.dtypes,
    )


def accelerator_row(model: str) -> Chip | None:
    """The row whose name is in the device's name; the longest match wins, so that a K100_AI is no K100."""
    matches = [(len(name), chip) for chip in CHIPS for name in chip.device_names if name.lower() in model.lower()]
    return max(matches, key=lambda match: match[0])[1] if matches else None


def _unlisted_accelerator(device_type: str, model: str, properties: Any) -> Chip:
    gcn_name = getattr(properties, "gcnArchName", "")
    if gcn_name:
        target = TritonTarget(backend="hip", arch=gcn_name.split(":")[0], warp_size=properties.warp_size)
    elif device_type == "npu":
        target = TritonTarget(backend="npu", arch=model, warp_size=0)
    else:
        arch = properties.major * 10 + properties.minor
        target = TritonTarget(backend=device_type, arch=arch, warp_size=getattr(properties, "warp_size", 32))
    vendor = {"hip": "AMD", "cuda": "NVIDIA", "musa": "Moore Threads", "npu": "Huawei"}[target.backend]
    kind: Kind = "npu" if device_type == "npu" else "gpu"
    return _unlisted(name=model, vendor=vendor, kind=kind, target=target, vector_bits=target.warp_size * 32)


def _unlisted(*, name: str, vendor: str, kind: Kind, target: TritonTarget, vector_bits: int) -> Chip:
    return Chip(
        name=name,
        vendor=vendor,
        kind=kind,
        target=target,
        dtypes=("float32",),
        vector_bits=vector_bits,
        status="untested",
        note="not in the table of chips: described by what the machine says of it",
    )
