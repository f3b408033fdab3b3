"""`tessera.capture`: record what a block does on the CPU, and replay it without Python between the kernels.

In:  a block of a program, run once by the thread that opened it.
Out: `Graph`, from `tessera.runtime.capture`.

Launches are recorded as they pass, of Triton's kernels and of our operators alike. What PyTorch computes with kernels
of its own is recorded as a call: a replay makes it again, with the same tensors, and writes its results where they
were. Views and allocations happen once. An operator of ours that looks at values, as an index that is checked, is made
again as a call, too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tessera.aten import record, register
from tessera.aten.serve import gives_value, operator_of
from tessera.ops.table import VARIANTS
from tessera.runtime import pool
from tessera.runtime.capture import CaptureError, Graph, Recorder

# Allocated with a value, which is to be there again at each replay.
_FILLED = "aten::scalar_tensor"
_TO_PYTHON = "aten::_local_scalar_dense"


class _ReadsValue(Exception):
    """Raised inside an operator of ours that hands a number to Python."""


class _Watch(TorchDispatchMode):
    """Sees every operator that the block calls."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._recorder = recorder
        self._inside = 0

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled functions are called as without a capture."""
        return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = func._name
        if name == _TO_PYTHON or (name in VARIANTS and gives_value(VARIANTS[name])):
            self._refuse()
        if func.is_view or (name in record.NOT_COMPUTE and name != _FILLED):
            return self._held(func(*args, **kwargs))
        if name in VARIANTS and _on_cpu(args, kwargs) and register.is_ours(name, args, kwargs):
            return self._serve(func, args, kwargs)
        parts = record.parts_key(func)
        if parts is not None:
            with self:
                return func._op_dk(parts, *args, **kwargs)
        return self._call(func, args, kwargs)

    def _refuse(self) -> None:
        """A number for Python: what Python does with it cannot be replayed."""
        if self._inside:
            raise _ReadsValue
        raise CaptureError(
            "a tensor's value was read inside a capture (.item(), bool(), int(), torch.equal or an `if` on a tensor): "
            "a replay would go on with the value of the capture; keep it a tensor, for example with torch.where, or "
            "read it after the block"
        )

    def _serve(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator of ours: its launches record themselves, unless it declines or reads values."""
        mark = self._recorder.mark()
        self._inside += 1
        try:
            with self:
                result = operator_of(VARIANTS[func._name]).direct(args, kwargs)
        except _ReadsValue:
            self._recorder.rewind(mark)
            return self._call(func, args, kwargs)
        finally:
            self._inside -= 1
        if result is NotImplemented:
            return self._call(func, args, kwargs)
        record.count(VARIANTS[func._name].name, None)
        self._hold_all(args, kwargs)
        return self._held(result)

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operator that a replay calls again."""
        mark = self._recorder.mark()
        result = func(*args, **kwargs)
        self._recorder.rewind(mark)
        self._hold_all(args, kwargs)
        self._held(result)
        self._recorder.add(_call_again(func, args, kwargs, result))
        return result

    def _held(self, result: Any) -> Any:
        self._hold_all(result)
        return result

    def _hold_all(self, *values: Any) -> None:
        for leaf in tree_leaves(values):
            if isinstance(leaf, torch.Tensor) and leaf.is_cpu:
                self._recorder.hold(leaf)


def _on_cpu(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return all(x.is_cpu for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor))


def _call_again(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Callable[[], None]:
    """A function that calls `func` and writes its results into those of the capture."""
    args, kwargs = _plain(args), {name: _plain(value) for name, value in kwargs.items()}
    places = [_plain(x) for x in tree_leaves(result)]

    def call() -> None:
        for place, value in zip(places, tree_leaves(func(*args, **kwargs)), strict=True):
            if isinstance(place, torch.Tensor) and place.data_ptr() != value.data_ptr():
                _write(func, place, value)

    return call


def _plain(value: Any) -> Any:
    """Tensors without their history, which a graph must not keep alive; the memory is the same."""
    if isinstance(value, torch.Tensor):
        return value.detach() if value.requires_grad else value
    if isinstance(value, list | tuple):
        return type(value)(_plain(x) for x in value)
    return value


def _write(func: Any, place: torch.Tensor, value: torch.Tensor) -> None:
    if place.shape != value.shape:
        raise CaptureError(
            f"{func._name} gave {tuple(value.shape)} in a replay and {tuple(place.shape)} in the capture: an operator "
            "whose result's size follows from values cannot be captured; call it outside, or use one of a fixed size"
        )
    place.copy_(value)


class capture:
    """`with tessera.capture() as graph:` runs the block and records it; `graph.replay()` runs it again.

    Everything on the CPU that the thread computes in the block is recorded, and the block's results are valid when it
    ends. A replay reads its inputs from the memory that they had and writes its results to the memory that they had:
    write new inputs with `copy_`. Python runs once, so numbers, branches and shapes are those of the capture.

    Raises `CaptureError`: for a capture within another of the same thread, for a block that records nothing, and where
    a value is read by Python in the block. Captures of several threads do not see each other.
    """

    def __enter__(self) -> Graph:
        if pool.listener() is not None:
            raise CaptureError(
                "a capture was opened inside another one of the same thread; end the first, or replay a graph inside "
                "the second: its launches are recorded as well"
            )
        self._recorder, self._graph, self._thread = Recorder(), Graph(), threading.get_ident()
        self._watch = _Watch(self._recorder)
        pool.listen(self._recorder)
        self._watch.__enter__()  # type: ignore[no-untyped-call]
        return self._graph

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if threading.get_ident() != self._thread:
            raise CaptureError("a capture must end in the thread that opened it; leave the block there")
        self._watch.__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        pool.listen(None)
        if error is not None:
            self._graph.fail(f"its capture ended with {type(error).__name__}")
        else:
            # Tensors made in inference mode may be written in it alone; no replay is part of autograd's graph.
            quiet = torch.inference_mode if torch.is_inference_mode_enabled() else torch.no_grad
            self._graph.finish(self._recorder, quiet)
