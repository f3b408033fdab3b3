"""The parts of a family's docstring: a title, how it works, and paragraphs that open with their name.

    Title, one line.

    How it works, if there is more to say.

    Formula:
        indented lines
    Shapes: …
    Types: …
    Limits: …
    Source: one; another
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, field

PARTS = ("Formula", "Shapes", "Types", "Limits", "Source")
_OPENING = re.compile(rf"({'|'.join(PARTS)}):(?: (.*))?$")


@dataclass(frozen=True)
class Parts:
    """`method` and the values of `named` are paragraphs in one line each, but for Formula, whose lines stay."""

    title: str
    method: tuple[str, ...] = ()
    named: dict[str, str] = field(default_factory=dict)

    @property
    def sources(self) -> list[str]:
        return [source.strip() for source in self.named.get("Source", "").split(";") if source.strip()]


def parse(docstring: str) -> Parts:
    title, _, rest = inspect.cleandoc(docstring).partition("\n")
    paragraphs: list[tuple[str, list[str]]] = [("", [])]
    for line in rest.strip().splitlines():
        opening = _OPENING.match(line)
        if opening:
            paragraphs.append((opening[1], [opening[2]] if opening[2] else []))
        elif not line.strip():
            paragraphs.append(("", []))
        else:
            paragraphs[-1][1].append(line)
    method = tuple(_joined(lines) for name, lines in paragraphs if not name and lines)
    named = {name: _text(name, lines) for name, lines in paragraphs if name}
    return Parts(title.strip(), method, named)


def _text(name: str, lines: list[str]) -> str:
    return inspect.cleandoc("\n" + "\n".join(lines)) if name == "Formula" else _joined(lines)


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)
