"""One call of a model, as data: it can be copied, cast and repeated, so that every run gets the very same inputs."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tessera.core.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Call:
    """The arguments of one forward call."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, inputs: object) -> Call:
        """From example inputs: a tensor, a tuple of positional arguments, a dict of keyword arguments, or a call."""
        if isinstance(inputs, Call):
            return inputs
        if isinstance(inputs, torch.Tensor):
            return cls(args=(inputs,))
        if isinstance(inputs, Mapping):
            return cls(kwargs={str(name): value for name, value in inputs.items()})
        if isinstance(inputs, (tuple, list)):
            return cls(args=tuple(inputs))
        raise UsageError(
            f"example inputs are a {type(inputs).__name__}; "
            "give a tensor, a tuple of positional arguments or a dict of keyword arguments"
        )

    def cast(self, dtype: torch.dtype) -> Call:
        """The same call with every floating tensor in `dtype`, also those in caches; integers are kept."""
        return Call(
            args=tuple(_cast(value, dtype) for value in self.args),
            kwargs={name: _cast(value, dtype) for name, value in self.kwargs.items()},
        )

    def to(self, device: torch.device) -> Call:
        """The same call with its tensor arguments on a device."""
        return Call(
            args=tuple(_on(value, device) for value in self.args),
            kwargs={name: _on(value, device) for name, value in self.kwargs.items()},
        )

    def copy(self) -> Call:
        """A deep copy: a model that writes to its inputs (a cache) must not change the next run's."""
        return Call(args=copy.deepcopy(self.args), kwargs=copy.deepcopy(dict(self.kwargs)))

    def with_gradients(self) -> Call:
        """The same call with every floating tensor argument a leaf that gradients are computed for."""
        return Call(
            args=tuple(_as_leaf(value) for value in self.args),
            kwargs={name: _as_leaf(value) for name, value in self.kwargs.items()},
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensor arguments by position or name."""
        named = {**{str(index): value for index, value in enumerate(self.args)}, **self.kwargs}
        return {name: value for name, value in named.items() if isinstance(value, torch.Tensor)}

    def rolled(self) -> Call:
        """Another call of the same shapes: values are moved by one along the last dim of each tensor, floats scaled."""
        return Call(
            args=tuple(_rolled(value) for value in self.args),
            kwargs={name: _rolled(value) for name, value in self.kwargs.items()},
        )

    @property
    def has_state(self) -> bool:
        """Whether an argument is an object that a call may change, such as a cache."""
        return any(not _plain(value) for value in (*self.args, *self.kwargs.values()))

    def run(self, model: nn.Module, *, gradients: bool = False) -> object:
        """Call the model, without gradients unless asked for.

        `no_grad`, not `inference_mode`: under the latter composite operators reach dispatch modes undivided.
        """
        with torch.set_grad_enabled(gradients):
            return model(*self.args, **self.kwargs)


def floating_tensors(value: object, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    """Every floating tensor in an output, with its path (`[0]`, `[last_hidden_state]`, empty for a bare tensor).

    Goes through mappings (also transformers' ModelOutput), sequences and key-value caches (iterables of tensors).
    """
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield path, value
        return
    if isinstance(value, (str, bytes, Iterator)):
        return
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from floating_tensors(item, f"{path}[{name}]")
    elif isinstance(value, Iterable):
        for index, item in enumerate(value):
            yield from floating_tensors(item, f"{path}[{index}]")


def _cast(value: object, dtype: torch.dtype) -> object:
    if isinstance(value, torch.Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, torch.dtype):
        return dtype if value.is_floating_point else value
    if isinstance(value, dict):
        return {name: _cast(item, dtype) for name, item in value.items()}
    if type(value) in (tuple, list):
        items = [_cast(item, dtype) for item in value]  # type: ignore[attr-defined]
        return tuple(items) if isinstance(value, tuple) else items
    if isinstance(value, (type, nn.Module)) or not hasattr(value, "__dict__"):
        return value
    # An object such as a key-value cache: a copy whose attributes are cast, and the type that it notes for itself.
    made = copy.copy(value)
    vars(made).update({name: _cast(item, dtype) for name, item in vars(value).items()})
    return made


def _on(value: object, device: torch.device) -> object:
    return value.to(device) if isinstance(value, torch.Tensor) else value


def _as_leaf(value: object) -> object:
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


def _rolled(value: object) -> object:
    # Masks and other flags stay: moved, they may leave a row with nothing to attend to.
    if not isinstance(value, torch.Tensor) or value.dtype == torch.bool or value.numel() < 2:
        return value
    if value.is_floating_point():
        return value.roll(1, -1) * 0.75
    return value if int(value.max()) - int(value.min()) < 2 else value.roll(1, -1)


def _plain(value: object) -> bool:
    if value is None or isinstance(value, (torch.Tensor, bool, int, float, str)):
        return True
    if isinstance(value, dict):
        return all(_plain(item) for item in value.values())
    return type(value) in (tuple, list) and all(_plain(item) for item in value)  # type: ignore[attr-defined]
