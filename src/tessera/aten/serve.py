"""What PyTorch calls for one overload: the plan for the call's key, else the entry, else the vendor's kernel.

In:  an overload's row of the table, the vendor's kernel, and a policy's choice between the two, if it has one.
Out: a function with the overload's own signature, written for it: it makes the key, looks the plan up and runs it. The
     key is what a plan may depend on: types, shapes and strides of tensors, all other values, the default type.

A policy is asked once a key; where it gives the key to the vendor, that is the key's plan.

A key is planned when it is met the second time: numbers that are new in every call are not worth a plan each. Plans are
kept for the keys met last, `MOST_PLANS` an overload.
"""

from __future__ import annotations

import ctypes
import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from threading import get_ident
from types import CodeType
from typing import Any, cast

import torch

from tessera.aten import plan as planning
from tessera.aten import record
from tessera.aten.plan import OVERLAP, Run, Unplanned, declined, extent_bytes, overlaps
from tessera.aten.vendor import kernel_of, served_by
from tessera.ops.declined import Declined
from tessera.ops.launch import ValueNeeded
from tessera.ops.table import Variant
from tessera.runtime.account_ir import MOST_LOST_US
from tessera.runtime.front import Front, make_front
from tessera.runtime.front_ir import RETURNS
from tessera.runtime.recall import Known, Spelling, Steps, handed_on, make_entry, make_recall

# What the vendor's kernels are handed: they are called past everything that other keys stand for.
KEYS = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
MOST_PLANS = 1024
# So many losing calls are seen, on one thread alone, before an overload is taken off.
LOSSES_SEEN = 100
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
        self.steps: dict[Any, Steps | None] = {}  # what recalled calls do; None: they are the vendor's
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
                self.keep(self.steps, key, plan.steps)
                self.keep(self.plans, key, plan.run)
                return plan.run
        return lambda *_: self.direct(args, kwargs)

    def is_open(self, key: Any) -> bool:
        """Whether a plan may still come of calls with this key."""
        return key not in self.plans and key not in self.valued and not self._met.get(key)

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
    several threads call it: PyTorch's registry must not be changed while another thread may be looking up there. Native
    code adds to the balance itself until that is lost; from then on all losing calls are counted here.
    """

    def __init__(self, close: Callable[[], None]) -> None:
        self._balance_us = ctypes.c_double(0.0)
        self._close = close
        self._thread: int | None = None
        self._open = True
        self._losses = 0

    @property
    def address(self) -> int:
        """Of the balance, for native code that adds to it."""
        return ctypes.addressof(self._balance_us)

    def count(self, gain_us: float) -> None:
        """Add a call; below 0 it was slower than without us."""
        self._balance_us.value += gain_us
        if gain_us < 0.0:
            self._after_loss()

    def _after_loss(self) -> None:
        if self._thread != get_ident():
            self._open = self._open and self._thread is None
            self._thread = get_ident()
        self._losses += 1
        if self._balance_us.value < -MOST_LOST_US and self._losses > LOSSES_SEEN and self._open:
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


class Learned:
    """The calls of an overload that are known to native code, by the keys that it makes."""

    def __init__(
        self, variant: Variant, operator: Operator, chosen: Chosen | None, vendor: Callable[..., Any]
    ) -> None:  # fmt: skip
        self._variant, self._operator, self._chosen, self._vendor = variant, operator, chosen, vendor
        self.known: Known = {}

    def learn(self, spelled: bytes, key: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """What serves the call of `key` serves calls spelled so from now on, unless a plan is still to come."""
        gain_us, reason = 0.0, ""
        if self._chosen is not None:
            _, gain_us, reason = self._chosen.plans.get(key, (None, 0.0, ""))
        if not reason and self._operator.is_open(key):
            return
        self._operator.keep(self.known, spelled, self._entry(key, reason, gain_us, args, kwargs))

    def _entry(self, key: Any, reason: str, gain_us: float, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not reason and key not in self._operator.steps:
            return None
        steps = None if reason else self._operator.steps[key]
        if steps is None:
            return handed_on(served_by(self._vendor, args), gain_us)
        return make_entry(steps, _numbers_given(self._variant, args, kwargs), gain_us)


def _numbers_given(variant: Variant, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[float | None]:
    """The call's numbers that the entry only hands on; None for those that each call gives and that are no part of its
    key. What equals its default PyTorch leaves out."""
    given = dict(zip((a.name for a in variant.arguments), args, strict=False)) | kwargs
    left_out = {a.name for a in variant.arguments if a.kwarg_only and _is_default(a, given[a.name])}
    for a in reversed([a for a in variant.arguments if not a.kwarg_only]):
        if not _is_default(a, given[a.name]):
            break
        left_out.add(a.name)
    numbers = []
    for name in variant.numbers:
        value = given[name]
        for x in value if isinstance(value, list | tuple) else [value]:
            handed = planning.is_handed(x)
            numbers.append(None if handed and name not in left_out else float(x) if handed else 0.0)
    return numbers


def _is_default(argument: Any, value: Any) -> bool:
    default = argument.default_value
    return bool(argument.has_default_value() and type(value) is type(default) and value == default)


def _spelling(variant: Variant, account: int | None, front: Front | None) -> Spelling:
    """What belongs to the key that native code makes. account: the address of a policy's, None where all is ours."""
    handed = [(i, a) for i, a in enumerate(variant.arguments) if a.name in variant.numbers]
    return Spelling(
        places=[i for i, a in handed if not a.kwarg_only], names=[a.name for _, a in handed if a.kwarg_only],
        views=any(_sees(variant, view) for view in _VIEWS), account=account or 0,
        front=front.address if front else 0,
    )  # fmt: skip


def _sees(variant: Variant, view: str) -> bool:
    """Whether an overload is handed views that are to be read so."""
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(variant.overload._name, view))


@functools.cache
def operator_of(variant: Variant) -> Operator:
    """One for the process: plans outlive a `disable`."""
    return Operator(variant)


@dataclass(frozen=True)
class Implementation:
    """What is registered for an overload: a function that takes the dispatch keys, then the overload's arguments; and
    what stands before it, where something can."""

    function: Callable[..., Any]
    front: Front | None


def implementation(variant: Variant, vendor: Callable[..., Any], choice: Choice | None = None) -> Implementation:
    """choice: a policy's; what it says may depend on the number of threads. None: all calls are ours."""
    operator, name, active, depth = operator_of(variant), variant.name, record.ACTIVE, record.DEPTH
    plans = operator if choice is None else Chosen(operator, choice)

    def watched(run: Run, slots: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        depth.value += 1
        depth.reason = None
        reason = None
        try:
            result = run(*slots)
            if result is NotImplemented:
                reason = depth.reason
                result = vendor(KEYS, *args, **kwargs)
        finally:
            depth.value -= 1
            record.count(name, reason)
        return result

    scope = {
        "plans": plans.plans, "first": plans.first, "active": active, "vendor": vendor, "keys": KEYS,
        "watched": watched, "Tensor": torch.Tensor, "handed": _handed_key,
        "all_handed": _handed_keys, "default_type": torch.get_default_dtype,
        "threads": torch.get_num_threads, "account": choice.account if choice else None,
        **{f"d{i}": a.default_value for i, a in enumerate(variant.arguments) if a.has_default_value()},
    }  # fmt: skip
    chosen = plans if isinstance(plans, Chosen) else None
    learned = Learned(variant, operator, chosen, vendor)
    scope["learn"] = learned.learn

    def written() -> Callable[..., Any]:
        exec(_code(_source(variant, choice is not None)), scope)
        return cast(Callable[..., Any], scope["call"])

    slow = _at_first_call(name, written)
    account, kernel = choice.account.address if choice else None, kernel_of(vendor)
    front = _front(variant, kernel, account) if kernel else None
    recall = make_recall(learned.known, slow, active, _spelling(variant, account, front), KEYS)
    return Implementation(_valued(recall) if gives_value(variant) else recall, front)


def _front(variant: Variant, kernel: Any, account: int | None) -> Front | None:
    """What stands before the function of an overload, which no longer sees all calls then."""
    return make_front(
        variant.overload._name, kernel, record.ACTIVE,
        handed=sum(1 << i for i, a in enumerate(variant.arguments) if a.name in variant.numbers), account=account,
        defaults=[_default_number(a) for a in variant.arguments], returns=_returns(variant), donor=_list_place(variant),
    )  # fmt: skip


def _returns(variant: Variant) -> int:
    kinds = [str(x.type) for x in variant.overload._schema.returns]
    if all(kind == "Tensor" for kind in kinds):
        return len(kinds)
    if kinds == ["List[Tensor]"] and _list_place(variant) is not None:
        return RETURNS["list"]
    return RETURNS["truth" if gives_value(variant) else "other"]


def _list_place(variant: Variant) -> int | None:
    """The first argument that is a list of tensors."""
    places = (i for i, a in enumerate(variant.arguments) if str(a.type) == "List[Tensor]")
    return next(places, None)


def _default_number(argument: Any) -> float | None:
    """What PyTorch leaves out, if it is a number that fits a word."""
    default = argument.default_value if argument.has_default_value() else None
    fits = isinstance(default, float) or (type(default) is int and -(1 << 63) <= default < 1 << 63)
    return default if fits else None


def gives_value(variant: Variant) -> bool:
    """Whether the overload returns a truth, which its entry has in a tensor."""
    returns = variant.overload._schema.returns
    return len(returns) == 1 and str(returns[0].type) == "bool"


def _valued(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(keys: Any, *args: Any) -> Any:
        found = function(keys, *args)
        return found.item() if found.__class__ is torch.Tensor else found

    return call


def _at_first_call(name: str, make: Callable[[], Callable[..., Any]]) -> Callable[..., Any]:
    """The function that `make` gives, made when it is called: most operators that are switched on never are."""
    made = functools.cache(make)

    def call(*args: Any, **kwargs: Any) -> Any:
        return made()(*args, **kwargs)

    call.__name__ = name
    return call


@functools.cache
def _code(source: str) -> CodeType:
    """Overloads with the same arguments share their text."""
    return compile(source, "<tessera operator>", "exec")


def _source(variant: Variant, chosen: bool) -> str:
    """The text of the function: positional arguments are p0, p1, …; those by name keep theirs."""
    arguments = list(enumerate(variant.arguments))
    names = {i: a.name if a.kwarg_only else f"p{i}" for i, a in arguments}
    head = [names[i] + (f"=d{i}" if a.has_default_value() else "") for i, a in arguments if not a.kwarg_only]
    tail = [names[i] + (f"=d{i}" if a.has_default_value() else "") for i, a in arguments if a.kwarg_only]
    parameters = ", ".join(["spelled", *head, *(["*", *tail] if tail else [])])
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
    find = _find(variant, names, f"({args}), {kwargs}")
    taken, hand_on = "    run = found\n", ""
    if chosen:
        taken = (
            "    run, gain_us, reason = found\n"
            "    account.count(gain_us)\n"
        )
        hand_on = f"    if reason:\n        return vendor({again})\n"
    return (
        f"def call({parameters}):\n"
        f"{find}{taken}"
        f"    if spelled is not None:\n"
        f"        learn(spelled, key, ({args}), {kwargs})\n"
        f"    if active:\n"
        f"        return watched(run, ({slots},), ({args}), {kwargs})\n"
        f"{hand_on}"
        f"    result = run({slots})\n"
        f"    if result is NotImplemented:\n"
        f"        return vendor({again})\n"
        f"    return result\n"
    )


def _find(variant: Variant, names: dict[int, str], given: str) -> str:
    """The lines that find what serves a call."""
    arguments = [_key(names[i], str(a.type), a.name in variant.numbers) for i, a in enumerate(variant.arguments)]
    key = ["default_type()", "threads()", *arguments]
    for view, asked in _VIEWS.items():
        if _sees(variant, view):
            views = [names[i] for i, a in enumerate(variant.arguments) if str(a.type) == "Tensor"]
            key += [f"isinstance({x}, Tensor) and {x}.{asked}()" for x in views]
    return f"    key = ({', '.join(key)})\n    found = plans.get(key) or first(key, {given})\n"


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
