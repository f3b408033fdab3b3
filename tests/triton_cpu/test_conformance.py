"""The conformance run on a small checkout of our own that does what real ones do, and worse."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tessera
from tessera.core.errors import MissingDependency, UsageError
from tessera.triton_cpu.conformance import session
from tessera.triton_cpu.conformance.result import Case, summarise
from tessera.triton_cpu.conformance.show import to_markdown

CONFTEST = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--device", default="cuda")

@pytest.fixture
def device(request):
    return request.config.getoption("--device")
"""

CORE = """
import os
import time

import pytest
import torch
import triton
import triton.language as tl
from triton._internal_testing import is_cpu

@triton.jit
def double(x, SIZE: tl.constexpr, VALUE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(x + at, tl.load(x + at) * VALUE)

@triton.jit
def newest(x):
    tl.store(x + tl.arange(0, 4), tl.topk(tl.load(x + tl.arange(0, 8)), 4, invented=True))

@pytest.mark.cpu
@pytest.mark.parametrize("size", [16, 32, 64])
def test_good(size, device):
    x = torch.ones(size, device=device)
    double[(1,)](x, size, 2.0)
    assert x.sum().item() == 2 * size

@pytest.mark.cpu
@pytest.mark.parametrize("number", [11, 12])
def test_wrong(number):
    raise ValueError(f"block {number} is wrong\\nmore of it")

@pytest.mark.cpu
def test_new_argument():
    newest[(1,)](torch.ones(8))

@pytest.mark.cpu
def test_new_name():
    tl.invented

@pytest.mark.cpu
def test_abort():
    os.abort()

@pytest.mark.cpu
def test_hang():
    time.sleep(600)

@pytest.mark.cpu
def test_lifted():
    if is_cpu():
        pytest.skip("not on a CPU")

@pytest.mark.cpu
def test_expected():
    pytest.xfail("as expected")

def test_unmarked():
    pass
"""

TUPLE = """
def test_without_marks():
    pass
"""

BROKEN = """
import triton.language.invented
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkout")
    folder = root / "python" / "test" / "unit" / "language"
    folder.mkdir(parents=True)
    (root / "python" / "test" / "conftest.py").write_text(CONFTEST)
    files = {"test_core.py": CORE, "test_tuple.py": TUPLE, "test_standard.py": BROKEN, "test_other.py": TUPLE}
    for name, text in files.items():
        (folder / name).write_text(text)
    return root


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tessera.triton_cpu.conformance", "--tests", str(checkout), *arguments]
    environ = {**os.environ, "PYTHONPATH": str(Path(tessera.__file__).parents[1]), "COLUMNS": "120"}
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def finished(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any], str]:
    """One run of everything: its output, its JSON and its Markdown."""
    folder = tmp_path_factory.mktemp("result")
    data, page = folder / "result.json", folder / "result.md"
    done = run(checkout, "--timeout", "5", "--json", str(data), "--markdown", str(page))
    assert data.exists(), done.stderr
    return done, json.loads(data.read_text()), page.read_text()


def test_counts_of_each_file(finished: Any) -> None:
    done, data, _ = finished
    assert done.returncode == 1 and data["ok"] is False
    counts = {row["file"]: row["counts"] for row in data["files"]}
    assert list(counts) == ["test_core.py", "test_standard.py", "test_tuple.py"]
    assert counts["test_core.py"] == {"passed": 3, "failed": 4, "newer": 2, "skipped": 1, "xfailed": 1}
    assert counts["test_tuple.py"]["passed"] == 1
    assert counts["test_standard.py"] == {"passed": 0, "failed": 0, "newer": 1, "skipped": 0, "xfailed": 0}


def test_a_crash_and_a_hang_are_failures_with_their_test_named(finished: Any) -> None:
    reasons = {row["reason"]: row["example"] for row in finished[1]["reasons"] if row["outcome"] == "failed"}
    assert reasons.pop("crashed: Aborted").endswith("test_core.py::test_abort")
    assert reasons.pop("took longer than the time for one test").endswith("test_core.py::test_hang")
    assert len(reasons) == 1


def test_failures_of_one_kind_are_one_reason(finished: Any) -> None:
    (row,) = (row for row in finished[1]["reasons"] if "block" in row["reason"])
    assert (row["count"], row["reason"]) == (2, "ValueError: block 11 is wrong")


def test_what_the_installed_triton_lacks_is_told_apart(finished: Any) -> None:
    reasons = sorted(row["reason"] for row in finished[1]["reasons"] if row["outcome"] == "newer")
    assert reasons == [
        "needs a newer Triton front end: No module named 'triton.language.invented'",
        "needs a newer Triton front end: got an unexpected keyword argument 'invented'",
        "needs a newer Triton front end: module 'triton.language' has no attribute 'invented'",
    ]


def test_compile_times_are_cold_and_name_their_test(finished: Any) -> None:
    row = finished[1]["files"][0]
    assert 0 < row["slowest_compile_s"] < 60
    assert row["slowest_compile_test"].startswith("test_good[")


def test_the_tables_say_the_same(finished: Any) -> None:
    done, _, page = finished
    assert "test_core.py          3      4     2       1       1" in done.stdout
    assert "1 skipped not on a CPU" in done.stdout
    assert "| test_core.py | 3 | 4 | 2 | 1 | 1 |" in page
    assert "$ python -m tessera.triton_cpu.conformance --tests triton-cpu\n" in page


def test_marks_and_skips_can_be_lifted(checkout: Path) -> None:
    done = run(checkout, "--only", "test_core.py", "-k", "lifted or unmarked", "--unmarked", "--lift-skips")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_core.py      2      0" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tests": Path("no-such-folder")}, "--tests no-such-folder: there is no such folder; give a checkout: git "),
        ({"tests": Path("/")}, "--tests / holds no python/test/unit/language; give a checkout: git clone"),
        ({"only": ("test_cor.py",)}, "unknown test file 'test_cor.py'; did you mean 'test_core.py'?"),
        ({"jobs": 0}, "--jobs is 0; it must be at least 1"),
        ({"timeout_s": 0.0}, "--timeout is 0; it must be above 0 seconds"),
    ],
)
def test_bad_input_is_named_with_what_works(checkout: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        session.Config(**{"tests": checkout, **arguments})
    assert message in str(caught.value)


def test_bad_input_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --tests {tmp_path} holds no ")
    assert "Traceback" not in done.stderr


def test_a_choice_that_matches_nothing_is_an_error(checkout: Path) -> None:
    done = run(checkout, "--only", "test_tuple.py", "-k", "nonsense")
    assert done.returncode == 2
    assert "no test matches test_tuple.py and -k 'nonsense'" in done.stderr


def test_everything_missing_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install pytest pytest-xdist scipy$"):
        session.check_dependencies(("test_core.py", "test_random.py"))


def test_reasons_stand_by_outcome_then_by_frequency() -> None:
    rows = [("failed", "seen 1 time"), ("skipped", "why"), ("failed", "twice 1"), ("failed", "twice 2"), ("passed", "")]
    tests = [Case(id=f"a.py::{i}", outcome=outcome, reason=text) for i, (outcome, text) in enumerate(rows)]  # type: ignore[arg-type]
    result = summarise(tests, "3.7")
    assert [(row.reason, row.count) for row in result.reasons] == [("twice 1", 2), ("seen 1 time", 1), ("why", 1)]
    assert "| 2 | failed | `twice 1` | a.py |" in to_markdown(result, "run")
