"""`CPUBackend`: the stages by which Triton compiles a kernel for the CPU family."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import ModuleType
from typing import Any

from triton import knobs
from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget, Language

from tessera.compiler import pipeline
from tessera.compiler.errors import LoweringError, internal
from tessera.compiler.targets import rows

# Options of a GPU's launch that change nothing in what is compiled for a CPU.
_MEANINGLESS = frozenset((
    "num_warps", "num_stages", "num_ctas", "launch_cooperative_grid", "maxnreg", "ptx_version", "ptx_options",
    "enable_reflect_ftz", "launch_pdl", "waves_per_eu", "matrix_instr_nonkdim", "kpack", "schedule_hint",
))  # fmt: skip


@dataclass(frozen=True)
class CPUOptions:
    """What a launch may ask of the CPU compiler. The names are Triton's; warps and stages mean nothing on a CPU."""

    num_warps: int = 1
    num_stages: int = 1
    num_ctas: int = 1
    warp_size: int = 1
    debug: bool = False
    sanitize_overflow: bool = True
    enable_fp_fusion: bool = True
    supported_fp8_dtypes: tuple[str, ...] = ("fp8e4b8", "fp8e4nv", "fp8e5", "fp8e5b16")
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    default_dot_input_precision: str = "ieee"
    allowed_dot_input_precisions: tuple[str, ...] = ("ieee", "tf32", "tf32x3", "bf16x3", "bf16x6")
    max_num_imprecise_acc_default: int = 0
    launch_cooperative_grid: bool = False
    # What configurations for NVIDIA's and AMD's chips say beside it.
    maxnreg: int | None = None
    ptx_version: int | None = None
    ptx_options: str | None = None
    enable_reflect_ftz: bool = True
    launch_pdl: bool = False
    waves_per_eu: int = 0
    matrix_instr_nonkdim: int = 0
    kpack: int = 1
    schedule_hint: str = "none"
    extern_libs: tuple[tuple[str, str], ...] = ()
    instrumentation_mode: str = ""
    fpsan_homomorphic_casts: bool = False
    ir_override: str | None = None
    backend_name: str = "cpu"
    arch: str = ""

    def __post_init__(self) -> None:
        if self.num_warps <= 0 or self.num_warps & (self.num_warps - 1):
            raise ValueError(f"num_warps is {self.num_warps}; it must be a power of 2, for example num_warps=4")

    def hash(self) -> str:
        """The part of the cache's key that options decide: tuning over warps and stages compiles a kernel once."""
        key = "_".join(f"{name}-{value}" for name, value in sorted(self.__dict__.items()) if name not in _MEANINGLESS)
        return hashlib.sha256(key.encode()).hexdigest()


def _as_triton(error: LoweringError) -> Exception:
    # Triton looks for back ends while it is itself being imported; its errors exist only after that.
    from tessera.triton_cpu.errors import CPUCompilationError

    return CPUCompilationError(error.faults)


def guarded(stage: Callable[[Any, dict[str, Any]], Any]) -> Callable[[Any, dict[str, Any]], Any]:
    """A compiler stage whose faults are Triton's `CompilationError`."""

    def run(module: Any, metadata: dict[str, Any]) -> Any:
        try:
            return stage(module, metadata)
        except LoweringError as error:
            raise _as_triton(error) from error.__cause__
        except Exception as error:
            raise _as_triton(internal(error)) from error

    return run


class CPUBackend(BaseBackend):
    """TTIR → tile IR → LLVM IR → assembly and object code, for `GPUTarget("cpu", NAME OF A TARGET ROW, 1)`."""

    binary_ext = "obj"
    supports_native_tensor_specialization = True

    def __init__(self, target: GPUTarget) -> None:
        super().__init__(target)
        # Inductor names no instruction set; it means the one of this machine.
        self.row = rows.by_name(target.arch) if target.arch else rows.host()

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return bool(target.backend == "cpu")

    def parse_options(self, options: dict[str, Any]) -> CPUOptions:
        names = {field.name for field in fields(CPUOptions)}
        given = {name: value for name, value in options.items() if name in names and value is not None}
        given["arch"] = self.row.name
        given.setdefault("enable_fp_fusion", knobs.language.default_fp_fusion)
        return CPUOptions(**given)

    def pack_metadata(self, metadata: Any) -> tuple[int, ...]:
        return (metadata.num_warps, metadata.num_ctas, metadata.shared)

    def get_codegen_implementation(self, options: CPUOptions) -> dict[str, Any]:
        return {"min_dot_size": lambda lhs_type, rhs_type: (1, 1, 1)}

    def get_module_map(self) -> dict[str, ModuleType]:
        from tessera.triton_cpu import libdevice

        # Authors import a GPU's own module as well, which has the same functions.
        modules = ("libdevice", "cuda.libdevice", "hip.libdevice")
        return {f"triton.language.extra.{name}": libdevice for name in modules}

    def load_dialects(self, context: Any) -> None:
        """Triton's own dialects are all that we need."""

    def add_stages(self, stages: dict[str, Any], options: CPUOptions, language: Language = Language.TRITON) -> None:
        if language is not Language.TRITON:
            raise ValueError(
                "a Gluon kernel names a GPU's layouts and cannot run on a CPU; write it in triton.language"
            )
        target = self.row
        stages["ttir"] = lambda module, metadata: self.make_ttir(module)
        stages["tir"] = guarded(self.make_tir)
        stages["llir"] = guarded(lambda tir, metadata: pipeline.make_llir(tir, target))
        lowered: list[str] = []

        def make_asm(llir: str, metadata: dict[str, Any]) -> str:
            lowered.append(llir)
            return pipeline.make_asm(llir, target)

        stages["asm"] = guarded(make_asm)
        stages["obj"] = guarded(lambda asm, metadata: pipeline.make_obj(asm, lowered[-1], target))

    @staticmethod
    def make_ttir(module: Any) -> Any:
        """The target-independent clean-up that every Triton back end runs first."""
        manager = ir.pass_manager(module.context)
        manager.enable_debug()
        passes.common.add_inliner(manager)
        # From Triton 3.9 on its front end rewrites block pointers itself, and the pass is gone.
        if hasattr(passes.ttir, "add_rewrite_tensor_pointer"):
            passes.ttir.add_rewrite_tensor_pointer(manager)
        passes.ttir.add_rewrite_tensor_descriptor_to_pointer(manager)
        passes.common.add_canonicalizer(manager)
        passes.ttir.add_combine(manager)
        passes.ttir.add_reorder_broadcast(manager)
        passes.common.add_cse(manager)
        passes.ttir.add_triton_licm(manager)
        passes.common.add_symbol_dce(manager)
        passes.ttir.add_loop_unroll(manager)
        manager.run(module, "make_ttir")
        return module

    @staticmethod
    def make_tir(module: Any, metadata: dict[str, Any]) -> Any:
        tir = pipeline.make_tir(str(module))
        metadata["name"] = tir.name
        metadata["shared"] = 0
        metadata["assertions"] = pipeline.assertions(tir)
        return tir

    @functools.lru_cache  # noqa: B019 - one back end a target lives as long as the process
    def hash(self) -> str:
        return f"{pipeline.fingerprint()}-{self.row}-{rows.host_features(self.row)}"
