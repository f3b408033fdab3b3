"""Machine code that is made once and kept on disk.

In:  the text that it is made from, what makes it, and what uses it.
Out: `made`, whatever that use gives.

Kept under a hash of the text and the compiler's version, in the folder for what belongs to this machine. A folder that
cannot be written and a file that is spoilt cost the time to make the code again, and never stop a program.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tessera.core.env import cache_folder
from tessera.core.errors import UsageError

T = TypeVar("T")


def made(text: str, make: Callable[[str], bytes], use: Callable[[bytes], T]) -> T:
    """What `use` gives for the code of `text`; raises what `use` raises for code that was made just now."""
    path = _place(text)
    with contextlib.suppress(OSError, UsageError):
        return use(_whole(path.read_bytes()))
    code = make(text)
    with contextlib.suppress(OSError):
        _keep(path, code)
    return use(code)


def _place(text: str) -> Path:
    import llvmlite
    from llvmlite import binding

    compiler = f"{llvmlite.__version__} {binding.llvm_version_info} {binding.get_process_triple()}\n"
    return cache_folder() / "native" / f"{hashlib.sha256((compiler + text).encode()).hexdigest()[:32]}.o"


def _whole(stored: bytes) -> bytes:
    """The code in a file, which begins with its hash. Raises: UsageError for another: LLVM may not survive that."""
    digest, code = stored[:32], stored[32:]
    if hashlib.sha256(code).digest() != digest:
        raise UsageError("the file is spoilt")
    return code


def _keep(path: Path, code: bytes) -> None:
    """Write it so that another process finds the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as part:
        part.write(hashlib.sha256(code).digest() + code)
    os.replace(part.name, path)
