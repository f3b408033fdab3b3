"""Pages on disk: for each its data (.json) and what is made of the data alone: its text (.md) and its plot (.svg)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Results = Mapping[str, Any]
Renders = Mapping[str, Callable[[Results], str]]
"""What is written of a page's data, by the ending of the file; data without a render of its own is plain JSON."""


def plain_json(results: Results) -> str:
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"


def write(folder: Path, name: str, results: Results, renders: Renders) -> list[Path]:
    """Write a page, and return its files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for ending, render in {".json": plain_json, **renders}.items():
        path = folder / f"{name}{ending}"
        path.write_text(render(results), encoding="utf-8")
        written.append(path)
    return written
