"""The unseen lab's results: what was said of each fault when it was first run, which stays, and what is said now."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from faultlab.judge import Outcome
from faultlab.table import counts

_SETS = {"second": "the second set", "third": "the third set"}
_NOTE = """Made by `python -m faultlab --unseen --out docs/results`. What counts as naming a fault, and which kinds are
right, was written down before its first run; the first answer stays in the table when the check has become better
since. So the column *first* tells how the check does on what it was not made with, and *now* only that misses were
mended. The second set (the lab is the first) was run before anything was mended by it. The third was written after
that, with other models and faults: its first answers are those of the check as the second set had made it.

Changed after a first run: in the BERT port whose positions start at two, `gather` counts as naming the operator,
since it is what reads them there (the first answer said so, and stays counted as a miss); and a fault that was planted
too weakly to reach the end of float16 was planted anew, under another name, and keeps the first answer, a miss.
A kernel that loses atomic additions at random loses three in ten, where it lost one in twenty at first. Of the third
set: a fault that ended the run was planted anew under another name and keeps its first answer, a miss; `scale` counts
as the kind where half as many buckets are made; and a backward kernel's module is `(model)`, where it runs."""


def record(outcomes: list[Outcome], folder: Path, *, whole: bool) -> None:
    """Write both files. First answers are kept from the file that is there; a part of the cases leaves others alone."""
    path = folder / "check-unseen.json"
    before: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else []
    former = {_key(row["now"]): row for row in before}
    rows = {} if whole and len(outcomes) >= len(former) else dict(former)
    for outcome in outcomes:
        now = outcome.as_dict()
        rows[_key(now)] = {"first": former.get(_key(now), {"first": _answer(now)})["first"], "now": now}
    listed = list(rows.values())
    path.write_text(json.dumps({**_figures(listed), "cases": listed}, indent=1) + "\n", encoding="utf-8")
    (folder / "check-unseen.md").write_text(_markdown(listed), encoding="utf-8")


def words(outcomes: list[Outcome]) -> str:
    """For the terminal: what was right now."""
    n = counts(outcomes)
    return _line("now", n) + f"\n{n['clean']} clean runs: {n['accused']} called wrong, {n['suspicious']} suspicious"


def _key(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["family"], row["dtype"], row["name"]


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("verdict", "void", "named", "kind_right", "said")}


def _figures(rows: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, int]]]:
    """Of each set: counts of the first answers and of those now."""
    figures = {}
    for name in _SETS:
        of_set = [row for row in rows if row["now"]["set"] == name]
        then = [Outcome(**{**row["now"], **row["first"]}) for row in of_set]
        figures[name] = {"first": counts(then), "now": counts([Outcome(**row["now"]) for row in of_set])}
    return figures


def _line(when: str, n: dict[str, int]) -> str:
    share = (f"{100 * n[name] / max(n['faults'], 1):.0f} %" for name in ("named", "kinds"))
    named, kinds = share
    return f"{when}: of {n['faults']} faults {n['named']} named ({named}), {n['kinds']} with the right kind ({kinds})"


def _markdown(rows: list[dict[str, Any]]) -> str:
    figures = _figures(rows)
    lines = [
        "# Unseen faults",
        "",
        _NOTE,
        "",
        "| set | answer | faults | named | and the right kind | clean runs | called wrong | suspicious |",
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for name, answers in figures.items():
        for when, n in answers.items():
            numbers = (n[name] for name in ("faults", "named", "kinds", "clean", "accused", "suspicious"))
            lines.append(f"| {name} | {when} | {' | '.join(map(str, numbers))} |")
    for name, words_for_it in _SETS.items():
        of_set = [row for row in rows if row["now"]["set"] == name]
        lines += [
            "",
            f"## Faults of {words_for_it}",
            "",
            "| model | type | fault | first | now |",
            "|---|---|---|---|---|",
        ]
        lines += [_row(row) for row in of_set if not row["now"]["clean"]]
        lines += ["", f"## Clean runs of {words_for_it}", "", "| model | type | changed | first | now |"]
        lines += ["|---|---|---|---|---|"] + [_row(row) for row in of_set if row["now"]["clean"]]
    lines += ["", "## Every answer that is not right now", ""]
    missed = [Outcome(**row["now"]) for row in rows]
    lines += [f"- {row.line().replace('|', '; truth:')}" for row in missed if not row.right] or ["None."]
    lines += ["", "## Every first answer that was not right", ""]
    then = [Outcome(**{**row["now"], **row["first"]}) for row in rows]
    lines += [f"- {row.line().replace('|', '; truth:')}" for row in then if not row.right] or ["None."]
    return "\n".join(lines) + "\n"


def _row(row: dict[str, Any]) -> str:
    now, first = row["now"], {**row["now"], **row["first"]}
    return f"| {now['family']} | {now['dtype']} | {now['name']} | {_word(first)} | {_word(now)} |"


def _word(answer: dict[str, Any]) -> str:
    if answer["void"]:
        return "no effect"
    if answer["clean"]:
        return str(answer["verdict"])
    return "right" if answer["named"] and answer["kind_right"] else "kind wrong" if answer["named"] else "**missed**"
