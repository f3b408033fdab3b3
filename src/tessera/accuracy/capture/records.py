"""The records of a run: operators, modules and final values, all of them data that can be written to disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from tessera.accuracy.capture.value import Value

Phase = Literal["forward", "backward", "step"]


@dataclass(frozen=True, slots=True, eq=False)
class Edge:
    """A tensor that an operator read. producer: the index of the operator that wrote it last, None for a leaf.

    name: what a leaf is called (`parameter layer.weight`, `input 0`), empty for others.
    """

    value: Value
    producer: int | None
    name: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One call of an operator.

    name: as in `aten.addmm.default`. module: dotted name of the innermost module (of the forward one in a backward
    pass).
    call: how many times this operator ran in this module before, in this phase. source: `file:line` of the model.
    arguments: the arguments by name, tensors as `%i` for `inputs[i]`. written: the whole buffers behind outputs that
    are
    views and were written to.
    """

    index: int
    name: str
    phase: Phase
    step: int
    module: str
    module_kind: str
    call: int
    source: str
    inputs: tuple[Edge, ...]
    arguments: tuple[tuple[str, str], ...]
    outputs: tuple[Value, ...]
    written: tuple[Value, ...] = ()

    @property
    def results(self) -> tuple[Value, ...]:
        """All that it made: outputs and written buffers."""
        return (*self.outputs, *self.written)

    @property
    def short_name(self) -> str:
        """`aten.addmm.default` as `aten.addmm`, as people say it."""
        return ".".join(self.name.split(".")[:2])


@dataclass(frozen=True, slots=True, eq=False)
class ModuleCall:
    """One call of a module: the operators from `first` up to, not including, `last` ran within it.

    outputs: its floating outputs by path, empty for a bare tensor.
    """

    name: str
    kind: str
    step: int
    first: int
    last: int
    outputs: tuple[tuple[str, Value], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Final:
    """A value by which a run is judged as a whole: `output[...]`, `gradient NAME`, `parameter NAME`, `buffer NAME`."""

    name: str
    value: Value
    producer: int | None


@dataclass(slots=True, eq=False)
class Trace:
    """One watched run. error: what ended it early, empty if nothing did."""

    ops: list[Op] = field(default_factory=list)
    modules: list[ModuleCall] = field(default_factory=list)
    finals: list[Final] = field(default_factory=list)
    dtype: str = ""
    error: str = ""

    def final(self, name: str) -> Final | None:
        """The final value of that name."""
        return next((final for final in self.finals if final.name == name), None)

    def values(self) -> Iterator[tuple[int, Value]]:
        """Every value that an operator made, with the operator's index."""
        for op in self.ops:
            for value in op.results:
                yield op.index, value
