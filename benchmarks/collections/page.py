"""The page of results: a pure function of the data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tessera.bench.markdown import table
from tessera.triton_cpu.conformance.result import OUTCOMES

_LEAD = """\
The tests that the authors of kernel collections wrote for GPUs, from a checkout of theirs, on our compiler. Their
tolerances are theirs; where they ask for "cuda" they get the CPU. `failed` counts everything that did not pass, also
what a test needs and a CPU has not, and `skipped` what asks for a package that is not installed: the reasons are below,
each with one test as example. Where `cases` is a number, that many cases of each test function were run, spread
evenly over all of them, else all."""


def page(results: Mapping[str, Any]) -> str:
    collections = results["collections"]
    parts = ["# Kernel collections of others on our CPU compiler", _LEAD, table(*_summary(collections))]
    for name, result in collections.items():
        parts += [f"## {name}", f"```console\n$ {result['command']}\n```", _files(result)]
        reasons = list(_reasons(result))
        if reasons:
            parts.append(table(["tests:", "outcome", "reason", "example"], reasons))
    return "\n\n".join(parts) + "\n"


def _summary(collections: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for name, result in collections.items():
        counts = [str(sum(file["counts"][outcome] for file in result["files"])) for outcome in OUTCOMES]
        slowest = max((file["slowest_compile_s"] for file in result["files"]), default=0.0)
        rows.append([name, result["triton"], str(result["cases"] or "all"), *counts, f"{slowest:.2f}"])
    return ["collection", "Triton", "cases", *(f"{outcome}:" for outcome in OUTCOMES), "slowest compile s:"], rows


def _files(result: Mapping[str, Any]) -> str:
    rows = ([file["file"], *(str(file["counts"][outcome]) for outcome in OUTCOMES)] for file in result["files"])
    return table(["file", *(f"{outcome}:" for outcome in OUTCOMES)], rows)


def _reasons(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for row in result["reasons"]:
        text = row["reason"].replace("|", "¦").replace("`", "'")
        yield [
            str(row["count"]),
            row["outcome"],
            f"`{text}`",
            f"`{row['example'].rpartition('/')[2]}`".replace("|", "¦"),
        ]
