"""A short way for Triton's own `kernel[grid](...)`: what was launched once is launched again without asking Triton.

Triton's `JITFunction.run` spends about 4 µs in Python before our launcher is called: it binds the arguments by name,
asks what each is specialised on, joins that to a text, and looks up the compiled kernel. Here the compiled kernel comes
first: guards of native code say whether it is the one that Triton would choose for these arguments, and run it.

In:  a `@triton.jit` function whose kernel is about to be launched for the first time.
Out: the same function, whose `run` is a `Shortcut`. What is not the plain case (hooks, a capture, debugging, another
     driver, an argument that no compiled kernel is for, a cache that was cleared) goes to Triton's own.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import triton.language as tl
from triton import knobs
from triton.runtime import driver
from triton.runtime.jit import ConstexprFunction, JITFunction

from tessera.runtime.guard import ALIGNED, NOT_ONE, UNALIGNED, WIDE, Guard, GuardedLaunch, make_guarded

_MOST_KERNELS = 8
_MISSING, _NEVER = object(), object()


class _NotPlain(Exception):
    """A kernel or an argument that no guard is for."""


@dataclass(frozen=True)
class _Known:
    """A compiled kernel, under which key Triton keeps it, and how it is launched."""

    compiled: Any
    key: Any
    launch: GuardedLaunch


@dataclass
class _Calls:
    """Calls that give values for the same `names`, of which `options` are no parameters of the kernel; `defaults` are
    what they leave out. And the kernels that were compiled for them, the last one first."""

    names: tuple[str, ...]
    options: tuple[str, ...]
    defaults: Mapping[str, Any]
    kernels: list[_Known] = field(default_factory=list)

    def bound(self, values: Sequence[Any]) -> dict[str, Any]:
        """Every parameter by name, as Triton hands them to a grid that is a function."""
        bound = dict(zip(self.names, values, strict=False))
        if self.options or self.defaults:
            bound = {**self.defaults, **bound}
            for option in self.options:
                del bound[option]
        return bound


class Shortcut:
    """In the place of a kernel's `run`; takes what it takes and returns the compiled kernel, as it does.

    Calls are told apart by how many arguments they give in order and the names of the others; for each there are the
    kernels that were compiled for it.
    """

    def __init__(self, kernel: JITFunction[Any]) -> None:
        self._kernel = kernel
        self._driver = driver.active
        self._device = driver.active.get_current_device()
        self._names = kernel.arg_names
        self._defaults = {param.name: param.default for param in kernel.params if param.has_default}
        self._seen: dict[tuple[str, int], Any] = {}
        self._calls: dict[tuple[Any, ...], _Calls] = {}

    def __call__(self, *args: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        form = (len(args), *named)
        calls = self._calls.get(form)
        if calls is not None and not warmup and self._is_plain():
            values = (*args, *named.values())
            place = grid(calls.bound(values)) if callable(grid) else grid
            sizes = (*place, 1, 1)[:3]
            enter, exit_, kept = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook, self._kept()
            for one in calls.kernels:
                if kept.get(one.key) is one.compiled and one.launch(*sizes, enter, exit_, *values):
                    if one is not calls.kernels[0]:  # it will be asked first
                        calls.kernels = [one, *(other for other in calls.kernels if other is not one)]
                    return one.compiled
            grid = place
        compiled = type(self._kernel).run(self._kernel, *args, grid=grid, warmup=warmup, **named)
        if compiled is not None and not warmup:
            self._learn(form, compiled, args, named)
        return compiled

    def _is_plain(self) -> bool:
        """Whether Triton would do no more than launch. Raises as Triton does where a global of the kernel changed."""
        kernel, runtime = self._kernel, knobs.runtime
        for (name, place), (value, scope) in kernel.used_global_vals.items():
            found = scope.get(name, _MISSING)
            if found is not self._seen.get((name, place), _NEVER) and found != value:
                return False
        return not (
            kernel.pre_run_hooks
            or runtime.debug
            or runtime.add_stages_inspection_hook
            or knobs.compilation.instrumentation_mode
            or driver.active is not self._driver
        )

    def _learn(self, form: tuple[Any, ...], compiled: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Launch calls of this form by themselves from now on, where guards can say which they are."""
        kept = self._kept()
        key = next((key for key, value in kept.items() if value is compiled), None)
        # A kernel that failed a guard though it is known was called with what guards are stricter about than Triton.
        calls = self._calls.get(form) or self._new(len(args), named)
        if key is None or any(one.compiled is compiled for one in calls.kernels):
            return
        try:
            launch = _guarded(self._kernel, compiled, args, named)
        except _NotPlain:
            return
        used = self._kernel.used_global_vals.items()
        self._seen = {place: scope.get(place[0], _NEVER) for place, (value, scope) in used if _is_fixed(value)}
        others = [one for one in calls.kernels if kept.get(one.key) is one.compiled]
        calls.kernels = [_Known(compiled, key, launch), *others][:_MOST_KERNELS]
        self._calls[form] = calls

    def _new(self, num_args: int, named: Mapping[str, Any]) -> _Calls:
        names = (*self._names[:num_args], *named)
        options = tuple(name for name in named if name not in self._names)
        return _Calls(names, options, {name: x for name, x in self._defaults.items() if name not in names})

    def _kept(self) -> Mapping[Any, Any]:
        """The compiled kernels that Triton keeps, by key; someone may have cleared them."""
        caches = self._kernel.device_caches.get(self._device)
        return caches[0] if caches else {}


def _is_fixed(value: Any) -> bool:
    """Whether a global that is the same object has the same value."""
    return type(getattr(value, "value", value)) in (int, float, bool, str, tl.dtype, type(None))


def install(kernel: Any) -> None:
    """Give a `@triton.jit` function its short way for as long as Triton's driver is the present one."""
    _quicken_host_functions()
    if type(kernel) is JITFunction and not isinstance(kernel.__dict__.get("run"), Shortcut):
        kernel.run = Shortcut(kernel)


@functools.cache
def _quicken_host_functions() -> None:
    """Call `triton.cdiv` and its like, which grids are made with, at once where they are given whole numbers: Triton
    looks through every argument for those of its compiler, in three times as long as an empty launch."""
    ordinary = ConstexprFunction.__call__

    def call(self: Any, *args: Any, **named: Any) -> Any:
        # The names themselves are no whole numbers.
        for x in named or args:
            if x.__class__ is not int:
                return ordinary(self, *args, **named)
        return self.fn(*args)

    ConstexprFunction.__call__ = call


def _guarded(kernel: Any, compiled: Any, args: Sequence[Any], named: Mapping[str, Any]) -> GuardedLaunch:
    """Raises `_NotPlain`."""
    signature = compiled.src.signature
    params = {param.name: param for param in kernel.params}
    slots = {name: slot for slot, name in enumerate(name for name, kind in signature.items() if kind != "constexpr")}
    given = dict(zip(kernel.arg_names, args, strict=False)) | dict(named)
    if not slots.keys() <= given.keys():
        raise _NotPlain  # a default that is no constant
    guards = [
        _guard(params[name], signature[name], value, slots.get(name, 0), _is_aligned(compiled.src, params[name]))
        if name in params
        else _constant(value)
        for name, value in given.items()
    ]
    return make_guarded(compiled.function, guards, len(slots))


def _is_aligned(source: Any, param: Any) -> bool:
    """Whether the kernel was compiled for multiples of 16 there."""
    return any(name == "tt.divisibility" for name, _ in source.attrs.get((param.num,), ()))


def _guard(param: Any, kind: Any, value: Any, slot: int, aligned: bool) -> Guard:
    """What must hold of later values given for a parameter that was compiled as `kind` for `value`."""
    if kind == "constexpr":
        return _constant(value)
    if not isinstance(kind, str) or (kind == "u64" and not param.annotation_type):
        raise _NotPlain
    flags = ALIGNED if aligned else 0
    alike = not param.do_not_specialize and not param.do_not_specialize_on_alignment
    if kind.startswith("*"):
        if not isinstance(value, torch.Tensor):
            raise _NotPlain
        return Guard(kind=kind, object=value.dtype, slot=slot, flags=flags or (UNALIGNED if alike else 0))
    if type(value) not in (int, float, bool):
        raise _NotPlain
    if type(value) is int and kind[0] in "iu" and not param.do_not_specialize:
        if value == 1:
            raise _NotPlain  # Triton keeps a kernel of its own for it, though its type was given
        flags |= NOT_ONE | (UNALIGNED if alike and not aligned else 0)
    if kind == "i64" and not param.annotation_type:
        flags |= WIDE
    return Guard(kind=kind, object=type(value), slot=slot, flags=flags)


def _constant(value: Any) -> Guard:
    """Raises `_NotPlain` for what may be changed in its place."""
    try:
        hash(value)
    except TypeError as error:
        raise _NotPlain from error
    return Guard(kind="constexpr", object=value)
