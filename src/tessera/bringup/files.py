"""Writing results: refused early if it cannot work, and never half a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tessera.core.errors import UsageError


def check_writable(path: Path | None, what: str) -> None:
    """Raise `UsageError` now if `path` could not be written after minutes of work."""
    if path is None:
        return
    folder = path.parent
    if path.is_dir():
        raise UsageError(f"the {what} cannot be written to {path}: it is a folder; name a file in it")
    if not folder.is_dir():
        raise UsageError(f"the {what} cannot be written to {path}: there is no folder {folder}; make it first")
    try:
        # Permission bits do not tell all (read-only mounts, full quotas): only trying does.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"the {what} cannot be written to {path}: {error.strerror}; choose another folder") from error


def write_atomically(path: Path, text: str) -> None:
    """Write a text file so that a reader sees the old or the new one, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
        # mkstemp makes files that only their owner may read; results are as readable as any new file.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
