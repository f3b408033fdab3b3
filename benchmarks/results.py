"""Results on disk: for each page its data, its text and, for ratios, its plot; and the check that they agree."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown
from benchmarks.choice.page import choice_page, choice_plot
from benchmarks.collections.page import page as collections_page
from benchmarks.inductor.page import page as inductor_page
from tessera.bench import ops_page, pages
from tessera.bench.plot import ratio_plot

Results = Mapping[str, Any]
Entries = Sequence[tuple[str, Sequence[Mapping[str, Any]]]]


def _kernel_plot(results: Results) -> str:
    rows = results["kernels"]
    groups: dict[str, Entries] = {}
    for family, part in itertools.groupby(rows, key=lambda row: row["family"]):
        keyed = itertools.groupby(part, key=lambda row: f"{row['kernel']} {row['shape']} {row['dtype']}")
        groups[family] = [(label, list(group)) for label, group in keyed]
    return ratio_plot("Speed of each kernel relative to PyTorch's", groups)


def _model_plot(results: Results) -> str:
    keyed = itertools.groupby(results["models"], key=lambda row: row["model"])
    return ratio_plot("Speed of each model relative to PyTorch", {"": [(name, list(rows)) for name, rows in keyed]})


# Name of a page: what is written of its data, by the ending of the file.
PAGES = {
    "kernels-cpu": {".md": markdown.kernels_page, ".svg": _kernel_plot},
    "compile-cpu": {".md": markdown.compile_page},
    "models-cpu": {".md": markdown.models_page, ".svg": _model_plot},
    "inductor-cpu": {".md": inductor_page},
    "choice-cpu": {".md": choice_page, ".svg": choice_plot},
    "collections-cpu": {".md": collections_page},
    ops_page.NAME: ops_page.RENDERS,
}


def write(folder: Path, name: str, results: Results) -> list[Path]:
    """Write a page, and return its files."""
    return pages.write(folder, name, results, PAGES[name])


def disagreements(folder: Path) -> list[str]:
    """What in `folder` is not what its data says: a file that is missing, changed, or of no data."""
    faults = []
    for name, renders in PAGES.items():
        data = folder / f"{name}.json"
        for ending, render in renders.items():
            path = folder / f"{name}{ending}"
            if not data.exists():
                faults += [f"{path.name} has no {data.name}"] if path.exists() else []
            elif not path.exists():
                faults.append(f"{path.name} is missing")
            elif path.read_text(encoding="utf-8") != render(json.loads(data.read_text(encoding="utf-8"))):
                faults.append(f"{path.name} is not what {data.name} says")
    return faults
