"""Pages: what they say is what their data says."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import markdown, results
from tests.benchmarks import sample

ROOT = Path(__file__).resolve().parents[2]
SAMPLES: dict[str, Callable[[], dict[str, Any]]] = {
    "kernels-cpu": sample.kernels,
    "compile-cpu": sample.compiling,
    "models-cpu": sample.models,
    "inductor-cpu": sample.inductor,
    "collections-cpu": sample.collections,
}
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", SAMPLES)
def test_what_is_written_agrees_and_a_changed_number_does_not(name: str, tmp_path: Path) -> None:
    written = results.write(tmp_path, name, SAMPLES[name]())
    assert json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8")) == SAMPLES[name]()
    assert results.disagreements(tmp_path) == []
    page = tmp_path / f"{name}.md"
    page.write_text(page.read_text(encoding="utf-8").replace("5", "6"), encoding="utf-8")
    assert results.disagreements(tmp_path) == [f"{name}.md is not what {name}.json says"]
    page.unlink()
    assert results.disagreements(tmp_path) == [f"{name}.md is missing"]
    for path in written:
        path.unlink(missing_ok=True)
    page.write_text("# From memory\n", encoding="utf-8")
    assert results.disagreements(tmp_path) == [f"{name}.md has no {name}.json"]


@pytest.mark.parametrize("folder", ["", "znver4"])
def test_the_committed_pages_agree_with_their_data(folder: str) -> None:
    assert results.disagreements(ROOT / "docs" / "results" / folder) == []


def test_the_worst_ten_stand_first_and_losses_stay() -> None:
    text = markdown.kernels_page(sample.kernels())
    worst = text.split("## The worst ten")[1].split("##")[0]
    ratios = [float(value) for value in re.findall(r"\| ([\d.]+)× \|", worst)]
    assert ratios == [0.25, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0, 1.25, 1.25]
    everything = text.split("## All")[1]
    assert all(everything.count(f"| k{index} | 64×1024 |") == 2 for index in range(12))
    assert "| k0 | 64×1024 | float32 | 1 | 10 | 2.5 | 0.25× | 78.6 GB/s | k0 | ≥ 1× | ✗ |" in everything


def test_the_summary_counts_targets_and_means_over_ratios() -> None:
    data = {**sample.kernels(), "kernels": [sample.kernel_row("slow", 0.5), sample.kernel_row("fast", 8.0)]}
    assert "| pointwise | 2.00× | 1 of 2 |" in markdown.kernels_page(data)


def test_a_page_tells_how_it_came_to_be() -> None:
    text = markdown.models_page(sample.models())
    for part in ("$ make bench", "2026-01-31", "Example CPU", "2 cores", "torch 2.13.0", "7 rounds"):
        assert part in text
    assert "not to be trusted" not in text


def test_a_page_from_a_busy_machine_says_so() -> None:
    machine = {**sample.ABOUT["machine"], "busy_percent": 80.0}  # type: ignore[dict-item]
    text = markdown.models_page({**sample.models(), "about": {**sample.ABOUT, "machine": machine}})
    assert "Other programs took 80 % of the machine" in text


def test_arguments_of_a_kernel_are_counted_by_type() -> None:
    assert markdown.arguments("*fp32, constexpr, *fp32, i32, constexpr") == "`*fp32 ×2, i32`"


def test_what_was_not_measured_is_listed() -> None:
    row = {"family": "reduce", "kernel": "mean", "shape": "1×1", "dtype": "int8", "skipped": "declined: integers"}
    assert "| reduce | mean | 1×1 | int8 | declined: integers |" in markdown.kernels_page(
        {**sample.kernels(), "skipped": [row]}
    )


def test_the_plot_has_a_bar_for_each_ratio_on_the_side_where_it_belongs(tmp_path: Path) -> None:
    results.write(tmp_path, "kernels-cpu", sample.kernels())
    root = xml.etree.ElementTree.parse(tmp_path / "kernels-cpu.svg").getroot()
    bars = [bar for bar in root.iter(f"{_SVG}rect") if bar.get("class") != "paper"]
    assert len(bars) == 24
    even = next(float(line.get("x1", "")) for line in root.iter(f"{_SVG}line") if line.get("class") == "one")
    for bar in bars:
        title = bar.find(f"{_SVG}title")
        assert title is not None and title.text is not None
        value = float(title.text.split(": ")[1].removesuffix("×"))
        start, width = float(bar.get("x", "")), float(bar.get("width", ""))
        assert (start + width <= even + 0.2) if value < 1 else (start >= even - 0.2)
        assert ("less" in bar.get("class", "")) == (value < 1)
