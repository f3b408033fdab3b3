"""`tessera bench ops`: rows of real calls, and pages that follow from their data alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tessera import bench_command
from tessera.aten.store import Store, here
from tessera.bench import anatomy, ops, ops_page, pages
from tessera.bench.ops import OpsConfig, family, measure
from tessera.bench.turns import Effort
from tessera.core.chips import detect_cpu
from tessera.core.errors import UsageError

SHORT = Effort(seconds=1e-4, rounds=2, settle_s=0.0)
ABOUT: dict[str, Any] = {
    "command": "tessera bench ops", "date": "2026-01-01", "threads": [1], "rounds": 7, "seconds": 0.04,
    "machine": {
        "model": "a CPU", "chip": "x86-64", "cores": 2, "memory_gib": 8.0, "system": "Linux", "busy_percent": 1.0
    },
    "versions": {"tessera": "0.1.0"},
}  # fmt: skip

ROOF = {"threads": 1, "matmul float32": 90.0, "matmul bfloat16": 400.0, "copy": 30.0}


def row(operator: str, ratio: float, ours_us: float = 100.0, **more: Any) -> dict[str, Any]:
    return {
        "family": "pointwise", "operator": operator, "layout": "contiguous", "size": "small", "dtype": "float32",
        "threads": 1, "ours_us": ours_us, "torch_us": ours_us * ratio, "ratio": ratio, "rate": 10.0, "unit": "GB/s",
        **more,
    }  # fmt: skip


def found(row: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The anatomy of a row: one launch on its operands alone, but for `more`."""
    plain = {"launches": 1, "calls": 0, "operands_bytes": 1000, "extra_bytes": 0, "outside_us": 1.0}
    return {**{key: row[key] for key in anatomy.KEY}, **plain, **more}


def results(*rows: dict[str, Any], **anatomies: dict[str, Any]) -> dict[str, Any]:
    """`anatomies`: by operator, what differs from `found`."""
    return {
        "worst": [found(row, **anatomies.get(row["operator"], {})) for row in anatomy.worst(rows)],
        "about": ABOUT, "policy": "always", "compiler": "", "early": "",
        "roofs": [{"threads": 1, "matmul float32": 90.0, "copy": 20.0}],
        "skipped": [{"operator": "qr", "dtype": "float32", "skipped": "no | call"}], "rows": ops_page.packed(rows),
    }  # fmt: skip


def test_calls_are_timed_on_both_sides() -> None:
    config = OpsConfig(only="hardsigmoid", sizes=("tiny",), threads=(1,), compiled=False, effort=SHORT)
    rows = list(measure(config, lambda _: None))
    assert {(one["operator"], one["dtype"], one["size"]) for one in rows} == {
        (name, dtype, "tiny") for name in ("hardsigmoid", "hardsigmoid_backward") for dtype in ("float32", "bfloat16")
    }
    assert all(one["ours_us"] > 0 and one["torch_us"] > 0 and one["unit"] == "GB/s" for one in rows)


def test_flop_are_counted_of_products() -> None:
    config = OpsConfig(only="addmv", sizes=("tiny",), threads=(1,), compiled=False, effort=SHORT)
    assert {one["unit"] for one in measure(config, lambda _: None)} == {"GFLOP/s"}


@pytest.mark.parametrize(
    ("name", "file"),
    [("gelu", "pointwise"), ("mm", "matmul"), ("scatter_add", "scatter"), ("_foreach_add.List", "foreach")],
)  # fmt: skip
def test_families_are_files(name: str, file: str) -> None:
    assert family(name) == file


@pytest.mark.parametrize(
    ("options", "message"),
    [({"sizes": ("huge",)}, "unknown size 'huge'"), ({"only": "geluu"}, "'geluu' picks no operator")],
)
def test_what_cannot_be_measured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        OpsConfig(**options)


def test_the_worst_stand_first_with_their_cause() -> None:
    rows = (row("fast", 4.0), row("short", 0.5, ours_us=4.0), row("slow", 0.25))
    text = ops_page.ops_page(results(*rows))
    worst = text.split("## The worst ten")[1].split("##")[0].splitlines()[4:]
    assert [line.split("`")[1] for line in worst if "`" in line] == ["slow", "short", "fast"]
    assert "| at 50% of the roof of memory, PyTorch's at 200%, in caches |" in worst[0]
    assert "| overhead: 1 of its 4 µs are spent outside our kernels, and all of PyTorch's call takes 2 µs |" in worst[1]
    assert worst[2].endswith("|  |")
    assert "| **all** |  |  | 3 | 0.79× | 0.25× | 2 | 33% |" in text
    assert "| `qr` | float32 | no ¦ call |" in text


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({"launches": 3, "extra_bytes": 2000}, "3 launches work on its operands and 200% more memory; at 50%"),
        ({"launches": 2}, "2 launches work on its operands; at 50%"),
        ({"extra_bytes": 500}, "1 launch works on its operands and 50% more memory; at 50%"),
        ({"outside_us": 20.0}, "20 of its 100 µs are spent outside our kernels; at 50%"),
        ({"calls": 1}, "1 of its 2 steps look at values or are PyTorch's own; at 50%"),
        ({"calls": 1, "launches": 0}, "it looks at values between its kernels, or is PyTorch's own behind ours; at"),
        ({"failure": "CaptureError: no"}, "not looked into: CaptureError: no; at 50%"),
    ],
)
def test_a_cause_follows_from_the_anatomy(more: dict[str, Any], cause: str) -> None:
    data = results(row("slow", 0.25), slow=more)
    assert cause in ops_page.ops_page(data)
    assert cause in next(ops_page.terminal(data))


@pytest.mark.parametrize(
    ("num_bytes", "cause"),
    [
        (1_000_000, "at 50% of the roof of memory, PyTorch's at 200%, in caches"),
        (1000, "at 11% of the roof of arithmetic, PyTorch's at 44%"),
    ],
)
def test_a_product_is_held_against_the_nearer_roof(num_bytes: int, cause: str) -> None:
    """100 µs for a megabyte are 10 GB/s of 20, and 10 GFLOP/s are a ninth of 90."""
    data = results(row("slow", 0.25, unit="GFLOP/s"), slow={"operands_bytes": num_bytes})
    assert cause in ops_page.ops_page(data)


def test_the_anatomy_of_calls() -> None:
    config = OpsConfig(only="var.correction", sizes=("small",), threads=(1,), compiled=False, effort=SHORT)
    rows = [one for one in measure(config, lambda _: None) if one["layout"] == "rows" and one["dtype"] == "float32"]
    (one,) = anatomy.dissect(rows, config)
    assert {key: one[key] for key in anatomy.KEY} == {key: rows[0][key] for key in anatomy.KEY}
    assert one["launches"] > 1 and one["calls"] == 0, "a variance is made of several kernels"
    assert one["operands_bytes"] >= 4 * 2**14
    assert one["extra_bytes"] >= 4 * 2**14, "the squared differences are as large as the operand"
    assert one["outside_us"] >= 0


def test_the_anatomy_of_calls_that_look_at_values() -> None:
    config = OpsConfig(only="[n]onzero", sizes=("tiny",), threads=(1,), compiled=False, effort=SHORT)
    rows = [one for one in measure(config, lambda _: None) if one["dtype"] == "float32"][:1]
    (one,) = anatomy.dissect(rows, config)
    assert one["calls"] == 1 and "outside_us" not in one


def test_data_on_disk_make_the_page_again(tmp_path: Path) -> None:
    data = results(row("fast", 4.0, cpp_us=50.0, cpp_ratio=2.0), row("slow", 0.25, threads=2))
    written = pages.write(tmp_path, ops_page.NAME, data, ops_page.RENDERS)
    again = json.loads(written[0].read_text())
    assert [path.read_text() for path in written] == [render(again) for render in ops_page.RENDERS.values()]
    assert "| `fast` | float32 | 1 | 400 | 4.00× | 2.00× |" in written[1].read_text()


def test_what_the_policy_leaves_alone_is_said(tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text('{"about": {}, "rows": []}')
    options: dict[str, Any] = {"sizes": ("tiny",), "threads": (1,), "compiled": False, "effort": SHORT}
    rows = list(measure(OpsConfig(only="hardsigmoid", policy=str(table), **options), lambda _: None))
    assert {one["skipped"] for one in rows} == {"PyTorch's own, by the policy: not registered on 1 thread"}


def test_every_compiled_operator_exists() -> None:
    assert set(ops.COMPILED) <= set(ops.operators())


def test_a_run_that_is_interrupted_writes_what_it_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def until_ctrl_c(config: OpsConfig, say: Any, keep: Any) -> Iterator[dict[str, Any]]:
        yield row("neg", 1.5)
        raise KeyboardInterrupt

    monkeypatch.setattr(bench_command, "measure", until_ctrl_c)
    monkeypatch.setattr(bench_command, "roofs", lambda threads: [ROOF])
    config = OpsConfig(only="*", threads=(1,), sizes=("small",), compiled=False, effort=SHORT)
    console = Console(width=200)
    written, complete = bench_command.run_ops(config, console, out=tmp_path, command="tessera bench ops")
    assert not complete and "Ended early: 1 of " in written["early"]
    assert written["early"] in (tmp_path / "ops-cpu.md").read_text()
    assert "neg" in capsys.readouterr().out


def test_what_was_measured_is_kept_for_the_choice_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(bench_command, "roofs", lambda threads: [ROOF])
    config = OpsConfig(only="hardswish", threads=(1,), sizes=("small",), compiled=False, effort=SHORT)
    for keep in (False, True):
        results, _ = bench_command.run_ops(config, Console(), out=None, command="tessera bench ops", keep=keep)
        kept = Store().read(here(detect_cpu()))
        assert len(kept) == (len(results["rows"]["values"]) if keep else 0)
    assert {one.operator for one in kept} == {"hardswish", "hardswish_backward"}


def test_what_does_not_always_run_ours_is_not_kept() -> None:
    config = OpsConfig(only="hardswish", threads=(1,), sizes=("small",), policy="measured")
    with pytest.raises(UsageError, match="--keep stores how fast ours is, and --policy measured does not always run"):
        bench_command.run_ops(config, Console(), out=None, command="", keep=True)


def test_what_is_compiled_for_comparison_is_compiled_each_time() -> None:
    """PyTorch runs a line uncompiled once it was compiled eight times."""
    config = OpsConfig(only="add.Tensor", sizes=("medium",), threads=(1,), effort=SHORT)
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for _ in range(5):
        rows = [row for row in measure(config, lambda name: None) if "cpp_us" in row]
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"] - before
    assert len(rows) == 2 and compiled == 10
