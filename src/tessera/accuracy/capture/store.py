"""Runs on disk: one SQLite index of records, and safetensors files for full tensors where they were asked for.

A dump is a folder. It is written under the name `NAME.partial` and renamed when it is whole, so a folder of that name
is
whole, and a killed capture leaves `NAME.partial` with everything up to its last commit. Values are stored once each.
"""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tessera.accuracy.capture.chunks import BUCKETS
from tessera.accuracy.capture.records import Edge, Final, ModuleCall, Op, Trace
from tessera.accuracy.capture.value import Below, Spread, Value
from tessera.core.errors import MissingDependency, UsageError

FORMAT = 3
INDEX = "index.sqlite"
# Operators between two commits: what a kill can cost.
_COMMIT_EVERY = 64
# Tensors are written in files of about this size.
_SHARD_BYTES = 64 << 20
# Of tensors larger than this only the start is kept, in logical order.
SLICE_ELEMENTS = 1 << 16

_TABLES = """
create table meta (name text primary key, value text);
create table value (id integer primary key, dtype text, shape text, stride text, digest integer, norm real,
  largest real, nans integer, infs integer, sketch blob);
create table op (stream text, idx integer, record text);
create table module (stream text, record text);
create table final (stream text, record text);
create table tensor (stream text, op integer, position integer, file text, whole integer);
create table kernel (idx integer, verdict text, ratio real, reason text);
create table spread (value integer primary key, record text, sketches blob);
create table below (value integer primary key, marks integer, mark real, norm real, sketch blob);
"""


class Writer:
    """Writes one dump as a run goes on.

    budget: bytes that the folder may take. Tensors get half of it at most; when records have used up the rest, later
    ones are left out and the dump says so.
    """

    def __init__(self, path: Path, *, budget: int) -> None:
        if path.exists():
            raise UsageError(f"{path} is there already; remove it or choose another name")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: there is no folder {path.parent}; create it or choose another")
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        if self._partial.exists():
            shutil.rmtree(self._partial)
        self._partial.mkdir()
        self._base = sqlite3.connect(self._partial / INDEX)
        self._base.executescript(_TABLES)
        self._meta("format", FORMAT)
        self._base.commit()
        self._values: dict[int, tuple[int, Value]] = {}
        self._budget = budget
        self._tensor_bytes = 0
        self._shard: dict[str, torch.Tensor] = {}
        self._shard_bytes = 0
        self._num_shards = 0
        self._since_commit = 0
        self.left_out = 0

    def op(self, stream: str, op: Op) -> None:
        """Add an operator."""
        if self.left_out or self._used() > self._budget:
            self.left_out += 1
            return
        record = {
            **{name: getattr(op, name) for name in _OP_FIELDS},
            "inputs": [(self._value(edge.value), edge.producer, edge.name) for edge in op.inputs],
            "outputs": [self._value(value) for value in op.outputs],
            "written": [self._value(value) for value in op.written],
        }
        self._base.execute("insert into op values (?, ?, ?)", (stream, op.index, json.dumps(record)))
        self._since_commit += 1
        if self._since_commit >= _COMMIT_EVERY:
            self._base.commit()
            self._since_commit = 0

    def tensors(self, stream: str, op: int, tensors: Sequence[torch.Tensor], *, whole: bool) -> None:
        """Add the outputs of an operator, large ones cut unless `whole`, as long as their half of the budget lasts."""
        for position, tensor in enumerate(tensors):
            cut = not whole and tensor.numel() > SLICE_ELEMENTS
            data = tensor.detach().cpu().contiguous()
            data = data.flatten()[:SLICE_ELEMENTS].clone() if cut else data.clone()
            if self._tensor_bytes + data.nbytes > self._budget // 2 or data.is_quantized or data.is_complex():
                return
            self._tensor_bytes += data.nbytes
            self._shard[f"{stream}.{op}.{position}"] = data
            self._shard_bytes += data.nbytes
            row = (stream, op, position, self._shard_name(), int(not cut))
            self._base.execute("insert into tensor values (?, ?, ?, ?, ?)", row)
        if self._shard_bytes > _SHARD_BYTES:
            self._write_shard()

    def end(self, stream: str, trace: Trace) -> None:
        """Add what is known at the end of a run."""
        for module in trace.modules:
            if self._used() > self._budget * 9 // 8:
                self.left_out += 1
                continue
            outputs = [(path, self._value(value)) for path, value in module.outputs]
            record = {**{name: getattr(module, name) for name in _MODULE_FIELDS}, "outputs": outputs}
            self._base.execute("insert into module values (?, ?)", (stream, json.dumps(record)))
        for final in trace.finals:
            row = (final.name, self._value(final.value), final.producer)
            self._base.execute("insert into final values (?, ?)", (stream, json.dumps(row)))
        self._meta(f"dtype {stream}", trace.dtype)
        self._meta(f"error {stream}", trace.error)
        self._base.commit()

    def kernel(self, index: int, verdict: str, ratio: float, reason: str) -> None:
        """Add the judgement on one operator call."""
        self._base.execute("insert into kernel values (?, ?, ?, ?)", (index, verdict, min(ratio, 1e300), reason))

    def finish(self, facts: Mapping[str, object]) -> None:
        """Write what is left and give the dump its name."""
        for name, value in facts.items():
            self._meta(name, value)
        self._meta("left out", self.left_out)
        if self._shard:
            self._write_shard()
        self._base.commit()
        self._base.close()
        self._partial.rename(self._path)

    def _meta(self, name: str, value: object) -> None:
        self._base.execute("insert or replace into meta values (?, ?)", (name, json.dumps(value)))

    def _used(self) -> int:
        # Counting pages is cheap, and pages not yet on disk are counted too.
        (pages,), (size,) = (self._base.execute(f"pragma {name}").fetchone() for name in ("page_count", "page_size"))
        # The end of the run still needs some room: its finals and modules.
        return int(pages) * int(size) * 3 // 2 + self._tensor_bytes

    def _value(self, value: Value) -> int:
        known = self._values.get(id(value))
        if known is not None:
            return known[0]
        row = (
            None, value.dtype, json.dumps(value.shape), json.dumps(value.stride), value.digest, value.norm,
            value.largest, value.nans, value.infs, value.sketch.tobytes(),
        )  # fmt: skip
        number = self._base.execute("insert into value values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row).lastrowid
        assert number is not None
        # The value is held as well, so that its id stays its own.
        self._values[id(value)] = (number, value)
        if value.spread is not None:
            self._base.execute("insert into spread values (?, ?, ?)", (number, *_spread_row(value.spread)))
        if (below := value.below) is not None:
            told = (number, below.marks, below.mark, below.norm, below.sketch.tobytes())
            self._base.execute("insert into below values (?, ?, ?, ?, ?)", told)
        return number

    def _shard_name(self) -> str:
        return f"tensors-{self._num_shards:05d}.safetensors"

    def _write_shard(self) -> None:
        save_tensors(self._partial / self._shard_name(), self._shard)
        self._base.commit()
        self._num_shards += 1
        self._shard, self._shard_bytes = {}, 0


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write tensors to a file that is there whole or not at all."""
    # Each its own memory: views of one storage cannot be stored as they are.
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    partial = path.with_name(path.name + ".tmp")
    _safetensors().save_file(plain, partial)
    partial.rename(path)


_OP_FIELDS = ("index", "name", "phase", "step", "module", "module_kind", "call", "source", "arguments")
_MODULE_FIELDS = ("name", "kind", "step", "first", "last")


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingDependency(
            "tensors in dumps need the library safetensors; install it: pip install safetensors"
        ) from error
    return safetensors.torch


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A dump that was read. whole: the capture came to its end. facts: what was written about it."""

    path: Path
    streams: Mapping[str, Trace]
    facts: Mapping[str, Any]
    kernels: Mapping[int, tuple[str, float, str]] = field(default_factory=dict)
    whole: bool = True

    def tensor(self, stream: str, op: int, position: int) -> torch.Tensor | None:
        """A stored tensor; None if it was not stored whole."""
        with sqlite3.connect(self.path / INDEX) as base:
            query = "select file from tensor where stream = ? and op = ? and position = ? and whole = 1"
            row = base.execute(query, (stream, op, position)).fetchone()
        if row is None or not (self.path / row[0]).is_file():
            return None
        tensors: dict[str, torch.Tensor] = _safetensors().load_file(self.path / row[0])
        return tensors[f"{stream}.{op}.{position}"]


def read_dump(path: Path) -> Dump:
    """Read a dump, or as much as there is of one whose capture was ended.

    Errors: `UsageError` if it is no dump, from a newer version, or damaged.
    """
    folder = path if path.is_dir() else path.with_name(path.name + ".partial")
    if not (folder / INDEX).is_file():
        raise UsageError(f"{path} is no dump: there is no {INDEX} in it; make one with tessera check dump")
    try:
        with sqlite3.connect(f"file:{folder / INDEX}?mode=ro", uri=True) as base:
            return _read(folder, base)
    except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path} is damaged ({error}); make it again with tessera check dump") from error


def _read(folder: Path, base: sqlite3.Connection) -> Dump:
    facts = {name: json.loads(value) for name, value in base.execute("select name, value from meta")}
    if facts.get("format") != FORMAT:
        raise UsageError(
            f"{folder} has format {facts.get('format')} and this version of tessera reads {FORMAT}; "
            "read it with the version that wrote it, or make it again"
        )
    spreads = _spreads(base)
    belows = _belows(base)
    rows = base.execute("select * from value")
    values = {row[0]: _value_from(row, spreads.get(row[0]), belows.get(row[0])) for row in rows}
    streams: dict[str, Trace] = {}
    for stream, record in base.execute("select stream, record from op order by stream, idx"):
        streams.setdefault(stream, Trace()).ops.append(_op_from(json.loads(record), values))
    for stream, record in base.execute("select stream, record from module order by rowid"):
        streams.setdefault(stream, Trace()).modules.append(_module_from(json.loads(record), values))
    for stream, record in base.execute("select stream, record from final order by rowid"):
        name, number, producer = json.loads(record)
        streams.setdefault(stream, Trace()).finals.append(Final(name, values[number], producer))
    for stream, trace in streams.items():
        trace.dtype, trace.error = facts.get(f"dtype {stream}", ""), facts.get(f"error {stream}", "")
    kernels = {row[0]: (row[1], row[2], row[3]) for row in base.execute("select * from kernel")}
    return Dump(path=folder, streams=streams, facts=facts, kernels=kernels, whole=not folder.name.endswith(".partial"))


def _spread_row(spread: Spread) -> tuple[str, bytes]:
    record = (spread.mesh, spread.mesh_shape, spread.placements, spread.whole, list(spread.parts))
    return json.dumps(record), b"".join(part.tobytes() for part in spread.parts.values())


def _spreads(base: sqlite3.Connection) -> dict[int, Spread]:
    """How tensors lie on several ranks; dumps of older versions do not say."""
    if not _has(base, "spread"):
        return {}
    found = {}
    for number, record, sketches in base.execute("select * from spread"):
        mesh, mesh_shape, placements, whole, dims = json.loads(record)
        rows = np.frombuffer(sketches, dtype=np.float64).reshape(len(dims), BUCKETS)
        found[number] = Spread(
            mesh=tuple(mesh),
            mesh_shape=tuple(mesh_shape),
            placements=tuple(placements),
            whole=tuple(whole),
            parts=dict(zip(dims, rows, strict=True)),
        )
    return found


def _belows(base: sqlite3.Connection) -> dict[int, Below]:
    """What lies beside marks; dumps of older versions do not say."""
    if not _has(base, "below"):
        return {}
    return {
        number: Below(marks=marks, mark=mark, norm=norm, sketch=np.frombuffer(sketch, dtype=np.float64))
        for number, marks, mark, norm, sketch in base.execute("select * from below")
    }


def _has(base: sqlite3.Connection, table: str) -> bool:
    query = "select 1 from sqlite_master where name = ?"
    return base.execute(query, (table,)).fetchone() is not None


def _value_from(row: Sequence[Any], spread: Spread | None, below: Below | None) -> Value:
    return Value(
        dtype=row[1],
        shape=tuple(json.loads(row[2])),
        stride=tuple(json.loads(row[3])),
        digest=row[4],
        norm=row[5],
        # SQLite has no number that is none: it keeps nothing instead.
        largest=math.nan if row[6] is None else row[6],
        nans=row[7],
        infs=row[8],
        sketch=np.frombuffer(row[9], dtype=np.float64),
        spread=spread,
        below=below,
    )


def _op_from(record: dict[str, Any], values: Mapping[int, Value]) -> Op:
    plain = {name: record[name] for name in _OP_FIELDS if name != "arguments"}
    made = Op(
        **plain,
        arguments=tuple((name, value) for name, value in record["arguments"]),
        inputs=tuple(Edge(values[number], producer, name) for number, producer, name in record["inputs"]),
        outputs=tuple(values[number] for number in record["outputs"]),
    )
    return replace(made, written=tuple(values[number] for number in record["written"]))


def _module_from(record: dict[str, Any], values: Mapping[int, Value]) -> ModuleCall:
    plain = {name: record[name] for name in _MODULE_FIELDS}
    return ModuleCall(**plain, outputs=tuple((path, values[number]) for path, number in record["outputs"]))
