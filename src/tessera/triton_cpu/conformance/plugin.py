"""What `session.py` loads into pytest with `-p`: the options, and the part for each of pytest's processes.

The controlling process gets `controller.Controller`, every worker `worker.Worker`.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

# The mark that triton-cpu puts on the tests that it supports.
_MARK = "cpu"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("conformance")
    group.addoption("--conformance-fd", type=int, help="File descriptor that lines of JSON are written to.")
    group.addoption("--conformance-folder", help="Folder where a worker leaves the reason of its crash.")
    group.addoption("--conformance-timeout", type=float, help="Seconds that one test may take.")
    group.addoption("--conformance-unmarked", action="store_true", help="Run tests without the mark for CPUs too.")
    group.addoption("--conformance-cases", type=int, help="Of each test function, run this many cases only.")
    group.addoption("--conformance-lift-skips", action="store_true", help="Tell the tests that this is no CPU.")


def pytest_configure(config: pytest.Config) -> None:
    from tessera.triton_cpu.conformance.controller import Controller
    from tessera.triton_cpu.conformance.worker import Worker

    part = Worker(config) if hasattr(config, "workerinput") else Controller(config)
    config.pluginmanager.register(part, "conformance-part")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a file that marks tests for CPUs, keep the marked; of any other file, keep all."""
    marking = {item.path for item in items if item.get_closest_marker(_MARK)}
    if not config.getoption("--conformance-unmarked"):
        _keep(config, items, lambda item: item.path not in marking or item.get_closest_marker(_MARK) is not None)
    cases = config.getoption("--conformance-cases")
    if cases:
        spread = _spread(items, cases)
        _keep(config, items, spread.__contains__)


def _spread(items: list[pytest.Item], cases: int) -> set[pytest.Item]:
    """`cases` of each test function, evenly over all of its cases: neighbours differ in one parameter only."""
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    gaps = max(cases - 1, 1)
    return {every[at * (len(every) - 1) // gaps] for every in functions.values() for at in range(cases)}


def _keep(config: pytest.Config, items: list[pytest.Item], wanted: Callable[[pytest.Item], bool]) -> None:
    kept = [item for item in items if wanted(item)]
    dropped = set(items).difference(kept)
    items[:] = kept
    config.hook.pytest_deselected(items=list(dropped))
