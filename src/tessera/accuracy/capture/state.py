"""A model lent to a run: its type may be changed and its state may move, and afterwards it is as it was."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from tessera.accuracy.capture.memory import local_of, storage_of

# Weights of more elements than this are not widened all at once.
_LARGE = 100_000_000


@contextmanager
def lent(
    model: nn.Module, dtypes: Mapping[str, torch.dtype], *, double: bool, trained: bool, gradients: bool = True
) -> Iterator[None]:
    """Within it, floating weights are rounded to the type that `dtypes` names for them, then widened if `double`.

    Weights are exchanged in place, not copied with the model: functions that were bound to the model (patched forwards,
    closures) then see them too. Afterwards weights, buffers and attributes of every module are the former ones.
    trained: the run writes to the weights, so it gets copies; distributed weights, whose parts others hold as well, get
    their numbers back instead. gradients: they are asked for; without them the
    weights of a large model stay as they are, and `InDouble` widens each where it is used.
    """
    attributes = [
        (module, {name: _copied(value) for name, value in vars(module).items()}) for module in model.modules()
    ]
    tensors = {id(tensor): (tensor, tensor.clone()) for tensor in _plain_tensors(model)}
    weights = [(weight, weight.data, weight.grad) for weight in model.parameters()]
    parts = [(part, part.clone()) for weight, _, _ in weights if trained and (part := _own_part(weight)) is not None]
    try:
        late = not gradients and sum(weight.numel() for weight, _, _ in weights) > _LARGE
        _exchange(model, dtypes, double=double, late=late, trained=trained)
        yield
    finally:
        for weight, data, gradient in weights:
            weight.data = data
            weight.grad = gradient
        for part, numbers in parts:
            part.copy_(numbers)
        for module, kept in attributes:
            vars(module).clear()
            vars(module).update(kept)
        for tensor, data in tensors.values():
            if not torch.equal(tensor, data):
                tensor.copy_(data)


@contextmanager
def moved(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Within it every element of the weights of these names is a neighbour of what it was."""
    generator = torch.Generator().manual_seed(0)
    chosen = [weight for name, weight in model.named_parameters() if name in names and weight.is_floating_point()]
    kept = [weight.data for weight in chosen]
    try:
        for weight in chosen:
            weight.data = neighbours(weight.data, generator)
        yield
    finally:
        for weight, data in zip(chosen, kept, strict=True):
            weight.data = data


def neighbours(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each element one rounding step of its type larger or smaller, at random: as much as rounding anew would do."""
    up = torch.rand(tensor.shape, generator=generator).to(tensor.device) < 0.5
    # A whole rounding step: half of one would be rounded away.
    return tensor * torch.where(up, 1.0, -1.0).mul(torch.finfo(tensor.dtype).eps).add(1).to(tensor.dtype)


def _copied(value: object) -> object:
    """What a run may add to or take from in place is copied one level deep: lists, and the tables of modules."""
    return copy.copy(value) if type(value) in (dict, list, set) else value


def _plain_tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    """Buffers, and tensors that modules hold as attributes, such as caches."""
    yield from model.buffers()
    for module in model.modules():
        for value in vars(module).values():
            for item in value if type(value) in (list, tuple) else [value]:
                if isinstance(item, torch.Tensor) and item.is_leaf and not item.requires_grad:
                    yield item


def _own_part(weight: torch.Tensor) -> torch.Tensor | None:
    """This process's part of a distributed weight: shards are bound to buffers, and the weight to its part for good."""
    own = weight.detach()
    part = local_of(own)
    return None if part is own else part


def _exchange(model: nn.Module, dtypes: Mapping[str, torch.dtype], *, double: bool, late: bool, trained: bool) -> None:
    for name, weight in model.named_parameters():
        data = _typed(weight.data, dtypes.get(name), double and not late)
        weight.data = data.clone() if trained and _own_part(weight) is None else data
        weight.grad = None
    for prefix, module in model.named_modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = _typed(buffer, dtypes.get(f"{prefix}.{name}".lstrip(".")), double)


def _typed(tensor: torch.Tensor, dtype: torch.dtype | None, double: bool) -> torch.Tensor:
    if not tensor.is_floating_point():
        return tensor
    rounded = tensor if dtype is None else tensor.to(dtype)
    return rounded.double() if double else rounded


def names_of(model: nn.Module, tensors: Mapping[str, torch.Tensor]) -> dict[int, str]:
    """What the weights of a model and other tensors are called, by their place in memory."""
    named = {storage_of(tensor): name for name, tensor in tensors.items()}
    named.update({storage_of(buffer): f"buffer {name}" for name, buffer in model.named_buffers()})
    named.update({storage_of(weight): f"parameter {name}" for name, weight in model.named_parameters()})
    return named


def main_type(model: nn.Module) -> torch.dtype | None:
    """The floating type that most of the weights have; None if there are none."""
    sizes: dict[torch.dtype, int] = {}
    for weight in (*model.parameters(), *model.buffers()):
        if weight.is_floating_point():
            sizes[weight.dtype] = sizes.get(weight.dtype, 0) + weight.numel()
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else None


def types_like(model: nn.Module, like: nn.Module) -> dict[str, torch.dtype]:
    """For each floating weight of `model`, the type that it has in `like`, or where names differ, `like`'s main one."""
    theirs = {name: weight.dtype for name, weight in (*like.named_parameters(), *like.named_buffers())}
    main, own = main_type(like), main_type(model)
    wanted: dict[str, torch.dtype] = {}
    for name, weight in (*model.named_parameters(), *model.named_buffers()):
        if not weight.is_floating_point():
            continue
        dtype = theirs.get(name)
        if dtype is None or not dtype.is_floating_point:
            dtype = main if weight.dtype == own else weight.dtype
        wanted[name] = dtype or weight.dtype
    return wanted
