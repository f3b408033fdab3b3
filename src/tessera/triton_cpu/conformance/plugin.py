"""What `session.py` loads into pytest with `-p`: the options, and the part for each of pytest's processes.

The controlling process gets `controller.Controller`, every worker `worker.Worker`.
"""

from __future__ import annotations

import pytest

# The mark that triton-cpu puts on the tests that it supports.
_MARK = "cpu"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-fd", type=int, help="File descriptor that lines of JSON are written to.")
    group.addoption("--conformance-folder", help="Folder where a worker leaves the reason of its crash.")
    group.addoption("--conformance-timeout", type=float, help="Seconds that one test may take.")
    group.addoption("--conformance-unmarked", action="store_true", help="Run tests without the mark for CPUs too.")
    group.addoption("--conformance-lift-skips", action="store_true", help="Tell the tests that this is no CPU.")


def pytest_configure(config: pytest.Config) -> None:
    from tessera.triton_cpu.conformance.controller import Controller
    from tessera.triton_cpu.conformance.worker import Worker

    part = Worker(config) if hasattr(config, "workerinput") else Controller(config)
    config.pluginmanager.register(part, "conformance-part")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a file that marks tests for CPUs, keep the marked; of any other file, keep all."""
    if config.getoption("--conformance-unmarked"):
        return
    marking = {item.path for item in items if item.get_closest_marker(_MARK)}
    dropped = {item for item in items if item.path in marking and not item.get_closest_marker(_MARK)}
    items[:] = [item for item in items if item not in dropped]
    config.hook.pytest_deselected(items=list(dropped))
