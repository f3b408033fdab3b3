"""The choice between our kernel and the vendor's: policies, and why a call went where.

In:  what the user asks for: a policy's name or a table's path, operators to take in and to leave out.
Out: which overloads are registered, and for each call of theirs, whose kernel serves it.

`measured`, the default, registers what measurements say is worth it, and gives each call to the side that was faster.
What is not measured is the vendor's: it does no harm. `always` registers everything that we have a kernel for.
"""

from __future__ import annotations

import difflib
import functools
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from tessera.aten.classify import Place, place_of
from tessera.aten.measured import Measurement, Table, through_us
from tessera.aten.store import Store, here, read_table, shipped, store_path
from tessera.aten.vendor import WITHOUT_KERNEL
from tessera.core.chips import detect_cpu
from tessera.core.collector import collector_paused
from tessera.core.errors import UsageError, unknown_name
from tessera.ops.table import VARIANTS, Variant

MEASURED, ALWAYS = "measured", "always"
Names = str | Iterable[str] | None
"""Operators: "add" (all its overloads, in place as well), "add.Tensor", "aten::mm", or a pattern as "convolution*"."""

# Gradients that PyTorch has no kernel for. They are asked for where the operator is ours, and go with it.
_GRADIENTS_ALONE = frozenset(name for name in WITHOUT_KERNEL if name.endswith("_backward"))

# What a record says of calls that a policy gives to the vendor.
LEFT_OUT = "left out by only or exclude"
NOT_MEASURED = "the policy: not measured"
NOT_WORTH = "the policy: PyTorch's was measured to be faster everywhere"
TAKEN_OFF = "the policy: taken off, its calls were mostly PyTorch's"
SEEDED = "the policy: a seed gives PyTorch's numbers"
SLOWER = "the policy: PyTorch's was measured to be faster"


@dataclass(frozen=True)
class Verdict:
    """Whose a call is: the vendor's for `reason`, ours where that is empty; by which measurement, in which detail."""

    reason: str
    detail: str = ""
    place: Place | None = None
    measurement: Measurement | None = None


class Policy:
    """One policy as it was asked for. `table` is None where all calls are to be ours.

    taken_off: overloads whose calls in this program were mostly PyTorch's, so that they have lost by being registered.
    """

    def __init__(self, name: str, table: Table | None, taken: frozenset[str]) -> None:
        self.name, self.table, self._taken = name, table, taken
        self.taken_off: set[str] = set()
        self._refusals: dict[tuple[str, int], str] = {}

    @property
    def chooses(self) -> bool:
        """Whether a registered overload may give calls to the vendor by this policy."""
        return self.table is not None

    def fresh(self, only: frozenset[str] | None = None) -> Policy:
        """The same choice with nothing taken off yet, for all its overloads or for some of them."""
        return Policy(self.name, self.table, self._taken if only is None else self._taken & only)

    def standing(self, full_name: str, threads: int) -> Verdict:
        """Whether an overload is registered, for programs that run on so many threads."""
        if full_name not in self._taken:
            return Verdict(LEFT_OUT)
        if self.table is None:
            return Verdict("")
        if full_name in self.taken_off:
            return Verdict(TAKEN_OFF, "by the measurements, its calls would have been faster without us")
        if full_name in _GRADIENTS_ALONE:
            return self.standing(full_name.removesuffix("_backward"), threads)
        variant = VARIANTS[full_name]
        if _draws(variant):
            return Verdict(SEEDED)
        detail = self._refusal(measured_as(variant, self.table), threads)
        if not detail:
            return Verdict("")
        return Verdict(NOT_MEASURED if detail == "not measured" else NOT_WORTH, detail)

    def choice(self, variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Verdict:
        """Whose one call of a registered overload is."""
        if self.table is None or variant.overload._name in WITHOUT_KERNEL:
            return Verdict("")
        place = place_of(variant, args, kwargs)
        found = self.table.decisive(measured_as(variant, self.table), place, torch.get_num_threads())
        if found is None:
            return Verdict(NOT_MEASURED, f"not measured for {place.dtype}, {place.layout}", place)
        return Verdict("" if found.ours else SLOWER, str(found), place, found)

    def gain(self, variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, float]:
        """The reason of `choice`, and the microseconds that a call gains by it against PyTorch without us."""
        verdict = self.choice(variant, args, kwargs)
        if verdict.measurement is not None:
            return verdict.reason, verdict.measurement.gain_us
        return verdict.reason, -through_us() if verdict.reason else 0.0

    def registered(self, threads: int) -> frozenset[str]:
        """Full names of the overloads that are worth being registered."""
        return frozenset(name for name in self._taken if not self.standing(name, threads).reason)

    def _refusal(self, operator: str, threads: int) -> str:
        assert self.table is not None, "a policy without a table refuses nothing"
        key = operator, threads
        if key not in self._refusals:
            self._refusals[key] = self.table.refusal(operator, threads)
        return self._refusals[key]


def _draws(variant: Variant) -> bool:
    """Whether a call draws random numbers: which ones must not depend on whose kernel is faster.

    Attention draws for dropout alone, which our entry declines.
    """
    drops = any(a.name == "dropout_p" for a in variant.arguments)
    return torch.Tag.nondeterministic_seeded in variant.overload.tags and not drops


def measured_as(variant: Variant, table: Table) -> str:
    """The operator whose measurements hold for an overload: itself, or the one that it is derived from.

    An overload that copies beside what the entry does has measurements of its own or none.
    """
    own = variant.name
    return own if own in table.operators or variant.copies else str(variant.base._name).removeprefix("aten::")


# --- what the user asks for ---


@collector_paused()
def make_policy(policy: str | Path = MEASURED, only: Names = None, exclude: Names = None) -> Policy:
    """The policy of these words; the same one again while its table has not changed.

    Raises: UsageError for names that mean nothing and tables that cannot be read.
    """
    taken = matching("only", only) if only is not None else _all()
    taken -= matching("exclude", exclude) if exclude is not None else frozenset()
    gradients = {name for name in _GRADIENTS_ALONE if name.removesuffix("_backward") in taken}
    return _policy(str(policy), _table(policy), (taken - _GRADIENTS_ALONE) | gradients)


@functools.lru_cache(maxsize=32)
def _policy(name: str, table: Table | None, taken: frozenset[str]) -> Policy:
    return Policy(name, table, taken)


def _table(policy: str | Path) -> Table | None:
    if policy == ALWAYS:
        return None
    if policy == MEASURED:
        path = store_path()
        return _measured(path, _stamp(path))
    path = Path(policy)
    if isinstance(policy, str) and path.name == policy and not path.suffix and not path.exists():
        raise unknown_name("policy", policy, [MEASURED, ALWAYS, "the path of a table"])
    return _from_file(path, _stamp(path))


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written; zeros for one that does not exist."""
    if not path.exists():
        return 0, 0
    found = path.stat()
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)
def _from_file(path: Path, stamp: tuple[int, int]) -> Table:
    return Table(read_table(path), f"the table {path}")


@functools.lru_cache(maxsize=4)
def _measured(path: Path, stamp: tuple[int, int]) -> Table:
    """What is known of this machine: its own store, and for operators that are not in it what the package brings.

    A store that cannot be read is told as a warning: a choice must never stop a program.
    """
    device = detect_cpu()
    try:
        own = Store(path).read(here(device))
    except UsageError as error:
        warnings.warn(f"measurements of this machine are left out: {error}", stacklevel=2)
        own = []
    return Table([*shipped(device), *own], f"{path}, then the table shipped for {device.chip.name}")


def matching(kind: str, names: Names) -> frozenset[str]:
    """Full names of our overloads that any of `names` fits. Raises: UsageError for one that fits none."""
    given = [names] if isinstance(names, str) else list(names or ())
    return frozenset().union(*(_fitting(kind, name) for name in given))


def _fitting(kind: str, name: str) -> frozenset[str]:
    wanted = name.removeprefix("aten::")
    found = frozenset(full for forms, full in _spellings() if any(fnmatchcase(form, wanted) for form in forms))
    if not found:
        raise UsageError(f"{kind}: {unknown_operator(wanted)}")
    return found


def unknown_operator(name: str) -> UsageError:
    """The error for a name that none of our operators has; those near to it are in the message."""
    known = {form for forms, _ in _spellings() for form in forms}
    near = difflib.get_close_matches(name, sorted(known), n=3)
    hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
    return UsageError(f"unknown operator {name!r}; {hint}names are such as 'add', 'add.Tensor' and 'convolution*'")


@functools.cache
def _all() -> frozenset[str]:
    return frozenset(VARIANTS)


@functools.cache
def _spellings() -> tuple[tuple[tuple[str, ...], str], ...]:
    """For each overload what it may be called: "add_.Tensor", "add_", "add"; and its full name."""
    rows = []
    for full, variant in VARIANTS.items():
        packet = variant.name.partition(".")[0]
        stem = packet.removesuffix("_") if not packet.startswith("__") else packet
        rows.append(((variant.name, packet, stem), full))
    return tuple(rows)
