"""A short way for Triton's own `kernel[grid](...)`: what was launched once is launched again without asking Triton.

Triton's `JITFunction.run` spends about 4 µs in Python before our launcher is called: it binds the arguments by name,
asks what each is specialised on, joins that to a text, and looks up the compiled kernel. Here the compiled kernel comes
first: native code sees that nothing has changed of what Triton would look at, finds the kernel that Triton would choose
for these arguments, and runs it.

In:  a `@triton.jit` function whose kernel is about to be launched for the first time.
Out: the same function, whose `run` is a `Shortcut`. What is not the plain case (hooks, a capture, debugging, another
     driver, an argument that no compiled kernel is for, a cache that was cleared) goes to Triton's own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import triton.language as tl
from triton import knobs
from triton.runtime import driver
from triton.runtime.jit import ConstexprFunction, JITFunction

from tessera.runtime.guard import ALIGNED, NOT_ONE, UNALIGNED, WIDE, Form, Guard, Known, ShortLaunch, Watch

_MOST_KERNELS = 8


class _NotPlain(Exception):
    """A kernel, an argument or a state of Triton's that the short way is not for."""


class Shortcut:
    """In the place of a kernel's `run`; takes what it takes and returns the compiled kernel, as it does.

    Calls are told apart by how many arguments they give in order and the names of the others; for each there are the
    kernels that were compiled for it, the last one first.
    """

    def __init__(self, kernel: JITFunction[Any]) -> None:
        self._kernel = kernel
        self._driver = driver.active
        self._device = driver.active.get_current_device()
        self._forms: dict[tuple[Any, ...], Form] = {}
        self._short = ShortLaunch(self._ask)
        self.launch = self._short.launch

    def __call__(self, *args: Any, grid: Any, warmup: bool, **named: Any) -> Any:
        if warmup:
            return type(self._kernel).run(self._kernel, *args, grid=grid, warmup=True, **named)
        return self.launch(grid, *args, **named)

    def _ask(self, grid: Any, /, *args: Any, **named: Any) -> Any:
        compiled = type(self._kernel).run(self._kernel, *args, grid=grid, warmup=False, **named)
        if compiled is not None:
            self._learn(compiled, args, named)
        return compiled

    def _learn(self, compiled: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """Launch calls of this form by themselves from now on, where guards can say which they are."""
        try:
            watches, kept = self._watches()
        except _NotPlain:
            self._short.forget()
            return
        key = next((key for key, value in kept.items() if value is compiled), None)
        given = (len(args), *named)
        form = self._forms.get(given) or self._form(len(args), named)
        # A kernel that failed a guard though it is known was called with what guards are stricter about than Triton.
        if key is not None and not any(one.compiled is compiled for one in form.kernels):
            with contextlib.suppress(_NotPlain):
                known = _known(self._kernel, kept, key, compiled, args, named)
                others = [one for one in form.kernels if one.is_kept()]
                self._forms[given] = dataclasses.replace(form, kernels=(known, *others)[:_MOST_KERNELS])
        self._short.know(watches, list(self._forms.values()))

    def _form(self, in_order: int, named: Mapping[str, Any]) -> Form:
        names = self._kernel.arg_names
        given = (*names[:in_order], *named)
        defaults = {p.name: p.default for p in self._kernel.params if p.has_default and p.name not in given}
        return Form(in_order, tuple(named), tuple(n if n in names else None for n in given), defaults)

    def _watches(self) -> tuple[list[Watch], dict[Any, Any]]:
        """What is as it is when Triton does no more than launch, and the compiled kernels that it keeps, by key.

        Raises: _NotPlain where something is not, or cannot be watched.
        """
        kernel, runtime = self._kernel, knobs.runtime
        caches = kernel.device_caches.get(self._device)
        if not caches:
            raise _NotPlain
        watches: list[Watch] = [
            (vars(driver), "_active", self._driver),
            (vars(kernel), "pre_run_hooks", []),
            (kernel.device_caches, self._device, caches),
            _watch(runtime, "debug", False),
            _watch(runtime, "add_stages_inspection_hook", None),
            _watch(knobs.compilation, "instrumentation_mode", ""),
        ]
        for name in ("launch_enter_hook", "launch_exit_hook"):
            hook = getattr(runtime, name)
            watches.append(_watch(runtime, name, hook))
            if hook is not None:
                if not hasattr(hook, "calls"):
                    raise _NotPlain
                watches.append((vars(hook), "calls", []))
        # Triton compares what it found of a global when it compiled; one that is the same object has the same value.
        watches += [
            (scope, name, scope[name] if name in scope and scope[name] == value and _is_fixed(value) else value)
            for (name, _), (value, scope) in kernel.used_global_vals.items()
        ]
        return watches, caches[0]


def _watch(owner: Any, name: str, value: Any) -> Watch:
    """That an attribute, which may be of the class alone, reads as `value`. Raises `_NotPlain`."""
    of_class = getattr(type(owner), name, None)
    if name in vars(owner):
        return vars(owner), name, value
    if of_class is not value and of_class != value:  # computed, as from the environment, it is no value
        raise _NotPlain
    return vars(owner), name


def _is_fixed(value: Any) -> bool:
    """Whether a global that is the same object has the same value."""
    return type(getattr(value, "value", value)) in (int, float, bool, str, tl.dtype, type(None))


def install(kernel: Any) -> None:
    """Give a `@triton.jit` function its short way for as long as Triton's driver is the present one."""
    _quicken()
    if type(kernel) is JITFunction and not isinstance(kernel.__dict__.get("run"), Shortcut):
        kernel.run = Shortcut(kernel)


@functools.cache
def _quicken() -> None:
    """Let `kernel[grid]` be the short way at once where there is one, and call `triton.cdiv` and its like, which grids
    are made with, at once where they are given whole numbers: Triton looks through every argument for those of its
    compiler, in three times as long as an empty launch."""
    ordinary_item, ordinary_call = JITFunction.__getitem__, ConstexprFunction.__call__

    def item(self: Any, grid: Any) -> Callable[..., Any]:
        run = self.__dict__.get("run")
        return functools.partial(run.launch, grid) if run.__class__ is Shortcut else ordinary_item(self, grid)

    def call(self: Any, *args: Any, **named: Any) -> Any:
        # The names themselves are no whole numbers.
        for x in named or args:
            if x.__class__ is not int:
                return ordinary_call(self, *args, **named)
        return self.fn(*args)

    JITFunction.__getitem__, ConstexprFunction.__call__ = item, call


def _known(
    kernel: Any, kept: dict[Any, Any], key: Any, compiled: Any, args: Sequence[Any], named: Mapping[str, Any]
) -> Known:
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
    return Known(kept, key, compiled, address=compiled.function, guards=guards, slots=len(slots))


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
