"""The known chips, one row each: data only. A new chip is a new row here.

CPU rows are instruction sets, most able first; speeds of a CPU family are not published, `tessera chips --measure`
measures them. Peak figures are dense, in units of 1e12 a second; bandwidth in 1e9 bytes a second; memory in 1e9 bytes.
"""

from __future__ import annotations

from tessera.core.chip import Chip, Status, TritonTarget

_GB = 1_000_000_000
_FLOAT_TYPES = ("float64", "float32")
_HALF_TYPES = (*_FLOAT_TYPES, "float16")
_AI_TYPES = (*_HALF_TYPES, "bfloat16", "int8")


# Releases before it refuse the target: "unsupported target".
_SINCE_TRITON = {"gfx906": "3.8"}


def _tera(**figures: float) -> dict[str, float]:
    return {dtype: value * 1e12 for dtype, value in figures.items()}


def _cpu(
    name: str, vendor: str, machine: str, features: tuple[str, ...], vector_bits: int, status: Status, target: str = ""
) -> Chip:
    return Chip(
        name=name,
        vendor=vendor,
        kind="cpu",
        target=TritonTarget(backend="cpu", arch=target or name, warp_size=1),
        dtypes=_FLOAT_TYPES,
        vector_bits=vector_bits,
        status=status,
        machine=machine,
        features=features,
    )


def _nvidia(name: str, arch: int, dtypes: tuple[str, ...], peaks: dict[str, float], gb_per_s: float, gb: int) -> Chip:
    return Chip(
        name=name,
        vendor="NVIDIA",
        kind="gpu",
        target=TritonTarget(backend="cuda", arch=arch, warp_size=32),
        dtypes=dtypes,
        vector_bits=32 * 32,
        status="compiles",
        peak_flops=peaks,
        bandwidth_bytes_per_s=gb_per_s * 1e9,
        memory_bytes=gb * _GB,
        source=f"NVIDIA {name} data sheet (SXM module; figures with sparsity halved)",
        device_names=(name,),
    )


def _amd(name: str, arch: str, dtypes: tuple[str, ...], peaks: dict[str, float], gb_per_s: float, gb: int) -> Chip:
    return Chip(
        name=name,
        vendor="AMD",
        kind="gpu",
        target=TritonTarget(backend="hip", arch=arch, warp_size=64),
        dtypes=dtypes,
        vector_bits=64 * 32,
        status="compiles",
        since_triton=_SINCE_TRITON.get(arch, ""),
        peak_flops=peaks,
        bandwidth_bytes_per_s=gb_per_s * 1e9,
        memory_bytes=gb * _GB,
        source=f"AMD {name} data sheet",
        device_names=(name,),
    )


_CPUS = (
    _cpu("x86-64-avx512", "Intel, AMD", "x86_64", ("avx512f", "avx512bw", "avx512dq", "avx512vl"), 512, "native"),
    _cpu("x86-64-avx2", "Intel, AMD", "x86_64", ("avx2", "fma", "f16c"), 256, "native"),
    _cpu("aarch64-sve", "Arm", "aarch64", ("sve",), 128, "compiles", target="aarch64-neon"),
    _cpu("aarch64-neon", "Arm", "aarch64", ("neon",), 128, "compiles"),
    _cpu("riscv64-rvv", "RISC-V", "riscv64", ("v",), 256, "compiles"),
    _cpu("loongarch64-lasx", "Loongson", "loongarch64", ("lasx",), 256, "compiles"),
)

_HOPPER = _tera(
    float64=34, float32=67, tfloat32=494.5, float16=989.5, bfloat16=989.5, float8=1979, int8=1979
)  # fmt: skip

_NVIDIA = (
    _nvidia(
        "A100", 80, _AI_TYPES, _tera(float64=9.7, float32=19.5, tfloat32=156, float16=312, bfloat16=312, int8=624),
        gb_per_s=2039, gb=80,
    ),
    _nvidia("H100", 90, (*_AI_TYPES, "float8"), _HOPPER, gb_per_s=3350, gb=80),
    _nvidia("H200", 90, (*_AI_TYPES, "float8"), _HOPPER, gb_per_s=4800, gb=141),
    _nvidia(
        "B200", 100, (*_AI_TYPES, "float8", "float4"),
        _tera(float64=40, float32=80, tfloat32=1100, float16=2250, bfloat16=2250, float8=4500, float4=9000, int8=4500),
        gb_per_s=8000, gb=180,
    ),
)  # fmt: skip

_AMD = (
    _amd(
        "MI210", "gfx90a", _AI_TYPES, _tera(float64=22.6, float32=22.6, float16=181, bfloat16=181, int8=181),
        gb_per_s=1638.4, gb=64,
    ),
    _amd(
        "MI250", "gfx90a", _AI_TYPES, _tera(float64=45.3, float32=45.3, float16=362.1, bfloat16=362.1, int8=362.1),
        gb_per_s=3276.8, gb=128,
    ),
    _amd(
        "MI300X", "gfx942", (*_AI_TYPES, "float8"),
        _tera(float64=81.7, float32=163.4, tfloat32=653.7, float16=1307.4, bfloat16=1307.4, float8=2614.9, int8=2614.9),
        gb_per_s=5325, gb=192,
    ),
    _amd("Radeon Pro VII", "gfx906", _HALF_TYPES, _tera(float64=6.5, float32=13.1, float16=26.2), gb_per_s=1024, gb=16),
)  # fmt: skip

_NO_FIGURES = "the maker gives no figures in a public data sheet"


def _hygon(name: str, arch: str, dtypes: tuple[str, ...], status: Status) -> Chip:
    return Chip(
        name=name,
        vendor="Hygon",
        kind="gpu",
        target=TritonTarget(backend="hip", arch=arch, warp_size=64),
        dtypes=dtypes,
        vector_bits=64 * 32,
        status=status,
        since_triton=_SINCE_TRITON.get(arch, ""),
        note=f"needs the maker's PyTorch and Triton to run; {_NO_FIGURES}",
        device_names=(name,),
    )


_HYGON = (
    _hygon("Z100", "gfx906", _HALF_TYPES, "compiles"),
    _hygon("K100_AI", "gfx928", _AI_TYPES, "plugin"),
)

_HUAWEI = (
    Chip(
        name="Ascend 910B",
        vendor="Huawei",
        kind="npu",
        target=TritonTarget(backend="npu", arch="Ascend910B", warp_size=0),
        dtypes=("float32", "float16", "bfloat16", "int8"),
        # One vector instruction works on 256 bytes.
        vector_bits=256 * 8,
        status="plugin",
        note=f"needs torch_npu and triton-ascend; {_NO_FIGURES}",
        device_names=("Ascend910B",),
    ),
)

_MOORE_THREADS = (
    Chip(
        name="S4000",
        vendor="Moore Threads",
        kind="gpu",
        target=TritonTarget(backend="musa", arch=22, warp_size=128),
        dtypes=_AI_TYPES,
        vector_bits=128 * 32,
        status="plugin",
        peak_flops=_tera(float32=25, tfloat32=50, float16=100, bfloat16=100, int8=200),
        bandwidth_bytes_per_s=768e9,
        memory_bytes=48 * _GB,
        source="Moore Threads, announcement of the MTT S4000",
        note="needs torch_musa and the maker's Triton",
        device_names=("S4000",),
    ),
    Chip(
        name="S5000",
        vendor="Moore Threads",
        kind="gpu",
        target=TritonTarget(backend="musa", arch=31, warp_size=32),
        dtypes=(*_AI_TYPES, "float8"),
        vector_bits=32 * 32,
        status="plugin",
        peak_flops=_tera(float8=1000),
        bandwidth_bytes_per_s=1600e9,
        memory_bytes=80 * _GB,
        source="Moore Threads, announcement of the MTT S5000",
        note="needs torch_musa and the maker's Triton",
        device_names=("S5000",),
    ),
)

CHIPS: tuple[Chip, ...] = (*_CPUS, *_NVIDIA, *_AMD, *_HYGON, *_HUAWEI, *_MOORE_THREADS)
