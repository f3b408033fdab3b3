"""The main job, stage by stage: load, try, judge, count, time, search, decide, write."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import datetime, timezone
from time import perf_counter
from typing import TypeVar

import torch
from rich.console import Console

from tessera.accuracy.check import check
from tessera.accuracy.layers import LayerCheck, check_layers, first_line
from tessera.accuracy.result import CheckResult
from tessera.bringup.config import BringupConfig
from tessera.bringup.files import check_writable, write_atomically
from tessera.bringup.kernels import Kernels, OurKernels, switched_on
from tessera.bringup.models.resolve import resolve
from tessera.bringup.models.subject import Subject
from tessera.bringup.operators import count_operators, time_operators
from tessera.bringup.report.page import render
from tessera.bringup.result import BringupResult, Operators, Search, Speed
from tessera.bringup.search import answer_queries
from tessera.bringup.speed import measure_speed
from tessera.bringup.terminal import Stages, print_result
from tessera.bringup.trial import try_call
from tessera.bringup.verdict import reasons_against
from tessera.core.chips import detect_cpu
from tessera.core.env import NUM_THREADS
from tessera.core.errors import TesseraError, UsageError
from tessera.core.timing import MOST_BUSY_PERCENT, busy_percent

T = TypeVar("T")

_PACKAGES = ("tessera", "torch", "triton", "llvmlite", "transformers", "numpy")


def run(config: BringupConfig, console: Console, *, kernels: Kernels | None = None) -> BringupResult:
    """Bring the model up, print the table, write the report and the JSON that `config` names.

    Args:
        kernels: the switch for the kernels under test; None is ours. It is off when this returns.

    Errors: `TesseraError` for what the user gave; how our kernels fail is part of the result.
    """
    check_writable(config.json, "JSON")
    check_writable(config.report, "report")
    switch = kernels or OurKernels()
    # The table is what a program may read; progress is for people.
    with _threads(config), Stages(Console(stderr=True)) as stages:
        result = _bring_up(config, switch, stages)
        stages.enter("writing the report")
        if config.report is not None:
            write_atomically(config.report, render(result))
        if config.json is not None:
            write_atomically(config.json, result.to_json())
    print_result(result, console, written=[path for path in (config.report, config.json) if path is not None])
    return result


def _bring_up(config: BringupConfig, kernels: Kernels, stages: Stages) -> BringupResult:
    kernels.disable()
    stages.enter("loading the model")
    subject = resolve(config)
    stages.enter("running it as PyTorch does")
    try_call(subject)
    attempts = _Attempts(stages)
    first_s = attempts.run("first run on our kernels", lambda: _seconds(lambda: _run_ours(subject, kernels)))
    stages.enter("accuracy of every layer")
    accuracy = check_layers(subject.model, subject.call, lambda: switched_on(kernels))
    checked = attempts.run("every operator on its own inputs", lambda: _check(subject, kernels))
    operators: Operators | None = None
    speed: Speed | None = None
    search: Search | None = None
    busy = 0.0
    if first_s is not None and not accuracy.candidate_error:
        operators = attempts.run("operators", lambda: _operators(subject, kernels))
        busy = busy_percent()
        speed = attempts.run("speed", lambda: measure_speed(subject, kernels, first_s=first_s))
        search = attempts.run("search", lambda: answer_queries(subject, kernels))
    return BringupResult(
        chip=_chip(),
        model=subject.name,
        kind=subject.kind,
        num_parameters=subject.num_parameters,
        inputs=subject.inputs,
        dtype=config.dtype,
        threads=torch.get_num_threads(),
        accuracy=accuracy,
        operators=operators,
        speed=speed,
        search=search,
        reasons=(*attempts.failures, *reasons_against(accuracy, checked, operators, search, config.dtype)),
        check=checked,
        notes=tuple(_notes(subject, accuracy, busy)),
        versions=_versions(),
        command=command_line(config),
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    )


class _Attempts:
    """Runs stages that our kernels may make fail; how they do is collected, for it decides the verdict."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self.failures: list[str] = []

    def run(self, stage: str, function: Callable[[], T]) -> T | None:
        """The function's result, or None with the failure noted. What the user can mend is raised on."""
        self._stages.enter(stage)
        try:
            return function()
        except TesseraError:
            raise
        except Exception as error:  # Kernels may fail in any way.
            self.failures.append(f"{stage} failed: {type(error).__name__}: {first_line(error)}")
            return None


def _check(subject: Subject, kernels: Kernels) -> CheckResult:
    return check(
        subject.model,
        subject.call,
        context=lambda: switched_on(kernels),
        native=kernels.paused,
        view="isolated",
    )


def _run_ours(subject: Subject, kernels: Kernels) -> None:
    call = subject.call.copy()
    with switched_on(kernels):
        call.run(subject.model)


def _seconds(function: Callable[[], object]) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def _operators(subject: Subject, kernels: Kernels) -> Operators:
    counted = count_operators(subject.model, subject.call, kernels)
    once = _seconds(lambda: _run_ours(subject, kernels))
    times = time_operators(subject.model, subject.call, kernels, rounds=5 if once < 1 else 2)
    return replace(counted, times=times)


def _notes(subject: Subject, accuracy: LayerCheck, busy: float) -> Iterator[str]:
    yield from subject.notes
    if busy > MOST_BUSY_PERCENT:
        yield (
            f"other programs took {busy:.0f} % of this machine when speed was measured: the ratio is not to be trusted"
        )
    if accuracy.reference_error:
        yield (
            f"there is no float64 reference ({accuracy.reference_error}), "
            "so only outputs equal to PyTorch's to the last bit pass"
        )
    if accuracy.unjudged:
        yield (
            f"{len(accuracy.unjudged)} outputs have another shape in float64 or do not occur there "
            f"and could not be judged, first {accuracy.unjudged[0]}"
        )


@contextmanager
def _threads(config: BringupConfig) -> Iterator[None]:
    """One number of threads for both sides: the option's, or the environment's, or PyTorch's own."""
    wanted = NUM_THREADS.read()
    if config.threads is not None and wanted is not None and config.threads != wanted:
        raise UsageError(
            f"threads is {config.threads} and {NUM_THREADS.name} is {wanted}; "
            "both sides must run on one number: unset one of the two"
        )
    before = torch.get_num_threads()
    torch.set_num_threads(config.threads or wanted or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _chip() -> str:
    device = detect_cpu()
    return f"{device.title} ({device.chip.name})"


def _versions() -> dict[str, str]:
    """Versions of what decides about the result; packages that are not installed are left out."""
    versions = {"python": platform.python_version(), "system": platform.platform(terse=True)}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def command_line(config: BringupConfig) -> str:
    """The command that repeats this run."""
    words = ["tessera", "bringup", config.model]
    for option in fields(config):
        value = getattr(config, option.name)
        if option.name != "model" and value != option.default:
            words += [f"--{option.name}", str(value)]
    return shlex.join(words)
