"""What PyTorch calls for one overload: the plan for the call's key, else the entry, else the vendor's kernel.

In:  an overload's row of the table, the vendor's kernel, and a policy's choice between the two, if it has one.
Out: a function with the overload's own signature, written for it: it makes the key, looks the plan up and runs it. The
     key is what a plan may depend on: types, shapes and strides of tensors, all other values, the default type.

A policy is asked once a key; where it gives the key to the vendor, that is the key's plan.

A key is planned when it is met the second time: numbers that are new in every call are not worth a plan each. Plans are
kept for the keys met last, `MOST_PLANS` an overload.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from types import CodeType
from typing import Any

import torch

from tessera.aten import plan as planning
from tessera.aten import record
from tessera.aten.plan import OVERLAP, Run, Unplanned, declined, extent_bytes, overlaps
from tessera.aten.recent import Recent
from tessera.ops.declined import Declined
from tessera.ops.launch import ValueNeeded
from tessera.ops.table import Variant

MOST_PLANS = 1024
MOST_LOST_US = 250.0
_HANDED = frozenset((int, float))
# Under these keys PyTorch writes down views that are to be read conjugated or negated, but for the operators that have
# a kernel there: those are handed the views.
_VIEWS = {"Conjugate": "is_conj", "Negative": "is_neg"}
Choose = Callable[[tuple[Any, ...], dict[str, Any]], tuple[str, float]]
"""Why a policy gives a call to the vendor, empty where it gives it to us; and the microseconds that this gains."""


class Operator:
    """The plans of one overload, and its calls that have none."""

    def __init__(self, variant: Variant) -> None:
        self._variant = variant
        self._lock = threading.Lock()
        self.plans: dict[Any, Run] = {}
        self._met: dict[Any, bool] = {}  # whether the key cannot be planned
        self.valued: dict[Any, bool] = {}  # the keys whose plans depend on the numbers that they leave out

    def first(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        """What runs a call whose key has no plan: the new plan, or the entry itself."""
        any_numbers = bool(self._variant.numbers) and key not in self.valued
        if self._variant.numbers and not any_numbers:
            key = (key, *[_number_key(x) for x in planning.numbers_of(self._variant, args, kwargs)])
            if (known := self.plans.get(key)) is not None:
                return known
        unplanned = self._met.get(key)
        if unplanned is None:
            self.keep(self._met, key, False)
        elif not unplanned:
            try:
                plan = planning.make_plan(self._variant, args, kwargs, any_numbers)
            except ValueNeeded:
                self.keep(self.valued, key, True)
            except Unplanned:
                self.keep(self._met, key, True)
            else:
                self.keep(self.plans, key, plan)
                return plan
        return lambda *_: self.direct(args, kwargs)

    def direct(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The entry's result, or NotImplemented where it declines."""
        try:
            if self._variant.written:
                self._check_overlap(args, kwargs)
            return self._variant.call(*args, **kwargs)
        except Declined as error:
            record.DEPTH.reason = error.reason
            return NotImplemented

    def keep(self, where: dict[Any, Any], key: Any, value: Any) -> None:
        """Put a key into a dict of this overload's, which forgets the one that was put there first when it is full."""
        with self._lock:
            where.pop(key, None)
            where[key] = value
            if len(where) > MOST_PLANS:
                del where[next(iter(where))]

    def _check_overlap(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        names = [a.name for a in self._variant.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        tensors = [
            (name, x) for name in names if name in self._variant.tensors
            for x in (given[name] if isinstance(given.get(name), list | tuple) else [given.get(name)])
            if isinstance(x, torch.Tensor)
        ]  # fmt: skip
        held = [(x, name in self._variant.written) for name, x in tensors if x.numel()]
        if not _might_overlap(held):
            return
        for index, (written, is_written) in enumerate(held):
            if is_written:
                others = (x for other, (x, _) in enumerate(held) if other != index)
                if any(overlaps(written, x) for x in others):
                    raise Declined(OVERLAP)


def _might_overlap(held: list[tuple[torch.Tensor, bool]]) -> bool:
    """Whether a written tensor starts before another has ended: one walk over the addresses in order."""
    end_of_written = end_of_any = -1
    for start, end, written in sorted((x.data_ptr(), x.data_ptr() + extent_bytes(x), w) for x, w in held):
        if start < end_of_written or (written and start < end_of_any):
            return True
        end_of_any = max(end_of_any, end)
        end_of_written = max(end_of_written, end if written else -1)
    return False


class Account:
    """What a policy's choices have gained in an overload's calls, in microseconds, as the measurements have it.

    An overload that loses more than `MOST_LOST_US` beyond what it gained is taken off: `close` is called. Not where
    several threads call it: PyTorch's registry must not be changed while another thread may be looking up there.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self.balance_us = 0.0
        self._close = close
        self._thread: int | None = None
        self._open = True

    def after_loss(self) -> None:
        """A call that is slower than without us was added to the balance."""
        if self._thread != get_ident():
            self._open = self._open and self._thread is None
            self._thread = get_ident()
        if self.balance_us < -MOST_LOST_US and self._open:
            self._open = False
            self._close()


@dataclass(frozen=True)
class Choice:
    """How a policy chooses in one overload, and the account that it keeps."""

    choose: Choose
    account: Account


class Chosen:
    """What a policy makes of an overload: for each key a plan or the vendor, and what a call of the key gains."""

    def __init__(self, operator: Operator, choice: Choice) -> None:
        self._operator, self._choose = operator, choice.choose
        self.plans: dict[Any, tuple[Run, float, str]] = {}
        self._answers: dict[Any, tuple[str, float]] = {}

    def first(self, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Run, float, str]:
        """What runs a call whose key the policy has not been asked for, what it gains, and why it is the vendor's."""
        answer = self._answers.get(key)
        if answer is None:
            answer = self._choose(args, kwargs)
            self._operator.keep(self._answers, key, answer)
        reason, gain_us = answer
        run = declined(reason) if reason else self._operator.first(key, args, kwargs)
        if reason or key in self._operator.plans:
            self._operator.keep(self.plans, key, (run, gain_us, reason))
        return run, gain_us, reason


@functools.cache
def operator_of(variant: Variant) -> Operator:
    """One for the process: plans outlive a `disable`."""
    return Operator(variant)


def implementation(variant: Variant, vendor: Callable[..., Any], choice: Choice | None = None) -> Callable[..., Any]:
    """What is registered for `variant`; it takes the dispatch keys, then the overload's arguments.

    choice: a policy's; what it says may depend on the number of threads. None: all calls are ours.
    """
    operator, name, active, depth = operator_of(variant), variant.name, record.ACTIVE, record.DEPTH
    plans = operator if choice is None else Chosen(operator, choice)

    def watched(keys: Any, run: Run, slots: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        depth.value += 1
        depth.reason = None
        reason = None
        try:
            result = run(*slots)
            if result is NotImplemented:
                reason = depth.reason
                result = vendor(keys, *args, **kwargs)
        finally:
            depth.value -= 1
            record.count(name, reason)
        return result

    recent = Recent()
    scope = {
        "find": recent.find, "add": recent.add, "plans": plans.plans, "first": plans.first, "active": active,
        "vendor": vendor,
        "watched": watched, "Tensor": torch.Tensor, "handed": _handed_key,
        "all_handed": _handed_keys, "default_type": torch.get_default_dtype,
        "threads": torch.get_num_threads, "account": choice.account if choice else None,
        **{f"d{i}": a.default_value for i, a in enumerate(variant.arguments) if a.has_default_value()},
    }  # fmt: skip
    exec(_code(_source(variant, choice is not None)), scope)
    made: Callable[..., Any] = scope["call"]
    made.__name__ = name
    return made


@functools.cache
def _code(source: str) -> CodeType:
    """Overloads with the same arguments share their text, and compiling it is most of what switching on costs."""
    return compile(source, "<tessera operator>", "exec")


def _source(variant: Variant, chosen: bool) -> str:
    """The text of the function: positional arguments are p0, p1, …; those by name keep theirs."""
    arguments = list(enumerate(variant.arguments))
    names = {i: a.name if a.kwarg_only else f"p{i}" for i, a in arguments}
    head = [names[i] + (f"=d{i}" if a.has_default_value() else "") for i, a in arguments if not a.kwarg_only]
    tail = [names[i] + (f"=d{i}" if a.has_default_value() else "") for i, a in arguments if a.kwarg_only]
    parameters = ", ".join(["keys", *head, *(["*", *tail] if tail else [])])
    args = "".join(f"{names[i]}, " for i, a in arguments if not a.kwarg_only)
    named = [names[i] for i, a in arguments if a.kwarg_only]
    kwargs = "{" + ", ".join(f"'{name}': {name}" for name in named) + "}"
    slots = ", ".join(
        f"*{names[i]}" if str(a.type).startswith("List") else names[i]
        for i, a in arguments
        if a.name in variant.tensors
    )
    slots += "".join(
        f", *{names[i]}" if str(a.type).startswith("List") else f", {names[i]}"
        for i, a in arguments if a.name in variant.numbers
    )  # fmt: skip
    again = ", ".join(["keys", args.rstrip(", "), *(f"{name}={name}" for name in named)]).replace(", ,", ",")
    find = (_find_recent if _walks_lists(variant) else _find)(variant, names, chosen, f"({args}), {kwargs}")
    taken, hand_on = "    run = found\n", ""
    if chosen:
        taken = (
            "    run, gain_us, reason = found\n"
            "    account.balance_us += gain_us\n"
            "    if gain_us < 0.0:\n"
            "        account.after_loss()\n"
        )
        hand_on = f"    if reason:\n        return vendor({again})\n"
    return (
        f"def call({parameters}):\n"
        f"{find}{taken}"
        f"    if active:\n"
        f"        return watched(keys, run, ({slots},), ({args}), {kwargs})\n"
        f"{hand_on}"
        f"    result = run({slots})\n"
        f"    if result is NotImplemented:\n"
        f"        return vendor({again})\n"
        f"    return result\n"
    )


def _find(variant: Variant, names: dict[int, str], chosen: bool, given: str) -> str:
    """The lines that find what serves a call."""
    key = [*_common(chosen), *(_key(names[i], str(a.type)) for i, a in enumerate(variant.arguments))]
    for view, asked in _VIEWS.items():
        if torch._C._dispatch_has_kernel_for_dispatch_key(variant.overload._name, view):
            views = [names[i] for i, a in enumerate(variant.arguments) if str(a.type) == "Tensor"]
            key += [f"isinstance({x}, Tensor) and {x}.{asked}()" for x in views]
    return f"    key = ({', '.join(key)})\n    found = plans.get(key) or first(key, {given})\n"


def _find_recent(variant: Variant, names: dict[int, str], chosen: bool, given: str) -> str:
    """As `_find`, where the tensors of a call are lists: they are made a key of where they are not known again."""
    arguments = [(names[i], str(a.type), a.name) for i, a in enumerate(variant.arguments)]
    tensors = [(x, kind) for x, kind, name in arguments if name in variant.tensors]
    others = [_key(x, kind, name in variant.numbers) for x, kind, name in arguments if name not in variant.tensors]
    spread = [f"*{x}" if kind == "List[Tensor]" else f"*(() if {x} is None else ({x},))" for x, kind in tensors]
    numbers = [f"len({x})" if kind == "List[Tensor]" else f"{x} is None" for x, kind in tensors]
    return (
        f"    tensors = ({', '.join(spread)},)\n"
        f"    others = ({', '.join(_common(chosen) + others + numbers)},)\n"
        f"    found = find(others, tensors)\n"
        f"    if found is None:\n"
        f"        key = (others, {', '.join(_key(x, kind) for x, kind in tensors)})\n"
        f"        found = plans.get(key)\n"
        f"        if found is None:\n"
        f"            found = first(key, {given})\n"
        f"        else:\n"
        f"            add(others, tensors, found)\n"
    )


def _common(chosen: bool) -> list[str]:
    """What of the process goes into a key."""
    return ["default_type()", *(["threads()"] if chosen else [])]


def _walks_lists(variant: Variant) -> bool:
    """Whether the tensors of a call are lists, and single ones that may be missing."""
    kinds = {str(a.type) for a in variant.arguments if a.name in variant.tensors}
    return "List[Tensor]" in kinds and kinds <= {"List[Tensor]", "Optional[Tensor]"}


def _number_key(x: Any) -> Any:
    """A number with its type, and zero with its sign."""
    return x.__class__, x or str(x)


def _handed_key(x: Any) -> Any:
    """What of a number that an entry only hands on goes into the key."""
    return x.__class__ if planning.is_handed(x) else _number_key(x)


def _handed_keys(numbers: Any) -> Any:
    """The same of a list of them."""
    kinds = tuple(map(type, numbers))
    if _HANDED.issuperset(kinds) and 0 not in numbers and 1 not in numbers:
        return kinds
    return tuple([_handed_key(x) for x in numbers])


def _key(name: str, kind: str, handed: bool = False) -> str:
    """What of an argument goes into the key. A number goes with its type, and zero with its sign."""
    if handed:
        return f"all_handed({name})" if kind.startswith("List[") else f"handed({name})"
    if kind.startswith("Optional["):
        return f"None if {name} is None else ({_key(name, kind[9:-1])})"
    if kind == "List[Tensor]" or kind == "List[Optional[Tensor]]":
        return f"tuple([{_key('t', kind[5:-1])} for t in {name}])"
    if kind.startswith("List["):
        return f"tuple({name})"
    number = f"({name}.__class__, {name} or str({name}))"
    if kind == "Tensor":
        return f"({name}.dtype, {name}.shape, {name}.stride()) if isinstance({name}, Tensor) else {number}"
    return number if kind in ("number", "float") else name
