"""What `--only` picks."""

from __future__ import annotations

import fnmatch


def fits(name: str, pattern: str) -> bool:
    """A pattern without wildcards is part of a name; x is as good as ×."""
    plain, wanted = name.replace("×", "x"), pattern.replace("×", "x")
    if not any(sign in wanted for sign in "*?["):
        return wanted in plain
    return fnmatch.fnmatch(plain, wanted)
