"""The watcher: a dispatch mode for operators and forward hooks for modules, neither of which touches what is computed.

Gradients are watched as the operators that compute them, below autograd; backward hooks on modules, which wrap tensors
and change the order of summation, are not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import count
from typing import Protocol

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from tessera.accuracy.call import floating_tensors
from tessera.accuracy.capture.memory import Memory
from tessera.accuracy.capture.random import RandomTape, draws
from tessera.accuracy.capture.records import Edge, ModuleCall, Op, Phase, Trace
from tessera.accuracy.capture.source import user_line
from tessera.accuracy.capture.unwatched import unwatched
from tessera.accuracy.capture.value import Value

ROOT = "(model)"
OPTIMIZER = "(optimizer)"
# Operators that only hand their input on; recording them would say everything twice.
_SILENT = frozenset(
    {
        "aten::detach", "aten::alias", "aten::lift_fresh",
        "profiler::_record_function_enter_new", "profiler::_record_function_exit",
    }
)  # fmt: skip


class Observer(Protocol):
    """Sees an operator with its full tensors while they are there."""

    def before(
        self, index: int, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> None:
        """Called before the operator runs."""

    def after(self, index: int, func: torch._ops.OpOverload, result: object) -> None:
        """Called after it ran, with what it returned."""


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operator that runs within it into `trace`."""

    def __init__(
        self,
        tape: RandomTape,
        names: Mapping[int, str],
        observers: Sequence[Observer] = (),
        sink: Callable[[Op], None] | None = None,
        memory: Callable[[Mapping[int, str]], Memory] = Memory,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sink = sink
        self.trace = Trace()
        self.phase: Phase = "forward"
        self.step = 0
        self._tape = tape
        self._observers = observers
        self.modules: list[tuple[str, str]] = [(ROOT, "")]
        self._calls: Counter[tuple[str, str, str, int]] = Counter()
        self._memory = memory(names)
        # Which module and line made an autograd node, by the node's sequence number.
        self._makers: dict[int, tuple[str, str, str]] = {}
        self._starts: list[int] = []

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run one operator as asked, and note what went in and what came out."""
        named = kwargs or {}
        if func._schema.name in _SILENT:
            return func(*args, **named)
        inputs = self._inputs(args, named)
        index = len(self.trace.ops)
        for observer in self._observers:
            with unwatched():
                observer.before(index, func, args, named)
        drawn = draws(func)
        result = self._tape.draw(func, args, lambda: func(*args, **named)) if drawn else self.call(func, args, named)
        for observer in self._observers:
            with unwatched():
                observer.after(index, func, result)
        self._note(func, args, named, inputs, result)
        return result

    def call(self, func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
        """Run one operator."""
        return func(*args, **kwargs)

    def edge(self, tensor: torch.Tensor) -> Edge:
        """The record of a tensor as it is now."""
        with unwatched():
            return self._memory.edge(tensor)

    def _inputs(self, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[Edge, ...]:
        with unwatched():
            return tuple([self._memory.edge(tensor) for tensor in tensors_of((*args, *kwargs.values()))])

    def _note(
        self,
        func: torch._ops.OpOverload,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        inputs: tuple[Edge, ...],
        result: object,
    ) -> None:
        index = len(self.trace.ops)
        module, kind, source = self._place()
        key = (module, func._schema.name, self.phase, self.step)
        with unwatched():
            values, written = self._results(index, func, args, kwargs, result)
        self.trace.ops.append(
            Op(
                index=index,
                name=str(func),
                phase=self.phase,
                step=self.step,
                module=module,
                module_kind=kind,
                call=self._calls[key],
                source=source,
                inputs=inputs,
                arguments=describe_arguments(func, args, kwargs),
                outputs=tuple(values),
                written=tuple(written),
            )
        )
        self._calls[key] += 1
        if self._sink is not None:
            with unwatched():
                self._sink(self.trace.ops[-1])

    def _results(
        self,
        index: int,
        func: torch._ops.OpOverload,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        result: object,
    ) -> tuple[list[Value], list[Value]]:
        """Records of the outputs (with what was written in place), and of whole buffers behind what was written."""
        outputs = tensors_of(result)
        if is_pure_view(func):
            return [self._memory.viewed(index, tensor) for tensor in outputs], []
        changed = mutated(func, args, kwargs)
        outputs += [leaf for leaf in changed if all(leaf is not output for output in outputs)]
        pairs = [
            self._memory.wrote(index, tensor, made=all(tensor is not leaf for leaf in changed)) for tensor in outputs
        ]
        return [value for value, _ in pairs], [whole for _, whole in pairs if whole is not None]

    def _place(self) -> tuple[str, str, str]:
        """Module, its class and the source line; of the forward operator where this one computes its gradient."""
        if self.phase == "backward":
            node = torch._C._current_autograd_node()
            maker = None if node is None else self._makers.get(node._sequence_nr())
            line = user_line() if maker is None else maker[2]
            return (*(maker or self.modules[-1])[:2], line)
        line = user_line()
        if torch.is_grad_enabled() or self.phase == "forward":
            # The node of the operator that runs now took the last number given.
            number = torch.autograd._get_sequence_nr() - 1  # type: ignore[attr-defined]
            self._makers[number] = (*self.modules[-1], line)
        return (*self.modules[-1], line)

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within it, operators are recorded under the modules of `model` that they run in."""
        handles = []
        try:
            for name, module in model.named_modules():
                # A model that is compiled as it runs must not have the watching compiled with it.
                enter = torch.compiler.disable(self._enter(name or ROOT))  # type: ignore[no-untyped-call]
                leave = torch.compiler.disable(self._leave(name or ROOT))  # type: ignore[no-untyped-call]
                handles.append(module.register_forward_pre_hook(enter))
                handles.append(module.register_forward_hook(leave))
            with self:
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[[nn.Module, object], None]:
        def hook(module: nn.Module, _inputs: object) -> None:
            self.modules.append((name, type(module).__name__))
            self._starts.append(len(self.trace.ops))

        return hook

    def _leave(self, name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(module: nn.Module, _inputs: object, output: object) -> None:
            self.modules.pop()
            outputs = tuple((path, self.edge(tensor).value) for path, tensor in floating_tensors(output))
            self.trace.modules.append(
                ModuleCall(
                    name=name,
                    kind=type(module).__name__,
                    step=self.step,
                    first=self._starts.pop(),
                    last=len(self.trace.ops),
                    outputs=outputs,
                )
            )

        return hook


def tensors_of(tree: object) -> list[torch.Tensor]:
    """The tensors among the arguments or results of an operator, which nest in lists and nothing else."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if not isinstance(tree, (list, tuple)):
        return []
    found: list[torch.Tensor] = []
    for value in tree:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, (list, tuple, dict)):
            found += tensors_of(value)
    return found


def mutated(func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> list[torch.Tensor]:
    """The tensors that the operator writes to, by its schema, or by what is known where the schema does not say it."""
    found = [leaf for place in _unsaid(func, args) if isinstance(leaf := args[place], torch.Tensor)]
    if not func._schema.is_mutable:
        return found
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            given = args[position] if position < len(args) else kwargs.get(argument.name)
            found += tensors_of(given)
    return found


def _unsaid(func: torch._ops.OpOverload, args: Sequence[object]) -> tuple[int, ...]:
    """Places of arguments that are written to although the schema is silent: running statistics, while training."""
    name = func._schema.name
    return (3, 4) if name == "aten::native_batch_norm" and len(args) > 5 and args[5] else ()


@lru_cache(maxsize=4096)
def is_pure_view(func: torch._ops.OpOverload) -> bool:
    """Whether what it returns shares memory with an argument, and nothing is written."""
    return not func._schema.is_mutable and any(value.alias_info is not None for value in func._schema.returns)


def describe_arguments(
    func: torch._ops.OpOverload, args: Sequence[object], kwargs: Mapping[str, object]
) -> tuple[tuple[str, str], ...]:
    """Arguments by their name in the schema; tensors are numbered in order of appearance."""
    number = count()
    named = zip(_argument_names(func), args, strict=False)
    return tuple([(name, _spelled(value, number)) for name, value in (*named, *kwargs.items())])


@lru_cache(maxsize=4096)
def _argument_names(func: torch._ops.OpOverload) -> tuple[str, ...]:
    return tuple(argument.name for argument in func._schema.arguments)


def _spelled(value: object, number: Iterator[int]) -> str:
    if isinstance(value, torch.Tensor):
        return f"%{next(number)}"
    if not isinstance(value, (list, tuple)):
        return repr(value)
    inner = ", ".join([_spelled(each, number) for each in value])
    if isinstance(value, list):
        return f"[{inner}]"
    return f"({inner},)" if len(value) == 1 else f"({inner})"
