"""Drawing plots as SVG text. Colours come from the page's style sheet through class names."""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

# Ids must differ among all plots of one page.
_ids = itertools.count(1)


@dataclass
class Drawing:
    """An SVG picture of a fixed size in pixels, with a title and a description for readers who do not see it."""

    width: float
    height: float
    title: str
    description: str
    parts: list[str] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self.parts.append(f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')

    def path(self, points: Iterable[tuple[float, float]], style: str) -> None:
        """A line through points."""
        text = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
        self.parts.append(f'<path class="{style}" d="M{text}"/>')

    def dot(self, x: float, y: float, radius: float, style: str, title: str) -> None:
        """A filled circle; its title shows under the pointer."""
        circle = f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}">'
        self.parts.append(f"{circle}<title>{html.escape(title)}</title></circle>")

    def bar(self, x: float, y: float, width: float, height: float, style: str, title: str) -> None:
        """A filled rectangle with rounded corners."""
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="{height:.1f}" rx="1.5"'
        self.parts.append(f'<rect class="{style}" {shape}><title>{html.escape(title)}</title></rect>')

    def area(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A plain rectangle behind other parts."""
        shape = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        self.parts.append(f'<rect class="{style}" {shape}/>')

    def text(self, x: float, y: float, text: str, style: str = "", anchor: str = "start") -> None:
        """Text at a baseline; `anchor` is start, middle or end."""
        opening = f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        self.parts.append(f"{opening}{html.escape(text)}</text>")

    def render(self, style: str) -> str:
        """The SVG element, for a place in the page of the CSS class `style`."""
        number = next(_ids)
        size = f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}"'
        return (
            f'<svg class="{style}" {size} role="img" aria-labelledby="t{number} d{number}">'
            f'<title id="t{number}">{html.escape(self.title)}</title>'
            f'<desc id="d{number}">{html.escape(self.description)}</desc>' + "".join(self.parts) + "</svg>"
        )


@dataclass(frozen=True, kw_only=True)
class LogScale:
    """Maps positive values to pixels, whole decades to even steps; what lies outside lands on the border."""

    low: int
    high: int
    start: float
    end: float

    def __call__(self, value: float) -> float:
        decades = math.log10(min(max(value, 10.0**self.low), 10.0**self.high))
        return self.start + (decades - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def ticks(self) -> list[int]:
        """Exponents to mark: every decade, or fewer if there are many."""
        step = math.ceil((self.high - self.low) / 6)
        return list(range(self.low, self.high + 1, step))

    @classmethod
    def around(cls, values: Sequence[float], start: float, end: float) -> LogScale:
        """The whole decades around all positive, finite values."""
        kept = [value for value in values if 0 < value < math.inf]
        low = math.floor(math.log10(min(kept))) if kept else -8
        high = math.ceil(math.log10(max(kept))) if kept else 0
        return cls(low=low, high=max(high, low + 1), start=start, end=end)


_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def power(exponent: int) -> str:
    """10⁻⁷"""
    return "10" + str(exponent).translate(_SUPERSCRIPTS)
