"""Who wrote what: tensors are told apart by their place in memory, so that reads find the operator that wrote last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from tessera.accuracy.capture.records import Edge
from tessera.accuracy.capture.value import Value, value_of


class Place(NamedTuple):
    """A tensor without its data: enough to look at the same memory again while its storage lives."""

    storage: int
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype


class Memory:
    """The last writer of every storage and the maker of every view; values are measured once until they are written.

    names: of the tensors that were there before the run, by storage.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._writers: dict[int, int] = {}
        self._views: dict[Place, int] = {}
        self._wholes: dict[int, Place] = {}
        self._versions: Counter[int] = Counter()
        self._known: dict[Place, tuple[int, Value]] = {}
        self._held: dict[int, object] = {}

    def edge(self, tensor: torch.Tensor) -> Edge:
        """The record of a tensor that is read."""
        place = self._hold(tensor)
        maker = max(self._writers.get(place.storage, -1), self._views.get(place, -1))
        value = self._value(tensor, place)
        return Edge(value, maker) if maker >= 0 else Edge(value, None, self._names.get(place.storage, ""))

    def viewed(self, index: int, tensor: torch.Tensor) -> Value:
        """The record of a view that operator `index` made."""
        place = self._hold(tensor)
        self._views[place] = index
        return self._value(tensor, place)

    def wrote(self, index: int, tensor: torch.Tensor, *, made: bool) -> tuple[Value, Value | None]:
        """The records of a tensor that operator `index` wrote, and of the whole buffer if the tensor is a part of one.

        made: the operator made the tensor as well, so whatever was in this memory before is gone.
        """
        place = self._hold(tensor)
        self._writers[place.storage] = index
        self._versions[place.storage] += 1
        if made or place.storage not in self._wholes:
            self._wholes[place.storage] = place
        whole = self._wholes[place.storage]
        value = self._value(tensor, place)
        if whole.shape == place.shape or made:
            return value, None
        return value, value_of(tensor.as_strided(whole.shape, whole.stride, whole.offset))

    def _value(self, tensor: torch.Tensor, place: Place) -> Value:
        """What the tensor in a place holds now."""
        version = self._versions[place.storage]
        known = self._known.get(place)
        if known is not None and known[0] == version:
            return known[1]
        value = self.measured(tensor, place, version)
        self._known[place] = (version, value)
        return value

    def measured(self, tensor: torch.Tensor, place: Place, version: int) -> Value:
        """The measure of what is in a place and was not measured there since it was written."""
        return self._reshaped(tensor, place, version) or value_of(tensor)

    def _hold(self, tensor: torch.Tensor) -> Place:
        """Its place. The number of its memory no later tensor gets: what is known of freed memory is said of no other.

        A weak reference frees the data and keeps the address of the storage.
        """
        place = place_of(tensor)
        if place.storage not in self._held:
            self._held[place.storage] = _weak(tensor) if tensor.layout == torch.strided else tensor
        return place

    def _reshaped(self, tensor: torch.Tensor, place: Place, version: int) -> Value | None:
        """The measure of the same numbers in the same order, if they were measured in another shape."""
        if tensor.layout != torch.strided or not tensor.is_contiguous() or not tensor.numel():
            return None
        plain = place._replace(shape=(tensor.numel(),), stride=(1,))
        known = self._known.get(plain)
        if known is not None and known[0] == version:
            return replace(known[1], shape=place.shape, stride=place.stride)
        self._known[plain] = (version, value := value_of(tensor))
        return value


def _weak(tensor: torch.Tensor) -> object:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def local_of(tensor: torch.Tensor) -> torch.Tensor:
    """This process's own part of a distributed tensor, once it is there; any other tensor itself."""
    if type(tensor) in (torch.Tensor, nn.Parameter):
        return tensor
    if isinstance(part := getattr(tensor, "_local_tensor", None), torch.Tensor):
        return local_of(part)
    # The result of a collective that may be on its way.
    return tensor.trigger_wait() if hasattr(tensor, "trigger_wait") else tensor


def storage_of(tensor: torch.Tensor) -> int:
    """A number for the memory of a tensor; of the object itself where there is no plain memory (sparse, packed)."""
    tensor = local_of(tensor)
    return tensor.untyped_storage()._cdata if tensor.layout == torch.strided else id(tensor)


def place_of(tensor: torch.Tensor) -> Place:
    strided = tensor.layout == torch.strided
    return Place(
        storage=storage_of(tensor),
        offset=int(tensor.storage_offset()) if strided else 0,
        shape=tuple(tensor.shape),
        stride=tuple(tensor.stride()) if strided else (),
        dtype=tensor.dtype,
    )
