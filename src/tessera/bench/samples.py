"""The one table of calls that operators are measured with: a maker of arguments for each family.

In:  an operator of the catalogue, about how many elements, a type.
Out: calls, as arguments of PyTorch's schema; most makers give one, some one for each layout that matters.

Operators that no row names are made from their schema alone: each tensor [rows, columns], each number by its name. A
new operator that computes element by element needs nothing here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch

from tessera.aten.classify import Place, place_of
from tessera.bench import samples_factors, samples_image, samples_list, samples_norm, samples_rows
from tessera.bench.maker import Call, Maker, NoSample
from tessera.ops.catalogue import ROWS
from tessera.ops.table import VARIANTS, Variant

# Elements: overhead alone, first caches, second, last, and none of them.
SIZES = {"tiny": 2**6, "mini": 2**10, "small": 2**14, "medium": 2**18, "large": 2**22}
_OF_MANY_LAYOUTS = (SIZES["small"], SIZES["medium"])
DTYPES = (torch.float32, torch.bfloat16)

# Overloads that copy beside what their entry does, and so have measurements of their own; those that models call.
_COPYING = (
    "masked_fill.Scalar", "masked_fill.Tensor", "scatter.src", "scatter.value", "scatter_add", "index_add",
    "index_copy", "index_fill.int_Scalar", "index_put", "scatter_reduce.two",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One call of an overload."""

    variant: Variant
    size: str
    dtype: torch.dtype
    call: Call

    @property
    def operator(self) -> str:
        return self.variant.name

    @property
    def place(self) -> Place:
        return place_of(self.variant, self.call.args, self.call.kwargs)

    def run(self) -> Any:
        """Make the call through PyTorch."""
        return self.variant.overload(*self.call.args, **self.call.kwargs)


def operators() -> tuple[str, ...]:
    """Names of everything that is measured, in the order of the catalogue."""
    return (*(_name(name) for row in ROWS for name in row.names), *_COPYING)


def _name(row: str) -> str:
    return VARIANTS[f"aten::{row}"].name if f"aten::{row}" in VARIANTS else row.removesuffix(".default")


def samples(operator: str, size: str, dtype: torch.dtype) -> Iterator[Sample]:
    """The calls of one operator at one size. Raises: NoSample with the reason where there is none."""
    variant = VARIANTS[f"aten::{operator}"]
    make: Callable[[Maker], Call | list[Call]] = functools.partial(_from_schema, variant)
    for patterns, maker in _FAMILIES:
        if any(fnmatchcase(operator, pattern) for pattern in patterns.split()):
            make = maker
            break
    found = make(Maker(operator, SIZES[size], dtype))
    for call in [found] if isinstance(found, Call) else found:
        yield Sample(variant=variant, size=size, dtype=dtype, call=call)


# --- from the schema alone ---

_NUMBERS = {
    "min_val": -0.5, "max_val": 0.5, "min": 0.2, "max": 0.7, "beta": 1.0, "threshold": 0.4, "alpha": 1.0, "scale": 1.25,
    "input_scale": 1.0, "negative_slope": 0.01, "lambd": 0.5, "value": 0.0, "delta": 1.0, "reduction": 0,
    "is_result": False, "self_is_result": False, "decimals": 2, "rounding_mode": "floor", "dim": -1, "diagonal": 0,
}  # fmt: skip
_ALWAYS_GIVEN = ("reduction", "min", "max")
_INTEGERS = ("bitwise_*", "__?shift__*")
_MASKS = ("mask", "condition")


def _from_schema(variant: Variant, m: Maker) -> list[Call]:
    """Contiguous, and of the middle sizes also with a row in the last place, and transposed."""
    if any(fnmatchcase(variant.name, pattern) for pattern in _INTEGERS):
        if m.dtype is not torch.float32:
            raise NoSample("computes integers")
        m = Maker(m.operator, m.elements, torch.int32)
    calls = [_filled(variant, m, "contiguous")]
    # Gradients have the layouts that forward operators give them, and written tensors stay as they are.
    if variant.written or variant.name.endswith("_backward") or m.elements not in _OF_MANY_LAYOUTS:
        return calls
    if len(variant.tensors) > 1:
        calls.append(_filled(variant, m, "broadcast"))
    return [*calls, _filled(variant, m, "transposed")]


def _filled(variant: Variant, m: Maker, layout: str) -> Call:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    tensors = [a.name for a in variant.arguments if str(a.type) == "Tensor"]
    value: Any
    for a in variant.arguments:
        if a.name in tensors:
            value = m.mask() if a.name in _MASKS else m.x()
            if layout == "broadcast" and a.name == tensors[-1]:
                value = value[0]
            if layout == "transposed" and a.name == tensors[0]:
                value = value.t().contiguous().t()
        elif a.has_default_value() and a.name not in _ALWAYS_GIVEN:
            continue
        elif a.name in _NUMBERS:
            value = _NUMBERS[a.name]
        elif str(a.type).startswith("Optional"):
            value = None
        else:
            raise NoSample(f"no family, and its argument {a.name!r} says nothing")
        if a.kwarg_only or len(args) < variant.arguments.index(a):
            kwargs[a.name] = value
        else:
            args.append(value)
    return Call(tuple(args), kwargs)


# Patterns of operators and their maker; the first that fits. What is missing is made from the schema.
_FAMILIES: tuple[tuple[str, Callable[[Maker], Call | list[Call]]], ...] = (
    *samples_rows.FAMILIES,
    *samples_image.FAMILIES,
    *samples_factors.FAMILIES,
    *samples_norm.FAMILIES,
    *samples_list.FAMILIES,
)
