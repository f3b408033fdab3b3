"""LLVM IR text → optimised LLVM IR text → assembly → object code, through llvmlite."""

from __future__ import annotations

import threading
from typing import Any

from tessera.compiler.targets.rows import Target, host_features

# llvmlite's contexts are not safe to share between threads.
_LOCK = threading.Lock()
_machines: dict[str, Any] = {}


def _llvm() -> Any:
    import llvmlite.binding as llvm

    if "ready" not in _machines:
        llvm.initialize_all_targets()
        llvm.initialize_all_asmprinters()
        llvm.initialize_native_asmparser()
        _machines["ready"] = True
    return llvm


def _machine(target: Target) -> Any:
    if target.name not in _machines:
        llvm = _llvm()
        native = host_features(target)
        features = ",".join(f"+{name}" for name in (native or target.features))
        cpu = llvm.get_host_cpu_name() if native else target.cpu
        _machines[target.name] = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=cpu, features=features, opt=2, reloc="pic", codemodel="small"
        )
    return _machines[target.name]


def optimise(text: str, target: Target) -> str:
    """Run LLVM's passes. Vectorising is done already; loops are unrolled where the lowering wanted it."""
    with _LOCK:
        llvm, machine = _llvm(), _machine(target)
        module = llvm.parse_assembly(text, llvm.create_context())
        module.verify()
        options = llvm.create_pipeline_tuning_options(speed_level=2)
        options.loop_vectorization = False
        options.slp_vectorization = False
        options.loop_unrolling = False
        options.loop_interleaving = False
        builder = llvm.create_pass_builder(machine, options)
        builder.getModulePassManager().run(module, builder)
        return str(module)


def assembly(text: str, target: Target) -> str:
    """Assembly of optimised LLVM IR."""
    with _LOCK:
        llvm = _llvm()
        module = llvm.parse_assembly(text, llvm.create_context())
        return str(_machine(target).emit_assembly(module))


def compile_object(text: str, target: Target) -> bytes:
    """Object code of optimised LLVM IR."""
    with _LOCK:
        llvm = _llvm()
        return bytes(_machine(target).emit_object(llvm.parse_assembly(text, llvm.create_context())))


def is_native(target: Target) -> bool:
    """Is the target of this machine's processor family?"""
    return bool(target.triple.split("-")[0] == _llvm().get_default_triple().split("-")[0])


def assemble(text: str, target: Target) -> bytes:
    """Object code of assembly text: a module that holds nothing but this text, given to LLVM's own assembler."""
    with _LOCK:
        llvm = _llvm()
        lines = [line for line in text.split("\n") if line.strip() and not line.lstrip().startswith("#")]
        quoted = "\n".join(f'module asm "{_quote(line)}"' for line in lines)
        module = llvm.parse_assembly(f'target triple = "{target.triple}"\n{quoted}\n', llvm.create_context())
        return bytes(_machine(target).emit_object(module))


def _quote(line: str) -> str:
    return line.replace("\\", "\\5C").replace('"', "\\22").replace("\t", " ")
