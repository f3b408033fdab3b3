"""The table: every overload that our kernels implement, found in PyTorch's schema from the rows of `catalogue.py`.

A row names one overload and its entry. From the schema come the others of the same operator: in place, `out=`,
functional, and with a number in place of a tensor where the entry takes an `Operand`. A name that does not resolve, or
an entry whose parameters are not the schema's, fails at import. An entry raises `Declined` with a reason where a call
is not one of ours.

An entry is one of three kinds, told by its parameters: it returns new tensors; it has a parameter `out` that the
schema does not have, and writes there (None: into a new tensor); or its schema writes to arguments, and so does it.
"""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from tessera.ops.catalogue import ROWS, Entry
from tessera.ops.declined import Declined
from tessera.ops.pointwise import copy_

Overload = torch._ops.OpOverload
# Where a kernel may be registered whose operator is not written in terms of differentiable ones.
_KEYS = ("CPU", "CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
_OPERAND = ("Tensor", "number", "float")
_NUMBERS = ("number", "float", "List[number]", "List[float]")


class Form(enum.Enum):
    """Where the result of an overload goes."""

    NEW = enum.auto()
    SELF = enum.auto()  # in place: the arguments that the schema marks, the first among them
    OUT = enum.auto()  # the schema's out arguments


class Kind(enum.Enum):
    """Where an entry puts its result."""

    RETURNS = enum.auto()
    WRITES_OUT = enum.auto()
    WRITES_ARGUMENTS = enum.auto()


@dataclass(frozen=True)
class Variant:
    """One overload that PyTorch may call, with what runs it; `call` takes the overload's own arguments.

    base: the overload that the catalogue names, from whose entry this one is derived.
    copies: whether the result, or an argument that must stay as it is, is copied besides the entry's own work.
    numbers: names of the arguments that are numbers, or lists of them, which the entry only hands to its launches.
    """

    overload: Overload
    form: Form
    call: Entry
    base: Overload
    copies: bool
    numbers: tuple[str, ...]

    @property
    def name(self) -> str:
        """`mm`, `add.Tensor`: the name without the namespace and without `.default`."""
        return str(self.overload._name).removeprefix("aten::")

    @functools.cached_property
    def arguments(self) -> tuple[Any, ...]:
        """The schema's arguments, in order."""
        return tuple(self.overload._schema.arguments)

    @functools.cached_property
    def tensors(self) -> frozenset[str]:
        """Names of the arguments that are tensors or lists of them."""
        return frozenset(a.name for a in self.arguments if "Tensor" in str(a.type))

    @functools.cached_property
    def written(self) -> frozenset[str]:
        """Names of the arguments that are written."""
        return frozenset(a.name for a in self.arguments if a.alias_info is not None and a.alias_info.is_write)


def _resolve(name: str) -> Overload:
    packet, _, overload = name.partition(".")
    found: Overload | None = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    assert found is not None, f"the row {name!r} names no ATen overload of torch {torch.__version__}"
    return found


def _inputs(overload: Overload) -> list[Any]:
    return [a for a in overload._schema.arguments if not a.is_out]


def _outs(overload: Overload) -> list[str]:
    return [a.name for a in overload._schema.arguments if a.is_out]


def _written(overload: Overload) -> list[int]:
    """Places of the arguments, none of them `out`, that the schema says are written."""
    return [i for i, a in enumerate(_inputs(overload)) if a.alias_info is not None and a.alias_info.is_write]


def _form(overload: Overload) -> Form:
    if _outs(overload):
        return Form.OUT
    return Form.SELF if _written(overload) else Form.NEW


def _overloads(packet: str) -> Iterator[Overload]:
    """Every overload of a packet that the dispatcher knows; TorchScript has more of its own."""
    found = getattr(torch.ops.aten, packet, None)
    for name in found.overloads() if found is not None else ():
        overload = getattr(found, name)
        if torch._C._dispatch_has_kernel(overload._name):
            yield overload


def _kind(overload: Overload, parameters: Any) -> Kind:
    if "out" in parameters and all(a.name != "out" for a in _inputs(overload)):
        return Kind.WRITES_OUT
    return Kind.WRITES_ARGUMENTS if _form(overload) is Form.SELF else Kind.RETURNS


def _takes_numbers(parameters: Any, name: str) -> bool:
    """Whether the entry's parameter `name`, or its `*operands`, may be a tensor or a number."""
    variadic = [p for p in parameters.values() if p.kind is inspect.Parameter.VAR_POSITIONAL]
    parameter = parameters.get(name) or (variadic[0] if variadic else None)
    return parameter is not None and str(parameter.annotation).startswith("Operand")


def _handed(overload: Overload, parameters: Any) -> tuple[str, ...]:
    """Names of the arguments that are numbers and that the entry's annotations say it hands on."""
    return tuple(
        a.name
        for a in _inputs(overload)
        if str(a.type) in _NUMBERS and a.name in parameters and "Handed" in str(parameters[a.name].annotation)
    )


def _same_arguments(base: Overload, other: Overload, parameters: Any) -> bool:
    """Whether `other` is called as `base` is, but for numbers where the entry takes either."""
    mine, theirs = _inputs(base), _inputs(other)
    if [a.name for a in mine] != [a.name for a in theirs]:
        return False
    for a, b in zip(mine, theirs, strict=True):
        types = [str(x.type).removeprefix("Optional[").removesuffix("]") for x in (a, b)]
        if str(a.type) != str(b.type) and not (set(types) <= set(_OPERAND) and _takes_numbers(parameters, a.name)):
            return False
    return True


def has_kernel(overload: Overload) -> bool:
    """Whether a kernel for the CPU is registered that is not written in terms of differentiable operators."""
    return any(torch._C._dispatch_has_kernel_for_dispatch_key(overload._name, key) for key in _KEYS)


def _related(base: Overload, parameters: Any) -> list[Overload]:
    """The base, then the other overloads of its operator that the same entry can serve."""
    packet = base._schema.name.removeprefix("aten::")
    functional = packet.removesuffix("_") if _form(base) is Form.SELF else packet
    others = (*_overloads(functional), *_overloads(functional + "_"))
    return [base] + [
        other
        for other in others
        if other is not base
        and not other.is_view
        and has_kernel(other)
        and _same_arguments(base, other, parameters)
        and (_form(base) is not Form.SELF or len(_outs(other)) <= len(_written(base)))
    ]


def _check_parameters(overload: Overload, parameters: Any, kind: Kind) -> None:
    """Fails where the entry's parameters are not the schema's."""
    kinds = {parameter.kind for parameter in parameters.values()}
    schema = _inputs(overload)
    names = [name for name in parameters if name != "out" or kind is not Kind.WRITES_OUT]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        assert not any(a.kwarg_only for a in schema), f"{overload._name} has arguments that its entry does not take"
        return
    assert len(names) >= len(schema), f"{overload._name} has arguments that its entry does not take"
    for a in (a for a in schema if a.kwarg_only):
        assert a.name in names, f"{overload._name} has an argument {a.name!r} that its entry does not take"


def _give(out: Any, result: Any) -> None:
    """Write an entry's result into memory that the caller brought: a tensor, or a list of them."""
    if isinstance(out, (list, tuple)):
        for mine, given in zip(out, result, strict=True):
            _give(mine, given)
        return
    if out.dtype is not result.dtype:
        raise Declined("the output has another type")
    if out.shape != result.shape:
        if out.numel():
            raise Declined("the output would need another shape")
        out.resize_(result.shape)
    copy_(out, result, out=out)


def _empty_like(x: Any) -> Any:
    return torch.empty_like(x) if isinstance(x, torch.Tensor) else [torch.empty_like(t) for t in x]


def _copied(x: Any) -> Any:
    """A copy of a tensor or of a list of them, on our kernels."""
    if x is None:
        return None
    if not isinstance(x, torch.Tensor):
        return [_copied(t) for t in x]
    y = torch.empty_like(x)
    return copy_(y, x, out=y)


def _returning(entry: Entry, overload: Overload) -> Entry:
    """What runs `overload` given an entry that returns new tensors."""
    names = _outs(overload)
    if _form(overload) is Form.NEW:
        return entry
    if _form(overload) is Form.SELF:

        def in_place(self: Any, *args: Any, **kwargs: Any) -> Any:
            _give(self, entry(self, *args, **kwargs))
            return self

        return in_place

    def into(*args: Any, **kwargs: Any) -> Any:
        outs = [kwargs.pop(name) for name in names]
        found = entry(*args, **kwargs)
        for out, result in zip(outs, [found] if len(names) == 1 else found, strict=True):
            _give(out, result)
        return outs[0] if len(names) == 1 else tuple(outs)

    return into


def _writing_out(entry: Entry, parameters: Any, overload: Overload, base: Overload) -> Entry:
    """What runs `overload` given an entry that writes to `out`."""
    if _form(overload) is Form.SELF:

        def in_place(self: Any, *args: Any, **kwargs: Any) -> Any:
            return entry(self, *args, out=self, **kwargs)

        return in_place
    if _form(overload) is Form.OUT:
        name = _outs(overload)[0]

        def into(*args: Any, **kwargs: Any) -> Any:
            out = kwargs.pop(name)
            if _form(base) is Form.SELF and out.shape != args[0].shape:
                raise Declined("the output would need another shape")
            return entry(*args, out=out, **kwargs)

        return into
    makes_its_own = parameters["out"].default is None
    # Of a list, each tensor's result goes into one like it.
    if _form(base) is Form.NEW or (makes_its_own and str(_inputs(base)[0].type) == "Tensor"):
        return entry

    def new(self: Any, *args: Any, **kwargs: Any) -> Any:
        return entry(self, *args, out=_empty_like(self), **kwargs)

    return new


def _writing_arguments(entry: Entry, overload: Overload, base: Overload) -> Entry:
    """What runs `overload` given an entry that writes to its arguments, which are copied first where they must stay."""
    if _form(overload) is Form.SELF:
        return entry
    places, names = _written(base), [a.name for a in _inputs(base)]
    by_place = [a.name for a in _inputs(base) if not a.kwarg_only]

    def on_copies(*args: Any, **kwargs: Any) -> Any:
        outs = [kwargs.pop(name) for name in _outs(overload)]
        given = dict(zip(names, args, strict=False)) | kwargs
        copies = {names[i]: _copied(given.get(names[i])) for i in places}
        given |= copies
        found = entry(
            *(given[name] for name in by_place if name in given),
            **{name: value for name, value in given.items() if name not in by_place},
        )
        for out, result in zip(outs, copies.values(), strict=False):
            _give(out, result)
        if outs:
            return outs[0]
        returned = [] if found is None or isinstance(found, torch.Tensor) else list(found)
        changed = list(copies.values())
        return tuple(changed + returned) if len(changed) + len(returned) > 1 else changed[0]

    return on_copies


def _call(overload: Overload, base: Overload, entry: Entry, parameters: Any, kind: Kind) -> Entry:
    """What runs `overload`: the entry of `base`, with its result where the overload wants it."""
    if kind is Kind.RETURNS:
        call = _returning(entry, overload)
    elif kind is Kind.WRITES_OUT:
        call = _writing_out(entry, parameters, overload, base)
    else:
        call = _writing_arguments(entry, overload, base)
    by_name = [a.name for a in _inputs(base) if a.kwarg_only]
    if by_name and not any(a.kwarg_only for a in _inputs(overload)):
        call = _named(call, [a.name for a in _inputs(overload)], by_name)
    return _of_tensors(call if overload._schema.returns else _silent(call), overload, parameters)


def _of_tensors(call: Entry, overload: Overload, parameters: Any) -> Entry:
    """`call`, which declines a number in the place of a tensor but where the entry takes either, beside a tensor.

    PyTorch's own C++ passes numbers as tensors that are marked as numbers, as when the vendor's kernel of another
    operator casts its operands, and hands them to a Python kernel as numbers.
    """
    places = [(i, a.name) for i, a in enumerate(_inputs(overload)) if str(a.type) == "Tensor"]
    fixed = [place for place in places if not _takes_numbers(parameters, place[1])]

    def checked(*args: Any, **kwargs: Any) -> Any:
        given = {i: args[i] if i < len(args) else kwargs.get(name) for i, name in places}
        if any(_is_number(given[i]) for i, _ in fixed) or (given and all(map(_is_number, given.values()))):
            raise Declined("a number in the place of a tensor")
        return call(*args, **kwargs)

    return checked


def _is_number(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex)


def _copies(form: Form, kind: Kind) -> bool:
    """Whether an overload of this form needs a copy beside what an entry of this kind does."""
    return {
        Kind.RETURNS: form is not Form.NEW,
        Kind.WRITES_OUT: False,
        Kind.WRITES_ARGUMENTS: form is not Form.SELF,
    }[kind]


def _named(call: Entry, names: list[str], by_name: list[str]) -> Entry:
    """`call` for an overload that takes by place what the entry takes by name."""
    first = names.index(by_name[0])

    def placed(*args: Any, **kwargs: Any) -> Any:
        return call(*args[:first], **dict(zip(names[first:], args[first:], strict=False)), **kwargs)

    return placed


def _silent(call: Entry) -> Entry:
    """`call` for an overload that returns nothing."""

    def nothing(*args: Any, **kwargs: Any) -> None:
        call(*args, **kwargs)

    return nothing


def _variants() -> dict[str, Variant]:
    found: dict[str, Variant] = {}
    named = {_resolve(name)._name for row in ROWS for name in row.names}
    for row in ROWS:
        parameters = inspect.signature(row.entry).parameters
        for name in row.names:
            base = _resolve(name)
            kind = _kind(base, parameters)
            _check_parameters(base, parameters, kind)
            for overload in _related(base, parameters):
                if overload is not base and overload._name in named:
                    continue
                assert overload._name not in found, f"two rows serve {overload._name}"
                call, form = _call(overload, base, row.entry, parameters, kind), _form(overload)
                handed = _handed(overload, parameters)
                found[overload._name] = Variant(overload, form, call, base, _copies(form, kind), handed)
    return found


# Every overload that we serve, by its full name ("aten::add.Tensor").
VARIANTS: dict[str, Variant] = _variants()
