"""Source locations of TTIR: `#loc12 = loc("x"(#loc3))` and its kin, resolved to file, line and column."""

from __future__ import annotations

import re

from tessera.ir.nodes import Location

_DEFINITION = re.compile(r"^#(loc\d*) = loc\((.*)\)$")
_FILE = re.compile(r'^"((?:[^"\\]|\\.)*)":(\d+):(\d+)')
_NAMED = re.compile(r'^"(?:[^"\\]|\\.)*"\((.*)\)$', re.S)
_CALLSITE = re.compile(r"^callsite\((.*) at (#?\S+|.*)\)$", re.S)
_TRITON_ITSELF = re.compile(r"[/\\]triton[/\\](language|experimental)[/\\]")


class Locations:
    """The location table at the end of a module's text."""

    def __init__(self, lines: list[str]) -> None:
        self._table = {match[1]: match[2] for line in lines if (match := _DEFINITION.match(line))}
        self._cache: dict[str, Location | None] = {}

    def resolve(self, text: str) -> Location | None:
        """The place that a user would want to see for the content of one `loc(…)`: code of Triton's own
        standard library is skipped in favour of the line that called it."""
        if text not in self._cache:
            frames = self._frames(text)
            own = [frame for frame in frames if not _TRITON_ITSELF.search(frame.file)]
            self._cache[text] = next(iter(own or frames), None)
        return self._cache[text]

    def _frames(self, text: str) -> list[Location]:
        """Innermost first."""
        text = text.strip()
        if text.startswith("#"):
            return self._frames(self._table.get(text[1:], "unknown"))
        if match := _FILE.match(text):
            # Triton counts columns from 0.
            return [Location(match[1], int(match[2]), int(match[3]) + 1)]
        if match := _NAMED.match(text):
            return self._frames(match[1])
        if match := _CALLSITE.match(text):
            return self._frames(match[1]) + self._frames(match[2])
        return []
