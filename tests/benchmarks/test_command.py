"""`python -m benchmarks` as its user sees it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.results import disagreements


def test_a_part_is_measured_printed_and_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, data = tmp_path / "results", tmp_path / "all.json"
    code = main(["--quick", "--only", "pointwise/*64x1024*", "--threads", "1", "--out", str(out), "--json", str(data)])
    assert code == 0
    assert "pointwise/gelu 64×1024 float32, 1 thread: ours " in capsys.readouterr().out
    pages = json.loads(data.read_text(encoding="utf-8"))
    assert list(pages) == ["kernels-cpu"]
    assert pages["kernels-cpu"]["about"]["command"].startswith("python -m benchmarks --quick --only 'pointwise/")
    assert {row["kernel"] for row in pages["kernels-cpu"]["kernels"]} == {"add", "mul", "gelu", "silu"}
    assert sorted(path.name for path in out.iterdir()) == ["kernels-cpu.json", "kernels-cpu.md", "kernels-cpu.svg"]
    assert disagreements(out) == []


def test_models_are_measured_on_both_kernels(tmp_path: Path) -> None:
    data = tmp_path / "all.json"
    assert main(["--quick", "--only", "mlp training", "--threads", "1", "--json", str(data)]) == 0
    (row,) = json.loads(data.read_text(encoding="utf-8"))["models-cpu"]["models"]
    assert row["model"] == "mlp training float32"
    assert min(row["ours_ms"], row["torch_ms"], row["ratio"]) > 0


def test_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "decode"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert "matmul/decode 4096×4096 bfloat16" in listed and "models/llama decode float32" in listed
    assert all("decode" in name for name in listed)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (["--only", "no such kernel"], "nothing is named like 'no such kernel'; names are such as"),
        (["--threads", "1,zero"], "--threads is '1,zero'; give numbers from 1 on with commas between"),
        (["--threads", "0"], "--threads is '0'; give numbers from 1 on"),
    ],
)
def test_wrong_options_are_named(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "python -m benchmarks --only softmax" in capsys.readouterr().out
