"""Loads and stores of lanes whose places only the running kernel knows: read from a table, or divided and put together;
or a step apart.

Such places are often neighbours all the same: a row of a flattened block, a page of a cache, most of a permutation that
moves little. Or they are one place, as of a scale that many elements share. Looking takes a few instructions for a
whole vector, fetching lane by lane dozens; so both are looked for first. Then, where a processor picks among the floats
of a register: places all of which one vector holds, behind the first lane's, as of an image that is enlarged, or behind
the base, as of a table of sixteen numbers.

Lanes a step apart are read and written one by one. Processors that have an instruction for lanes anywhere take it apart
into more steps than that (Zen 5: a fourth to a tenth of the speed where memory is far), and its addresses are a vector.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tessera.compiler.llvm.builder import F32, I1, I32, I64, Builder, LType, V, int_const
from tessera.compiler.lower import masked
from tessera.compiler.lower.lanes import Ramp, Vector, size_bytes, to_vector

# Fewer lanes are fetched as quickly as they are looked at.
_FEW_LANES = 4
_POINTER_BITS = 64
# Lanes of the register whose floats an instruction picks among, and the longest elements that it can pick.
_WINDOW, _PICKED_BYTES = 16, 4
_PAGE_BYTES = 4096


def load(b: Builder, pointers: Vector, mask: V | None, passed: V, align: int) -> V:
    """Elements at `pointers` where `mask` holds, elsewhere `passed`."""
    width = passed.type.lanes
    lanes = mask if mask is not None else masked.everywhere(width)
    if width < _FEW_LANES:
        return masked.gather(b, pointers.value, lanes, passed, align)
    look = _Look(b, pointers, mask)

    def row() -> V:
        first = look.first()
        return b.load(passed.type, first, align) if mask is None else masked.load(b, first, lanes, passed, align)

    def same() -> V:
        one = b.splat(b.load(passed.type.with_lanes(0), look.first(), align), width)
        return one if mask is None else b.select(lanes, one, passed)

    def apart() -> V:
        return masked.gather(b, look.all(), lanes, passed, align)

    def behind(base: bool, otherwise: Callable[[], V]) -> V:
        window = look.window(align, base)
        return _either(b, window.holds_all, lambda: window.pick(b, passed.type), otherwise)

    def near() -> V:
        return behind(False, lambda: behind(True, apart))

    rest = near if b.permute and width == _WINDOW and look.counts(align) and align <= _PICKED_BYTES else apart
    return _either(b, look.are_neighbours(align), row, lambda: _either(b, look.are_one(), same, rest))


def load_spaced(b: Builder, pointer: Ramp, mask: V | None, passed: V, align: int) -> V:
    """The same of lanes a step apart, that the text gives or only the running kernel knows: 0 for what is broadcast."""
    width = passed.type.lanes
    lanes = mask if mask is not None else masked.everywhere(width)

    def same() -> V:
        one = b.splat(b.load(passed.type.with_lanes(0), pointer.base, align), width)
        return one if mask is None else b.select(lanes, one, passed)

    def singly() -> V:
        return b.gathered([b.load(passed.type.with_lanes(0), place, align) for place in _places(b, pointer, width)])

    def some() -> V:
        return masked.gather(b, to_vector(b, pointer, width), lanes, passed, align)

    def apart() -> V:
        if b.has_strides:
            return some()
        return singly() if mask is None else _either(b, masked.holds_everywhere(b, mask), singly, some)

    if pointer.step.const is not None:
        return apart()
    still = b.icmp("eq", pointer.step, int_const(0, pointer.step.type))
    if mask is not None:
        still = b.binary("and", still, masked.holds_somewhere(b, mask))
    return _either(b, still, same, apart)


def store_spaced(b: Builder, data: V, pointer: Ramp, mask: V | None, align: int) -> None:
    """Write `data` at lanes a step apart where `mask` holds."""
    width = data.type.lanes
    lanes = mask if mask is not None else masked.everywhere(width)

    def singly() -> None:
        for lane, place in enumerate(_places(b, pointer, width)):
            b.store(b.extract(data, lane), place, align)

    def some() -> None:
        masked.scatter(b, data, to_vector(b, pointer, width), lanes, align)

    if b.has_strides:
        some()
    elif mask is None:
        singly()
    else:
        b.either(masked.holds_everywhere(b, mask), singly, some)


def _places(b: Builder, pointer: Ramp, width: int) -> list[V]:
    """The lanes' addresses, each from the one before: numbers, not lanes of a vector that would be taken apart."""
    found = [pointer.base]
    while len(found) < width:
        found.append(b.offset(found[-1], pointer.step, 1))
    return found


def store(b: Builder, data: V, pointers: Vector, mask: V | None, align: int) -> None:
    """Write `data` at `pointers` where `mask` holds; of several lanes at one address the last one stays."""
    width = data.type.lanes
    lanes = mask if mask is not None else masked.everywhere(width)
    if width < _FEW_LANES:
        masked.scatter(b, data, pointers.value, lanes, align)
        return
    look = _Look(b, pointers, mask)

    def row() -> None:
        if mask is None:
            b.store(data, look.first(), align)
        else:
            masked.store(b, data, look.first(), lanes, align)

    b.either(look.are_neighbours(align), row, lambda: masked.scatter(b, data, look.all(), lanes, align))


@dataclass(frozen=True)
class _Window:
    """A vector in memory from `begin` on, which of its elements each lane is, and whether it holds all that are."""

    holds_all: V
    begin: V
    index: V

    def pick(self, b: Builder, type: LType) -> V:
        words, floats = I32.with_lanes(_WINDOW), F32.with_lanes(_WINDOW)
        found = b.load(type, self.begin, size_bytes(type))
        if type.bits < words.bits:
            found = b.cast("zext", found, words)
        index = b.cast("trunc" if self.index.type.bits > words.bits else "zext", self.index, words)
        picked = b.call(b.permute, floats, [b.cast("bitcast", found, floats), index])
        if type.scalar == floats.scalar:
            return picked
        return b.cast("trunc", b.cast("bitcast", picked, words), type)


class _Look:
    """How the lanes' places lie to each other, told by the integers that they are made of where those are known."""

    def __init__(self, b: Builder, pointers: Vector, mask: V | None) -> None:
        self._b = b
        self._pointers = pointers
        self._mask = mask
        self._width = pointers.value.type.lanes
        places = pointers.places
        if places is None:
            self._scale = 1
            index = b.cast("ptrtoint", pointers.value, I64.with_lanes(self._width))
        else:
            self._scale = places.scale_bytes
            index = places.index
        self._index_of_first = b.extract(index, 0)
        self._ahead = b.sub(index, b.splat(self._index_of_first, self._width))

    def are_neighbours(self, size_bytes: int) -> V:
        """Whether each lane that counts is one element ahead of the lane before it; also where none counts.

        The first lane may be one that does not count: where all others are in line with it, its place is right too.
        """
        b = self._b
        step, rest = divmod(size_bytes, self._scale)
        if rest:
            return V(I1, "false", 0)
        found = self._all_ahead_by(step)
        if self._ahead.type.bits == _POINTER_BITS:
            return found
        # What lies behind the largest integer is the smallest, in another place.
        most = (1 << self._ahead.type.bits - 1) - 1 - step * (self._width - 1)
        return b.binary("and", found, b.icmp("sle", self._index_of_first, int_const(most, self._index_of_first.type)))

    def are_one(self) -> V:
        """Whether some lanes count, and all that do are at the first one's place."""
        found = self._all_ahead_by(0)
        if self._mask is None:
            return found
        some = masked.holds_somewhere(self._b, self._mask)
        return self._b.binary("and", found, some)

    def counts(self, size_bytes: int) -> bool:
        """Are places known as numbers of elements behind a base?"""
        return self._pointers.places is not None and self._scale == size_bytes

    def window(self, size_bytes: int, from_base: bool) -> _Window:
        """The vector that begins at the first lane's place, or at the base. It lies on one page, of which some lane is
        read, so that nothing is read that is not there."""
        b, places = self._b, self._pointers.places
        assert places is not None
        index = places.index if from_base else self._ahead
        begin = places.base if from_base else self.first()
        lanes = b.icmp("ult", index, b.splat(int_const(_WINDOW, index.type.with_lanes(0)), self._width))
        for other in (places.exact, self._mask):
            lanes = lanes if other is None else b.binary("and", lanes, other)
        within = b.binary("and", b.cast("ptrtoint", begin, I64), int_const(_PAGE_BYTES - 1, I64))
        found = b.icmp("ule", within, int_const(_PAGE_BYTES - _WINDOW * size_bytes, I64))
        if not from_base and index.type.bits < _POINTER_BITS:
            most = (1 << index.type.bits - 1) - _WINDOW
            less = b.icmp("sle", self._index_of_first, int_const(most, self._index_of_first.type))
            found = b.binary("and", found, less)
        return _Window(b.binary("and", found, masked.holds_everywhere(b, lanes)), begin, index)

    def _all_ahead_by(self, step: int) -> V:
        b = self._b
        wanted = b.constant_vector([lane * step for lane in range(self._width)], self._ahead.type.with_lanes(0))
        found = b.icmp("eq", self._ahead, wanted)
        places = self._pointers.places
        if places is not None and places.exact is not None:
            found = b.binary("and", found, places.exact)
        if self._mask is not None:
            found = b.binary("or", found, b.binary("xor", self._mask, masked.everywhere(self._width)))
        return masked.holds_everywhere(b, found)

    def first(self) -> V:
        """The address of the first lane."""
        places = self._pointers.places
        if places is None:
            return self._b.extract(self._pointers.value, 0)
        return self._b.offset(places.base, self._index_of_first, places.scale_bytes)

    def all(self) -> V:
        """Every lane's address, widened where it is used: LLVM makes that a part of the access then."""
        b, places = self._b, self._pointers.places
        if places is None or places.exact is not None:
            return self._pointers.value
        # Frozen, lest it be taken for the index that was widened before.
        return b.offset(b.splat(places.base, self._width), b.freeze(places.index), places.scale_bytes)


def _either(b: Builder, condition: V, then: Callable[[], V], otherwise: Callable[[], V]) -> V:
    """The value of one of two ways."""
    labels, after = (b.fresh("then"), b.fresh("else")), b.fresh("after")
    b.branch_if(condition, *labels)
    found = []
    for label, way in zip(labels, (then, otherwise), strict=True):
        b.label(label)
        value = way()
        found.append((value, b.current))
        b.branch(after)
    b.label(after)
    type = found[0][0].type
    return b.emit(type, f"phi {type} " + ", ".join(f"[ {value.ref}, %{label} ]" for value, label in found))
