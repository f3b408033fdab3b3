"""The part in a worker of pytest: prepares Triton, times compilation, and ends the process when a test hangs."""

from __future__ import annotations

import faulthandler
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tessera.triton_cpu.conformance.faults import missing_in_triton, missing_package, reason_of


def crash_file(folder: str, worker_id: str) -> Path:
    """Where a worker's watchdog and signal handlers write why the process ended."""
    return Path(folder, f"{worker_id}.txt")


class Worker:
    """Hooks; what they find travels to the controller as the attribute `conformance` of a report."""

    def __init__(self, config: Any) -> None:
        _prepare_triton(lifted=config.getoption("--conformance-lift-skips"), listener=self._compiled)
        self._timeout_s: float = config.getoption("--conformance-timeout")
        self._compile_s: list[float] = []
        path = crash_file(config.getoption("--conformance-folder"), config.workerinput["workerid"])
        self._crash_file = path.open("w")
        faulthandler.enable(self._crash_file)

    def _compiled(self, *, times: Any, cache_hit: bool, **_: Any) -> None:
        """Triton calls this after every compilation; its times are in microseconds."""
        if not cache_hit:
            self._compile_s.append(times.total / 1e6)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        """Nothing in Python can interrupt a compiler or a kernel: the watchdog is a thread that ends the process."""
        faulthandler.dump_traceback_later(self._timeout_s, exit=True, file=self._crash_file)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        slowest_s = max(self._compile_s, default=0.0)
        self._compile_s.clear()
        report.__dict__["conformance"] = {"compile_s": slowest_s, **_fault(report, call)}
        return report

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        report = yield
        report.__dict__["conformance"] = _fault(report, report.__dict__["call"])
        return report


def _fault(report: pytest.TestReport | pytest.CollectReport, call: pytest.CallInfo[Any]) -> dict[str, str]:
    """Why it failed: `newer` if Triton is too old for the test, `missing` if a package is missing, else `reason`."""
    if not report.failed or call.excinfo is None:
        return {}
    error = call.excinfo.value
    for kind, found in (("newer", missing_in_triton(error)), ("missing", missing_package(error))):
        if found:
            return {kind: found}
    return {"reason": reason_of(error)}


def _prepare_triton(*, lifted: bool, listener: Any) -> None:
    """Supply what the checkout's tests import and the released Triton has not, or has under its private name."""
    import triton
    from triton import _internal_testing, knobs
    from triton.language import core

    _internal_testing.is_cpu = lambda: not lifted
    if not hasattr(triton, "aggregate") and hasattr(core, "_aggregate"):
        triton.aggregate = core._aggregate
    knobs.compilation.listener = listener
