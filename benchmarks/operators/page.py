"""A page of Markdown for a family, and the list of all."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import tessera.ops.tiles as tiles
from benchmarks.operators import figures, source
from benchmarks.operators.core import core
from benchmarks.operators.families import Family, Operator, families
from tessera.bench.markdown import geomean, number, ratio, table, threads_text

COMMAND = "python -m benchmarks.operators"
_CHIPS = {"cpu": "CPU", "cuda": "NVIDIA", "hip": "AMD"}
_SIZES = {
    "flat": "elements of a program that computes element by element",
    "step": "elements that a kernel of several outputs computes at a time",
    "row": "elements that a program of rows holds",
    "longest_row": "the longest row that is held whole",
    "run": "elements that a program sorts in one network",
    "mm": "rows, columns and depth of a tile of a product",
    "attention": "queries and keys of a tile of attention",
    "attention_backward": "queries and keys of a tile of attention's gradients",
    "whole_heads": "heads of keys from which on a program computes all gradients of one",
    "min_dot": "the smallest side of a product of tiles",
    "one_walks": "whether elements that lie apart are walked one at a time",
    "outer": "rows and columns of float32 sums that stay in registers; 0: a dot is faster",
    "dot_grain": "steps of rows, columns and depth in which the time of a dot follows its masks; 0: it takes the whole",
    "streamed_bytes": "bytes from which on an output is written past the caches; 0: never",
}
_DOCUMENTED = re.compile(r"\b(torch(?:\.\w+)*\.[A-Za-z]\w*)")
_PAPER = re.compile(r"\barXiv:(\d{4}\.\d{4,5})")


def family_page(family: Family) -> str:
    parts = family.parts
    kernels = source.kernels(family.module)
    sections = [
        ("What it computes", _computes(family)),
        ("Operators", _operators(family.operators)),
        ("Where PyTorch's kernel runs instead", _limits(family)),
        ("Kernels", table(["kernel", "what a program does"], ([f"`{k.name}`", _cell(k.text)] for k in kernels))),
        ("Block sizes", _blocks(family.module)),
        ("Speed", _speed(family.module)),
        ("Sources", "\n".join(f"- {linked(text[:1].upper() + text[1:])}." for text in parts.sources)),
    ]
    if not kernels:
        sections = [section for section in sections if section[0] != "Kernels"]
    head = [f"# {family.module}", parts.title, _where(family)]
    return "\n\n".join([*head, *(text for name, body in sections if body for text in (f"## {name}", body))]) + "\n"


def index_page() -> str:
    found = families().values()
    rows = (
        [f"[{f.module}]({f.module}.md)", _cell(f.parts.title), str(_num_names(f)), str(f.num_overloads)] for f in found
    )
    totals = ["**all**", "", str(sum(map(_num_names, found))), str(sum(f.num_overloads for f in found))]
    return "\n\n".join(
        [
            "# Operators by family",
            "A page a family: what it computes, on which shapes and types, where PyTorch's kernel runs instead, how "
            f"fast it is and where it comes from. `{COMMAND}` writes them from the docstrings of `src/tessera/ops`, "
            "the table of operators and the measurements of this repository. "
            "[How the operators are checked](../operators.md).",
            table(["family", "what it is", "rows:", "overloads:"], [*rows, totals]),
            "*Rows* are the overloads that the catalogue names; *overloads* counts those that follow from PyTorch's "
            "schema as well: in place, `out=`, functional, and with a number in place of a tensor.",
            "## The Core ATen set",
            _core(),
        ]
    ) + "\n"


def _core() -> str:
    found = core()
    others = (("views", found.views), ("made of others", found.composed), ("the rest", found.rest))
    total = len(found.served) + sum(len(names) for _, names in others)
    lines = ([what, str(len(names)), ", ".join(f"`{name}`" for name in names)] for what, names in others if names)
    return (
        f"PyTorch tags {total} overloads as core; {len(found.served)} of them are of operators served here. The others "
        "are PyTorch's own: views, operators that PyTorch makes of others, and a rest that allocates memory, reads a "
        f"number, is made of copies, or has no kernel here.\n\n{table(['', 'overloads:', 'which'], lines)}"
    )


def _num_names(family: Family) -> int:
    return sum(len(operator.names) for operator in family.operators)


def _where(family: Family) -> str:
    links = [f"[`{name}.py`](../../src/tessera/ops/{name}.py)" for name in (family.module, *_files(family.module))]
    made_of = [f"[{name}]({name}.md)" for name in _others(family.module)]
    text = f"Written in {links[0]}"
    text += f", with {', '.join(links[1:])}" if links[1:] else ""
    text += f"; uses {', '.join(made_of)}" if made_of else ""
    return f"{text}. [All families](README.md)."


# What every family is made with; a page need not say so.
_EVERYWHERE = ("catalogue", "declined", "generate", "launch", "layout", "rows", "tiles", "table")


def _imports(module: str) -> list[str]:
    return sorted({file for file, _ in source.imported(module).values()} - {module, *_EVERYWHERE})


def _files(module: str) -> list[str]:
    """Files that belong to a family and serve no operator of their own."""
    return [name for name in _imports(module) if name not in families()]


def _others(module: str) -> list[str]:
    return [name for name in _imports(module) if name in families()]


def _computes(family: Family) -> str:
    named = family.parts.named
    lines = [f"```text\n{named['Formula']}\n```"]
    lines += [f"**{name}:** {named[name]}" for name in ("Shapes", "Types") if name in named]
    return "\n\n".join([*lines, *family.parts.method])


def _operators(operators: Sequence[Operator]) -> str:
    chips = figures.tuned_chips()
    headings = ["operator", "what it computes", "overloads that follow", *(f"ours faster, {chip}:" for chip in chips)]
    lines = []
    for operator in operators:
        won = [figures.faster(chip, operator.names) for chip in chips]
        lines.append(
            [
                ", ".join(f"`{name}`" for name in operator.names),
                _cell(operator.computes),
                ", ".join(f"`{name}`" for name in operator.derived),
                *(f"{wins} of {calls}" if calls else "" for wins, calls in won),
            ]
        )
    return table(headings, lines) + "\n\n" + (
        "*Ours faster*: in how many of the calls (types, layouts, sizes, numbers of threads) that were measured for "
        "the table shipped for the chip. By default these are ours: see [the choice](../policy.md)."
    )


def _limits(family: Family) -> str:
    reasons = source.reasons(family.module)
    limits = family.parts.named.get("Limits", "")
    text = [f"**Limits:** {limits}"] if limits else []
    if reasons:
        text.append("A record of calls gives these reasons: " + "; ".join(f"*{reason}*" for reason in reasons) + ".")
    return "\n\n".join(text)


def _blocks(module: str) -> str:
    names = source.block_sizes(module, frozenset(families()) - {module})
    if not names:
        return ""
    lines = (
        [f"`{name}`", _SIZES[name], *(_size(getattr(tiles.TILES[chip], name)) for chip in _CHIPS)] for name in names
    )
    return (
        table(["size", "what it bounds", *(f"{chip}:" for chip in _CHIPS.values())], lines)
        + "\n\nIn elements, where nothing else is said; rows of `TILES` in "
        "[`tiles.py`](../../src/tessera/ops/tiles.py). A launch takes powers of 2 up to these."
    )


def _size(value: bool | int | tuple[int, ...]) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " × ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _speed(module: str) -> str:
    parts = [_kernel_rows(module), _operator_rows(module)]
    if not any(parts):
        return ""
    sources = " and ".join(f"[{name}](../results/{name})" for name in figures.pages())
    lead = f"Ratios are PyTorch's time divided by ours: above 1× we are faster. From {sources}."
    return "\n\n".join([lead, *(part for part in parts if part)])


def _kernel_rows(module: str) -> str:
    """A line a kernel, shape and type; the ratio on each number of threads."""
    groups: dict[tuple[str, str, str], list[figures.Row]] = {}
    for row in figures.kernels(module):
        groups.setdefault((row["kernel"], row["shape"], row["dtype"]), []).append(row)
    if not groups:
        return ""
    counts = sorted({row["threads"] for rows in groups.values() for row in rows})
    lines = []
    for (kernel, shape, dtype), rows in groups.items():
        by_count = {row["threads"]: row for row in rows}
        cells = [f"{number(by_count[n]['ours_us'])} µs, {ratio(by_count[n]['ratio'])}" for n in counts]
        lines.append([f"`{kernel}`", shape, dtype, f"`{rows[0]['peer']}`", *cells])
    return table(["kernel", "shape", "type", "PyTorch runs", *(f"{threads_text(n)}:" for n in counts)], lines)


def _operator_rows(module: str) -> str:
    """A line an operator: the geometric mean of its ratios at each type and size."""
    rows = figures.operators(module)
    if not rows:
        return ""
    cells = list(dict.fromkeys((row["dtype"], row["size"]) for row in rows))
    lines = []
    for name in dict.fromkeys(row["operator"] for row in rows):
        found = [
            [row["ratio"] for row in rows if (row["operator"], row["dtype"], row["size"]) == (name, *cell)]
            for cell in cells
        ]
        lines.append([f"`{name}`", *(ratio(geomean(ratios)) if ratios else "" for ratios in found)])
    return table(["operator", *(f"{dtype} {size}:" for dtype, size in cells)], lines)


def linked(text: str) -> str:
    """With links to papers, and to the pages of public names of PyTorch."""
    text = _PAPER.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return _DOCUMENTED.sub(_reference, text)


def _reference(match: re.Match[str]) -> str:
    name = match[1]
    page = f"https://docs.pytorch.org/docs/stable/generated/{name}.html"
    return f"[`{name}`]({page})" if not name.rpartition(".")[2].startswith("_") else f"`{name}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*") if "`" not in text else text.replace("|", "\\|")


def pages() -> Iterator[tuple[str, str]]:
    """Name of a file in `docs/operators`, and what is written there."""
    yield "README.md", index_page()
    for family in families().values():
        yield f"{family.module}.md", family_page(family)
