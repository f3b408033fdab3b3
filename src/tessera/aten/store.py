"""Where measurements are kept: the store of this machine, tables shipped with the package, and files.

The store is an SQLite file in the user's cache folder. What `tessera tune` measures is there at once, one operator a
transaction, so that an interruption loses nothing and two programs do not disturb each other. A row counts for the
machine (by the name that the CPU gives itself and LLVM's name of its core) and the versions of PyTorch and of us that
it was measured with.

A table is a JSON file: {"about": {…}, "rows": [[operator, types, layout, size class, threads, our µs, PyTorch's µs,
speed, failure], …]}.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tessera import __version__
from tessera.aten.classify import Place
from tessera.aten.measured import Measurement
from tessera.core.chip import Device
from tessera.core.env import cache_folder
from tessera.core.errors import UsageError

SHIPPED = Path(__file__).parent / "shipped"
_SQLITE = b"SQLite format 3\0"
_BUSY_S = 30.0
_COLUMNS = "operator, dtype, layout, size, threads, ours_us, vendor_us, speed, failure"
_SCHEMA = """
create table if not exists measurements (
    machine text, torch text, tessera text,
    operator text, dtype text, layout text, size integer, threads integer,
    ours_us real, vendor_us real, speed real, failure text,
    primary key (machine, torch, tessera, operator, dtype, layout, size, threads)
)"""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a measurement holds for: the CPU's own name with its core's, and the versions."""

    machine: str
    torch: str
    tessera: str


def here(device: Device) -> Origin:
    """The CPU of this machine, as `detect_cpu` has it, and what is installed."""
    return Origin(machine=device.title, torch=torch.__version__, tessera=__version__)


def store_path() -> Path:
    return cache_folder() / "measured.sqlite"


class Store:
    """The measurements of this machine, in one SQLite file that is made at the first writing."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or store_path()

    def read(self, origin: Origin) -> list[Measurement]:
        """What was measured there and with that; nothing where the file does not exist. Raises: UsageError."""
        if not self.path.exists():
            return []
        query = f"select {_COLUMNS} from measurements where machine = ? and torch = ? and tessera = ?"
        return self._rows(query, (origin.machine, origin.torch, origin.tessera))

    def read_all(self) -> list[Measurement]:
        """Everything in the file, wherever it was measured; of equals the one written last. Raises: UsageError."""
        return self._rows(f"select {_COLUMNS} from measurements order by rowid", ())

    def write(self, origin: Origin, measurements: Iterable[Measurement]) -> None:
        """All of them or none. Raises: UsageError where the file cannot be written."""
        values = [(origin.machine, origin.torch, origin.tessera, *_plain(one)) for one in measurements]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._open()) as database, database:
                database.execute(_SCHEMA)
                database.executemany(f"insert or replace into measurements values ({', '.join('?' * 12)})", values)
        except (sqlite3.Error, OSError) as error:
            raise UsageError(f"{self.path} cannot be written: {error}; {_remedy(self.path)}") from error

    def _rows(self, query: str, values: tuple[Any, ...]) -> list[Measurement]:
        try:
            with closing(self._open()) as database:
                return [_measurement(row) for row in database.execute(query, values)]
        except sqlite3.Error as error:
            raise UsageError(f"{self.path} cannot be read: {error}; {_remedy(self.path)}") from error

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=_BUSY_S)


def _remedy(path: Path) -> str:
    return f"remove it (tessera tune makes it again) or set TESSERA_CACHE_DIR to another folder than {path.parent}"


def shipped(device: Device) -> list[Measurement]:
    """What the package brings for a CPU's core, else for its row of the table of chips; nothing without a table."""
    paths = [SHIPPED / f"{name}.json" for name in (f"{device.chip.name}-{device.core}", device.chip.name)]
    return next((read_table(path) for path in paths if path.exists()), [])


def read_table(path: Path) -> list[Measurement]:
    """The measurements in a JSON file or in an SQLite file. Raises: UsageError where it is neither."""
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) == _SQLITE:
                return Store(path).read_all()
        return [_measurement(row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; name a table of measurements") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no table of measurements; write one with tessera tune --table {path}") from error


def write_table(path: Path, about: Mapping[str, Any], measurements: Iterable[Measurement]) -> None:
    """A JSON table, one row a line, put in its place when it is whole."""
    rows = sorted(_plain(one) for one in measurements)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    text = f'{{"about": {json.dumps(about, ensure_ascii=False)},\n"rows": [\n{lines}\n]}}\n'
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}; choose another place") from error


def _plain(one: Measurement) -> tuple[Any, ...]:
    place = one.place
    figures = (float(f"{value:.4g}") for value in (one.ours_us, one.vendor_us, one.speed))
    return (one.operator, place.dtype, place.layout, place.size, one.threads, *figures, one.failure)


def _measurement(row: Iterable[Any]) -> Measurement:
    operator, dtype, layout, size, threads, ours_us, vendor_us, speed, failure = row
    return Measurement(
        str(operator), Place(str(dtype), str(layout), int(size)), int(threads), float(ours_us), float(vendor_us),
        float(speed), str(failure),
    )  # fmt: skip
