"""The errors a user may see: each says the value, the rule and the remedy, in one line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TesseraError(Exception):
    """Base of everything raised on purpose; the command line prints it as one line, without a traceback."""


class UsageError(TesseraError, ValueError):
    """Something given by the user cannot be used: a name, a path, a value, a model, an input."""


class MissingDependency(TesseraError, ImportError):
    """Something that has to be installed is not; the message names the one command that mends it."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a `name` that is no known `kind` ("chip", "model"); the caller raises it.

    The message lists the known names in order and, if one is near, suggests it.
    """
    names = sorted(known)
    lower = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), list(lower), n=1)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    listed = ", ".join(names) if names else "none"
    return UsageError(f"unknown {kind} {name!r}; {hint}known: {listed}")
