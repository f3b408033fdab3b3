"""The page of `tessera bench ops`, from its data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tessera.bench.anatomy import KEY, worst
from tessera.bench.markdown import geomean, number, page, ratio, table, threads_text
from tessera.bench.plot import ratio_plot

Results = Mapping[str, Any]
Row = Mapping[str, Any]

NAME = "ops-cpu"
# A call on our kernels is not to be slower than this, and one by a choice between ours and PyTorch's.
LEAST, LEAST_CHOSEN, LEAST_MEAN = 0.7, 0.95, 1.0
# A share of a call's time, or of its memory, that is worth a word.
_WORTH_A_WORD = 0.1
_COLUMNS = (
    "family", "operator", "layout", "size", "dtype", "threads", "ours_us", "torch_us", "ratio", "rate", "unit",
    "cpp_us", "cpp_ratio",
)  # fmt: skip


def packed(rows: Sequence[Row]) -> dict[str, Any]:
    """Rows as a list of columns and lists of values: there are thousands."""
    return {"columns": list(_COLUMNS), "values": [[row.get(name) for name in _COLUMNS] for row in rows]}


def unpacked(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(data["columns"], values, strict=True)) for values in data["values"]]


def ops_json(results: Results) -> str:
    """One call a line."""
    rest = {name: value for name, value in results.items() if name != "rows"}
    head = json.dumps(rest, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(json.dumps(values, ensure_ascii=False) for values in results["rows"]["values"])
    columns = json.dumps(results["rows"]["columns"])
    return f'{head},\n "rows": {{"columns": {columns}, "values": [\n{lines}\n]}}\n}}\n'


def ops_page(results: Results) -> str:
    rows, skipped = unpacked(results["rows"]), results["skipped"]
    ours = "all calls on our kernels" if results["policy"] == "always" else f"the policy `{results['policy']}`"
    return page(
        "Operators on the CPU, against PyTorch eager",
        f"Every operator of the catalogue, called through PyTorch, with {ours}, and with nothing of ours switched on. "
        "Small are 16 Ki elements, medium 256 Ki, large 4 Mi; products, convolutions and attention have shapes of "
        "about as many. GB/s counts each tensor read or written once, GFLOP/s multiplications and additions. "
        f"{results['compiler']} {results['early']}".rstrip(),
        results["about"],
        [
            ("In short", _summary(rows, _least(results))),
            ("The worst ten", _worst(results)),
            ("By family", f"![Speed of each family relative to PyTorch's]({NAME}.svg)"),
            ("What the machine can do", _roofs(results["roofs"])),
            ("Inductor's C++", _inductor(rows)),
            *((f"Family {name}", _operators(part)) for name, part in _grouped(rows, "family")),
            *([("Not measured", _skipped(skipped))] if skipped else []),
        ],
    )


def ops_plot(results: Results) -> str:
    """A bar a family and number of threads."""
    groups = {}
    for name, part in _grouped(unpacked(results["rows"]), "family"):
        means = [(count, geomean(row["ratio"] for row in of)) for count, of in _grouped(part, "threads")]
        groups[name] = [{"threads": count, "ratio": mean, "target": f"≥ {LEAST_MEAN:g}×"} for count, mean in means]
    return ratio_plot("Speed of each family relative to PyTorch's", {"": list(groups.items())})


def terminal(results: Results) -> Iterator[str]:
    """The worst calls and the means, in lines."""
    rows = unpacked(results["rows"])
    for row, why in causes(results):
        where = f"{row['operator']} {row['layout']}, {row['size']} {row['dtype']}, {threads_text(row['threads'])}"
        times = f"ours {number(row['ours_us'])} µs, PyTorch {number(row['torch_us'])} µs, {ratio(row['ratio'])}"
        yield f"{where}: {times}" + (f"; {why}" if why else "")
    for count, part in _grouped(rows, "threads"):
        calls, mean, worst, below, faster = _means(part, _least(results))
        yield (
            f"{threads_text(count)}: geometric mean {mean} of {calls} calls, worst {worst}, "
            f"{below} below {_least(results):g}×, {faster} faster than PyTorch"
        )


def _least(results: Results) -> float:
    return LEAST if results["policy"] == "always" else LEAST_CHOSEN


def _summary(rows: Sequence[Row], least: float) -> str:
    """A line a type and size; the ratio is PyTorch's time divided by ours."""
    lines = []
    for count, of_threads in _grouped(rows, "threads"):
        for dtype, of_type in _grouped(of_threads, "dtype"):
            for size, part in _grouped(of_type, "size"):
                lines.append([threads_text(count), dtype, size, *_means(part, least)])
        lines.append([f"**{threads_text(count)}**", "", "", *_means(of_threads, least)])
    lines.append(["**all**", "", "", *_means(rows, least)])
    headings = ["", "type", "size", "calls:", "geometric mean:", "worst:", f"below {least:g}×:", "faster than PyTorch:"]
    return table(headings, lines)


def _means(rows: Sequence[Row], least: float) -> list[str]:
    ratios = [row["ratio"] for row in rows]
    below, faster = sum(one < least for one in ratios), sum(one >= 1 for one in ratios)
    return [str(len(ratios)), ratio(geomean(ratios)), ratio(min(ratios)), str(below), f"{faster / len(ratios):.0%}"]


def _worst(results: Results) -> str:
    headings = ["operator", "layout", "size", "type", "threads:", "ours µs:", "PyTorch µs:", "ratio:", "rate:", "cause"]
    lines = [
        [
            f"`{row['operator']}`", row["layout"], row["size"], row["dtype"], str(row["threads"]),
            number(row["ours_us"]), number(row["torch_us"]), ratio(row["ratio"]),
            f"{number(row['rate'])} {row['unit']}", why,
        ]
        for row, why in causes(results)
    ]  # fmt: skip
    note = (
        "A cause is measured: the call is captured and replayed in turns with itself, which tells its launches, the "
        "memory that they work on and the time that it spends outside them."
    )
    return f"{table(headings, lines)}\n\n{note}"


def cause(row: Row, found: Row, roofs: Sequence[Row]) -> str:
    """Why a call loses, from its figures and its anatomy (`anatomy.py`); nothing of one that does not lose."""
    if row["ratio"] >= 1:
        return ""
    lost_us, outside_us = row["ours_us"] - row["torch_us"], found.get("outside_us", 0.0)
    outside = f"{number(outside_us)} of its {number(row['ours_us'])} µs are spent outside our kernels"
    if outside_us >= lost_us / 2:
        return f"overhead: {outside}, and all of PyTorch's call takes {number(row['torch_us'])} µs"
    parts = [*_steps(found), *([outside] if outside_us >= _WORTH_A_WORD * row["ours_us"] else [])]
    return "; ".join([*parts, *_shares(row, found, roofs)]) or f"our kernel takes {number(lost_us)} µs more"


def _steps(found: Row) -> Iterator[str]:
    """What a call does besides one pass over its operands."""
    if "failure" in found:
        yield f"not looked into: {found['failure']}"
        return
    if found["calls"] and not found["launches"]:
        yield "it looks at values between its kernels, or is PyTorch's own behind ours"
        return
    if found["calls"]:
        yield f"{found['calls']} of its {found['calls'] + found['launches']} steps look at values or are PyTorch's own"
    extra = found["extra_bytes"] / max(found["operands_bytes"], 1)
    if found["launches"] > 1 or extra >= _WORTH_A_WORD:
        launches = "1 launch works" if found["launches"] == 1 else f"{found['launches']} launches work"
        yield f"{launches} on its operands" + (f" and {extra:.0%} more memory" if extra >= _WORTH_A_WORD else "")


def _shares(row: Row, found: Row, roofs: Sequence[Row]) -> Iterator[str]:
    """How far both sides are from what the machine can do: of arithmetic or of memory, whichever is nearer."""
    limits = [("memory", _moved(row, found), _roof(row, roofs, "copy"))]
    if row["unit"] == "GFLOP/s":
        limits.append(("arithmetic", row["rate"], _roof(row, roofs, f"matmul {row['dtype']}")))
    shares = [(rate / roof, what) for what, rate, roof in limits if rate and roof]
    if shares:
        share, what = max(shares)
        theirs = share / row["ratio"]
        cached = ", in caches" if what == "memory" and theirs > 1 else ""
        yield f"at {share:.0%} of the roof of {what}, PyTorch's at {theirs:.0%}{cached}"


def _moved(row: Row, found: Row) -> float:
    """GB/s of operands; 0 where nothing is known of them."""
    return float(row["rate"] if row["unit"] == "GB/s" else found.get("operands_bytes", 0) / row["ours_us"] / 1e3)


def causes(results: Results) -> list[tuple[Row, str]]:
    """The worst rows, the worst first, each with its cause."""
    found = {tuple(one[key] for key in KEY): one for one in results["worst"]}
    rows = worst(unpacked(results["rows"]))
    return [(row, cause(row, found[tuple(row[key] for key in KEY)], results["roofs"])) for row in rows]


def _roof(row: Row, roofs: Sequence[Row], name: str) -> float:
    """What the machine can do on as many threads; 0 where it was not measured."""
    return float(next((roof.get(name, 0.0) for roof in roofs if roof["threads"] == row["threads"]), 0.0))


def _roofs(roofs: Sequence[Row]) -> str:
    names = [name for name in roofs[0] if name != "threads"]
    headings = ["threads:", *(f"{name}, {'GB/s' if name == 'copy' else 'GFLOP/s'}:" for name in names)]
    return table(headings, ([str(roof["threads"]), *(number(roof[name]) for name in names)] for roof in roofs))


def _inductor(rows: Sequence[Row]) -> str:
    part = [row for row in rows if row["cpp_ratio"] is not None]
    if not part:
        return "Not measured in this run."
    lines = [
        [f"`{row['operator']}`", row["dtype"], str(row["threads"]), number(row["torch_us"]), ratio(row["ratio"]),
         ratio(row["cpp_ratio"])]
        for row in part
    ]  # fmt: skip
    means = [ratio(geomean(row[key] for row in part)) for key in ("ratio", "cpp_ratio")]
    return table(
        ["operator", "type", "threads:", "PyTorch µs:", "ours:", "Inductor's C++:"],
        [*lines, ["**geometric mean**", "", "", "", *means]],
    )


def _operators(rows: Sequence[Row]) -> str:
    """A line an operator and layout: the ratio at each type, size and number of threads."""
    cells = list(dict.fromkeys((row["dtype"], row["size"]) for row in rows))
    headings = ["operator", "layout", *(f"{dtype} {size}:" for dtype, size in cells)]
    lines = []
    for (operator, layout), part in _grouped(rows, "operator", "layout"):
        found: dict[tuple[str, str], list[str]] = {}
        for row in part:
            found.setdefault((row["dtype"], row["size"]), []).append(f"{row['ratio']:.2f}")
        lines.append([f"`{operator}`", layout, *(" · ".join(found.get(cell, [])) for cell in cells)])
    return table(headings, lines)


def _skipped(rows: Sequence[Row]) -> str:
    """Calls of one operator with one reason in one line."""
    headings = ["operator", "types", "why"]
    lines = []
    for (operator, why), part in _grouped(rows, "operator", "skipped"):
        lines.append([f"`{operator}`", ", ".join(dict.fromkeys(row["dtype"] for row in part)), why.replace("|", "¦")])
    return table(headings, lines)


def _grouped(rows: Sequence[Row], *keys: str) -> Iterator[tuple[Any, list[Row]]]:
    """Rows by the values of columns, in the order in which they come."""
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[keys[0]] if len(keys) == 1 else tuple(row[key] for key in keys), []).append(row)
    yield from groups.items()


RENDERS = {".json": ops_json, ".md": ops_page, ".svg": ops_plot}
