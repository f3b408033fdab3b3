"""The documents keep their word: their Python runs, their commands exist, their links lead somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

import tessera
from tessera import cli
from tessera.core.chip_rows import CHIPS

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SOURCE = Path(tessera.__file__).parents[1]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Name (`README.md:12`) and text of every fenced block of a language in the documents."""
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        for match in re.finditer(rf"^```{language}\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            line = text[: match.start()].count("\n") + 1
            yield f"{document.relative_to(ROOT)}:{line}", match[1]


def commands() -> Iterator[tuple[str, str]]:
    """Where, and the line, of every shell command in the documents."""
    for name, text in blocks("console"):
        for line in text.splitlines():
            if line.startswith("$ "):
                yield name, line.removeprefix("$ ").split("  #")[0].split(" #")[0].strip()


def named(pairs: Iterator[tuple[str, str]]) -> list[object]:
    return [pytest.param(text, id=name) for name, text in pairs]


@pytest.mark.parametrize("program", named(blocks("python")))
def test_python_runs(program: str, tmp_path: Path) -> None:
    """In a file of its own, because Triton reads the source of a kernel from its file."""
    path = tmp_path / "example.py"
    path.write_text(program, encoding="utf-8")
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "TRITON_DEFAULT_BACKEND": "cpu"}
    done = subprocess.run(
        [sys.executable, str(path)], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", named(commands()))
def test_commands_exist(command: str) -> None:
    program, *arguments = command.split()
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
        assert [word for word in arguments if "=" not in word and word not in targets] == []
    elif program == "tessera":
        context = get_command(cli.app).make_context("tessera", [*arguments], resilient_parsing=False)
        name, subcommand, rest = context.command.resolve_command(context, arguments)  # type: ignore[attr-defined]
        assert subcommand is not None
        subcommand.make_context(name, rest, parent=context)
    else:
        assert program in ("pip", "python"), f"{command}: only our own commands, pip and python are shown"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]+`", "", text)
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (document.parent / target).exists()] == []


def test_paths_named_in_the_readme_exist() -> None:
    paths = re.findall(r"`((?:src|tests|docs|benchmarks)/[\w./-]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_readme_names_every_chip_of_the_table() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        line.split("|")[1].strip(): line for line in text.splitlines() if re.match(r"\| (native|compiles|plugin)", line)
    }
    for chip in CHIPS:
        if chip.kind != "cpu":
            assert chip.name in rows[chip.status]
