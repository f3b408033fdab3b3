"""What was measured of ours and of the vendor's kernels, and what follows for a call.

In:  measurements, from the table shipped for a chip, a user's file, or the store of this machine.
Out: which measurement decides a call, and which operators are worth being registered at all.

Both sides are measured as a program calls them: ours through our registration, the vendor's with nothing registered.
A call that an operator of ours hands on to the vendor passes through what is registered, and pays for it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, KeysView
from typing import NamedTuple

from tessera.aten.classify import UNEVEN, Place
from tessera.runtime import front

# What it costs: through a front, and through Python where there are none.
_FRONT_US, _PYTHON_US = 0.2, 3.0
# An operator is registered where ours gains this much somewhere.
WORTH = 1.05


def through_us() -> float:
    """What a call costs that passes us on its way to the vendor's kernel, in microseconds."""
    return _FRONT_US if front.available() else _PYTHON_US


class Measurement(NamedTuple):
    """Microseconds of one call on either side, and how many times as fast ours is, as the median of paired rounds.

    failure: why ours cannot be used there; empty where it can. `ours_us` and `speed` are then 0.
    """

    operator: str
    place: Place
    threads: int
    ours_us: float
    vendor_us: float
    speed: float
    failure: str = ""

    @property
    def speed_through(self) -> float:
        """How fast the vendor's kernel is behind our registration."""
        return self.vendor_us / (self.vendor_us + through_us())

    @property
    def ours(self) -> bool:
        """Whether ours serves there, given that the operator is registered."""
        return not self.failure and self.speed >= self.speed_through

    @property
    def chosen_speed(self) -> float:
        """What the choice gives, against PyTorch without us."""
        return self.speed if self.ours else self.speed_through

    @property
    def gain_us(self) -> float:
        """What the choice gains in one call, against PyTorch without us; below 0 where it loses."""
        return self.vendor_us - self.vendor_us / self.chosen_speed

    def __str__(self) -> str:
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        what = self.failure or f"{self.speed:.2f}× ({self.ours_us:.3g} µs, PyTorch {self.vendor_us:.3g} µs)"
        return f"{what} at {self.place}, {threads}"


class Table:
    """Measurements by operator; of two of one call the later counts. `source` says in words where they are from."""

    def __init__(self, measurements: Iterable[Measurement], source: str) -> None:
        self.source = source
        self._by_key: dict[tuple[str, int], dict[tuple[str, str], dict[int, Measurement]]] = defaultdict(dict)
        for one in measurements:
            sizes = self._by_key[one.operator, one.threads].setdefault((one.place.dtype, one.place.layout), {})
            sizes[one.place.size] = one
        self._threads: dict[str, list[int]] = defaultdict(list)
        for operator, threads in self._by_key:
            self._threads[operator].append(threads)

    def __iter__(self) -> Iterator[Measurement]:
        for layouts in self._by_key.values():
            for sizes in layouts.values():
                yield from sizes.values()

    @property
    def operators(self) -> KeysView[str]:
        return self._threads.keys()

    def nearest_threads(self, operator: str, threads: int) -> int | None:
        """The number of threads that is nearest to `threads`, by ratio, of those that the operator is measured on."""
        known = self._threads.get(operator)
        return min(known, key=lambda n: abs(math.log(n / threads))) if known else None

    def decisive(self, operator: str, place: Place, threads: int) -> Measurement | None:
        """The measurement that decides a call: of its size class, or the worse of the two beside it, or the last one.

        None where the operator is not measured in this type and layout.
        """
        measured = self.nearest_threads(operator, threads)
        layouts = self._by_key[operator, measured] if measured else {}
        # Where nobody measured uneven calls apart, the others tell most of them.
        even = layouts.get((place.dtype, place.layout.replace(UNEVEN, "")))
        sizes = layouts.get((place.dtype, place.layout), even)
        if not sizes:
            return None
        below = [size for size in sizes if size <= place.size]
        above = [size for size in sizes if size >= place.size]
        beside = [sizes[max(below)]] if below else []
        beside += [sizes[min(above)]] if above else []
        return min(beside, key=lambda one: (one.ours, one.speed))

    def refusal(self, operator: str, threads: int) -> str:
        """Why the operator is not to be registered; empty where it is worth it."""
        measured = self.nearest_threads(operator, threads)
        if measured is None:
            return "not measured"
        rows = [one for sizes in self._by_key[operator, measured].values() for one in sizes.values()]
        if not any(one.speed >= WORTH and not one.failure for one in rows):
            return f"nowhere faster: at best {max(rows, key=lambda one: one.speed)}"
        return ""
