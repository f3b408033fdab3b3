"""Masks, and LLVM's four accesses of lanes with one."""

from __future__ import annotations

from tessera.compiler.llvm.builder import I1, Builder, LType, V


def everywhere(width: int) -> V:
    """The mask that holds in all lanes."""
    return V(LType("i1", width), "splat (i1 true)")


def holds_everywhere(b: Builder, mask: V) -> V:
    """Whether a mask holds in every lane."""
    return b.intrinsic("vector.reduce.and", I1, [mask], [mask.type])


def holds_somewhere(b: Builder, mask: V) -> V:
    """Whether a mask holds in some lane."""
    return b.intrinsic("vector.reduce.or", I1, [mask], [mask.type])


def load(b: Builder, pointer: V, mask: V, passed: V, align: int) -> V:
    """Neighbours from `pointer` on; `passed` where the mask does not hold."""
    symbol = f"llvm.masked.load.{passed.type.mangled}.p0"
    b.declarations[symbol] = f"declare {passed.type} @{symbol}(ptr, {mask.type}, {passed.type})"
    return b.emit(passed.type, f"call {passed.type} @{symbol}(ptr align {align} {pointer.ref}, {mask}, {passed})")


def gather(b: Builder, pointers: V, mask: V, passed: V, align: int) -> V:
    """One element a lane; `passed` where the mask does not hold."""
    symbol = f"llvm.masked.gather.{passed.type.mangled}.{pointers.type.mangled}"
    b.declarations[symbol] = f"declare {passed.type} @{symbol}({pointers.type}, {mask.type}, {passed.type})"
    pointer_text = f"{pointers.type} align {align} {pointers.ref}"
    return b.emit(passed.type, f"call {passed.type} @{symbol}({pointer_text}, {mask}, {passed})")


def store(b: Builder, data: V, pointer: V, mask: V, align: int) -> None:
    """Neighbours from `pointer` on."""
    _write(b, "masked.store", data, pointer, mask, align)


def scatter(b: Builder, data: V, pointers: V, mask: V, align: int) -> None:
    """One element a lane, the last lane's last."""
    _write(b, "masked.scatter", data, pointers, mask, align)


def _write(b: Builder, name: str, data: V, pointer: V, mask: V, align: int) -> None:
    symbol = f"llvm.{name}.{data.type.mangled}.{pointer.type.mangled}"
    b.declarations[symbol] = f"declare void @{symbol}({data.type}, {pointer.type}, {mask.type})"
    b.raw(f"call void @{symbol}({data}, {pointer.type} align {align} {pointer.ref}, {mask})")
