"""The part in the controlling process of pytest: one line of JSON per event, written to the reader in `session.py`.

Events: `{"event": "collected", "files": {FILE: number of tests}}`, once;
`{"event": "test", "id", "phase", "outcome", "seconds", "reason", "compile_s"}`, for each phase of each test;
phase is setup, call, teardown or crash, outcome is passed, failed, newer, skipped or xfailed;
`{"event": "uncollected", "id", "outcome", "reason"}`, for a file that cannot be collected.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from typing import Any

import pytest

from tessera.triton_cpu.conformance.worker import crash_file


class Controller:
    """Hooks that turn reports into events."""

    def __init__(self, config: pytest.Config) -> None:
        self._folder: str = config.getoption("--conformance-folder")
        # Open until the process ends: the reader takes the end of the file for the end of the run.
        self._out = os.fdopen(config.getoption("--conformance-fd"), "w", buffering=1)
        self._collected = False

    def _write(self, event: str, **values: object) -> None:
        self._out.write(json.dumps({"event": event, **values}) + "\n")

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """Every worker collects, also one that replaces a crashed one; the first says it all."""
        if not self._collected:
            self._collected = True
            self._write("collected", files=Counter(name.partition("::")[0] for name in ids))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        fault: dict[str, str] = report.__dict__.get("conformance", {})
        if report.failed:
            outcome, reason = _failure(fault, str(report.longrepr))
            self._write("uncollected", id=report.nodeid, outcome=outcome, reason=reason)

    def pytest_runtest_logreport(self, report: Any) -> None:
        found: dict[str, Any] = getattr(report, "conformance", {})
        phase = report.when if report.when in ("setup", "call", "teardown") else "crash"
        outcome, reason = self._crash(report) if phase == "crash" else _outcome(report, found)
        self._write("test", id=report.nodeid, phase=phase, outcome=outcome, reason=reason,
                    seconds=report.duration, compile_s=found.get("compile_s", 0.0))  # fmt: skip

    def _crash(self, report: Any) -> tuple[str, str]:
        """What the worker's watchdog or signal handler left: its first line names the signal or the time."""
        text = crash_file(self._folder, report.node.gateway.id).read_text().strip()
        line = text.splitlines()[0] if text else ""
        if line.startswith("Timeout"):
            return "failed", "took longer than the time for one test"
        return "failed", f"crashed: {line.removeprefix('Fatal Python error: ') or 'the process ended without a word'}"


def _outcome(report: Any, found: dict[str, Any]) -> tuple[str, str]:
    if report.skipped:
        if hasattr(report, "wasxfail"):
            return "xfailed", report.wasxfail.removeprefix("reason: ")
        return "skipped", _skip_reason(report.longrepr)
    return _failure(found, str(report.longrepr)) if report.failed else ("passed", "")


def _failure(found: dict[str, Any], text: str) -> tuple[str, str]:
    if "newer" in found:
        return "newer", found["newer"]
    if "missing" in found:
        return "skipped", found["missing"]
    return "failed", found.get("reason") or text.strip().splitlines()[-1]


def _skip_reason(longrepr: Any) -> str:
    """pytest gives a skip as (file, line, "Skipped: why")."""
    return str(longrepr[2]).removeprefix("Skipped: ") if isinstance(longrepr, tuple) else str(longrepr)
