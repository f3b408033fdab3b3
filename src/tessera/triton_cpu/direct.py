"""A short way to launch a Triton kernel on the CPU: `tessera.direct(kernel)[grid](...)`.

Triton's own `kernel[grid](...)` spends about 4 µs in Python before our launcher is called: it binds the arguments by
name, asks what each is specialised on, joins that to a text, and compares every global that the kernel reads with its
value at compile time. Here the types of the arguments make a key, and the key finds the launcher that Triton compiled.

In:  a `@triton.jit` function.
Out: an object that is launched in the same way. What is not the plain case, a launch hook, a device that is no CPU, a
     new type of argument, goes to Triton's own launch.
Limits: a global of the kernel that changes after the first launch is not noticed; Triton raises there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from triton import knobs
from triton.runtime.jit import JITFunction

from tessera.core.errors import UsageError

_Kind = Callable[[Any], Any]
_ALIGNMENT = 16


class _Elsewhere(Exception):
    """An argument that the short way does not know."""


def _constant(x: Any) -> Any:
    """The kind of what a kernel is compiled for by value. True, 1 and 1.0 are different constants."""
    return x.__class__, x


def _value(x: Any) -> Any:
    """What Triton specialises a run-time argument on: types, alignment, 1 and multiples of 16."""
    if isinstance(x, torch.Tensor):
        if not x.is_cpu:
            raise _Elsewhere
        return x.dtype, x.data_ptr() % _ALIGNMENT
    kind = x.__class__
    if kind is int:
        return x if x == 1 else (x % _ALIGNMENT == 0, -(1 << 31) <= x < 1 << 31, x < 1 << 63)
    if kind is float or kind is bool or x is None:
        return kind
    raise _Elsewhere


def _hooked() -> bool:
    """Whether someone wants to hear of launches."""
    runtime = knobs.runtime
    return _calls(runtime.launch_enter_hook) or _calls(runtime.launch_exit_hook)


def _calls(hook: Any) -> bool:
    return hook is not None and bool(getattr(hook, "calls", True))


class Direct:
    """See `direct`."""

    def __init__(self, kernel: JITFunction[Any]) -> None:
        self.kernel = kernel
        self._kind_of: dict[str, _Kind] = {p.name: _constant if p.is_constexpr else _value for p in kernel.params}
        self._keys: dict[int, Callable[..., Any]] = {}
        self._ready: dict[Any, Callable[..., None]] = {}

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return functools.partial(self._launch, grid)

    def __repr__(self) -> str:
        return f"direct({self.kernel!r})"

    def _launch(self, grid: Any, *args: Any, **named: Any) -> None:
        try:
            key = self._keys[len(args)](*args) if len(args) in self._keys else self._key(len(args))(*args)
            if named:
                key += tuple([(name, self._kind_of.get(name, _constant)(x)) for name, x in named.items()])
            ready = self._ready.get(key)
        except (_Elsewhere, TypeError):  # a constant that cannot be a key
            key = ready = None
        if ready is None or self.kernel.pre_run_hooks or _hooked():
            compiled = self.kernel[grid](*args, **named)
            if compiled is not None and key is not None:
                self._ready[key] = self._launcher(compiled, len(args))
            return
        if callable(grid):
            grid = grid(self._bound(args, named))
        ready(grid if len(grid) == 3 else (*grid, 1, 1)[:3], args, named)

    def _key(self, num_args: int) -> Callable[..., Any]:
        """What makes the key of `num_args` arguments given in order, in straight-line code."""
        if num_args > len(self.kernel.arg_names):
            raise _Elsewhere  # Triton has the words for it
        names = [f"a{index}" for index in range(num_args)]
        plain = "({0}.dtype, {0}.data_ptr() % {1}) if {0}.__class__ is Tensor and {0}.is_cpu else value({0})"
        parts = [
            plain.format(name, _ALIGNMENT) if self._kind_of[param] is _value else f"constant({name})"
            for name, param in zip(names, self.kernel.arg_names, strict=False)
        ]
        source = f"lambda {', '.join(names)}: ({''.join(f'{part}, ' for part in parts)})"
        made: Callable[..., Any] = eval(source, {"Tensor": torch.Tensor, "value": _value, "constant": _constant})
        return self._keys.setdefault(num_args, made)

    def _launcher(self, compiled: Any, num_args: int) -> Callable[..., None]:
        """What launches `compiled` when the first `num_args` arguments are given in order."""
        rest = [(p.name, p.default, p.is_constexpr) for p in self.kernel.params[num_args:]]
        run, function = compiled.run, compiled.function

        def constants_follow(grid: tuple[int, ...], args: tuple[Any, ...], named: dict[str, Any]) -> None:
            run(*grid, 0, function, compiled.packed_metadata, None, None, None, *args, *nones)

        def values_follow(grid: tuple[int, ...], args: tuple[Any, ...], named: dict[str, Any]) -> None:
            more = [named.get(name, default) for name, default, _ in rest]
            run(*grid, 0, function, compiled.packed_metadata, None, None, None, *args, *more)

        nones = (None,) * len(rest)
        return constants_follow if all(constant for *_, constant in rest) else values_follow

    def _bound(self, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
        """Every parameter by name, as Triton hands them to a grid that is a function."""
        defaults = {p.name: p.default for p in self.kernel.params if p.has_default}
        return defaults | dict(zip(self.kernel.arg_names, args, strict=False)) | named


def direct(kernel: Any) -> Any:
    """`kernel` with a shorter way to a launch on the CPU, for loops of many small launches.

    To be used as the kernel is, also as a decorator above `@triton.jit`. Under Triton's interpreter it is the kernel
    itself. Raises `UsageError` for what is no `@triton.jit` function, as one that is autotuned.
    """
    if knobs.runtime.interpret:
        return kernel
    if not isinstance(kernel, JITFunction):
        raise UsageError(
            f"direct() was given a {type(kernel).__name__}; it takes a function decorated with @triton.jit: put it "
            "around that function itself, and choose the configuration of an autotuned kernel before"
        )
    return Direct(kernel)
