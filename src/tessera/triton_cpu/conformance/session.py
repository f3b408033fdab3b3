"""Run a checkout's language tests in pytest, in processes of their own, and gather what became of each.

Errors: `UsageError` for a path or a choice that cannot be used, `MissingDependency` for what the tests need.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from tessera.core.errors import MissingDependency, UsageError, unknown_name
from tessera.triton_cpu.conformance.result import Case, Result, summarise

TESTS = Path("python", "test", "unit", "language")
DEFAULT_FILES = (
    "test_core.py", "test_tensor_descriptor.py", "test_standard.py", "test_random.py", "test_block_pointer.py",
    "test_conversions.py", "test_tuple.py", "test_annotations.py", "test_libdevice.py", "test_compile_errors.py",
    "test_subprocess.py",
)  # fmt: skip
# By module, the package to install; test_random.py judges distributions with scipy.
_NEEDED = {"pytest": "pytest", "xdist": "pytest-xdist"}
_NEEDED_BY_FILE = {"test_random.py": {"scipy": "scipy"}}
_LOG_LINES = 15
# pytest's exit status: 0 all passed, 1 some failed, 5 nothing collected; the others are faults of the run.
_NO_TESTS = 5
_RUN_ENDED = (0, 1, _NO_TESTS)


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to run: `tests` is the checkout; `only` are names of files, `keyword` is pytest's `-k`."""

    tests: Path
    only: tuple[str, ...] = ()
    keyword: str | None = None
    jobs: int = 1
    timeout_s: float = 60.0
    unmarked: bool = False
    lift_skips: bool = False

    def __post_init__(self) -> None:
        if not self.tests.is_dir():
            raise UsageError(f"--tests {self.tests}: there is no such folder; {_HOW_TO_CLONE}")
        if not self.folder.is_dir():
            raise UsageError(f"--tests {self.tests} holds no {TESTS}; {_HOW_TO_CLONE}")
        if self.jobs < 1:
            raise UsageError(f"--jobs is {self.jobs}; it must be at least 1")
        if not self.timeout_s > 0:
            raise UsageError(f"--timeout is {self.timeout_s:g}; it must be above 0 seconds")
        known = {path.name for path in self.folder.glob("test_*.py")}
        for name in self.only:
            if name not in known:
                raise unknown_name("test file", name, known)
        if not self.files:
            raise UsageError(f"{self.folder} has none of {', '.join(DEFAULT_FILES)}; name files with --only")

    @property
    def folder(self) -> Path:
        return self.tests / TESTS

    @property
    def files(self) -> tuple[str, ...]:
        return self.only or tuple(name for name in DEFAULT_FILES if (self.folder / name).exists())


_HOW_TO_CLONE = "give a checkout: git clone https://github.com/triton-lang/triton-cpu"


def check_dependencies(files: tuple[str, ...]) -> None:
    """Raise `MissingDependency` that names everything that is missing for these files."""
    needed = dict(_NEEDED)
    for name in files:
        needed.update(_NEEDED_BY_FILE.get(name, {}))
    missing = [package for module, package in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise MissingDependency(
            f"the conformance run needs {', '.join(missing)}: python -m pip install {' '.join(missing)}"
        )


def run(config: Config, on_progress: Callable[[str, int, int], None]) -> Result:
    """Run the tests; `on_progress` gets the last test's file, how many have ended, and of how many."""
    check_dependencies(config.files)
    chosen = f" and -k {config.keyword!r}" if config.keyword else ""
    pytest = Pytest(
        arguments=tuple(_arguments(config)), folder=config.folder, jobs=config.jobs, timeout_s=config.timeout_s,
        none_found=f"no test matches {', '.join(config.files)}{chosen}; try without -k, or with --unmarked",
    )  # fmt: skip
    tests = pytest.run(on_progress)
    return summarise(_in_order(tests, config.files), triton_version())


def _in_order(tests: list[Case], files: tuple[str, ...]) -> list[Case]:
    return sorted(tests, key=lambda test: files.index(test.file))


def triton_version() -> str:
    import triton

    return str(triton.__version__)


def _arguments(config: Config) -> list[str]:
    root = config.tests.resolve() / "python" / "test"
    arguments = ["-c", os.devnull, "--rootdir", str(root), "--confcutdir", str(root), "--device", "cpu"]
    if config.unmarked:
        arguments.append("--conformance-unmarked")
    if config.lift_skips:
        arguments.append("--conformance-lift-skips")
    if config.keyword:
        arguments += ["-k", config.keyword]
    return [*arguments, *config.files]


@dataclass(frozen=True, kw_only=True)
class Pytest:
    """One run of pytest with our hooks: `arguments` name the tests, `none_found` is said where there are none.

    environ: variables beside those of this process.
    """

    arguments: tuple[str, ...]
    folder: Path
    jobs: int
    timeout_s: float
    none_found: str
    environ: Mapping[str, str] = field(default_factory=dict)

    def run(self, on_progress: Callable[[str, int, int], None]) -> list[Case]:
        """Every test that ended. Raises `UsageError` when pytest could not run them."""
        tests: dict[str, Case] = {}
        total = done = 0
        with tempfile.TemporaryDirectory(prefix="tessera-conformance-") as scratch:
            for event in self._events(Path(scratch)):
                if event["event"] == "collected":
                    total = sum(event["files"].values())
                    continue
                test = tests.setdefault(event["id"], Case(id=event["id"]))
                seconds, compile_s = event.get("seconds", 0.0), event.get("compile_s", 0.0)
                test.add_phase(event["outcome"], event["reason"], seconds, compile_s)
                done += event.get("phase") in ("teardown", "crash")
                on_progress(test.file, done, total)
        return list(tests.values())

    def _events(self, scratch: Path) -> Iterator[dict[str, Any]]:
        """The events of `controller.py` as they come."""
        log = scratch / "log.txt"
        status, told = 0, False
        with log.open("w") as output, self._process(scratch, output) as (process, lines):
            for line in lines:
                told = True
                yield json.loads(line)
            status = process.wait()
        # Python too ends with 1, where a plugin or a conftest.py breaks before there are tests.
        if status not in _RUN_ENDED or (status == 1 and not told):
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES:])
            raise UsageError(f"pytest could not run these tests (exit status {status}); its last words:\n{tail}")
        if status == _NO_TESTS:
            raise UsageError(self.none_found)

    @contextmanager
    def _process(self, scratch: Path, output: TextIO) -> Iterator[tuple[subprocess.Popen[bytes], TextIO]]:
        """pytest and the lines it writes to us; it does not outlive the caller."""
        reader, writer = os.pipe()
        environ = {
            **os.environ,
            "TRITON_DEFAULT_BACKEND": "cpu",
            "TRITON_CACHE_DIR": str(scratch / "cache"),  # empty, so that every compilation is a cold one
            "PYTHONDONTWRITEBYTECODE": "1",
            **self.environ,
        }
        command = [sys.executable, "-m", "pytest", *self._options(scratch, writer), *self.arguments]
        process = subprocess.Popen(
            command, cwd=self.folder, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            pass_fds=(writer,),
        )  # fmt: skip
        os.close(writer)
        try:
            with os.fdopen(reader) as lines:
                yield process, lines
        finally:
            process.terminate()
            process.wait()

    def _options(self, scratch: Path, writer: int) -> list[str]:
        return [
            "-p", "tessera.triton_cpu.conformance.plugin", "-p", "no:cacheprovider", "-p", "no:faulthandler",
            "--tb", "line", "-q", "-n", str(self.jobs), "--max-worker-restart", "100000",
            "--continue-on-collection-errors", "--conformance-fd", str(writer), "--conformance-folder", str(scratch),
            "--conformance-timeout", str(self.timeout_s),
        ]  # fmt: skip
