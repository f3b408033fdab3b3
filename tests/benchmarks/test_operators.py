"""Pages of the operator families: they are what the source says now, and no family is silent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from benchmarks.operators import figures, source
from benchmarks.operators.__main__ import FOLDER, main
from benchmarks.operators.docstring import parse
from benchmarks.operators.families import Family, families
from benchmarks.operators.page import COMMAND, family_page, pages
from tessera.bench import ops_page
from tessera.ops.table import VARIANTS

FAMILIES = [pytest.param(family, id=name) for name, family in families().items()]


def test_the_committed_pages_are_what_is_written_now() -> None:
    """Where this fails, the command writes them again."""
    now = dict(pages())
    assert sorted(path.name for path in FOLDER.glob("*.md")) == sorted(now), f"run {COMMAND}"
    assert [n for n, text in now.items() if (FOLDER / n).read_text(encoding="utf-8") != text] == [], f"run {COMMAND}"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_says_what_it_computes_and_where_it_comes_from(family: Family) -> None:
    missing = [name for name in ("Formula", "Shapes", "Types", "Source") if not family.parts.named.get(name)]
    assert missing == []
    silent = [operator.names for operator in family.operators if not operator.computes]
    assert silent == [], "neither the entry, nor its scalar function, nor what made it has a docstring"


@pytest.mark.parametrize("family", FAMILIES)
def test_sources_are_named_as_pytorch_names_them(family: Family) -> None:
    for name in re.findall(r"\btorch(?:\.\w+)+", family.parts.named["Source"]):
        found = torch
        for part in name.split(".")[1:]:
            assert hasattr(found, part), f"{name} is not in PyTorch"
            found = getattr(found, part)


def test_every_overload_is_on_a_page() -> None:
    found = [name for family in families().values() for o in family.operators for name in (*o.names, *o.derived)]
    assert sorted(found) == sorted(variant.name for variant in VARIANTS.values())


def test_parts_of_a_docstring() -> None:
    parts = parse(
        """One line.

        How it works,
        in two lines.

        Formula:
            y = x
              + 1
        Shapes: any,
        of any rank.
        Source: one, "A title"; torch.add
        """
    )
    assert (parts.title, parts.method) == ("One line.", ("How it works, in two lines.",))
    assert parts.named["Formula"] == "y = x\n  + 1"
    assert parts.named["Shapes"] == "any, of any rank."
    assert parts.sources == ['one, "A title"', "torch.add"]


def test_reasons_and_block_sizes_are_read_from_the_source() -> None:
    assert "attention with dropout" in source.reasons("attention")
    assert "more than 3 index tensors" in source.reasons("index")
    assert source.block_sizes("softmax", frozenset()) == ["row", "longest_row", "streamed_bytes"]


def test_speed_is_shown_where_it_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"family": "softmax", "operator": "_softmax", "dtype": "float32", "size": size, "threads": n, "ratio": ratio}
        for size, n, ratio in (("small", 1, 0.5), ("small", 2, 2.0), ("large", 1, 3.0))
    ]
    (tmp_path / "ops-cpu.json").write_text(json.dumps({"rows": ops_page.packed(rows)}), encoding="utf-8")
    (tmp_path / "kernels-cpu.json").write_text('{"kernels": []}', encoding="utf-8")
    monkeypatch.setattr(figures, "RESULTS", tmp_path)
    for cached in (figures._operators, figures._kernels):
        monkeypatch.setattr(figures, cached.__name__, cached.__wrapped__)
    text = family_page(families()["softmax"])
    assert "| operator | float32 small | float32 large |" in text
    assert "| `_softmax` | 1.00× | 3.00× |" in text
    assert "[ops-cpu.md](../results/ops-cpu.md)" in text
    assert "## Speed" not in family_page(families()["sort"])


def test_a_page_of_a_family_that_is_gone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "gone.md").write_text("# gone\n", encoding="utf-8")
    assert main(["--out", str(tmp_path)]) == 0
    assert not (tmp_path / "gone.md").exists()
    assert (tmp_path / "softmax.md").exists()
