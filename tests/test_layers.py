"""The folders' rule: no import goes upwards, and every folder opens by saying what it is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import tessera
from tessera.core.layers import MAY_IMPORT, OPENING_LINES

PACKAGE = Path(tessera.__file__).parent


def row_of(folder: Path) -> str:
    """The name that a folder would have in the table."""
    return ".".join(folder.relative_to(PACKAGE).parts)


FOLDERS = sorted(path.parent for path in PACKAGE.rglob("__init__.py") if row_of(path.parent) in MAY_IMPORT)


def layer_of(path: Path, package: Path) -> str:
    """The name in the table of a file: its folder, or its own name when it lies in the package itself."""
    parts = path.relative_to(package).parts
    return ".".join(parts[:2]) if ".".join(parts[:2]) in MAY_IMPORT else parts[0].removesuffix(".py")


def imported_modules(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports, also inside functions and by `import_module("name")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: len(module.split(".")) - node.level + is_package]
                base = ".".join([*parents, base]).rstrip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                yield node.lineno, node.args[0].value


def target_layer(name: str, package: Path) -> str | None:
    """The layer that an imported name belongs to; None for what is not ours and for the version."""
    parts = name.split(".")
    if parts[0] != package.name or parts[1:] == ["__version__"]:
        return None
    if ".".join(parts[1:3]) in MAY_IMPORT:
        return ".".join(parts[1:3])
    if len(parts) > 1 and ((package / parts[1]).is_dir() or (package / f"{parts[1]}.py").exists()):
        return parts[1]
    return "__init__"


def violations(package: Path) -> list[str]:
    """Every import in the package that the table does not allow, as `file:line: what`."""
    found = []
    for path in sorted(package.rglob("*.py")):
        layer = layer_of(path, package)
        is_package = path.name == "__init__.py"
        module = ".".join([package.name, *path.relative_to(package).with_suffix("").parts]).removesuffix(".__init__")
        for line, name in imported_modules(ast.parse(path.read_text()), module, is_package):
            target = target_layer(name, package)
            if target not in (None, layer) and target not in MAY_IMPORT.get(layer, frozenset()):
                found.append(f"{path.relative_to(package)}:{line}: {layer} may not import {name}")
    return found


def test_no_import_goes_upwards() -> None:
    assert violations(PACKAGE) == []


def test_every_folder_and_file_of_the_package_has_a_row_and_every_row_exists() -> None:
    files = {path.stem for path in PACKAGE.glob("*.py")}
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders | files == {row for row in MAY_IMPORT if "." not in row}
    assert {row_of(folder) for folder in FOLDERS} | files == set(MAY_IMPORT)


def test_the_table_has_no_cycle() -> None:
    remaining = dict(MAY_IMPORT)
    while remaining:
        free = [layer for layer, needs in remaining.items() if not needs & set(remaining)]
        assert free, f"these layers import one another in a circle: {sorted(remaining)}"
        for layer in free:
            del remaining[layer]


def opening_values(folder: Path) -> dict[str, str]:
    """What follows each of the opening lines in the docstring of a folder's `__init__.py`."""
    docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    pattern = "|".join(re.escape(line) for line in OPENING_LINES)
    parts = re.split(rf"^({pattern})\s*", docstring, flags=re.MULTILINE)
    return dict(zip(parts[1::2], (value.strip() for value in parts[2::2]), strict=True))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_folder_opens_by_saying_what_it_is(folder: Path) -> None:
    values = opening_values(folder)
    assert tuple(values) == OPENING_LINES
    assert all(values.values())
    allowed = MAY_IMPORT[row_of(folder)]
    said = values["May import:"].rstrip(".")
    assert set(said.split(", ")) == (allowed or {"nothing of ours"})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_named_in_the_opening_lines_exist(folder: Path) -> None:
    start = opening_values(folder)["Start reading:"]
    named = re.findall(r"`([\w/]+\.py)`", start)
    assert named
    assert [name for name in named if not (folder / name).exists()] == []


def test_every_source_file_opens_with_a_docstring() -> None:
    sources = [*PACKAGE.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]
    assert [str(path) for path in sources if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize(
    "line",
    [
        "import tessera.bringup.job",
        "from tessera.bringup import job",
        "from tessera import bringup",
        "from ..bringup import job",
        "def late():\n    from tessera.bringup.job import run",
        "import importlib\nimportlib.import_module('tessera.bringup.job')",
        "import tessera",
        "from tessera import enable",
    ],
)
def test_the_check_catches_a_planted_violation(tmp_path: Path, line: str) -> None:
    package = tmp_path / "tessera"
    for folder in ("core", "bringup"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
    planted = package / "core" / "planted.py"
    planted.write_text(f"from tessera.core import errors\nfrom tessera import __version__\nimport torch\n{line}\n")
    found = violations(package)
    assert len(found) == 1
    assert found[0].startswith("core/planted.py:")
    assert ": core may not import tessera" in found[0]
