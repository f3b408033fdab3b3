"""Machine code on disk: made once, used by the next, and never the end of a program."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tessera.runtime import kept

Script = Callable[..., "subprocess.CompletedProcess[str]"]
TEXT = "what it is made from"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path))
    return tmp_path


def maker(made: list[str]) -> Callable[[str], bytes]:
    def make(text: str) -> bytes:
        made.append(text)
        return text.encode()[::-1]

    return make


def test_code_is_made_once_and_found_again(folder: Path) -> None:
    made: list[str] = []
    first = kept.made(TEXT, maker(made), bytes)
    assert first == kept.made(TEXT, maker(made), bytes) == TEXT.encode()[::-1]
    assert made == [TEXT]
    assert kept.made("another", maker(made), bytes) == b"rehtona"
    assert made == [TEXT, "another"]
    assert not [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".o"]


@pytest.mark.parametrize("spoil", [lambda stored: stored[:-1], lambda stored: b"", lambda stored: stored + b"."])
def test_a_spoilt_file_is_made_again(folder: Path, spoil: Callable[[bytes], bytes]) -> None:
    made: list[str] = []
    kept.made(TEXT, maker(made), bytes)
    (file,) = folder.rglob("*.o")
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    assert kept.made(TEXT, maker(made), bytes) == TEXT.encode()[::-1]
    assert len(made) == 2
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_written_stops_nothing(folder: Path) -> None:
    (folder / "native").write_text("a file in the place of the folder")
    made: list[str] = []
    for _ in range(2):
        assert kept.made(TEXT, maker(made), bytes) == TEXT.encode()[::-1]
    assert len(made) == 2


def test_the_runtime_uses_what_another_process_kept(folder: Path, script: Script) -> None:
    program = "assert count(24)"
    assert script(program).returncode == 0
    (file,) = (folder / "native").iterdir()
    before = file.stat()
    assert script(program).returncode == 0
    (same,) = (folder / "native").iterdir()
    after = same.stat()
    assert (same, after.st_ino, after.st_mtime_ns) == (file, before.st_ino, before.st_mtime_ns)
