"""The stages of the compiler, in order: TTIR text → tile IR → LLVM IR text → assembly text → object code."""

from __future__ import annotations

from typing import Any


def make_tir(ttir: str, fp_fusion: bool) -> Any:
    raise NotImplementedError


def make_llir(tir: Any, target: Any, metadata: dict[str, Any]) -> str:
    raise NotImplementedError


def make_asm(llir: str, target: Any) -> str:
    raise NotImplementedError


def make_obj(asm: str) -> bytes:
    raise NotImplementedError


def fingerprint() -> str:
    return "0"
