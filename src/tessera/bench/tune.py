"""`tessera tune`: measure our operators against PyTorch's on this machine, and keep what was found.

Each operator is written when it is measured, in one transaction: an interruption or an end of the budget keeps what is
there, and the next run begins with what is missing. A kernel that fails is a measurement, too: the call is PyTorch's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch

from tessera.aten.measured import Measurement, Table
from tessera.aten.store import Origin, Store, here, shipped
from tessera.aten.switch import paused
from tessera.bench.maker import NoSample
from tessera.bench.measure import NotTaken, compare, measurement
from tessera.bench.samples import DTYPES, SIZES, Sample, operators, samples
from tessera.bench.select import fits
from tessera.core.chip import Device
from tessera.core.chips import detect_cpu
from tessera.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TuneConfig:
    """What to measure. `only` is part of an operator's name or a pattern, `budget_s` ends the run, None: when done.

    Errors: UsageError for a pattern that picks nothing, a budget that is no time and numbers of threads below 1.
    """

    only: str = ""
    budget_s: float | None = None
    threads: tuple[int, ...] = (1, 2)
    sizes: tuple[str, ...] = tuple(SIZES)

    def __post_init__(self) -> None:
        if self.budget_s is not None and self.budget_s <= 0:
            raise UsageError(f"--budget is {self.budget_s:g}; give seconds above 0, or leave it out to measure all")
        if not self.threads or min(self.threads) < 1:
            raise UsageError(f"--threads is {self.threads}; give numbers from 1 on, as in 1,2")
        if not self.operators:
            raise UsageError(f"--only {self.only!r} picks no operator; names are such as 'gelu' and 'convolution*'")

    @property
    def operators(self) -> tuple[str, ...]:
        return tuple(name for name in operators() if fits(name, self.only))


@dataclass(kw_only=True)
class Tuned:
    """What a run found. `left` are operators that the budget did not reach; `changed` says what is now done otherwise.

    failures: for each operator why ours could not be used somewhere; unmeasured: why it has no calls at all.
    """

    measurements: list[Measurement] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    unmeasured: dict[str, str] = field(default_factory=dict)
    left: tuple[str, ...] = ()
    changed: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False


def tune(config: TuneConfig, store: Store, say: Callable[[str], None]) -> Tuned:
    """Measure, write and tell what changed; `say` is told each operator before it is measured."""
    device = detect_cpu()
    origin = here(device)
    known = store.read(origin)
    before = _table(device, known)
    tuned = Tuned()
    waiting = _in_order(config, known)
    started, threads = time.monotonic(), torch.get_num_threads()
    try:
        with paused():
            while waiting and (config.budget_s is None or time.monotonic() - started < config.budget_s):
                say(waiting[0])
                _one(waiting[0], config, store, origin, tuned)
                waiting = waiting[1:]
    except KeyboardInterrupt:
        tuned.interrupted = True
    finally:
        torch.set_num_threads(threads)
    tuned.left = tuple(waiting)
    after = _table(device, store.read(origin))
    tuned.changed = dict(changes(before, after, config.threads))
    return tuned


def _table(device: Device, own: Iterable[Measurement]) -> Table:
    return Table([*shipped(device), *own], "")


def _in_order(config: TuneConfig, known: Sequence[Measurement]) -> tuple[str, ...]:
    """What is not measured yet comes first."""
    measured = {one.operator for one in known}
    return tuple(sorted(config.operators, key=lambda name: name in measured))


def _one(operator: str, config: TuneConfig, store: Store, origin: Origin, tuned: Tuned) -> None:
    found: list[Measurement] = []
    reasons: list[str] = []
    for sample in _samples(operator, config.sizes, reasons):
        for count in config.threads:
            torch.set_num_threads(count)
            try:
                found.append(measurement(sample, compare(sample)))
            except NotTaken as error:
                reasons.append(f"PyTorch does not take it: {error}")
                break
    store.write(origin, found)
    tuned.measurements += found
    failures = [one.failure for one in found if one.failure]
    if failures:
        tuned.failures[operator] = failures[0]
    if not found:
        tuned.unmeasured[operator] = reasons[0] if reasons else "no call"


def _samples(operator: str, sizes: Sequence[str], reasons: list[str]) -> Iterator[Sample]:
    for size in sizes:
        for dtype in DTYPES:
            try:
                yield from samples(operator, size, dtype)
            except NoSample as error:
                reasons.append(str(error))
            except (RuntimeError, NotImplementedError) as error:  # an argument that PyTorch does not make in this type
                reasons.append(f"PyTorch does not take it: {str(error).splitlines()[0]}")


def changes(before: Table, after: Table, threads: Sequence[int]) -> Iterator[tuple[str, str]]:
    """Operators that are registered now and were not, and the other way round, each with the number of threads."""
    for operator in sorted(after.operators):
        for count in threads:
            was, now = before.refusal(operator, count), after.refusal(operator, count)
            if bool(was) != bool(now):
                words = f"now ours where it was faster (before: {was})" if was else f"now PyTorch's: {now}"
                yield f"{operator}, {count} threads" if count > 1 else f"{operator}, 1 thread", words
