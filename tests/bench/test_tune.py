"""`tessera tune`: what it keeps, what it says, and what does not stop it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tessera
from tessera import cli
from tessera.aten import store
from tessera.bench import measure
from tessera.bench import tune as job
from tessera.bench.tune import TuneConfig
from tessera.bench.turns import Effort
from tessera.core.chips import detect_cpu
from tessera.core.errors import UsageError
from tessera.ops.table import VARIANTS

CONFIG = TuneConfig(only="hardsw*", threads=(1,), sizes=("tiny",))


@pytest.fixture(autouse=True)
def short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A store of the test's own, nothing shipped, and no care for figures."""
    monkeypatch.setenv("TESSERA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path)
    monkeypatch.setattr(job, "compare", lambda sample: measure.compare(sample, Effort(seconds=1e-4, rounds=2)))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def tune(config: TuneConfig, say: Callable[[str], None] = lambda _: None) -> job.Tuned:
    return job.tune(config, store.Store(), say)


def kept() -> set[str]:
    return {one.operator for one in store.Store().read(store.here(detect_cpu()))}


def test_what_is_measured_is_kept_and_decides() -> None:
    tuned = tune(CONFIG)
    assert kept() == {"hardswish", "hardswish_backward"}
    assert {str(one.place) for one in tuned.measurements} == {
        "float32, contiguous, size class 3", "bfloat16, contiguous, size class 3"
    }  # fmt: skip
    assert all(one.ours_us > 0 and one.vendor_us > 0 and not one.failure for one in tuned.measurements)
    assert not tuned.left and not tuned.failures
    assert tessera.explain_choice("hardswish", torch.randn(64)).detail != "not measured"


def test_a_kernel_that_fails_is_pytorchs_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    variant = VARIANTS["aten::hardswish"]

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("of the test")

    monkeypatch.setitem(variant.__dict__, "call", broken)
    tuned = tune(CONFIG)
    assert tuned.failures == {"hardswish": "ZeroDivisionError: of the test"}
    assert kept() == {"hardswish", "hardswish_backward"}
    choice = tessera.explain_choice("hardswish", torch.randn(64))
    assert not choice.ours and "ZeroDivisionError: of the test" in choice.detail


def test_an_interruption_keeps_what_is_there_and_the_next_run_goes_on() -> None:
    def interrupt(name: str) -> None:
        if name == "hardswish_backward":
            raise KeyboardInterrupt

    tuned = tune(CONFIG, interrupt)
    assert tuned.interrupted and tuned.left == ("hardswish_backward",)
    assert kept() == {"hardswish"}
    told: list[str] = []
    tune(CONFIG, told.append)
    assert told == ["hardswish_backward", "hardswish"]


def test_the_budget_ends_a_run() -> None:
    tuned = tune(TuneConfig(only="hardsw*", threads=(1,), sizes=("tiny",), budget_s=1e-9))
    assert tuned.left == ("hardswish", "hardswish_backward") and not kept()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"only": "hardswitch"}, "'hardswitch' picks no operator"),
        ({"budget_s": 0.0}, "--budget is 0; give seconds above 0"),
        ({"threads": (0,)}, "give numbers from 1 on"),
    ],
)
def test_what_cannot_be_measured(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TuneConfig(**options)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    table, result = tmp_path / "table.json", tmp_path / "result.json"
    monkeypatch.setattr("sys.argv", ["tessera", "tune", "--only", "_foreach_frac", "--threads", "1",
                                     "--table", str(table), "--json", str(result)])  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code
    assert "1 operators in 10 measurements" in capsys.readouterr().out
    assert json.loads(result.read_text())["operators"] == 1
    assert {one.operator for one in store.read_table(table)} == {"_foreach_frac"}
    with tessera.use(table):
        pass
