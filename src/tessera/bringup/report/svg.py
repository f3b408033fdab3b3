"""Drawing a plot as SVG text that is as wide as its place: text and dots keep their size, only distances stretch.

Across, positions are percentages of the width; down, they are pixels. Paths cannot be given in percentages, so shapes
that stretch are drawn inside `Drawing.stretched`. Colours come from the page's style sheet through class names.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

# Ids must differ among all plots of one page.
_ids = itertools.count(1)


@dataclass
class Shapes:
    """Shapes in a system of coordinates of their own."""

    parts: list[str] = field(default_factory=list)

    def path(self, points: Sequence[tuple[float, float]], style: str) -> None:
        """A line through points."""
        text = "L".join(f"{x:g} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{style}" d="M{text}"/>')

    def area(self, x: float, y: float, width: float, height: float, style: str, title: str = "") -> None:
        """A rectangle; its title shows under the pointer."""
        shape = f'<rect class="{style}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"'
        self.parts.append(f"{shape}><title>{html.escape(title)}</title></rect>" if title else f"{shape}/>")


@dataclass
class Drawing:
    """A picture of a fixed height in pixels, with a title and a description for readers who do not see it."""

    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def line(self, y: float, style: str) -> None:
        """A line from edge to edge."""
        self.parts.append(f'<line class="{style}" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')

    def dot(self, x: float, y: float, radius: float, style: str) -> None:
        """A filled circle."""
        self.parts.append(f'<circle class="{style}" cx="{x:.2f}%" cy="{y:.1f}" r="{radius:.1f}"/>')

    def text(self, x: float, y: float, text: str, style: str, anchor: str, *, shift: float = 0) -> None:
        """Text at a baseline; `anchor` is start, middle or end, `shift` pixels to the right."""
        place = f'x="{x:.2f}%" dx="{shift:g}" y="{y:.1f}" text-anchor="{anchor}"'
        self.parts.append(f'<text class="{style}" {place}>{html.escape(text)}</text>')

    def columns(self, titles: Sequence[str], top: float, height: float) -> None:
        """Side by side, areas that show their title under the pointer."""
        with self.stretched(len(titles), top, height) as inner:
            for index, title in enumerate(titles):
                inner.area(index, 0, 1, height, "column", title)

    @contextmanager
    def stretched(self, width: float, top: float, height: float) -> Iterator[Shapes]:
        """Shapes with `width` units across the whole drawing, and pixels down from `top`."""
        inner = Shapes()
        yield inner
        place = f'x="0" y="{top:g}" width="100%" height="{height:g}"'
        view = f'viewBox="0 0 {width:g} {height:g}" preserveAspectRatio="none"'
        self.parts.append(f"<svg {place} {view}>{''.join(inner.parts)}</svg>")

    def render(self, style: str) -> str:
        """The SVG element, for a place in the page of the CSS class `style`."""
        number = next(_ids)
        return (
            f'<svg class="{style}" height="{self.height:g}" role="img" aria-labelledby="t{number} d{number}">'
            f'<title id="t{number}">{html.escape(self.title)}</title>'
            f'<desc id="d{number}">{html.escape(self.description)}</desc>' + "".join(self.parts) + "</svg>"
        )


# Decades that a scale shows at least, so that it has ticks to read, and the room that it leaves at its ends.
_LEAST_DECADES, _MARGIN = 2.0, 0.12


@dataclass(frozen=True, kw_only=True)
class LogScale:
    """Maps positive values to pixels by their logarithm, base ten; what lies outside lands on the border."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        decades = math.log10(min(max(value, 10.0**self.low), 10.0**self.high))
        return self.start + (decades - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[int]:
        """Exponents to mark: every decade, or fewer if there are many."""
        step = math.ceil((self.high - self.low) / 6)
        return list(range(math.ceil(self.low), math.floor(self.high) + 1, step))

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> LogScale:
        """A scale with all positive, finite values on it."""
        logs = [math.log10(value) for value in values if 0 < value < math.inf] or [-8.0, 0.0]
        low, high = min(logs) - _MARGIN, max(logs) + _MARGIN
        missing = max(0.0, _LEAST_DECADES - (high - low))
        return cls(low=low - missing / 2, high=high + missing / 2, start=start, end=end)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """10⁻⁷"""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)
