"""Measured figures of each family, from files of this repository alone."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from benchmarks.command import RESULTS
from benchmarks.operators.families import families
from tessera.aten.measured import Measurement
from tessera.aten.store import SHIPPED, read_table
from tessera.bench import ops_page

Row = dict[str, Any]

# A kernel benchmark's family that is part of another's file here.
_PART_OF = {"rms_norm": "layer_norm"}


@functools.cache
def tuned_chips() -> list[str]:
    """Chips whose measurements come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.json"))


@functools.cache
def _measurements(chip: str) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for one in read_table(SHIPPED / f"{chip}.json"):
        found.setdefault(one.operator, []).append(one)
    return found


def faster(chip: str, names: tuple[str, ...]) -> tuple[int, int]:
    """In how many of the measured calls of these operators ours is faster, and how many there are."""
    calls = [one for name in names for one in _measurements(chip).get(name, [])]
    return sum(not one.failure and one.speed > 1 for one in calls), len(calls)


@functools.cache
def _kernels() -> dict[str, list[Row]]:
    served = {
        name.partition(".")[0]: family.module
        for family in families().values()
        for operator in family.operators
        for name in operator.names
    }
    found: dict[str, list[Row]] = {}
    for row in json.loads((RESULTS / "kernels-cpu.json").read_text(encoding="utf-8"))["kernels"]:
        home = _PART_OF.get(row["family"], row["family"])
        if home in families():
            found.setdefault(served.get(row["kernel"], home), []).append(row)
    return found


def kernels(module: str) -> list[Row]:
    """Rows of the kernel benchmark."""
    return _kernels().get(module, [])


@functools.cache
def _operators() -> dict[str, list[Row]]:
    path = RESULTS / f"{ops_page.NAME}.json"
    found: dict[str, list[Row]] = {}
    if path.exists():
        for row in ops_page.unpacked(json.loads(path.read_text(encoding="utf-8"))["rows"]):
            found.setdefault(row["family"], []).append(row)
    return found


def operators(module: str) -> list[Row]:
    """Rows of `tessera bench ops`; none where its page is not there."""
    return _operators().get(module, [])


def pages() -> Iterator[str]:
    """Files in `docs/results` that figures come from."""
    yield "kernels-cpu.md"
    if (RESULTS / f"{ops_page.NAME}.json").exists():
        yield f"{ops_page.NAME}.md"
