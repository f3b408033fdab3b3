"""The stages of the compiler, in order: TTIR text → tile IR → LLVM IR text → assembly text → object code."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from tessera.compiler.llvm import codegen
from tessera.compiler.lower import diagnostics
from tessera.compiler.lower.module import lower_module
from tessera.compiler.passes import assembly, carried, demand, ending, exchange, interchange, outline, placement, scaled
from tessera.compiler.targets.rows import Target
from tessera.compiler.ttir.parser import parse_module
from tessera.ir.nodes import Module


def make_tir(ttir: str) -> Module:
    """Parse Triton's IR and run our own passes.

    Raises:
        LoweringError: something is not supported on the CPU; all that was found, with source locations.
    """
    module = parse_module(ttir)
    outline.run(module)
    assembly.run(module)
    scaled.run(module)
    exchange.run(module)
    carried.run(module)
    carried.remove_dead(module, placement.PURE)
    if interchange.run(module):
        carried.remove_dead(module, placement.PURE)
    demand.run(module)
    placement.run(module)
    ending.run(module)
    return module


def assertions(tir: Module) -> list[str]:
    """What each `device_assert` of the module says when it fails, in the order of their numbers from 1."""
    return diagnostics.number_assertions(tir)


def make_llir(tir: Module, target: Target) -> str:
    """Lower to LLVM IR and optimise it."""
    return codegen.optimise(lower_module(tir, target), target)


def make_asm(llir: str, target: Target) -> str:
    """Compile optimised LLVM IR."""
    return codegen.assembly(llir, target)


def make_obj(asm: str, llir: str, target: Target) -> bytes:
    """Assemble. llvmlite has an assembler for this machine only; other machines' objects are made from the LLVM IR
    again."""
    if codegen.is_native(target):
        return codegen.assemble(asm, target)
    return codegen.compile_object(llir, target)


@functools.lru_cache(maxsize=1)
def fingerprint() -> str:
    """Changes whenever the compiler's own source does, so that kernels cached by another version are not taken for
    ours."""
    digest = hashlib.sha256()
    package = Path(__file__).parent
    for folder in (package, package.parent / "ir"):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()
