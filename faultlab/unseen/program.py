"""Programs as text: a subject is loaded as it is, or with lines of it changed, as a port would have them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

_FOLDER = Path(__file__).with_name("subjects")
_ROOT = Path(__file__).parents[2]


def load(subject: str, old: str = "", new: str = "") -> ModuleType:
    """The subject as a module of its own; `old` in it, which is there once, replaced by `new` of as many lines."""
    path = _FOLDER / f"{subject}.py"
    text = path.read_text(encoding="utf-8")
    if old:
        assert text.count(old) == 1, f"{subject}: {text.count(old)} times {old!r}"
        assert old.count("\n") == new.count("\n"), f"{subject}: {new!r} has another number of lines"
        text = text.replace(old, new)
    module = ModuleType(f"faultlab.unseen.{subject}")
    # Both programs go by one name and numbering, so that a line is a line in either.
    exec(compile(text, str(path.relative_to(_ROOT)), "exec"), vars(module))
    return module


def lines_of(subject: str, *snippets: str) -> frozenset[str]:
    """Every line, as `file:number`, that one of the snippets touches."""
    path = _FOLDER / f"{subject}.py"
    text = path.read_text(encoding="utf-8")
    found: set[str] = set()
    for snippet in snippets:
        assert text.count(snippet) == 1, f"{subject}: {text.count(snippet)} times {snippet!r}"
        first = text[: text.index(snippet)].count("\n") + 1
        found |= {f"{path.relative_to(_ROOT)}:{first + k}" for k in range(snippet.count("\n") + 1)}
    return frozenset(found)
