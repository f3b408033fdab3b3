"""Load the object code of one kernel into this process.

In:  a relocatable object file as bytes (ELF, Mach-O or COFF of the host) and the name of the function that it exports.
Out: `LoadedKernel`; its address is valid for as long as the object lives.
Source: LLVM's ORC JIT through llvmlite. One linker serves the process; each kernel is a library of its own, so that the
many specialisations of one kernel may export the same name. Loading takes 0.3 ms; an engine per kernel took twice that.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

from tessera.core.errors import UsageError


class LoadedKernel:
    """A kernel in executable memory, unloaded when the last reference to this goes.

    digest: of its machine code; kernels with the same do the same.
    """

    __slots__ = ("__weakref__", "_library", "address", "digest", "name")

    def __init__(self, name: str, address: int, digest: int, library: Any) -> None:
        self.name = name
        self.address = address
        self.digest = digest
        self._library = library

    def __repr__(self) -> str:
        return f"LoadedKernel({self.name!r} at {self.address:#x})"


class _Linker:
    """The process's one JIT linker. LLVM's is not safe under threads as llvmlite offers it, hence the lock."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jit: Any = None
        self._serial = itertools.count()
        self._loaded: weakref.WeakValueDictionary[int, LoadedKernel] = weakref.WeakValueDictionary()

    def link(self, obj: bytes, names: Sequence[str], imports: Mapping[str, int]) -> list[LoadedKernel]:
        from llvmlite import binding

        with self._lock:
            if self._jit is None:
                self._jit = self._create()
            builder = binding.JITLibraryBuilder().add_object_img(obj).add_current_process()
            for name in names:
                builder.export_symbol(name)
            for name, address in imports.items():
                builder.import_symbol(name, address)
            try:
                library = builder.link(self._jit, f"{names[0]}.{next(self._serial)}")
            except RuntimeError as error:
                # Which function is missing LLVM says itself, on stderr.
                raise UsageError(
                    f"kernel {names[0]!r} could not be loaded from {len(obj)} bytes of object code: {error}; they must "
                    "be an object file for this machine that exports this name and calls only what this process has: "
                    "clear Triton's cache and compile again"
                ) from error
        kernels = [LoadedKernel(name, library[name], hash((name, obj)), library) for name in names]
        self._loaded.update((kernel.address, kernel) for kernel in kernels)
        return kernels

    def at(self, address: int) -> LoadedKernel | None:
        return self._loaded.get(address)

    def _create(self) -> Any:
        from llvmlite import binding

        # A child of a fork must not find the linker half-way through the work of a thread that it does not have.
        os.register_at_fork(
            before=self._lock.acquire, after_in_parent=self._lock.release, after_in_child=self._lock.release
        )
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine()
        return binding.create_lljit_compiler(machine, use_jit_link=True)


_linker = _Linker()


def load(obj: bytes, name: str) -> LoadedKernel:
    """Load `obj` and find `name` in it. Any thread may call. Raises `UsageError` for code that does not link here."""
    return _linker.link(obj, (name,), {})[0]


def load_all(obj: bytes, names: Sequence[str], imports: Mapping[str, int]) -> list[LoadedKernel]:
    """As `load`, for object code that exports several functions and uses what is at the addresses of `imports`."""
    return _linker.link(obj, names, imports)


def loaded_at(address: int) -> LoadedKernel | None:
    """The kernel at `address`, for one who has to keep its code; None for code that we did not load."""
    return _linker.at(address)
