"""Types of the tile IR: scalars, pointers and blocks of either."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Union

INTEGERS = {"i1": 1, "i8": 8, "i16": 16, "i32": 32, "i64": 64, "index": 64}
FLOATS = {"f8E4M3FN": 8, "f8E5M2": 8, "f8E4M3FNUZ": 8, "f8E5M2FNUZ": 8, "f8E4M3B11FNUZ": 8,
          "f16": 16, "bf16": 16, "f32": 32, "f64": 64}  # fmt: skip


@dataclass(frozen=True)
class ScalarType:
    """An integer (`i1` … `i64`, `index`) or a float (`f16`, `bf16`, `f32`, `f64`, the 8-bit kinds)."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def is_float(self) -> bool:
        return self.name in FLOATS

    @property
    def bits(self) -> int:
        return FLOATS.get(self.name) or INTEGERS[self.name]


@dataclass(frozen=True)
class PointerType:
    """The address of elements of one type."""

    pointee: ElementType

    def __str__(self) -> str:
        return f"ptr<{self.pointee}>"

    @property
    def bits(self) -> int:
        return 64


ElementType = Union[ScalarType, PointerType]  # noqa: UP007 - the name is used before PointerType is complete


@dataclass(frozen=True)
class BlockType:
    """A block: a tile of elements whose shape is known at compile time."""

    shape: tuple[int, ...]
    element: ElementType

    def __str__(self) -> str:
        return f"block<{'x'.join(map(str, self.shape))}x{self.element}>"

    @property
    def numel(self) -> int:
        return math.prod(self.shape)


Type = Union[ScalarType, PointerType, BlockType]  # noqa: UP007

_SCALAR = re.compile(r"^(?:[iu]\d+|index|bf16|f\d+(?:E\w+)?)$")


def parse_type(text: str) -> Type:
    """A type as Triton's IR writes it, for example `tensor<64x32x!tt.ptr<f16>>`.

    Raises:
        ValueError: the text is no type that the CPU compiler knows.
    """
    text = text.strip()
    if text.startswith("tensor<"):
        return _parse_block(text[7:-1])
    return parse_element(text)


def _parse_block(inner: str) -> BlockType:
    dims: list[int] = []
    while match := re.match(r"(\d+)x", inner):
        dims.append(int(match[1]))
        inner = inner[match.end() :]
    return BlockType(tuple(dims), parse_element(inner))


def parse_element(text: str) -> ElementType:
    """A scalar or pointer type as Triton's IR writes it."""
    if text.startswith("!tt.ptr<"):
        inner = re.sub(r",\s*\d+$", "", text[8:-1])
        pointee = parse_type(inner)
        # A pointer to a block only occurs before Triton's own pass rewrites it to a block of pointers.
        if isinstance(pointee, BlockType):
            raise ValueError(
                f"{text!r} is a block pointer; the CPU compiler expects them rewritten to blocks of pointers"
            )
        return PointerType(pointee)
    if not _SCALAR.match(text):
        raise ValueError(
            f"{text!r} is not a type of the tile IR; known are {', '.join([*INTEGERS, *FLOATS])} and pointers"
        )
    return ScalarType(text)


def element_of(type: Type) -> ElementType:
    return type.element if isinstance(type, BlockType) else type


def shape_of(type: Type) -> tuple[int, ...]:
    return type.shape if isinstance(type, BlockType) else ()


def with_element(type: Type, element: ElementType) -> Type:
    """The same shape with another element type."""
    return BlockType(type.shape, element) if isinstance(type, BlockType) else element
