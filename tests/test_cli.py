"""The command line from outside: what it prints, what it writes, its exit status, and no traceback ever."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tessera
from tessera import cli
from tessera.core import doctor
from tessera.core.chip_rows import CHIPS
from tessera.core.doctor import Check
from tessera.core.errors import MissingDependency, UsageError


class Outcome(SimpleNamespace):
    """How a command ended: `status`, `out`, `err`."""


@pytest.fixture
def tessera_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the program in this process with the given arguments."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["tessera", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Outcome(status=ended.value.code or 0, out=printed.out, err=printed.err)

    return run


def test_version(tessera_command: Any) -> None:
    outcome = tessera_command("--version")
    assert (outcome.status, outcome.out) == (0, f"tessera {tessera.__version__}\n")


def test_help_names_commands_and_environment(tessera_command: Any) -> None:
    outcome = tessera_command("--help")
    assert outcome.status == 0
    for name in ("bringup", "check", "chips", "doctor", "tune", "bench", "TESSERA_NUM_THREADS", "TESSERA_TARGET"):
        assert name in outcome.out
    assert "..." not in outcome.out.split("Commands:")[1], "a first sentence is too long for the list"


@pytest.mark.parametrize("command", ["bringup", "check", "chips", "doctor", "tune", "bench ops"])
def test_help_of_every_command_has_examples_that_parse(tessera_command: Any, command: str) -> None:
    text = tessera_command(*command.split(), "--help").out
    examples = re.findall(rf"^ +tessera {command}(.*)$", text.split("Examples:")[1], flags=re.MULTILINE)
    assert len(examples) >= 2
    for example in examples:
        assert tessera_command(*command.split(), *example.split(), "--help").status == 0


def test_help_comes_without_importing_torch() -> None:
    program = "import sys, tessera.cli; sys.exit('torch' in sys.modules or 'triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], env=os.environ).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["chips", "--fast"], "No such option"),
        (["bringup", "a", "b"], "b"),
    ],
)
def test_what_cannot_be_parsed_is_status_2(tessera_command: Any, arguments: list[str], message: str) -> None:
    outcome = tessera_command(*arguments)
    assert outcome.status == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


# --- errors ---


@pytest.mark.parametrize(
    "error",
    [
        UsageError(
            "model 'x[bold]y' is unknown;\n  known: builtin:minilm, and a rather long list that would wrap twice"
        ),
        MissingDependency("transformers is not installed; run: pip install 'transformers>=4.57'"),
    ],
)
def test_our_errors_are_one_line_and_status_2(
    tessera_command: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("tessera.core.chips.detect", fail)
    outcome = tessera_command("chips")
    assert outcome.status == 2
    assert outcome.err == f"error: {' '.join(str(error).split())}\n"


def test_a_fault_of_our_own_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr("tessera.core.chips.detect", fail)
    monkeypatch.setattr(sys, "argv", ["tessera", "chips"])
    with pytest.raises(ZeroDivisionError, match="a bug"):
        cli.main()


@pytest.mark.parametrize("command", ["chips", "doctor"])
def test_json_file_that_cannot_be_written_is_said_before_the_work(
    tessera_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def no_work(*arguments: object) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr("tessera.core.chips.detect", no_work)
    monkeypatch.setattr("tessera.core.doctor.examine", no_work)
    folder = tessera_command(command, "--json", str(tmp_path))
    assert folder.status == 2
    assert f"error: --json {tmp_path} is a folder; name a file in it, for example {tmp_path}" in folder.err
    missing = tessera_command(command, "--json", str(tmp_path / "no" / "x.json"))
    assert missing.status == 2
    assert f"there is no folder {tmp_path / 'no'}; create it or choose another" in missing.err


# --- chips ---


def test_chips_prints_this_machine_and_every_known_chip(tessera_command: Any) -> None:
    outcome = tessera_command("chips")
    assert outcome.status == 0
    assert outcome.out.startswith("cpu")
    for chip in CHIPS:
        assert chip.name in outcome.out
    assert "…" not in outcome.out
    assert max(map(len, outcome.out.splitlines())) <= 80


def test_chips_measure_writes_json(tessera_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = {"matmul float32": 98.4e9, "matmul bfloat16": 1.25e12, "read": 33e9, "copy": 29e9}
    monkeypatch.setattr("tessera.core.measure.measure", lambda device: iter(figures.items()))
    path = tmp_path / "chips.json"
    outcome = tessera_command("chips", "--measure", "--json", str(path))
    assert outcome.status == 0
    assert re.search(r"matmul float32 +98\.4 Gflop/s", outcome.out)
    assert re.search(r"matmul bfloat16 +1\.25 Tflop/s", outcome.out)
    assert re.search(r"read +33 GB/s", outcome.out)
    data = json.loads(path.read_text())
    assert data["here"][-1]["measured"] == figures
    assert data["here"][-1]["torch_device"] == "cpu"
    assert [row["name"] for row in data["known"]] == [chip.name for chip in CHIPS]


def test_chips_without_measuring_says_so_in_json(tessera_command: Any, tmp_path: Path) -> None:
    path = tmp_path / "chips.json"
    assert tessera_command("chips", "--json", str(path)).status == 0
    assert json.loads(path.read_text())["here"][-1]["measured"] is None


# --- doctor ---

WELL = Check(name="torch", state="ok", found="2.13.0", expected="<2.14,>=2.11")
MISSING = Check(name="rich", state="missing", found="", expected=">=13 [x]", install="rich>=13")
BROKEN = Check(name="kernel on the CPU", state="failed", found="SIGABRT", expected="a vector add")


@pytest.mark.parametrize(
    ("checks", "status", "says"),
    [
        ([WELL], 0, "All is well."),
        ([WELL, MISSING, BROKEN], 1, "-m pip install 'rich>=13'"),
        ([WELL, BROKEN], 1, "No command mends this"),
    ],
)
def test_doctor_says_what_is_wrong_and_what_mends_it(
    tessera_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checks: list[Check], status: int, says: str
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda on_check: checks)
    path = tmp_path / "doctor.json"
    outcome = tessera_command("doctor", "--json", str(path))
    assert outcome.status == status
    assert says in outcome.out
    for check in checks:
        assert re.search(rf"^{check.name} +{check.state}\b", outcome.out, flags=re.MULTILINE)
        assert check.expected in outcome.out
    data = json.loads(path.read_text())
    assert data["ok"] == (status == 0)
    assert [row["state"] for row in data["checks"]] == [check.state for check in checks]
    assert data["command"] == doctor.mending_command(checks)


# --- bringup ---


@pytest.mark.parametrize(("ready", "status"), [(True, 0), (False, 1)])
def test_bringup_hands_its_options_on_and_answers_by_its_status(
    tessera_command: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ready: bool, status: int
) -> None:
    seen: list[Any] = []

    def run(config: Any, console: Any) -> Any:
        seen.append(config)
        return SimpleNamespace(ready=ready)

    monkeypatch.setattr("tessera.bringup.job.run", run)
    report, data = tmp_path / "r.html", tmp_path / "r.json"
    outcome = tessera_command(
        "bringup", "python:a.b:c", "--dtype", "bfloat16", "--batch", "2", "--tokens", "16", "--threads", "1",
        "--json", str(data), "--report", str(report),
    )  # fmt: skip
    assert outcome.status == status
    config = seen[0]
    assert (config.model, config.dtype, config.batch, config.tokens, config.threads) == (
        "python:a.b:c", "bfloat16", 2, 16, 1,
    )  # fmt: skip
    assert {str(report), str(data)} <= {str(value) for value in vars(config).values()}


def test_bringup_refuses_an_unknown_model_in_one_line(tessera_command: Any) -> None:
    outcome = tessera_command("bringup", "builtin:minilmm")
    assert outcome.status == 2
    assert outcome.err.startswith("error: ")
    assert "builtin:minilm" in outcome.err
    assert outcome.err.count("\n") == 1


def test_the_installed_program_is_this_one() -> None:
    from importlib import metadata

    (script,) = metadata.entry_points(group="console_scripts", name="tessera")
    assert script.load() is cli.main
