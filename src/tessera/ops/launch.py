"""The one way from an entry to a compiled kernel.

In:  a kernel, a grid, its arguments in order, and its constants (`tl.constexpr` parameters, which come last).
Out: the kernel has run on the chip that holds the tensors.
On the CPU this is a short way past Triton's own launcher: the type of each argument makes the key of a compiled kernel.
A size or stride of 1 is part of the key, because a kernel is much faster where it is known; divisibility and alignment
are not, because our CPU compiler needs neither. Elsewhere, and under Triton's interpreter, the launch is Triton's.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import triton
import triton.language as tl
from triton.backends import backends
from triton.compiler import ASTSource
from triton.runtime.jit import JITFunction

_TYPES = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.uint8: "*u8",
    torch.bool: "*i1",
}
_INT32 = 1 << 31  # An int32 is from -_INT32 to below it.


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A kernel compiled for the types of its arguments.

    `signature` is Triton's, one type an argument of the kernel; `call` is the driver's launcher, `loaded` keeps the
    code at `address` in memory, `tail` are the values of the constants that follow the arguments; `has_tables`: some
    arguments are tables yet to be made.
    """

    signature: tuple[str, ...]
    address: int
    call: Callable[..., None]
    loaded: Any
    tail: tuple[None, ...]
    has_tables: bool


class ValueNeeded(Exception):
    """Raised where an entry has to see a number that only stands for those of other calls."""


@dataclass(frozen=True, eq=False)
class Given:
    """A number in a call that is being planned: number `place` of each call, in none of them 0 or 1.

    An entry may hand it to a launch, as a float64, and ask whether it is 0 or 1.
    """

    place: int

    def __eq__(self, other: object) -> bool:
        if isinstance(other, int | float) and other in (0, 1):
            return False
        raise ValueNeeded

    __hash__ = None  # type: ignore[assignment]


# The annotation of an entry's parameter that the entry hands to its launches; plans serve all its values.
Handed = bool | int | float | Given


def real(x: Any) -> float | Given:
    """A number as a launch takes it."""
    return x if isinstance(x, Given) else float(x)


@dataclass(frozen=True)
class Numbers:
    """An argument of a launch: the table of these numbers, a float64 for each."""

    values: tuple[float | Given, ...]
    device: torch.device

    def table(self) -> torch.Tensor:
        """The table, on the device."""
        return torch.tensor(self.values, dtype=torch.float64, device=self.device)


@dataclass(frozen=True)
class Addresses:
    """An argument of a launch: the table of where these tensors lie, an int64 for each."""

    tensors: tuple[torch.Tensor, ...]

    def table(self) -> torch.Tensor:
        """The table, on the tensors' device."""
        return torch.tensor([x.data_ptr() for x in self.tensors], device=self.tensors[0].device)


_TABLES = (Addresses, Numbers)
_HASHED_SLOWLY = frozenset({JITFunction, tl.dtype})


class Recorder(Protocol):
    """Who is told what a thread would launch."""

    def launched(self, compiled: Compiled, grid: tuple[int, int, int], args: tuple[Any, ...]) -> None:
        """A launch, which was not run."""

    def fixed(self, table: torch.Tensor) -> None:
        """`table` is the same memory with the same values in every run."""

    def checked(self, flag: torch.Tensor, check: Callable[[], None]) -> None:
        """`flag`, one int32, is the same memory in every run; `check` is to be called behind the launches, and does
        nothing where the flag is 0."""

    def shortened(self, num: torch.Tensor, row: torch.Tensor) -> None:
        """Behind the launches `row`, a result, is to be cut to num[0] elements."""


class _Recording(threading.local):
    """Whom this thread's launches are told to instead of being run; None: they are run."""

    recorder: Recorder | None = None


_recording = _Recording()
_ready: dict[Any, Compiled] = {}
_compiling = threading.Lock()


@contextmanager
def recorded_by(recorder: Recorder) -> Iterator[None]:
    """Launches of this thread on the CPU are compiled and told to `recorder`, and do not run."""
    before, _recording.recorder = _recording.recorder, recorder
    try:
        yield
    finally:
        _recording.recorder = before


def launch(kernel: Any, grid: tuple[int, ...], *args: Any, **constants: Any) -> None:
    """Run `kernel` over `grid` (1 to 3 sizes); `num_warps` among the constants is for the GPU compilers."""
    if not isinstance(kernel, JITFunction) or not _on_cpu(args):
        kernel[grid](*[x.table() if isinstance(x, _TABLES) else x for x in args], **constants)
        return
    # This is on the way of every call that is not planned, so the usual classes are told apart without a call.
    kinds = tuple([
        x.dtype if (of := x.__class__) is torch.Tensor
        else "i32" if of is int and x != 1 and -_INT32 <= x < _INT32
        else _kind(x)
        for x in args
    ])  # fmt: skip
    # Kernels and Triton's types are hashed by Python code, their identities at once; what is compiled keeps them alive.
    values = [id(x) if x.__class__ in _HASHED_SLOWLY else x for x in constants.values()]
    key = (id(kernel), kinds, *constants, *values)
    compiled = _ready.get(key)
    if compiled is None:
        with _compiling:
            compiled = _ready.get(key) or _ready.setdefault(key, _compile(kernel, args, kinds, constants))
    x, y, z = (*grid, 1, 1)[:3]
    if _recording.recorder is not None:
        _recording.recorder.launched(compiled, (x, y, z), args)
    else:
        if compiled.has_tables:
            args = tuple([x.table() if isinstance(x, _TABLES) else x for x in args])
        compiled.call(x, y, z, 0, compiled.address, None, None, None, None, *args, *compiled.tail)


def fixed(table: torch.Tensor) -> torch.Tensor:
    """`table`, whose values follow from what all calls of this layout have in common: a plan may keep it."""
    if _recording.recorder is not None:
        _recording.recorder.fixed(table)
    return table


@contextmanager
def raising(flag: torch.Tensor, check: Callable[[], None]) -> Iterator[torch.Tensor]:
    """Launches inside may raise `flag`, an int32 that is 0; `check` looks at it behind them, and raises what is to be
    raised."""
    if _recording.recorder is not None:
        _recording.recorder.checked(flag, check)
        yield flag
    else:
        yield flag
        check()


def shorten(num: torch.Tensor, *rows: torch.Tensor) -> None:
    """Cut new tensors of one dim, results all of them, to the num[0] elements that the launches before have found."""
    for row in rows:
        if _recording.recorder is not None:
            _recording.recorder.shortened(num, row)
        else:
            row.resize_(int(num.item()))


def _on_cpu(args: tuple[Any, ...]) -> bool:
    """The first tensor decides; an entry never mixes devices."""
    for x in args:
        if isinstance(x, torch.Tensor):
            return x.is_cpu
    raise ValueError("a launch without a tensor, which would say on which chip")


def _kind(x: Any) -> Any:
    """What of an argument decides which compiled kernel serves it."""
    if isinstance(x, torch.Tensor):
        return x.dtype
    if isinstance(x, int):
        return 1 if x == 1 else "i32" if -_INT32 <= x < _INT32 else "i64"
    return float if isinstance(x, Given) else type(x)


def _compile(kernel: Any, args: tuple[Any, ...], kinds: tuple[Any, ...], constants: dict[str, Any]) -> Compiled:
    driver = _driver()
    names = kernel.arg_names
    values = {name: value for name, value in constants.items() if name in names}
    fixed = {name: x for name, x, kind in zip(names, args, kinds, strict=False) if x is None or kind == 1} | values
    kinds_by_name = dict(zip(names, kinds, strict=False))
    signature = {
        param.name: "constexpr" if param.name in fixed else _type(kinds_by_name[param.name], param.annotation_type)
        for param in kernel.params
    }
    source = ASTSource(kernel, signature, fixed)
    compiled = triton.compile(source, target=driver.get_current_target())
    launcher = driver.launcher_cls(compiled.src, compiled.metadata)
    loaded = driver.utils.load_binary(compiled.name, compiled.kernel, compiled.metadata.shared, 0)
    return Compiled(
        signature=tuple(compiled.src.signature.values()), address=loaded[1], call=launcher,
        loaded=(loaded[0], source), tail=(None,) * (len(names) - len(args)),
        has_tables=any(isinstance(x, _TABLES) for x in args),
    )  # fmt: skip


@functools.cache
def _driver() -> Any:
    """The CPU's driver, also on a machine whose active driver is a GPU's."""
    return backends["cpu"].driver()


def _type(kind: Any, annotation: str) -> str:
    """Triton's name of an argument's type; a parameter may fix its own."""
    if annotation:
        return annotation
    if isinstance(kind, torch.dtype):
        return _TYPES[kind]
    if kind is Addresses:
        return "*i64"
    if kind is Numbers:
        return "*fp64"
    return "fp32" if kind is float else str(kind)
