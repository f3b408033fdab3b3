"""The page and the lines of results: pure functions of the rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tessera.bench import markdown
from tessera.bench.markdown import geomean, mark, number, ratio

Row = Mapping[str, Any]

_LEAD = (
    "Small models with random weights, a whole forward pass or a whole step of training (forward, backward, SGD with "
    'momentum), compiled by `torch.compile` with `options={"cpu_backend": "triton"}`. Every output and, of training, '
    "every gradient, weight and running average is judged by the [accuracy rule](../accuracy.md) against the same in "
    "float64; what torch loses is what it loses with channels last, as `torch.compile` lays the inputs of its "
    "convolutions out. *Inductor C++* is PyTorch's own compiler for CPUs, judged and timed alike. Compile times are "
    "cold: each row is a process with empty caches. `dynamic` compiles with `dynamic=True` and judges a second shape "
    "as well. Times are of one call, ratios are eager's time divided by the compiled one's."
)


def page(results: Mapping[str, Any]) -> str:
    rows = results["rows"]
    sections = [("In short", _summary(rows)), ("All", _table(rows))]
    faults = list(_faults(rows))
    if faults:
        sections.append(("Outside the rule, or failed", markdown.table(["model", "compiler", "what", "why"], faults)))
    missing = results.get("trials", len(rows)) - len(rows)
    lead = f"{_LEAD} **The run was ended early: {missing} rows are missing.**" if missing else _LEAD
    return markdown.page("Model families under torch.compile, on our compiler", lead, results["about"], sections)


def line(row: Row) -> str:
    """What the terminal says of a row."""
    name = f"{row['family']} {row['mode']} {row['dtype']} {row['shapes']}"
    if "failed" in row:
        return f"{name}: ✗ {row['failed']}"
    ours = row["triton"]
    verdict = f"{mark(ours['outside'] == 0)} {ours['tensors'] - ours['outside']} of {ours['tensors']} tensors right"
    speed = ", ".join(f"{key} {ratio(value)}" for key, value in row["speedup"].items())
    return f"{name}: {verdict}, compiled in {number(ours['compile_s'])} s, {speed}"


def _summary(rows: Sequence[Row]) -> str:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[f"{row['mode']} {row['dtype']} {row['shapes']}"].append(row)
    cells = []
    for name, group in groups.items():
        done = [row for row in group if "failed" not in row]
        right = sum(row["triton"]["outside"] == 0 for row in done)
        cells.append([name, f"{right} of {len(group)}", *_means(done, "triton"), *_means(done, "cpp")])
    return markdown.table(["", "equal:", "ours, speed:", "compile s:", "Inductor C++, speed:", "compile s:"], cells)


def _means(rows: Sequence[Row], compiler: str) -> tuple[str, str]:
    """Geometric means of speed and compile time over the rows in which a compiler was run."""
    part = [row for row in rows if compiler in row]
    if not part:
        return "", ""
    speed = geomean(row["speedup"][compiler] for row in part)
    return ratio(speed), number(geomean(max(row[compiler]["compile_s"], 0.01) for row in part))


def _table(rows: Sequence[Row]) -> str:
    headings = ["model", "", "type", "shapes", "equal", "tensors:", "kernels:", "worst error:", "worst peak:",
                "compile s:", "eager ms:", "speed:", "C++ equal", "C++ compile s:", "C++ speed:"]  # fmt: skip
    return markdown.table(headings, (_cells(row) for row in rows))


def _cells(row: Row) -> list[str]:
    about = [row["family"], row["mode"], row["dtype"], row["shapes"]]
    if "failed" in row:
        return [*about, mark(False), *[""] * 10]
    ours = row["triton"]
    cells = [mark(ours["outside"] == 0), str(ours["tensors"]), str(ours["kernels"]), ratio(ours["ratio"]),
             ratio(ours["peak_ratio"]), number(ours["compile_s"]), number(row["ms"]["eager"]),
             ratio(row["speedup"]["triton"])]  # fmt: skip
    if "cpp" not in row:
        return [*about, *cells, "", "", ""]
    peer = row["cpp"]
    return [*about, *cells, mark(peer["outside"] == 0), number(peer["compile_s"]), ratio(row["speedup"]["cpp"])]


def _faults(rows: Sequence[Row]) -> Iterator[list[str]]:
    for row in rows:
        name = f"{row['family']} {row['mode']} {row['dtype']} {row['shapes']}"
        if "failed" in row:
            yield [name, "", "", row["failed"].replace("|", "¦")]
            continue
        for compiler, title in (("triton", "ours"), ("cpp", "Inductor C++")):
            for tensor, reason in row.get(compiler, {}).get("reasons", {}).items():
                yield [name, title, f"`{tensor}`", reason]
